"""The answer for a table of your own, in words."""

import pandas as pd
import pytest

from denoise_lib.baselines import KNOWS_VALIDATION
from replication.report.answer import outcome, page
from replication.report.tables import with_metric


def cell(change, seeds=(-1, 1), users=(-1, 1), **values) -> dict:
    limits = dict(zip(("change_low", "change_high", "user_low", "user_high"), (*seeds, *users)))
    return (
        {"backbone": "GMF", "metric": "recall", "k": 20, "n_seeds": 5, "mean": 0.2, "change": change} | limits | values
    )


@pytest.mark.parametrize(
    "seeds, users, n_seeds, expected",
    [
        ((0.01, 0.02), (0.001, 0.03), 5, "better"),
        ((0.01, 0.02), (-0.001, 0.03), 5, "unresolved"),  # other users might say otherwise
        ((-0.02, -0.01), (-0.03, -0.001), 5, "worse"),
        ((-0.001, 0.001), (-0.0015, 0.0015), 5, "no effect"),
        ((-0.001, 0.001), (-0.003, 0.001), 5, "unresolved"),  # 0.002 is 1 % of CE
        ((0.01, 0.01), (0.005, 0.015), 2, "unresolved"),  # two seeds with the same change
        ((0, 0), (0, 0), 5, "no effect"),  # the same ranking for every seed
        ((0.01, 0.02), (float("nan"), float("nan")), 5, "better"),  # of records without users
        ((float("nan"), float("nan")), (0.01, 0.02), 1, "unknown with one seed"),
    ],
)
def test_outcomes(seeds, users, n_seeds, expected):
    assert outcome(pd.Series(cell(0.0, seeds, users, n_seeds=n_seeds))) == expected


def words(noise, of_tce, of_random=None, n_seeds=5, simple=0.1) -> str:
    """The page where T-CE comes out like this against CE and against random-drop, and R-CE unresolved."""
    rows = [
        cell(0.0, method="T-CE", against="CE", outcome=of_tce),
        cell(0.0, method="R-CE", against="CE", outcome="unresolved"),
    ]
    rows += [cell(0.0, method="T-CE", against="random-drop", outcome=of_random)] if of_random else []
    table = with_metric(pd.DataFrame(rows).assign(n_seeds=n_seeds))
    baselines = [("ItemKNN", simple), (KNOWS_VALIDATION, 0.9)]
    untrained = [cell(None, method=name, mean=mean, backbone=None) for name, mean in baselines]
    return page(
        "films", 20, noise, pd.concat([table, pd.DataFrame(untrained)], ignore_index=True), table, "fewer epochs"
    )


def test_what_is_said():
    told = words("20.0%", "better", "unresolved")
    assert "20.0% of the training interactions are false positives" in told and "\n*fewer epochs*\n" in told
    assert "T-CE against CE, Recall@20: better on GMF (+0.0000, 95 % over seeds -1.0000 to +1.0000, over users" in told
    assert "random, Recall@20: unresolved on GMF" in told and "do not call it denoising" in told
    assert "behind by its mean, untested: ItemKNN has Recall@20 0.1000, the best loss, GMF T-CE, 0.2000" in told
    assert "the loss that is better" in told and "more seeds" not in told
    assert "do not call it denoising" not in words("20.0%", "better", "better")


def test_what_is_said_without_flags_or_seeds_and_of_a_baseline_that_is_ahead():
    told = words(None, "unresolved", simple=0.3)
    assert "unknown, the data have no flags" in told and "name them" in told and "more seeds narrow" in told
    assert (
        "a simple baseline is ahead by its mean, untested: ItemKNN" in told
        and "main_controls: [random-drop] adds it" in told
    )
    told = words("20.0%", "unknown with one seed", n_seeds=1)
    assert (
        "with one seed nothing can be said" in told
        and "seeds=[1, 2, 3, 4, 5]" in told
        and "over seeds" not in told.partition("![")[0]
    )
