"""How sure a difference is: over seeds (training again), and over users (testing other users)."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05
POWER = 0.8


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    r"""Mean and 95 % t-interval: :math:`\bar x \pm t_{0.975, n-1}\, s / \sqrt n`; NaN for too few values."""
    mean = float(np.mean(values)) if len(values) else np.nan
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def paired_p(differences: Sequence[float]) -> float:
    """p of the two-sided t-test that paired differences have mean 0; NaN for fewer than two, or where all are equal:
    without scatter, as when two seeds differ by the same single hit, the test would be certain of anything."""
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


def counted(outcomes: Sequence[str]) -> str:
    """``1 better, 0 worse, 3 unresolved``."""
    return ", ".join(f"{list(outcomes).count(word)} {word}" for word in ("better", "worse", "unresolved"))


def detectable(differences: Sequence[float]) -> float:
    r"""The smallest true mean difference that as many seeds with this scatter would find, uncorrected, four times in
    five: about :math:`(t_{0.975, n-1} + t_{0.8, n-1})\, s / \sqrt n`; NaN for fewer than two."""
    if len(differences) < 2:
        return np.nan
    return float(sum(stats.t.ppf([1 - LEVEL / 2, POWER], len(differences) - 1)) * stats.sem(differences))


def bootstrap_intervals(differences: np.ndarray, n_resamples: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Limits, ``(cells,)`` each, of 95 % percentile intervals of the mean over users. ``differences`` is float
    ``(cells, U)``, each user's difference between two methods; a resample takes the same users in every cell."""
    batch = max(1, 20_000_000 // max(1, differences.size))  # 160 MB at once
    drawn = dict(n_resamples=n_resamples, batch=batch, method="percentile", rng=np.random.default_rng(0))
    limits = stats.bootstrap((differences,), np.mean, axis=-1, **drawn).confidence_interval
    return limits.low, limits.high


def intervals(frame: pd.DataFrame, keys: Sequence[str], value: str = "value") -> pd.DataFrame:
    """``keys, mean, low, high``: the :func:`interval` of a column in each group, in order of appearance."""
    groups = frame.groupby(list(keys), sort=False, dropna=False)[value]
    rows = [(*key, *interval(group.dropna())) for key, group in groups]
    return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high"])


def over_seeds(frame: pd.DataFrame, keys: Sequence[str], value: str = "value") -> pd.DataFrame:
    """The same for thousands of groups at once; the last digit may differ."""
    groups = frame.groupby(list(keys), sort=False, dropna=False)[value].agg(["mean", "sem", "count"]).reset_index()
    half = stats.t.ppf(1 - LEVEL / 2, np.maximum(groups["count"] - 1, 1)) * groups["sem"]
    return groups.assign(low=groups["mean"] - half, high=groups["mean"] + half).drop(columns=["sem", "count"])


def changes(frame: pd.DataFrame, keys: Sequence[str], name: str = "change", summarise=intervals) -> pd.DataFrame:
    """``keys, <name>, <name>_low, <name>_high, p, detectable`` of the column ``name``, the paired differences."""
    groups = frame.groupby(list(keys), sort=False, dropna=False)[name]
    p, least = (groups.agg(lambda each, of=of: of(each.dropna())).to_numpy() for of in (paired_p, detectable))
    table = summarise(frame, keys, name).set_axis([*keys, name, f"{name}_low", f"{name}_high"], axis=1)
    return table.assign(p=p, detectable=least)


def compare(
    values: pd.DataFrame, keys: Sequence[str], cell: Sequence[str], is_base: pd.Series, summarise: Callable = intervals
) -> pd.DataFrame:
    """Every group with its change against the base of its cell, paired by seed.

    Args:
        values: one row per group and seed, with the columns ``seed`` and ``value``.
        keys: further columns, which tell groups apart.
        cell: those of them that a group and its base have in common.
        is_base: the rows that the others are compared with.
        summarise: :func:`intervals` or :func:`over_seeds`.

    Returns:
        ``keys, mean, low, high, n_seeds`` and the columns of :func:`changes`, NaN for the base and where nothing pairs.
    """
    paired_by = [*cell, "seed"]
    at_base = values[is_base].set_index(paired_by)["value"].rename("at_base")
    values = values.assign(change=(values["value"] - values.join(at_base, on=paired_by)["at_base"]).mask(is_base))
    n_seeds = values.groupby(list(keys), sort=False, dropna=False)["value"].count().to_numpy()
    found = changes(values, keys, summarise=summarise).drop(columns=list(keys))
    return summarise(values, keys).assign(n_seeds=n_seeds).join(found)


def corrected(table: pd.DataFrame, outcome: str, families: Sequence[pd.Series], change: str = "change") -> pd.DataFrame:
    """The table with ``p_holm``, ``p`` after Holm's correction within each family, and a column ``outcome``: ``better``
    or ``worse`` where ``p_holm`` is below 0.05, by the change's sign, else ``unresolved``. Both are empty where nothing
    changes. Rows are of one family where all of ``families`` are equal."""
    tested = table[table[change].notna()]
    adjusted = tested.groupby([family[tested.index] for family in families])["p"].transform(holm)
    found = np.where(adjusted < LEVEL, np.where(tested[change] > 0, "better", "worse"), "unresolved")
    return table.assign(**{"p_holm": adjusted, outcome: pd.Series(found, tested.index, object)})
