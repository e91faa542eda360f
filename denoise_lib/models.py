"""The backbones: GMF, MLP, NeuMF and CDAE, all scoring (user, item) pairs.

GMF, MLP and NeuMF: He et al., Neural Collaborative Filtering, WWW 2017, arXiv:1708.05031. CDAE: Wu et al.,
Collaborative Denoising Auto-Encoders for Top-N Recommender Systems, WSDM 2016. Every model has

- ``model(users, items) -> logits``: ``(B,)`` and ``(B,)`` int64 ids to ``(B,)`` scores before the sigmoid;
- ``model.score_items(users) -> logits``: ``(U,)`` users to ``(U, n_items)``, the same numbers for every pair;
- an explicit ``generator`` for the initial weights (None: torch's default one).
"""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Generator, Tensor, nn

Random = Generator | None  # where initial weights come from; None: torch's default generator
PAIRS_PER_BLOCK = 1 << 12  # keeps a block of the MLP's activations (here 2 MB at 128 units) within a cache
PAIRS_PER_GPU_BLOCK = 1 << 20  # and this one a GPU busy (512 MB)


class _Table(nn.Embedding):
    """An embedding with the dense gradient of index_select: the same bits in half the time."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) if self.sparse else self.weight.index_select(0, ids)


def _embedding(n_rows: int, dim: int, generator: Random) -> _Table:
    """A table drawn from N(0, 0.01), as the authors do (``model.py`` at 451779a)."""
    return _Table(n_rows, dim, _weight=torch.empty(n_rows, dim).normal_(0, 0.01, generator=generator))


class _SummedRows(nn.EmbeddingBag):
    """A table of which sums of rows are asked for."""

    def forward(self, ids: Tensor, group: Tensor, n_groups: int) -> Tensor:
        """Sums ``(n_groups, dim)`` of the rows ``ids (n,)``, where ``group (n,)`` does not fall."""
        return _SumRows.apply(self.weight, ids, group, n_groups)


class _SumRows(torch.autograd.Function):
    """embedding_bag, whose gradient is an embedding_bag as well: torch's bits, since in its order, in half the time."""

    @staticmethod
    def forward(ctx, table: Tensor, ids: Tensor, group: Tensor, n_groups: int) -> Tensor:
        ctx.save_for_backward(ids, group)
        ctx.n_rows = len(table)
        return _sums(table, ids, group, n_groups)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        ids, group = ctx.saved_tensors
        ids, order = ids.sort()
        return _sums(gradient, group.index_select(0, order), ids, ctx.n_rows), None, None, None


def _sums(table: Tensor, ids: Tensor, group: Tensor, n_groups: int) -> Tensor:
    starts = torch.searchsorted(group, torch.arange(n_groups, device=group.device))
    return nn.functional.embedding_bag(ids, table, starts, mode="sum")


def _linear(n_in: int, n_out: int, bound: float, generator: Random) -> nn.Linear:
    """A layer drawn from U(-bound, bound), with a bias of 0."""
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _output(n_in: int, generator: Random) -> nn.Linear:
    """The last layer: the authors call ``kaiming_uniform_(a=1, nonlinearity="sigmoid")``, whose gain is 1."""
    return _linear(n_in, 1, (3 / n_in) ** 0.5, generator)


def _hidden(dim: int, n_layers: int, generator: Random) -> nn.Sequential:
    """The tower: ``n_layers`` halvings from ``dim * 2**n_layers`` down to ``dim``, Xavier-uniform, ReLU after each."""
    widths = [dim * 2**k for k in range(n_layers, -1, -1)]  # 256, 128, 64, 32
    layers = []
    for n_in, n_out in zip(widths, widths[1:]):
        layers += [_linear(n_in, n_out, (6 / (n_in + n_out)) ** 0.5, generator), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _score_with_tower(hidden: nn.Sequential, h: Tensor, user: Tensor, item: Tensor) -> Tensor:
    """``h`` times the tower's output, ``(U, I)``, for every pair of a row of ``user`` and a row of ``item``.

    The first layer is linear in the concatenation, so it is a sum of a user part and an item part: each is computed
    once per row and not once per pair. What follows goes by blocks of about ``PAIRS_PER_BLOCK`` pairs.
    """
    first, rest = hidden[0], hidden[1:]
    of_user, of_item = first.weight.split([user.shape[1], item.shape[1]], dim=1)
    user_part = nn.functional.linear(user, of_user, first.bias)  # (U, width)
    item_part = nn.functional.linear(item, of_item)  # (I, width)
    n_pairs = PAIRS_PER_BLOCK if user.device.type == "cpu" else PAIRS_PER_GPU_BLOCK
    n_columns = min(len(item), n_pairs)
    n_rows = n_pairs // n_columns
    scores = torch.empty(len(user), len(item), device=user.device)
    for row in range(0, len(user), n_rows):
        for column in range(0, len(item), n_columns):
            pairs = user_part[row : row + n_rows, None] + item_part[column : column + n_columns]
            block = rest(pairs.flatten(0, 1)) @ h
            scores[row : row + n_rows, column : column + n_columns] = block.view(pairs.shape[:2])
    return scores


class GMF(nn.Module):
    r"""Generalised matrix factorisation: :math:`\hat y_{ui} = h^\top (p_u \odot q_i) + b`.

    Args:
        n_users, n_items: table sizes.
        dim: width of the embeddings.
        generator: source of the initial weights.
    """

    def __init__(self, n_users: int, n_items: int, dim: int = 32, generator: Random = None):
        super().__init__()
        self.user_gmf = _embedding(n_users, dim, generator)
        self.item_gmf = _embedding(n_items, dim, generator)
        self.output = _output(dim, generator)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.output(self.user_gmf(users) * self.item_gmf(items)).squeeze(-1)

    def score_items(self, users: Tensor) -> Tensor:
        return (self.user_gmf(users) * self.output.weight) @ self.item_gmf.weight.T + self.output.bias


class MLP(nn.Module):
    r"""A ReLU tower over the concatenated embeddings: :math:`\hat y_{ui} = h^\top \mathrm{tower}([u_u ; v_i]) + b`.

    Args:
        n_users, n_items: table sizes.
        dim: width of the tower's last layer; each table has ``dim * 2**(n_layers - 1)`` columns.
        n_layers: layers of the tower, at least 1.
        generator: source of the initial weights.
    """

    def __init__(self, n_users: int, n_items: int, dim: int = 32, n_layers: int = 3, generator: Random = None):
        super().__init__()
        self.user_mlp = _embedding(n_users, dim * 2 ** (n_layers - 1), generator)
        self.item_mlp = _embedding(n_items, dim * 2 ** (n_layers - 1), generator)
        self.hidden = _hidden(dim, n_layers, generator)
        self.output = _output(dim, generator)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        pair = torch.cat([self.user_mlp(users), self.item_mlp(items)], dim=-1)
        return self.output(self.hidden(pair)).squeeze(-1)

    def score_items(self, users: Tensor) -> Tensor:
        h, bias = self.output.weight[0], self.output.bias
        return _score_with_tower(self.hidden, h, self.user_mlp(users), self.item_mlp.weight) + bias


class NeuMF(nn.Module):
    r"""GMF's product beside MLP's tower: :math:`\hat y_{ui} = h^\top [p_u \odot q_i; \mathrm{tower}([u_u; v_i])] + b`.

    Arguments as in :class:`MLP`; ``dim`` is the width of the product too.
    """

    def __init__(self, n_users: int, n_items: int, dim: int = 32, n_layers: int = 3, generator: Random = None):
        super().__init__()
        self.user_gmf = _embedding(n_users, dim, generator)
        self.item_gmf = _embedding(n_items, dim, generator)
        self.user_mlp = _embedding(n_users, dim * 2 ** (n_layers - 1), generator)
        self.item_mlp = _embedding(n_items, dim * 2 ** (n_layers - 1), generator)
        self.hidden = _hidden(dim, n_layers, generator)
        self.output = _output(2 * dim, generator)

    @classmethod
    def from_pretrained(cls, gmf: GMF, mlp: MLP) -> "NeuMF":
        """A NeuMF that starts from two trained halves: their tables and tower, and half of their output layers.

        Raises:
            ValueError: the halves have other table sizes or widths.
        """
        (n_users, dim), n_items = gmf.user_gmf.weight.shape, len(gmf.item_gmf.weight)
        if (n_users, n_items, dim) != (len(mlp.user_mlp.weight), len(mlp.item_mlp.weight), mlp.output.in_features):
            raise ValueError("GMF and MLP differ in their numbers of users or items, or in dim")
        model = cls(n_users, n_items, dim, len(mlp.hidden) // 2)
        halves = {**gmf.state_dict(), **mlp.state_dict()}
        halves["output.weight"] = torch.cat([gmf.output.weight, mlp.output.weight], dim=1) / 2
        halves["output.bias"] = (gmf.output.bias + mlp.output.bias) / 2
        model.load_state_dict(halves)
        return model

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        product = self.user_gmf(users) * self.item_gmf(items)  # (B, dim)
        pair = torch.cat([self.user_mlp(users), self.item_mlp(items)], dim=-1)  # (B, dim * 2**n_layers)
        return self.output(torch.cat([product, self.hidden(pair)], dim=-1)).squeeze(-1)

    def score_items(self, users: Tensor) -> Tensor:
        h_product, h_tower = self.output.weight[0].chunk(2)  # (dim,) each
        product = (self.user_gmf(users) * h_product) @ self.item_gmf.weight.T  # (U, I)
        tower = _score_with_tower(self.hidden, h_tower, self.user_mlp(users), self.item_mlp.weight)
        return product + tower + self.output.bias


class CDAE(nn.Module):
    r"""Collaborative denoising auto-encoder, asked pair by pair.

    .. math:: h_u = \sigma(W^\top \tilde x_u + v_u + b), \qquad \hat y_{ui} = {w'_i}^\top h_u + b'_i

    :math:`x_u` is the user's row of training positives. In training mode each of its entries is kept with probability
    :math:`1 - q` and then scaled by :math:`1 / (1 - q)`; in evaluation mode :math:`\tilde x_u = x_u`. The paper does
    not say how CDAE is batched: pairs and initial weights as for the other backbones are our reading (DEVIATIONS, D5).

    Args:
        interactions: CSR ``(n_users, n_items)``, the training positives; values are ignored.
        hidden_dim: width of the hidden layer.
        corruption: :math:`q` in [0, 1). The draws come from torch's default generator, like those of ``nn.Dropout``.
        generator: source of the initial weights.

    Raises:
        ValueError: ``corruption`` outside [0, 1).
    """

    def __init__(
        self, interactions: csr_matrix, hidden_dim: int = 200, corruption: float = 0.5, generator: Random = None
    ):
        super().__init__()
        if not 0 <= corruption < 1:
            raise ValueError(f"corruption is a share in [0, 1), got {corruption}")
        n_users, n_items = interactions.shape
        self.corruption = corruption
        self.item_in = _SummedRows(n_items, hidden_dim, _weight=_embedding(n_items, hidden_dim, generator).weight)
        self.user_in = _embedding(n_users, hidden_dim, generator)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_dim))
        self.item_out = _embedding(n_items, hidden_dim, generator)
        self.output_bias = nn.Parameter(torch.zeros(n_items))
        # The data stay out of the state dict: they are the split's, not the model's.
        self.register_buffer("row_starts", torch.from_numpy(interactions.indptr.astype(np.int64)), persistent=False)
        self.register_buffer("row_items", torch.from_numpy(interactions.indices.astype(np.int64)), persistent=False)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        distinct, row = torch.unique(users, return_inverse=True)  # each user of the batch is encoded once
        hidden = self.encode(distinct).index_select(0, row)  # (B, hidden_dim)
        return (hidden * self.item_out(items)).sum(-1) + self.output_bias.index_select(0, items)

    def score_items(self, users: Tensor) -> Tensor:
        return self.encode(users) @ self.item_out.weight.T + self.output_bias

    def encode(self, users: Tensor) -> Tensor:
        """The hidden layer ``(U, hidden_dim)`` of some users."""
        starts = self.row_starts.index_select(0, users)
        lengths = self.row_starts.index_select(0, users + 1) - starts
        row = torch.arange(len(users), device=users.device).repeat_interleave(lengths)  # of each entry of their lists
        skipped = starts - (lengths.cumsum(0) - lengths)  # entries of other users before each user's list
        entry, scale = torch.arange(len(row), device=users.device), 1.0
        if self.training and self.corruption > 0:
            entry = (torch.rand(len(row), device=users.device) >= self.corruption).nonzero()[:, 0]
            row, scale = row.index_select(0, entry), 1 / (1 - self.corruption)
        items = self.row_items.index_select(0, entry + skipped.index_select(0, row))
        return torch.sigmoid(scale * self.item_in(items, row, len(users)) + self.user_in(users) + self.hidden_bias)
