"""The journal version's strategies: a few true positives are known, and help before, after or beside the training.

Source: Wang et al., arXiv:2112.01160. Only its abstract and figures were at hand: what had to be assumed is in
DEVIATIONS.md, D16 to D18. Fine-tuning and warm-up need no code here: they are two runs, of which the second starts from
the weights of the first (settings.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags, identity, issparse
from torch import Tensor, nn

from denoise_lib.data import Interactions, Split
from denoise_lib.evaluation import RankingTask
from denoise_lib.evaluator import per_user_metrics, rank_items
from denoise_lib.losses import cross_entropies
from denoise_lib.models import CDAE

SPACES = ("own-positives", "learned", "all")  # in which users are neighbours
KNOWN = 3  # purpose of a random stream, beside those of train.py
SCORES_AT_ONCE = 1 << 26  # of neighbours, 256 MB, whatever the number of users


def known_positives(split: Split, share: float, seed: int) -> Interactions:
    """The extra feedback: ``round(share * n)`` of the n true positives of the training part, drawn without replacement.

    The draws of one seed are nested: what a share knows, a larger one knows too. A pair that validation or test hold as well
    is never drawn, so nothing of what is evaluated is given away.

    Raises:
        ValueError: a share outside (0, 1], a training part without flags, or nothing to draw.
    """
    check_share(share)
    if split.train.is_clean is None:
        raise ValueError(f"{split.name}: the training part has no flags, so its true positives are not known")
    key = lambda part: part.users * split.n_items + part.items  # noqa: E731
    evaluated = np.concatenate([key(split.valid), key(split.test)])
    candidates = np.flatnonzero(split.train.is_clean & ~np.isin(key(split.train), evaluated))
    n_known = round(share * len(candidates))
    if n_known == 0:
        raise ValueError(f"{split.name}: a share of {share} of {len(candidates)} true positives is none; take a larger one")
    order = np.random.default_rng([seed, 0, 0, KNOWN]).permutation(len(candidates))
    return split.train[np.sort(candidates[order[:n_known]])]


def on_known(split: Split, share: float, seed: int) -> Split:
    """The split whose training part is the extra feedback only."""
    return replace(split, train=known_positives(split, share, seed))


def known_weights(split: Split, share: float, seed: int, weight: float) -> np.ndarray:
    """What is added to the weight 1 of each training row, float ``(n,)``: ``weight - 1`` for a known true positive, else 0."""
    known = split.matrix(known_positives(split, share, seed))
    return (weight - 1) * np.asarray(known[split.train.users, split.train.items], dtype=np.float64).ravel()


def weighted_cross_entropy(logits: Tensor, labels: Tensor, added: Tensor) -> Tensor:
    r"""The mean :math:`\sum_j (1 + a_j) \ell_j / \sum_j (1 + a_j)` of a batch; ``added`` ``(B,)`` is of :func:`known_weights`."""
    return ((1 + added) * cross_entropies(logits, labels)).sum() / (1 + added).sum()


# --------------------------------------------------------------------------------------------------- colliding inference


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
        case "learned":
            return _learned(model, split.n_users)
    raise ValueError(f"neighbours are of one of the spaces {', '.join(SPACES)}, got {space!r}")


@torch.no_grad()
def _learned(model: nn.Module, n_users: int) -> np.ndarray:
    if isinstance(model, CDAE):
        return torch.cat([model.encode(users) for users in torch.arange(n_users).split(4096)]).numpy()
    tables = [module.weight for name, module in model.named_children() if name.startswith("user_")]
    return torch.cat(tables, dim=1).numpy()


def nearest_users(vectors: np.ndarray | csr_matrix, n: int) -> np.ndarray:
    """The ``n`` nearest other users of each user by cosine, nearest first, equal ones by id: int64 ``(n_users, n)``.

    Only a positive cosine makes a neighbour; where there are fewer than n, the row ends in -1.

    Raises:
        ValueError: n below 1, or not below the number of users.
    """
    n_users = vectors.shape[0]
    check_neighbours([n], n_users)
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
    """The mean logit of a user's neighbours, as a model; a user without any keeps the own one.

    Attributes:
        model: has ``score_items``.
        neighbours: int64 ``(n_users, n)``, of :func:`nearest_users`.
    """

    model: object
    neighbours: np.ndarray

    def score_items(self, users: Tensor) -> Tensor:
        """``(U, n_items)`` scores of some users."""
        scores = self.model.score_items(users)
        n_rows = max(1, SCORES_AT_ONCE // (scores.shape[1] * self.neighbours.shape[1]))
        for start in range(0, len(users), n_rows):
            block = slice(start, start + n_rows)
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

    :math:`f` is the logit. A user without neighbours keeps :math:`f(u, i)`, and :math:`\lambda = 1` is the plain model.

    Attributes:
        model, neighbour_mean: have ``score_items``; the second is a :class:`NeighbourMean` of the first.
        own: :math:`\lambda` in [0, 1], the weight of the user's own score.
    """

    model: object
    neighbour_mean: object
    own: float

    def score_items(self, users: Tensor) -> Tensor:
        """``(U, n_items)`` scores of some users."""
        return torch.lerp(self.neighbour_mean.score_items(users), self.model.score_items(users), self.own)


class StoredScores:
    """A model's scores of all pairs, computed once, for whoever ranks with it many times; the model itself where they would
    be more than ``SCORES_AT_ONCE``."""

    def __new__(cls, model: nn.Module, n_users: int, n_items: int):
        return super().__new__(cls) if n_users * n_items <= SCORES_AT_ONCE else model

    @torch.no_grad()
    def __init__(self, model: nn.Module, n_users: int, n_items: int):
        self.scores = model.score_items(torch.arange(n_users))

    def score_items(self, users: Tensor) -> Tensor:
        return self.scores[users]


def recall_grid(
    model, neighbours: np.ndarray, task: RankingTask, ns: Sequence[int], lambdas: Sequence[float], k: int
) -> np.ndarray:
    """Mean Recall@k for every number of neighbours and λ: float ``(len(ns), len(lambdas))``."""

    grid = []
    for n in ns:
        mean = StoredScores(NeighbourMean(model, neighbours[:, :n]), len(neighbours), task.seen.shape[1])
        ranked = (rank_items(CollidingInference(model, mean, own), task.users, task.seen, k) for own in lambdas)
        grid.append([per_user_metrics(ranking, task.ground_truth, [k])["recall"].mean() for ranking in ranked])
    return np.array(grid)


# ----------------------------------------------------------------------------------------------------------------- checks


def check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"known_shares are shares of the true positives in (0, 1], got {share}")


def check_neighbours(neighbours: Sequence[int], n_users: int | None = None) -> None:
    for n in neighbours:
        if n < 1 or (n_users is not None and n >= n_users):
            limit = "" if n_users is None else f" and below the number of users, {n_users}"
            raise ValueError(f"neighbours are counts of at least 1{limit}, got {n}")


def check_lambdas(lambdas: Sequence[float]) -> None:
    for own in lambdas:
        if not 0 <= own <= 1:
            raise ValueError(f"lambdas lie in [0, 1], got {own}")
