"""From a model and a split to numbers: whom to rank for, what is left out of the ranking and what counts as a hit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from denoise_lib.data import Interactions, Split
from denoise_lib.evaluator import per_user_metrics, rank_items

VALIDATION_USERS = 5_000


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


def validation_sample(split: Split) -> Interactions:
    """The validation rows of at most ``VALIDATION_USERS`` users, drawn with a fixed seed: ranking tens of thousands of
    them with NeuMF would take a third of a run, for numbers that no table of results uses."""
    users = np.unique(split.valid.users)
    if len(users) > VALIDATION_USERS:
        users = np.random.default_rng(0).choice(users, VALIDATION_USERS, replace=False)
    return split.valid[np.isin(split.valid.users, users)]


def final_metrics(model, split: Split, ks: Sequence[int]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Means of validation (noisy truth, :func:`validation_sample`) and test, over all and over warm users; and the test
    values of every user."""
    rows = []
    for part, truth, seen in (
        ("valid", validation_sample(split), [split.train]),
        ("test", split.test, [split.train, split.valid]),
    ):
        task = ranking_task(split, truth, seen)
        users, measured = task.users, evaluate(model, task, ks)
        groups = {"all": np.ones(len(users), bool), "warm": np.isin(users, split.train.users)}
        for group, mask in groups.items():
            for metric, values in measured.items():
                for column, k in enumerate(ks):
                    value = values[mask, column].mean() if mask.any() else np.nan
                    rows.append((part, group, metric, k, value, mask.sum()))
    frame = pd.DataFrame(rows, columns=["part", "users", "metric", "k", "value", "n_users"])
    return frame, {"users": users, "ks": np.array(ks), **measured}


def test_probes(split: Split, ks: Sequence[int]) -> dict[str, Callable]:
    """Probes of :func:`denoise_lib.train.fit`, ``recall_<k>_test`` and ``ndcg_<k>_test``."""
    task = ranking_task(split, split.test, [split.train, split.valid])
    names = [f"{metric}_{k}_test" for metric in ("recall", "ndcg") for k in ks]
    return probes(lambda model: means(evaluate(model, task, ks), ks, "test"), names)


def means(measured: dict[str, np.ndarray], ks: Sequence[int], part: str) -> dict[str, float]:
    """``<metric>_<k>_<part>`` -> the mean over users."""
    return {f"{metric}_{k}_{part}": values[:, column].mean() for metric, values in measured.items() for column, k in enumerate(ks)}


def probes(measure: Callable[..., dict[str, float]], names: list[str]) -> dict[str, Callable]:
    """Probes that share one measurement a step: ``measure(model)`` gives the values of all ``names``."""
    latest = {}

    def probe_of(name: str) -> Callable:
        def probe(model, step: int) -> float:
            if latest.get("step") != step:
                latest.update(step=step, values=measure(model))
            return latest["values"][name]

        return probe

    return {name: probe_of(name) for name in names}
