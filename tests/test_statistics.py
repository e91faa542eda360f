"""Intervals and tests against worked cases."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from replication.report import statistics


def test_interval_by_hand():
    # three values: t(0.975, 2) = 4.302653, s = 0.1
    mean, low, high = statistics.interval([0.1, 0.2, 0.3])
    assert (mean, high - mean, mean - low) == pytest.approx((0.2, 4.302653 * 0.1 / 3**0.5, 4.302653 * 0.1 / 3**0.5))
    assert np.isnan(statistics.interval([0.1])[1])


def test_p_goes_with_the_interval():
    """An interval that just touches 0 has p = 0.05."""
    half = stats.t.ppf(0.975, 4) * stats.sem([1, 2, 3, 4, 5])
    assert statistics.paired_p(np.array([1, 2, 3, 4, 5]) - 3 + half) == pytest.approx(0.05)
    assert np.isnan(statistics.paired_p([0.1])) and np.isnan(statistics.paired_p([0.0, 0.0]))


def test_holm_by_hand():
    """Sorted .005, .01, .03, .04 times 4, 3, 2, 1, never falling: .02, .03, .06, .06. NaN is no test."""
    assert statistics.holm([0.01, 0.04, np.nan, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True
    )
    assert statistics.holm([0.9, 0.8]).tolist() == [1, 1]


def test_outcomes():
    assert statistics.outcomes([1, -1, 1, 1], [0.01, 0.01, 0.06, np.nan]) == [
        "better",
        "worse",
        "unresolved",
        "unresolved",
    ]


def test_families_are_corrected_apart():
    table = pd.DataFrame(dict(change=[1.0, 1.0, 1.0], p=[0.02, 0.04, 0.04]))
    found = statistics.corrected(table, "outcome", [pd.Series(["a", "a", "b"])])
    assert found["p_holm"].tolist() == pytest.approx([0.04, 0.04, 0.04])
    one = statistics.corrected(table, "outcome", [pd.Series(["a", "a", "a"])])
    assert one["outcome"].tolist() == ["unresolved"] * 3


def test_compare_pairs_by_seed():
    """Changes of two seeds, .1 and .3, against the base of the same cell; the third seed has no base."""
    rows = [("CE", 1, 0.5), ("CE", 2, 0.6), ("T-CE", 1, 0.6), ("T-CE", 2, 0.9), ("T-CE", 3, 0.1)]
    values = pd.DataFrame(rows, columns=["method", "seed", "value"]).assign(metric="recall")
    table = statistics.compare(values, ["method", "metric"], ["metric"], values["method"] == "CE").set_index("method")
    assert table["n_seeds"].tolist() == [2, 3] and np.isnan(table.loc["CE", "change"])
    expected = statistics.interval([0.1, 0.3])
    assert table.loc["T-CE", ["change", "change_low", "change_high"]].tolist() == pytest.approx(expected)
    assert table.loc["T-CE", "p"] == pytest.approx(statistics.paired_p([0.1, 0.3]))


def test_detectable_change_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    scatter = rng.normal(size=(20_000, 5))
    true_change = statistics.detectable(scatter[0] / scatter[0].std(ddof=1))  # the scatter's true deviation is 1
    found = stats.ttest_1samp(scatter + true_change, 0, axis=1).pvalue < 0.05
    assert 0.75 < found.mean() < 0.85


def test_bootstrap_against_the_closed_form():
    """The mean of many values: mean ± 1.96 s / sqrt(n), in every cell; the same users in every cell."""
    values = np.random.default_rng(1).normal(0.3, [[1.0], [0.1]], size=(2, 2_000))
    low, high = statistics.bootstrap_intervals(values)
    half = 1.96 * values.std(axis=1) / 2_000**0.5
    assert (values.mean(axis=1) - low) / half == pytest.approx([1, 1], abs=0.04)
    assert (high - values.mean(axis=1)) / half == pytest.approx([1, 1], abs=0.04)
    shifted = statistics.bootstrap_intervals(np.stack([values[0], values[0] + 1]))
    assert shifted[0][1] - shifted[0][0] == pytest.approx(1)
    assert [limit.tolist() for limit in statistics.bootstrap_intervals(values)] == [low.tolist(), high.tolist()], (
        "seeded"
    )


def test_equal_differences_are_no_certainty():
    assert np.isnan(statistics.paired_p([-0.0182, -0.0182])) and np.isnan(statistics.paired_p([0.0, 0.0, 0.0]))
    assert statistics.paired_p([0.1, 0.1001, 0.0999]) < 0.001
