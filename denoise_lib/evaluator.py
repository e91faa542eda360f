"""Full ranking and its metrics: whom to rank for, what is left out, what counts as a hit, and how much of it is hit.

Nothing here knows of losses, files or how a model works.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix

from denoise_lib.data import Interactions, Split

VALIDATION_USERS = 5_000  # ranked on the validation part
SCORES_PER_BLOCK = 1 << 22  # scores held at once: 16 MB, whatever the number of users


@torch.no_grad()
def rank_items(model, users: np.ndarray, seen: csr_matrix, k: int) -> np.ndarray:
    """Each user's best k items among those not seen, best first; equal scores are ordered by item id.

    Args:
        model: has ``score_items(users) -> (U, n_items)``; evaluated in evaluation mode, its own mode is restored.
        users: int ``(U,)``.
        seen: CSR ``(U, n_items)``; row r holds the items of ``users[r]`` that are never ranked.
        k: length of the ranking.

    Returns:
        int64 ``(U, k)``; a row ends in -1 where the user has fewer than k unseen items.

    Raises:
        ValueError: ``seen`` has another number of rows, k is below 1, or a score is NaN.
    """
    if seen.shape[0] != len(users) or k < 1:
        raise ValueError(f"need one row of seen items per user and k of at least 1, got {seen.shape[0]} rows, k={k}")
    n_items = seen.shape[1]
    device = next((p.device for p in getattr(model, "parameters", list)()), torch.device("cpu"))
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    ranked = np.full((len(users), k), -1, dtype=np.int64)
    n_rows = max(1, SCORES_PER_BLOCK // n_items)
    for start in range(0, len(users), n_rows):
        block = slice(start, start + n_rows)
        scores = model.score_items(torch.as_tensor(users[block], dtype=torch.int64, device=device))
        best = _best(scores, seen[block], min(k, n_items))
        ranked[block, : best.shape[1]] = best.cpu().numpy()
    if was_training:
        model.train()
    return ranked


def _best(scores: torch.Tensor, seen: csr_matrix, k: int) -> torch.Tensor:
    """``(U, k)`` item ids by falling score, then rising id; -1 for a seen item."""
    rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
    to_device = lambda ids: torch.as_tensor(ids, dtype=torch.int64, device=scores.device)  # noqa: E731
    scores[to_device(rows), to_device(seen.indices)] = -torch.inf

    row, item = _not_below_kth(scores, k)
    tied = row.bincount(minlength=len(scores)) > k  # others share the k-th score: of these rows all scores are sorted
    items = torch.empty(len(scores), k, dtype=torch.int64, device=scores.device)
    items[~tied] = item[~tied[row]].view(-1, k)
    items[tied] = scores[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return items.gather(1, order).masked_fill_(values == -torch.inf, -1)


def _not_below_kth(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns, in order, of the scores that reach the k-th largest of their row."""
    on_cpu = scores.device.type == "cpu"  # where numpy takes a third of torch's time
    best = torch.from_numpy(np.partition(scores, -k, axis=1)[:, -k:]) if on_cpu else torch.topk(scores, k).values
    if best.isnan().any():  # both take NaN for the largest
        raise ValueError("the model gives NaN scores: training diverged, so there is nothing to rank")
    reach = scores >= best.amin(dim=1, keepdim=True)
    if not on_cpu:
        return reach.nonzero(as_tuple=True)
    return tuple(map(torch.from_numpy, np.divmod(np.flatnonzero(reach), scores.shape[1])))


def per_user_metrics(
    ranked_items: np.ndarray, ground_truth: Sequence[np.ndarray], ks: Sequence[int]
) -> dict[str, np.ndarray]:
    r"""Metrics of every user at every K; averages are taken by whoever prints them.

    With :math:`h_r` = 1 where the item at rank r (from 1) is in the truth, and :math:`|T|` its length:

    - precision: :math:`\sum_{r \le K} h_r / K`
    - recall: :math:`\sum_{r \le K} h_r / |T|`
    - ndcg: :math:`\sum_{r \le K} \frac{h_r}{\log_2(r + 1)} \big/ \sum_{r \le \min(K, |T|)} \frac{1}{\log_2(r + 1)}`
    - mrr: :math:`\max_{r \le K} h_r / r`, the reciprocal rank of the first hit

    Args:
        ranked_items: int ``(U, n)`` with n at least max(ks); -1 is never a hit.
        ground_truth: for each user a 1-D int array. Repeated items count in :math:`|T|`, as in the authors' code.
        ks: cut-offs.

    Returns:
        ``"precision" | "recall" | "ndcg" | "mrr"`` -> float64 ``(U, len(ks))``; 0 for a user without truth.

    Raises:
        ValueError: other lengths, or a K that is below 1 or longer than the ranking.

    Source: the authors' ``evaluate.py`` at 451779a.
    """
    ranked_items, ks = np.asarray(ranked_items), np.asarray(ks)
    if len(ranked_items) != len(ground_truth):
        raise ValueError(f"{len(ranked_items)} rankings for {len(ground_truth)} users")
    if ks.min() < 1 or ks.max() > ranked_items.shape[1]:
        raise ValueError(f"K must lie between 1 and the ranking's length {ranked_items.shape[1]}, got {ks.tolist()}")
    n_truth = np.array([len(truth) for truth in ground_truth])
    hits = _hits(ranked_items[:, : ks.max()], ground_truth, n_truth)

    ranks = np.arange(1, ks.max() + 1)
    discounts = 1 / np.log2(ranks + 1)
    ideal = np.concatenate([[0], np.cumsum(discounts)])[np.minimum(ks, n_truth[:, None])]
    n_hits = np.cumsum(hits, axis=1)[:, ks - 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        metrics = {
            "precision": n_hits / ks,
            "recall": n_hits / n_truth[:, None],
            "ndcg": np.cumsum(hits * discounts, axis=1)[:, ks - 1] / ideal,
            "mrr": np.maximum.accumulate(hits / ranks, axis=1)[:, ks - 1],
        }
    return {name: np.where(n_truth[:, None] > 0, values, 0.0) for name, values in metrics.items()}


def _hits(ranked_items: np.ndarray, ground_truth: Sequence[np.ndarray], n_truth: np.ndarray) -> np.ndarray:
    """bool ``(U, n)``: is the ranked item in its user's truth? One set look-up over (row, item) keys for all users."""
    truth = np.concatenate([np.asarray(items, dtype=np.int64) for items in ground_truth] + [np.empty(0, np.int64)])
    width = max(ranked_items.max(initial=0), truth.max(initial=0)) + 1
    rows = np.arange(len(ranked_items))
    wanted = np.sort(np.append(np.repeat(rows, n_truth) * width + truth, len(rows) * width))  # and one that nothing is
    keys = rows[:, None] * width + ranked_items
    return (wanted[np.searchsorted(wanted, keys)] == keys) & (ranked_items >= 0)


@dataclass(frozen=True, eq=False)
class RankingTask:
    """Whom to rank for, what is left out and what counts as a hit; prepared once, used at every evaluation point."""

    users: np.ndarray  # int64 (U,)
    seen: csr_matrix  # (U, n_items)
    ground_truth: list[np.ndarray]  # U arrays of item ids


def ranking_task(split: Split, truth: Interactions, seen_parts: list[Interactions]) -> RankingTask:
    """To rank all items for the users of ``truth``, leaving out ``seen_parts``."""
    order = np.argsort(truth.users, kind="stable")
    users, first = np.unique(truth.users[order], return_index=True)
    return RankingTask(users, split.matrix(*seen_parts)[users], np.split(truth.items[order], first[1:]))


def evaluate(model, task: RankingTask, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """The metrics of :func:`per_user_metrics`, ``(U, len(ks))`` each."""
    return per_user_metrics(rank_items(model, task.users, task.seen, max(ks)), task.ground_truth, ks)


def sample_of_users(part: Interactions, n_users: int = VALIDATION_USERS) -> Interactions:
    """The rows of at most so many of a part's users, drawn with a fixed seed: ranking tens of thousands of them with
    NeuMF at every evaluation point would take longer than training."""
    users = np.unique(part.users)
    if len(users) > n_users:
        users = np.random.default_rng(0).choice(users, n_users, replace=False)
    return part[np.isin(part.users, users)]
