"""Rankings without training, in the protocol of the trained models: what any method must beat.

All know the training part only. What has a hyper-parameter takes it by Recall on the noisy validation part.
"""

from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from denoise_lib.data import Interactions, Split
from denoise_lib.evaluator import RankingTask, evaluate, ranking_task, sample_of_users

KNOWS_VALIDATION = "MostPop (train + valid)"  # counts what no trained model trains on
NEIGHBOURS = (10, 20, 50, 100, 200, 500, 1000)
REGULARISATION = (10, 30, 100, 300, 1000, 3000)
EASE_ITEMS = 15_000  # beyond it, the dense inverse and its copies take more than some 6 GB
CELLS_PER_BLOCK = 1 << 23  # of item pairs: 64 MB an array


class MostPop:
    """Every user gets the items with the most interactions.

    Args:
        n_items: number of items.
        parts: the interactions that are counted, row by row: a pair that lies in two parts counts twice.
    """

    def __init__(self, n_items: int, *parts: Interactions):
        counts = np.bincount(np.concatenate([part.items for part in parts]), minlength=n_items)
        self.popularity = torch.as_tensor(counts, dtype=torch.float32)

    def score_items(self, users: Tensor) -> Tensor:
        """The items' numbers of interactions, ``(U, n_items)``: the same row for every user."""
        return self.popularity.repeat(len(users), 1)


class ItemToItem:
    r"""A user's score of an item: the sum of its weights from the user's items, :math:`\sum_j x_{uj} w_{ji}`.

    Args:
        interactions: CSR ``(n_users, n_items)``, the training positives.
        weights: ``(n_items, n_items)``, CSR or dense.
    """

    def __init__(self, interactions: csr_matrix, weights):
        self.interactions, self.weights = interactions.astype(np.float64), weights

    def score_items(self, users: Tensor) -> Tensor:
        scores = self.interactions[users.numpy()] @ self.weights
        return torch.from_numpy(np.asarray(scores if isinstance(scores, np.ndarray) else scores.todense()))


def cosine_weights(interactions: csr_matrix, n_neighbours: int) -> csr_matrix:
    """ItemKNN: to each item from its most similar other items, by the cosine of their columns; the other weights are 0.

    Of items that are equally similar those with lower ids are taken. What decides is computed from whole numbers by
    operations that every processor rounds alike, so that equal is equal and the weights are the same everywhere.
    """
    users_of = interactions.astype(np.float64).T.tocsr()  # (n_items, n_users)
    n_items, counts = users_of.shape[0], np.maximum(np.diff(users_of.indptr), 1.0)
    n_neighbours = min(n_neighbours, n_items - 1)
    blocks = []
    for rows in np.array_split(np.arange(n_items), n_items**2 // CELLS_PER_BLOCK + 1):
        shared = (users_of[rows] @ users_of.T).toarray()  # users that two items have in common
        shared[np.arange(len(rows)), rows] = 0
        likeness = shared**2 / counts  # the squared cosine, times the row's own count
        weakest = np.partition(likeness, -n_neighbours, axis=1)[:, -n_neighbours, None]
        tied = likeness == weakest
        surplus = tied & (tied.cumsum(axis=1) > n_neighbours - (likeness > weakest).sum(axis=1, keepdims=True))
        shared[(likeness < weakest) | surplus] = 0
        blocks.append(csr_matrix(shared / np.sqrt(counts[rows, None] * counts)))
    return vstack(blocks).T.tocsr()


def ease_weights(interactions: csr_matrix, regularisation: float) -> np.ndarray:
    r"""EASE: the item-to-item weights without a diagonal that best rebuild the interactions, under a ridge penalty.

    .. math:: P = (X^\top X + \lambda I)^{-1}, \qquad w_{ji} = -P_{ji} / P_{ii}, \quad w_{ii} = 0

    Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, arXiv:1905.03375.
    """
    interactions = interactions.astype(np.float64)
    gram = (interactions.T @ interactions).toarray()
    gram[np.diag_indices_from(gram)] += regularisation
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def baselines(split: Split, ks) -> pd.DataFrame:
    """Test means of the baselines over all, warm and cold users: ``method, setting, users, metric, k, value``.

    ``MostPop`` counts train only; ``MostPop (train + valid)`` also knows the validation part, which no trained model
    does, and is no fair competitor: it shows how much the validation part tells of the test part. A method that does
    not fit the data's size has one row without a value, whose ``setting`` says why.
    """
    task = ranking_task(split, split.test, [split.train, split.valid])
    is_warm = np.isin(task.users, split.train.users)
    groups = {"all": np.ones(len(task.users), bool), "warm": is_warm, "cold": ~is_warm}
    rows = []
    for method, setting, model in _models(split, ks):
        if model is None:
            rows.append((method, setting, "all", None, None, np.nan))
            continue
        for metric, values in evaluate(model, task, ks).items():
            for (column, k), (users, mask) in product(enumerate(ks), groups.items()):
                if mask.any():
                    rows.append((method, setting, users, metric, k, values[mask, column].mean()))
    return pd.DataFrame(rows, columns=["method", "setting", "users", "metric", "k", "value"])


def _models(split: Split, ks):
    """(method, setting, model) of each baseline, one after another, since each may need much memory."""
    interactions = split.matrix(split.train)
    task = ranking_task(split, sample_of_users(split.valid), [split.train])
    yield "MostPop", "", MostPop(split.n_items, split.train)
    yield KNOWS_VALIDATION, "", MostPop(split.n_items, split.train, split.valid)
    n, model = _best(interactions, cosine_weights, NEIGHBOURS, task, ks)
    yield "ItemKNN", f"{n} neighbours, of {NEIGHBOURS}", model
    if split.n_items <= EASE_ITEMS:
        regularisation, model = _best(interactions, ease_weights, REGULARISATION, task, ks)
        yield "EASE", f"λ = {regularisation}, of {REGULARISATION}", model
    else:
        matrix = f"a dense {split.n_items} x {split.n_items} matrix, {8 * split.n_items**2 / 1e9:.0f} GB a copy"
        yield "EASE", f"left out: it inverts {matrix}", None


def _best(interactions: csr_matrix, weights_of, values, task: RankingTask, ks) -> tuple[float, ItemToItem]:
    """The first hyper-parameter with the highest validation Recall at the largest K, and its model."""
    models = ((value, ItemToItem(interactions, weights_of(interactions, value))) for value in values)
    return max(models, key=lambda one: evaluate(one[1], task, ks)["recall"][:, np.argmax(ks)].mean())
