"""How sure a difference is: over seeds (training again), and over users (testing other users). docs/statistics.md."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import nctdtrinc

LEVEL = 0.05
POWER = 0.8
SMALL = 0.01  # of CE's mean: a change whose interval lies within is no effect
FEW = 3  # seeds, with which a test of a family of 12 rejects nothing that is met here
OUTCOMES = ("better", "worse", "no effect", "unresolved", "too few seeds")


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
    if len(differences) < 2 or np.allclose(differences, differences[:1], rtol=1e-9, atol=1e-12):
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


def sign_flip_p(differences: Sequence[float]) -> float:
    """p of the two-sided test that flips the signs of paired differences: it assumes symmetry, no normality.
    With n of them it cannot be below 2^(1-n). NaN where :func:`paired_p` is."""
    if np.isnan(paired_p(differences)):
        return np.nan
    drawn = dict(permutation_type="samples", n_resamples=10_000, rng=np.random.default_rng(0))  # all up to n = 13
    return float(stats.permutation_test((np.asarray(differences),), np.mean, **drawn).pvalue)


def counted(outcomes: Sequence[str]) -> str:
    """``1 better, 0 worse, 3 unresolved``: each outcome that occurs, better and worse in any case."""
    found = list(outcomes)
    return ", ".join(f"{found.count(name)} {name}" for name in OUTCOMES if name in found or name in OUTCOMES[:2])


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


def changes(
    frame: pd.DataFrame, keys: Sequence[str], name: str = "change", summarise=intervals, **tests
) -> pd.DataFrame:
    """``keys, <name>, <name>_low, <name>_high`` of the column ``name``, the paired differences; ``p``, of
    :func:`paired_p`; and the p of each of the ``tests``."""
    groups = frame.groupby(list(keys), sort=False, dropna=False)[name]
    found = {p: groups.agg(lambda each: of(each.dropna())).to_numpy() for p, of in ({"p": paired_p} | tests).items()}
    table = summarise(frame, keys, name).set_axis([*keys, name, f"{name}_low", f"{name}_high"], axis=1)
    return table.assign(**found)


def compare(
    values: pd.DataFrame, keys: Sequence[str], cell: Sequence[str], is_base: pd.Series, summarise=intervals, **tests
) -> pd.DataFrame:
    """Every group with its change against the base of its cell, paired by seed.

    Args:
        values: one row per group and seed, with the columns ``seed`` and ``value``.
        keys: further columns, which tell groups apart.
        cell: those of them that a group and its base have in common.
        is_base: the rows that the others are compared with.
        summarise: :func:`intervals` or :func:`over_seeds`.
        tests: more of them, for :func:`changes`.

    Returns:
        ``keys, mean, low, high, n_seeds`` and the columns of :func:`changes`, NaN for the base and where nothing pairs.
    """
    paired_by = [*cell, "seed"]
    at_base = values[is_base].set_index(paired_by)["value"].rename("at_base")
    values = values.assign(change=(values["value"] - values.join(at_base, on=paired_by)["at_base"]).mask(is_base))
    n_seeds = values.groupby(list(keys), sort=False, dropna=False)["value"].count().to_numpy()
    found = changes(values, keys, summarise=summarise, **tests).drop(columns=list(keys))
    return summarise(values, keys).assign(n_seeds=n_seeds).join(found)


def decided(table: pd.DataFrame, families: pd.Series, of_ce: pd.Series, change="change", outcome="against_ce"):
    r"""The table with an ``outcome`` for each primary cell; ``p_holm``, its ``p`` after Holm's correction within its
    family; and ``detectable``, the smallest true change that the first test of the family, the hardest, would find four
    times in five: :math:`\delta\, s / \sqrt n`, where a t with n - 1 degrees of freedom and noncentrality
    :math:`\delta` is above :math:`t_{1 - 0.05 / 2m, n-1}` with probability 0.8, for m tests and n seeds.

    Better or worse: ``p_holm`` is below 0.05. No effect: it is not, and the interval lies within 1 % of CE's mean,
    ``of_ce``. Else unresolved, or with three seeds too few seeds. Other cells, where ``families`` is NaN, stay empty:
    they are exploratory.
    """
    low, high, n, p = (table[name] for name in (f"{change}_low", f"{change}_high", "n_seeds", "p"))
    adjusted = p.groupby(families).transform(holm).reindex(table.index)
    m = p.groupby(families).transform("count")
    error = (high - low) / 2 / stats.t.ppf(1 - LEVEL / 2, n - 1)
    least = nctdtrinc(n - 1, 1 - POWER, stats.t.ppf(1 - LEVEL / 2 / m, n - 1)) * error
    is_small = (low > -SMALL * of_ce) & (high < SMALL * of_ce)
    better, worse = (adjusted < LEVEL) & (table[change] > 0), (adjusted < LEVEL) & (table[change] < 0)
    found = np.select([better, worse, is_small, n <= FEW], OUTCOMES[:3] + OUTCOMES[4:], OUTCOMES[3])
    is_primary = families.notna() & table[change].notna()
    found = pd.Series(found, table.index, object).where(is_primary)
    return table.assign(**{"p_holm": adjusted, outcome: found, "detectable": least.where(is_primary)})


def by_interval(low: pd.Series, high: pd.Series) -> pd.Series:
    """What an exploratory table shows of each change, uncorrected: ``above 0``, ``below 0`` or ``neither``."""
    return pd.Series(np.select([low > 0, high < 0], ["above 0", "below 0"], "neither"), low.index)
