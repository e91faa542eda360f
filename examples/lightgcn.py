r"""LightGCN as a backbone: embeddings that are averaged over the neighbours in the graph of training pairs.

    ./run_all.sh --backbone examples/lightgcn.py toy

With A the matrix of that graph (users, then items), D its degrees and L the number of layers:

    E_(l+1) = D^(-1/2) A D^(-1/2) E_l,    E = (E_0 + ... + E_L) / (L + 1),    score of (u, i) = e_u . e_i

A class that joins the comparison is a ``torch.nn.Module`` that is built as
``Class(interactions, dim=..., generator=...)`` and has ``forward`` and ``score_items``; both give scores before the
sigmoid.

Source: He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR 2020,
arXiv:2002.02126. The standard deviation of the initial weights is from memory.
"""

import numpy as np
import torch
from scipy.sparse import bmat, diags
from torch import nn


class LightGCN(nn.Module):
    """
    Args:
        interactions: CSR ``(n_users, n_items)``, 1 for a training positive.
        dim: width of the embeddings.
        n_layers: how far a node sees.
        generator: source of the initial weights; whoever ignores it gets other numbers in every run.
    """

    def __init__(self, interactions, dim=32, n_layers=2, generator=None):
        super().__init__()
        self.n_users, self.n_layers = interactions.shape[0], n_layers
        graph = bmat([[None, interactions], [interactions.T, None]]).astype(np.float32)
        scale = diags(np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1) ** -0.5)  # 1: a node without neighbours
        graph = (scale @ graph @ scale).tocoo()
        places = torch.from_numpy(np.stack([graph.row, graph.col]).astype(np.int64))
        graph = torch.sparse_coo_tensor(places, torch.from_numpy(graph.data), graph.shape, check_invariants=False)
        self.register_buffer("graph", graph.coalesce(), persistent=False)  # of the data, not of the model
        self.embeddings = nn.Parameter(torch.empty(graph.shape[0], dim).normal_(0, 0.1, generator=generator))

    def propagate(self):
        """The final embeddings: users ``(n_users, dim)`` and items ``(n_items, dim)``."""
        layers = [self.embeddings]
        for _ in range(self.n_layers):
            layers.append(torch.sparse.mm(self.graph, layers[-1]))
        return torch.stack(layers).mean(0).tensor_split([self.n_users])

    def forward(self, users, items):
        """The scores ``(B,)`` of pairs, from int64 ids ``(B,)`` and ``(B,)``: for training."""
        of_users, of_items = self.propagate()
        return (of_users[users] * of_items[items]).sum(-1)

    def score_items(self, users):
        """The same scores ``(U, n_items)`` of all items for users ``(U,)``: for ranking."""
        of_users, of_items = self.propagate()
        return of_users[users] @ of_items.T
