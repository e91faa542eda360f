"""Colliding inference of the journal version: at inference a user's score is mixed with those of the user's neighbours.

Source: Wang et al., arXiv:2112.01160. What had to be assumed is in DEVIATIONS.md, D18.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags, identity, issparse
from torch import Tensor, nn

from denoise_lib.data import Interactions, Split
from denoise_lib.evaluator import RankingTask, per_user_metrics, rank_items
from denoise_lib.models import CDAE
from replication.methods.method import Style

SPACES = {  # in which users are neighbours
    "own-positives": Style("#CC79A7", "v", (0, (1, 1))),
    "learned": Style("#56B4E9", "P", (0, (5, 1))),
    "all": Style("#E69F00", "X", (0, (3, 1, 1, 1))),
}
SCORES_AT_ONCE = 1 << 26  # of neighbours, 256 MB, whatever the number of users


@torch.no_grad()
def user_vectors(space: str, model: nn.Module, split: Split, known: Interactions | None) -> np.ndarray | csr_matrix:
    """What makes users alike, ``(n_users, width)``.

    - ``"own-positives"``: the user's known true positives, 0 or 1 per item;
    - ``"learned"``: the rows of the model's user tables side by side; CDAE's hidden vector;
    - ``"all"``: all training interactions, 0 or 1 per item.
    """
    match space:
        case "own-positives":
            return split.matrix(known).astype(np.float32)
        case "all":
            return split.matrix(split.train).astype(np.float32)
        case "learned" if isinstance(model, CDAE):
            return torch.cat([model.encode(users) for users in torch.arange(split.n_users).split(4096)]).numpy()
        case "learned":
            tables = [module.weight for name, module in model.named_children() if name.startswith("user_")]
            return torch.cat(tables, dim=1).numpy()
    raise ValueError(f"neighbours are of one of the spaces {', '.join(SPACES)}, got {space!r}")


def nearest_users(vectors: np.ndarray | csr_matrix, n: int) -> np.ndarray:
    """The ``n`` nearest other users of each user by cosine, nearest first, equal ones by id: int64 ``(n_users, n)``.

    Only a positive cosine makes a neighbour; where there are fewer than n, the row ends in -1.

    Raises:
        ValueError: n below 1, or not below the number of users.
    """
    n_users = vectors.shape[0]
    if not 1 <= n < n_users:
        raise ValueError(f"a number of neighbours is at least 1 and below the number of users, {n_users}, got {n}")
    return rank_items(_Cosine(vectors), np.arange(n_users), identity(n_users, format="csr"), n)


class _Cosine:
    """Ranks users for users, so that the ranking of items does the search: in blocks, with its order among equals."""

    def __init__(self, vectors: np.ndarray | csr_matrix):
        sparse = csr_matrix(vectors)
        norms = np.sqrt(sparse.multiply(sparse).sum(axis=1).A1)
        unit = diags(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)) @ sparse
        self.vectors = unit if issparse(vectors) else unit.toarray()

    def score_items(self, users: Tensor) -> Tensor:
        cosines = self.vectors[users.numpy()] @ self.vectors.T
        cosines = torch.from_numpy(cosines.toarray() if issparse(cosines) else cosines)
        return cosines.masked_fill_(cosines <= 0, -torch.inf)


@dataclass(frozen=True, eq=False)
class NeighbourMean:
    """The mean logit of a user's ``neighbours``, int64 ``(n_users, n)`` of :func:`nearest_users`, by a model that has
    ``score_items``; itself such a model. A user without neighbours keeps the own logit."""

    model: object
    neighbours: np.ndarray

    def score_items(self, users: Tensor) -> Tensor:
        """``(U, n_items)`` scores of some users."""
        scores = self.model.score_items(users)
        n_rows = max(1, SCORES_AT_ONCE // (scores.shape[1] * self.neighbours.shape[1]))
        for block in torch.arange(len(users)).split(n_rows):
            of_block = self.neighbours[users[block].numpy()]
            is_one = of_block >= 0
            counts = is_one.sum(axis=1)
            distinct, place = np.unique(of_block[is_one], return_inverse=True)
            weights = np.zeros((len(of_block), len(distinct)), np.float32)
            weights[np.nonzero(is_one)[0], place] = np.repeat(1 / np.maximum(counts, 1), counts)
            means = torch.from_numpy(weights) @ self.model.score_items(torch.from_numpy(distinct))
            scores[block] = torch.where(torch.from_numpy(counts > 0)[:, None], means, scores[block])
        return scores


@dataclass(frozen=True, eq=False)
class CollidingInference:
    r"""A trained model whose users borrow from their neighbours at inference; a model itself to whoever ranks with it.

    .. math:: \hat y_{ui} = \lambda f(u, i) + (1 - \lambda) \frac{1}{|N_u|} \sum_{j \in N_u} f(j, i)

    :math:`f` is the logit that ``model`` gives, the mean is that of its :class:`NeighbourMean`, and ``own`` is
    :math:`\lambda` in [0, 1]. A user without neighbours keeps :math:`f(u, i)`; :math:`\lambda = 1` is the plain model.
    """

    model: object
    neighbour_mean: object
    own: float

    def score_items(self, users: Tensor) -> Tensor:
        """``(U, n_items)`` scores of some users."""
        return torch.lerp(self.neighbour_mean.score_items(users), self.model.score_items(users), self.own)


@torch.no_grad()
def stored(model, n_users: int, n_items: int):
    """A model's scores ``(n_users, n_items)``, computed once for whoever ranks with it many times, as a model; the
    model itself where they would be more than ``SCORES_AT_ONCE``."""
    if n_users * n_items > SCORES_AT_ONCE:
        return model
    return SimpleNamespace(score_items=model.score_items(torch.arange(n_users)).__getitem__)


def recall_grid(
    model, neighbours: np.ndarray, task: RankingTask, ns: Sequence[int], lambdas: Sequence[float], k: int
) -> np.ndarray:
    """Mean Recall@k for every number of neighbours and λ: float ``(len(ns), len(lambdas))``."""
    grid = []
    for n in ns:
        mean = stored(NeighbourMean(model, neighbours[:, :n]), len(neighbours), task.seen.shape[1])
        ranked = (rank_items(CollidingInference(model, mean, own), task.users, task.seen, k) for own in lambdas)
        grid.append([per_user_metrics(ranking, task.ground_truth, [k])["recall"].mean() for ranking in ranked])
    return np.array(grid)
