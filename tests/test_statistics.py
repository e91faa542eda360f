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


def cells(**columns) -> pd.DataFrame:
    """Primary cells of a CE mean of 1: changes with half their intervals, of five seeds."""
    table = pd.DataFrame(columns)
    table = table.assign(change_low=table["change"] - table.pop("half"), n_seeds=table.get("n_seeds", 5))
    return table.assign(change_high=2 * table["change"] - table["change_low"])


def test_outcomes():
    nan = np.nan
    table = cells(
        change=[1, -1, 1, 0.001, 0.001, 0.001, 0, 0.05, 1],
        half=[0.1, 0.1, 2, 0.008, 0.01, 2, 0, 0, 0.1],
        p=[0.01, 0.01, 0.06, 0.8, 0.8, 0.8, nan, nan, 0.01],
        n_seeds=[5, 5, 5, 5, 5, 3, 5, 5, 3],
    )
    found = statistics.decided(table, pd.Series(range(9)), of_ce=pd.Series([1.0] * 9))["against_ce"]
    expected = ["better", "worse", "unresolved", "no effect", "unresolved", "too few seeds", "no effect", "unresolved"]
    assert found.tolist() == [*expected, "better"], "what is decided is decided with three seeds, too"


def test_families_are_corrected_apart():
    table = cells(change=[1.0, 1.0, -1.0, np.nan, 1.0], half=[2.0] * 5, p=[0.02, 0.04, 0.04, np.nan, 1e-9])
    found = statistics.decided(table, pd.Series(["a", "a", "b", "b", np.nan]), pd.Series([1.0] * 5))
    assert found["p_holm"].tolist() == pytest.approx([0.04, 0.04, 0.04, np.nan, np.nan], nan_ok=True)
    assert found["against_ce"].tolist()[:3] == ["better", "better", "worse"]
    assert found.loc[3:, ["against_ce", "detectable"]].isna().all(axis=None), "no change, or exploratory"
    one = statistics.decided(table, pd.Series(["a"] * 5), pd.Series([1.0] * 5))
    assert one["against_ce"].tolist()[:3] == ["unresolved"] * 3


def test_signs_are_flipped():
    """Of 2^3 ways to sign 1, 2, 3 two have a mean as far from 0: all alike."""
    assert statistics.sign_flip_p([1, 2, 3]) == pytest.approx(2 / 8)
    assert statistics.sign_flip_p([1, 2, -3]) == 1 and np.isnan(statistics.sign_flip_p([0.1, 0.1]))


def test_what_an_interval_shows():
    low, high = pd.Series([0.1, -0.2, -0.1, np.nan]), pd.Series([0.2, -0.1, 0.1, np.nan])
    assert statistics.by_interval(low, high).tolist() == ["above 0", "below 0", "neither", "neither"]


@pytest.mark.parametrize("summarise", [statistics.intervals, statistics.over_seeds])
def test_compare_by_hand(summarise):
    """Two cells; in b the base lacks seed 3. Changes by seed: a: .01, .02, .03; b: .1, .3. Rows are not in order."""
    rows = [("a", "T", 3, 0.33), ("a", "C", 1, 0.1), ("a", "T", 1, 0.11), ("a", "C", 3, 0.3), ("a", "T", 2, 0.22)]
    rows += [
        ("a", "C", 2, 0.2),
        ("b", "T", 1, 0.2),
        ("b", "T", 2, 0.5),
        ("b", "T", 3, 0.9),
        ("b", "C", 2, 0.2),
        ("b", "C", 1, 0.1),
    ]
    values = pd.DataFrame(rows, columns=["cell", "line", "seed", "value"])
    table = statistics.compare(values, ["cell", "line"], ["cell"], values["line"] == "C", summarise)
    assert list(table.columns) == ["cell", "line", *"mean low high n_seeds change change_low change_high p".split()]
    table = table.set_index(["cell", "line"])
    assert list(table.index) == [("a", "T"), ("a", "C"), ("b", "T"), ("b", "C")], "in order of appearance"
    row, half = table.loc[("a", "T")], 4.302653 * 0.01 / 3**0.5
    assert row[["mean", "n_seeds", "change"]].tolist() == pytest.approx([0.22, 3, 0.02])
    assert row[["change_low", "change_high"]].tolist() == pytest.approx([0.02 - half, 0.02 + half], abs=1e-7)
    assert row["p"] == pytest.approx(statistics.paired_p([0.01, 0.02, 0.03]))
    row = table.loc[("b", "T")]
    assert (row["mean"], row["n_seeds"], row["change"]) == pytest.approx((1.6 / 3, 3, 0.2)), (
        "a seed without a pair is no change"
    )
    assert row["p"] == pytest.approx(statistics.paired_p([0.1, 0.3]))
    assert table.xs("C", level="line")[["change", "change_low", "p"]].isna().all(axis=None)
    without = values[values["line"] == "T"]
    alone = statistics.compare(without, ["cell", "line"], ["cell"], without["line"] == "C", summarise)
    assert alone["mean"].notna().all() and alone["change"].isna().all(), "no base"


def test_over_seeds_is_the_interval():
    frame = pd.DataFrame(dict(group=["a"] * 3 + ["b"], value=[0.1, 0.2, 0.3, 0.5]))
    for summarise in (statistics.over_seeds, statistics.intervals):
        found = summarise(frame, ["group"]).set_index("group")
        assert found.loc["a"].tolist() == pytest.approx(list(statistics.interval([0.1, 0.2, 0.3])))
        assert found.loc["b", "mean"] == 0.5 and np.isnan(found.loc["b", "low"])


def test_detectable_change_is_found_four_times_in_five():
    """By the first test of a family of twelve."""
    rng = np.random.default_rng(0)
    scatter = rng.normal(size=(20_000, 5))
    low, high = statistics.interval(scatter[0] / scatter[0].std(ddof=1))[1:]  # the scatter's true deviation is 1
    table = pd.DataFrame(dict(change=0.0, change_low=low, change_high=high, n_seeds=5, p=[0.5] * 12))
    (true_change,) = set(statistics.decided(table, pd.Series([1] * 12), pd.Series([1.0] * 12))["detectable"])
    found = stats.ttest_1samp(scatter + true_change, 0, axis=1).pvalue < 0.05 / 12
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
    assert np.isnan(statistics.paired_p([1e-16, -2e-16, 0.0])), "rounding is no scatter"
    assert statistics.paired_p([0.1, 0.1001, 0.0999]) < 0.001
