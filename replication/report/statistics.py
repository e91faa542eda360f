"""How sure a difference is: over seeds (training again), and over users (testing other users)."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05
POWER = 0.8


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    r"""Mean and 95 % t-interval: :math:`\bar x \pm t_{0.975, n-1}\, s / \sqrt n`; NaN limits for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def paired_p(differences: Sequence[float]) -> float:
    """p of the two-sided t-test that paired differences have mean 0; NaN for fewer than two, or where all are equal: without
    scatter, as when two seeds differ by the same single hit, the test would be certain of anything."""
    differences = np.asarray(differences, dtype=float)
    if len(differences) < 2 or np.allclose(differences, differences[:1], rtol=1e-9, atol=0):
        return np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of scipy, on differences that are nearly equal
        return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    r"""Holm's adjusted p-values of a family of m tests: with :math:`p_{(1)} \le \dots \le p_{(m)}`,
    :math:`\tilde p_{(j)} = \min(1, \max_{i \le j} (m - i + 1)\, p_{(i)})`. NaN are no tests and stay.

    Rejecting where the adjusted value is below 0.05 keeps the chance of even one false rejection below 0.05.
    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]  # NaN sort last
    adjusted = np.full(len(p_values), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(order), 0, -1) * p_values[order]))
    return adjusted


def outcomes(changes: Sequence[float], adjusted: Sequence[float]) -> list[str]:
    """``better`` or ``worse`` where the adjusted p-value is below 0.05, by the change's sign, else ``unresolved``."""
    return [
        "unresolved" if not p < LEVEL else "better" if change > 0 else "worse" for change, p in zip(changes, adjusted)
    ]


def detectable(differences: Sequence[float]) -> float:
    r"""The smallest true mean difference that as many seeds with this scatter would find, uncorrected, four times in
    five: about :math:`(t_{0.975, n-1} + t_{0.8, n-1})\, s / \sqrt n`; NaN for fewer than two."""
    if len(differences) < 2:
        return np.nan
    return float(sum(stats.t.ppf([1 - LEVEL / 2, POWER], len(differences) - 1)) * stats.sem(differences))


def bootstrap_intervals(
    differences: np.ndarray, n_resamples: int = 10_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile intervals of the mean over users, from resampled users.

    Args:
        differences: float ``(cells, U)``, each user's difference between two methods, averaged over seeds. A resample
            takes the same users in every cell.
        n_resamples, seed: of the resampling.

    Returns:
        Lower and upper limits, ``(cells,)`` each.
    """
    batch = max(1, 20_000_000 // max(1, differences.size))  # 160 MB at once
    result = stats.bootstrap(
        (differences,), np.mean, axis=-1, n_resamples=n_resamples, batch=batch, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return result.confidence_interval.low, result.confidence_interval.high


def family_outcomes(table: pd.DataFrame, change: str, p: str, families: pd.Series) -> pd.DataFrame:
    """``p_holm`` and ``outcome`` of a table's rows, corrected within each family."""
    adjusted = table[p].astype(float).groupby(families).transform(lambda values: holm(values))
    return pd.DataFrame({"p_holm": adjusted, "outcome": outcomes(table[change], adjusted)}, index=table.index)


def over_seeds(frame: pd.DataFrame, keys: Sequence[str], value: str = "value") -> pd.DataFrame:
    """``mean, low, high`` of a column in each group, in order of appearance: the mean and its 95 % t-interval."""
    groups = frame.groupby(list(keys), sort=False, dropna=False)[value].agg(["mean", "sem", "count"]).reset_index()
    half = stats.t.ppf(1 - LEVEL / 2, np.maximum(groups["count"] - 1, 1)) * groups["sem"]
    return groups.assign(low=groups["mean"] - half, high=groups["mean"] + half).drop(columns=["sem", "count"])
