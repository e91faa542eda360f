"""What a run records: final metrics, and probes at its evaluation points. Nothing here changes a weight."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from denoise_lib.data import Interactions, Split
from denoise_lib.evaluator import evaluate, per_user_metrics, rank_items, ranking_task, sample_of_users
from denoise_lib.losses import cross_entropies
from denoise_lib.train import score_pairs, validation_rows
from replication.methods.method import IS_FALSE, POPULARITY, TENTH, row_values

Probes = dict[str, Callable]  # name -> (model, step) -> float, for denoise_lib.train.fit
ROWS = 20_000  # training positives whose losses are averaged


def final_metrics(model, split: Split, ks: Sequence[int]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Means of a sample of validation and of test, over all and warm users; each user's test values."""
    rows = []
    ranked = {"valid": (sample_of_users(split.valid), [split.train]), "test": (split.test, [split.train, split.valid])}
    for part, (truth, seen) in ranked.items():
        task = ranking_task(split, truth, seen)
        users, measured = task.users, evaluate(model, task, ks)
        for group, mask in {"all": np.ones(len(users), bool), "warm": np.isin(users, split.train.users)}.items():
            for (metric, values), (column, k) in product(measured.items(), enumerate(ks)):
                value = values[mask, column].mean() if mask.any() else np.nan
                rows.append((part, group, metric, k, value, mask.sum()))
    frame = pd.DataFrame(rows, columns=["part", "users", "metric", "k", "value", "n_users"])
    return frame, {"users": users, "ks": np.array(ks), **measured}


def where_the_hits_are(model, split: Split, ks: Sequence[int]) -> pd.DataFrame:
    r"""More rows for :func:`final_metrics`, on popularity in train, over all test users:

    - ``popularity``: the mean popularity of the ranked items;
    - ``recall_ips``: the mean over users of :math:`\sum_i w_i h_i / \sum_i w_i` over a user's test items, :math:`h_i` a
      hit and :math:`w_i` one over the item's popularity, at least 1: Recall as if all were as likely to be seen;
    - ``recall_tenth_<t>``: hits among the test rows of the t-th tenth of popularity; ``n_users`` is their number.
    """
    task = ranking_task(split, split.test, [split.train, split.valid])
    ranked, values = rank_items(model, task.users, task.seen, max(ks)), row_values(split.test, split)
    popularity = np.append(np.bincount(split.train.items, minlength=split.n_items), 0)  # the last for no item, -1
    is_here = ranked[np.searchsorted(task.users, split.test.users)] == split.test.items[:, None]
    at = np.where(is_here.any(axis=1), is_here.argmax(axis=1), split.n_items)  # each test item's place
    weight, rows = 1 / np.maximum(values[:, POPULARITY], 1), []
    for k in ks:
        hits = (
            pd.DataFrame({"user": split.test.users, "weight": weight, "hit": weight * (at < k)}).groupby("user").sum()
        )
        rows.append(("popularity", k, popularity[ranked[:, :k]].mean(), len(ranked)))
        rows.append(("recall_ips", k, (hits["hit"] / hits["weight"]).mean(), len(hits)))
        for tenth, of_tenth in pd.Series(at < k).groupby(values[:, TENTH].astype(int)):
            rows.append((f"recall_tenth_{tenth}", k, of_tenth.mean(), len(of_tenth)))
    return pd.DataFrame(rows, columns=["metric", "k", "value", "n_users"]).assign(part="test", users="all")


def test_metrics(split: Split, ks: Sequence[int], n_users: int | None = None) -> Probes:
    """Probes for :func:`denoise_lib.train.fit`: ``recall_<k>_test`` and ``ndcg_<k>_test``, of all users or a sample."""
    task = ranking_task(split, _sampled(split.test, n_users), [split.train, split.valid])
    names = [f"{metric}_{k}_test" for metric in ("recall", "ndcg") for k in ks]
    return probes(lambda model: means(evaluate(model, task, ks), ks, "test"), names)


def means(measured: dict[str, np.ndarray], ks: Sequence[int], part: str) -> dict[str, float]:
    """``<metric>_<k>_<part>`` -> the mean over users."""
    cells = product(measured.items(), enumerate(ks))
    return {f"{metric}_{k}_{part}": values[:, column].mean() for (metric, values), (column, k) in cells}


def probes(measure: Callable[..., dict[str, float]], names: list[str]) -> Probes:
    """Probes that share one measurement a model and step: ``measure(model)`` gives the values of all ``names``."""
    measured = lru_cache(maxsize=1)(lambda model, step: measure(model))
    return {name: lambda model, step, name=name: measured(model, step)[name] for name in names}


class DropCounter:
    """How many true and false positives, and how many of each tenth of popularity, a dropping loss has left out since
    it was last read."""

    def __init__(self):
        self.counts, self.of_tenths = torch.zeros(4), torch.zeros(11)

    def add(self, dropped: Tensor, labels: Tensor, values: Tensor) -> None:
        """Adds a batch.

        Args:
            dropped: int64, the batch positions that are left out.
            labels: float ``(B,)``, 1 for a positive.
            values: float ``(B, 3)``, of :func:`replication.methods.method.row_values`.
        """
        is_positive, is_false = labels > 0, values[:, IS_FALSE] > 0
        counts = [is_false[dropped].sum(), is_positive[dropped].sum(), is_false.sum(), is_positive.sum()]
        self.counts += torch.stack(counts).cpu()
        gone = values[dropped, TENTH].long()[is_positive[dropped]]
        self.of_tenths += gone.bincount(minlength=11).cpu()

    def read(self) -> dict[str, float]:
        """Shares since the last reading, then starts anew. NaN where nothing was there to divide by.

        ``drop_precision``: false positives among the dropped positives. ``drop_recall``: dropped among the false
        positives. ``drop_share``: dropped among all positives, the recall that dropping at random would have.
        ``false_share``: false positives among all positives, the precision that dropping at random would have.
        ``dropped_tenth_<t>``: how many of the t-th tenth of popularity, 1 the least popular, were dropped.
        """
        false_dropped, dropped, false, positives = self.counts.tolist()
        of_tenths = {f"dropped_tenth_{tenth}": self.of_tenths[tenth].item() for tenth in range(1, 11)}
        self.counts.zero_(), self.of_tenths.zero_()
        pairs = dict(
            drop_precision=(false_dropped, dropped), drop_recall=(false_dropped, false),
            drop_share=(dropped, positives), false_share=(false, positives),
        )  # fmt: skip
        return {name: part / whole if whole else np.nan for name, (part, whole) in pairs.items()} | of_tenths


def diagnostic_probes(
    split: Split,
    ks: Sequence[int],
    n_negatives: int,
    seed: int,
    drops: DropCounter | None = None,
    n_users: int | None = None,
) -> Probes:
    """The probes of a run with ``diagnostics``, for :func:`denoise_lib.train.fit`; some need flags.

    - ``recall_<k>_test``, ``ndcg_<k>_test``: as :func:`test_metrics`;
    - ``recall_<k>_valid``, ``recall_<k>_valid_clean``: on all validation rows, and on the true positives among them;
    - ``valid_ce``, ``valid_ce_clean``: plain cross-entropy of the validation rows that ``protocol: corrected`` uses,
      and of its true positives and their negatives;
    - ``loss_true``, ``loss_false``: mean cross-entropy of true and false training positives, of a sample of ``ROWS``;
      ``loss_auc``: how often a false one of them has the larger loss of two; ``valid_loss_true``, ``valid_loss_false``:
      the means of the validation positives, which were not trained on;
    - what :class:`DropCounter` reads.
    """
    users, items, labels = validation_rows(split, split.matrix(split.train), n_negatives, seed)
    subsets, clean = {"valid_ce": np.ones(len(users), bool)}, split.valid.is_clean
    if clean is not None:
        subsets["valid_ce_clean"] = np.concatenate([clean, np.repeat(clean, n_negatives)])
        negatives = np.zeros(len(users) - len(clean), bool)
        subsets |= {"valid_loss_true": np.append(clean, negatives), "valid_loss_false": np.append(~clean, negatives)}
    found = _ranking(split, ks, n_users) | _mean_losses(users, items, labels, subsets)
    if split.train.is_clean is not None:
        sample = split.train[np.random.default_rng(0).permutation(len(split.train))[:ROWS]]
        subsets = {"loss_true": sample.is_clean, "loss_false": ~sample.is_clean}
        found |= _mean_losses(sample.users, sample.items, np.ones(len(sample), np.float32), subsets, "loss_auc")
    if drops is not None:
        found |= probes(lambda model: drops.read(), list(DropCounter().read()))
    return found


def _sampled(part: Interactions, n_users: int | None) -> Interactions:
    return sample_of_users(part, n_users) if n_users else part


def _ranking(split: Split, ks: Sequence[int], n_users: int | None) -> Probes:
    """Test and validation metrics from one ranking, which leaves out the training items only and is long enough that
    the validation items can be taken out of it afterwards: scoring is what costs."""
    valid = _sampled(sample_of_users(split.valid), n_users)
    truths = {"valid": valid}
    if valid.is_clean is not None and valid.is_clean.any():
        truths["valid_clean"] = valid[valid.is_clean]
    parts = {**truths, "test": _sampled(split.test, n_users)}
    tasks = {part: ranking_task(split, truth, [split.train]) for part, truth in parts.items()}
    users = np.unique(np.concatenate([task.users for task in tasks.values()]))
    rows = {part: np.searchsorted(users, task.users) for part, task in tasks.items()}
    seen, is_valid = split.matrix(split.train)[users], split.matrix(split.valid)[users]
    length = min(split.n_items, max(ks) + int(is_valid.sum(axis=1).max()))

    def measure(model) -> dict[str, float]:
        ranked = rank_items(model, users, seen, length)
        later = np.asarray(is_valid[np.arange(len(users))[:, None], ranked].todense()).astype(bool) & (ranked >= 0)
        without_valid = np.take_along_axis(ranked, np.argsort(later, axis=1, kind="stable"), axis=1)
        found = {}
        for part, task in tasks.items():
            ranking = (without_valid if part == "test" else ranked)[rows[part], : max(ks)]
            found |= means(per_user_metrics(ranking, task.ground_truth, ks), ks, part)
        return found

    wanted = [("recall", "test"), ("ndcg", "test"), *(("recall", part) for part in truths)]
    return probes(measure, [f"{metric}_{k}_{part}" for metric, part in wanted for k in ks])


def _mean_losses(users: np.ndarray, items: np.ndarray, labels: np.ndarray, subsets: dict, rank: str = "") -> Probes:
    """Mean cross-entropy of each subset of some rows, NaN where it is empty; ``rank`` names the chance that a row of
    the last one has a larger loss than one of the others."""

    def measure(model) -> dict[str, float]:
        logits = score_pairs(model, users, items)
        losses = cross_entropies(logits, torch.from_numpy(labels).to(logits.device)).cpu().numpy()
        found = {name: losses[mask].mean(dtype=np.float64) if mask.any() else np.nan for name, mask in subsets.items()}
        if rank:
            found[rank] = auc(losses, [*subsets.values()][-1])
        return found

    return probes(measure, [*subsets, *filter(None, [rank])])


def auc(values: np.ndarray, is_positive: np.ndarray) -> float:
    """The chance that a positive row has a larger value than another, ties by half; NaN without rows of both kinds."""
    n = is_positive.sum()
    if not 0 < n < len(values):
        return np.nan
    return (rankdata(values)[is_positive].sum() - n * (n + 1) / 2) / (n * (len(values) - n))
