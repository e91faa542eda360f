"""Verdicts by hand, one for each; the page and its 108 rows."""

from math import nan, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from replication.report import published, verdicts
from replication.report.tables import CELL, PAPER_METRICS
from replication.report.verdicts import Verdict


@pytest.mark.parametrize(
    ("mean", "half", "n", "expected"),
    [
        (0.1000, 0.001, 5, "reproduced"),
        (0.1040, 0.001, 5, "reproduced"),  # exactly 4 % above
        (0.0960, 0.001, 5, "reproduced"),
        (0.1000, nan, 1, "reproduced"),
        (0.1041, 0.001, 5, "not reproduced (higher)"),
        (0.0959, 0.001, 5, "not reproduced (lower)"),
        (0.1100, 0.01 / sqrt(6) + 1e-6, 5, "within seed noise"),  # prediction half = half * sqrt(n + 1)
        (0.1100, 0.01 / sqrt(6) - 1e-6, 5, "not reproduced (higher)"),
        (0.0900, 0.01 / sqrt(6) + 1e-6, 5, "within seed noise"),
        (0.1100, nan, 1, "cannot be checked (one seed)"),
    ],
)
def test_verdict(mean, half, n, expected):
    """Of numbers and intervals relative to a published one, here scaled to that of GMF with CE on Adressa."""
    ours = dict(mean=2.141 * mean, low=2.141 * (mean - half), high=2.141 * (mean + half), n_seeds=n)
    row = published.with_published(table(**ours)[:1], "adressa").iloc[0]
    assert row["verdict"] == expected
    assert row["prediction_high"] - row["mean"] == pytest.approx(2.141 * half * sqrt(n + 1), nan_ok=True)


def test_prediction_interval_is_that_of_one_further_run():
    values = pd.Series([1.0, 2.0, 4.0, 4.5])
    t, mean = stats.t.ppf(0.975, 3), values.mean()
    ours = dict(mean=mean, high=mean + t * values.std() / sqrt(4), n_seeds=4)
    found = published.with_published(table(**ours), "adressa")
    assert found["prediction_low"].tolist() == pytest.approx([mean - t * values.std() * sqrt(1 + 1 / 4)] * 3)


def table(**changed) -> pd.DataFrame:
    rows = [
        dict(
            backbone="GMF",
            method=method,
            metric=metric,
            k=20,
            mean=mean,
            low=mean - 0.001,
            high=mean + 0.001,
            n_seeds=3,
        )
        for method, metric, mean in (("CE", "recall", 0.2141), ("T-CE", "recall", 0.5), ("CE", "precision", 0.1))
    ]
    columns = ["change", "change_low", "change_high", "against_ce", "published", "source", "verdict", "note"]
    return pd.DataFrame(rows).assign(**({name: None for name in columns} | changed))


def test_published_columns():
    found = published.with_published(table(), "adressa")
    assert found["verdict"].tolist()[:2] == ["reproduced", "not reproduced (higher)"]
    assert (
        found["published"].tolist()[:2] == [0.2141, 0.2170]
        and found["published"].isna()[2]
        and pd.isna(found["verdict"][2])
    )
    assert found["source"][0] == "T_CE/log/adressa/GMF_0-0.log at 451779a"
    assert found["difference"][0] == pytest.approx(0) and found["prediction_high"][0] == pytest.approx(0.2141 + 0.002)


def test_other_settings_cannot_be_checked():
    found = published.with_published(table(), "adressa", "changed from the published settings: epochs")
    assert set(found["verdict"].dropna()) == {"cannot be checked (changed from the published settings: epochs)"}


def test_nothing_published_for_other_data():
    assert published.with_published(table(), "ml100k")[["published", "source", "verdict"]].isna().all(axis=None)


def test_published_numbers_are_the_paper_s():
    rows = published.published()
    assert len(rows) == 108 and not rows.duplicated(["dataset", *CELL]).any()
    assert (rows["source"] == "from memory").sum() == 36 == (rows["backbone"] == "CDAE").sum()
    points = published.published_curves("adressa")
    assert len(points) == 6 * 81 and len(points[points["selected"]]) >= 6
    least = points.groupby(["backbone", "method"])["valid_loss"].min()
    assert least.equals(points[points["selected"]].groupby(["backbone", "method"])["valid_loss"].max())
    assert published.published_curves("ml100k").empty


def test_published_numbers_agree_with_the_logs(reference):
    logs = pd.read_csv(reference / "published_runs.csv")
    rows = published.published().query("source != 'from memory'")
    for row in rows.itertuples():
        (log,) = logs[logs["log_file"] == row.source.removesuffix(" at 451779a")].itertuples()
        assert row.published == getattr(log, f"{row.metric}_k{1 if row.k == log.k1 else 2}")
        assert (row.dataset, row.backbone, row.method) == (log.dataset, log.model.removesuffix("-end"), log.loss)


def test_page_without_any_table(home):
    verdicts.write()
    rows = pd.read_csv(home / "results" / "verdicts.csv")
    assert len(rows) == 108 and set(rows["verdict"]) == {str(verdicts.NOT_RUN)} and rows["mean"].isna().all()
    assert "not yet measured" in (home / "VERDICTS.md").read_text()


def test_page_from_a_table(home):
    folder = home / "results" / "adressa" / "tables"
    folder.mkdir(parents=True)
    outcomes = published.with_published(table(against_ce=[None, "better", None]), "adressa")
    outcomes.to_csv(folder / "main.csv", index=False)
    verdicts.write()
    rows = pd.read_csv(home / "results" / "verdicts.csv")
    counts = rows["verdict"].value_counts()
    assert counts[str(verdicts.NOT_RUN)] == 72 and counts["cannot be checked (not among the runs of this table)"] == 34
    page = (home / "VERDICTS.md").read_text()
    assert "supported: 1 better, 0 worse" in page and "from memory" in page and "nan" not in page


@pytest.mark.parametrize(
    ("outcomes", "name"),
    [
        (["better", "better", "unresolved"], "supported"),
        (["better", "unresolved", "unresolved"], "mixed"),
        (["better", "better", "worse"], "mixed"),
        (["worse", "unresolved", "unresolved"], "mixed"),
        (["worse", "worse", "unresolved"], "contradicted"),
        (["no effect", "no effect"], "no effect"),
        (["no effect", "unresolved"], "unresolved"),
        ([], "unresolved"),
    ],
)
def test_claims_are_counted(outcomes, name):
    found = verdicts._counted(pd.Series(outcomes, dtype=object))
    assert found.status == name and str(found).startswith(f"{name}: {outcomes.count('better')} better, ")


def test_the_tally_counts_numbers_outside_the_prediction_interval():
    rows = pd.DataFrame(
        {
            "dataset": "adressa", "source": ["a.log", "b.log", "from memory", "c.log"], "published": [0.5, 0.7, 0.5, 0.5],
            "prediction_low": [0.4, 0.4, 0.6, np.nan], "prediction_high": [0.6, 0.6, 0.8, np.nan],
            "verdict": ["reproduced", "reproduced", "reproduced", "not run"],
        }
    )  # fmt: skip
    tally = verdicts._tally(rows).set_index(["published", "verdict"])
    assert tally["numbers"].to_dict() == {
        ("logs", "reproduced"): 2,
        ("from memory", "reproduced"): 1,
        ("logs", "not run"): 1,
    }
    assert tally["outside one more run"].tolist() == ["1", "1", "–"]


def test_claims_of_the_studies(home):
    """Each judge on a table made for it; what was not run stays open."""
    folder = home / "results" / "ml100k" / "tables"
    folder.mkdir(parents=True)

    def verdict_on(name: str, claim: str, **columns) -> str:
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)
        found = verdicts.claims().set_index("claim")["MovieLens-100K"]
        (judged,) = [verdict for line, verdict in found.items() if claim in line]
        assert isinstance(judged, Verdict)
        return str(judged)

    judged = verdict_on("clean_training", "clean training", change_low=[0.1, 0.1, -0.1], change_high=[0.2] * 3)
    assert judged == f"supported ({verdicts.EXPLORATORY}): intervals above 0 in 2 of 3 cells, below in 0"
    two = dict(backbone=["GMF", "GMF", "CDAE", "CDAE"], point=["selected", "last"] * 2)
    judged = verdict_on(
        "memorisation", "memorised late", **two, gap_low=[0.1, 0.1, -0.1, 0.1], gap_high=[0.2, 0.2, 0.1, 0.2],
        later_low=[None, -0.2, None, -0.1], later_high=[None, -0.1, None, 0.1],
    )  # fmt: skip
    assert judged == "mixed: harder at CE's selected step on 1 of 2 backbones; their mean loss falls after it on 1"
    gaps = dict(gap=[0.2, 0.1, -0.1, 0.1], gap_low=[0.1, 0.1, -0.2, 0.1], gap_high=[0.3, 0.1, -0.05, 0.1])
    judged = verdict_on("memorisation_held_out", "held-out", **two, **gaps)
    assert judged == (
        "mixed: false minus true loss at CE's selected step GMF +0.200 (+0.100 to +0.300), "
        "CDAE -0.100 (-0.200 to -0.050)"
    )
    drops = dict(backbone=["GMF", "CDAE"], method="T-CE", precision=[0.4, 0.6], at_random=[0.2] * 2, peak=[0.5, 0.7])
    for lows, highs, name in (
        ([0.6, 0.6], [0.7, 0.7], "supported"),
        ([0.3, 0.6], [0.4, 0.7], "mixed"),
        ([0.3, 0.3], [0.4, 0.4], "contradicted"),
        ([0.3, 0.4], [0.6, 0.7], "unresolved"),
        ([None, None], [None, None], "unresolved"),  # one seed
    ):
        judged = verdict_on("drops", "mostly false", **drops, precision_low=lows, precision_high=highs)
        told = "precision at its highest point and at the end (at random)"
        assert judged == f"{name}: {told} GMF 0.500 and 0.400 (0.200), CDAE 0.700 and 0.600 (0.200)"
    groups = dict(method=["T-CE", "T-CE", "CE"], group=["1–3", "4–9", "1–3"])
    assert (
        verdict_on("activity", "least active", **groups, change_low=[-2, 1, None], change_high=[-1, 2, None])
        == f"contradicted ({verdicts.EXPLORATORY}): intervals above 0 in 0 of 1 cells, below in 1"
    )
    grid = dict(method=["CE", "T-CE", "R-CE"], change_low=[None, 0.1, -0.2], change_high=[None, 0.2, -0.1])
    assert (
        verdict_on("sensitivity", "grids", **grid)
        == f"mixed ({verdicts.EXPLORATORY}): intervals above 0 in 1 of 2 cells, below in 1"
    )
    assert (
        verdict_on("tce_against_random", "at random", same_step_low=[0.1], same_step_high=[0.2])
        == f"supported ({verdicts.EXPLORATORY}): intervals above 0 in 1 of 1 cells, below in 0"
    )
    adressa = home / "results" / "adressa" / "tables"
    adressa.mkdir(parents=True)
    for flags, drops_there in (("no flags", verdicts.NO_FLAGS), ("17.47%", verdicts.NOT_MEASURED)):
        parts = pd.DataFrame({"part": ["train", "test"], "false_positives": [flags, "0.00%"]})
        parts.to_csv(adressa / "parts.csv", index=False)
        found = verdicts.claims().set_index("shown in")["Adressa"]
        assert (found["`drops.md`"], found["`activity.md`"]) == (drops_there, verdicts.NOT_MEASURED)
    table = pd.DataFrame(dict(same_step_low=[-2], same_step_high=[-1]))
    said = verdicts.publish_study("tce_against_random", table, "ml100k", "", shown=table).data
    assert "<b>Finding (MovieLens-100K): contradicted</b>, that T-CE gains more" in said and said.endswith(
        "contradicted (exploratory: intervals without correction): intervals above 0 in 0 of 1 cells, below in 1.</i></p>"
    )
    assert (folder / "tce_against_random.md").exists()


def test_a_verdict_names_the_backbones_that_its_table_lacks():
    main, found = pd.DataFrame({"backbone": ["GMF", "NeuMF", None]}), Verdict("not", "untested")
    on_gmf = verdicts._where_measured(found, pd.DataFrame({"backbone": ["GMF"]}), main)
    assert str(on_gmf) == "not (untested; NeuMF cannot be checked: no run recorded it)"
    for table, of_main in ((main, main), (pd.DataFrame({"method": ["CE"]}), main), (main, None)):
        assert verdicts._where_measured(found, table, of_main) == found


def test_a_verdict_is_its_status_its_limits_and_its_reasons():
    assert str(Verdict("not yet measured")) == "not yet measured"
    assert str(Verdict("not", "untested", "1 better, 0 worse")) == "not (untested): 1 better, 0 worse"
    assert Verdict("not", reasons="1 better") == Verdict("not", "", "1 better") != Verdict("not")


def gains(method: str) -> pd.Series:
    """Of the published numbers, the mean of method / CE - 1 on each backbone."""
    rows = published.published().pivot(index=["dataset", *CELL[:1], *CELL[2:]], columns="method", values="published")
    return (rows[method] / rows["CE"] - 1).groupby("backbone").mean()


def test_what_claims_say_is_published_is_in_the_published_numbers():
    told = verdicts.CLAIMS.set_index("judge")["published"].to_dict()
    assert told["most_on_neumf"] == verdicts.gains_told(gains("T-CE"))
    assert told["more_than_reweighted"] == verdicts.gains_told(gains("R-CE")) + " by R-CE"
    wide = published.published().pivot(index=["dataset", *CELL[:1], *CELL[2:]], columns="method", values="published")
    for method in ("T-CE", "R-CE"):
        higher = wide[method] > wide["CE"]
        of = [f"{verdicts.TITLES[name]} {cells.sum()} of {len(cells)}" for name, cells in higher.groupby("dataset")]
        expected = f"higher in {higher.sum()} of {len(higher)} cells ({', '.join(of)}); CDAE from memory"
        assert verdicts.CLAIMS.set_index("claim").loc[f"{method} improves on CE", "published"] == expected


def main_rows() -> pd.DataFrame:
    """A main table: outcome of each Recall and NDCG cell, and relative gain over CE."""
    outcomes = {("GMF", "CE"): (None, 0), ("GMF", "T-CE"): ("better", 0.1), ("GMF", "R-CE"): ("worse", 0.15)}
    outcomes |= {
        ("NeuMF", "CE"): (None, 0),
        ("NeuMF", "T-CE"): ("unresolved", 0.2),
        ("NeuMF", "R-CE"): ("unresolved", -0.05),
    }
    rows = []
    for (backbone, method), (outcome, gain) in outcomes.items():
        for metric in ("precision", *PAPER_METRICS):
            row = dict(backbone=backbone, method=method, metric=metric, k=20, mean=0.1 * (1 + gain), change=0.1 * gain)
            rows.append(row | dict(against_ce=outcome if metric in PAPER_METRICS else None))
    table = pd.DataFrame(rows)
    return table.assign(change=table["change"].where(table["method"] != "CE"))


def judged(claim: str, table: pd.DataFrame) -> Verdict:
    (line,) = [line for line in verdicts.CLAIMS.itertuples() if claim in line.claim]
    return verdicts.judge(line, table)


def test_claims_on_the_main_table():
    table = main_rows()
    assert str(judged("T-CE improves", table)) == "mixed: 2 better, 0 worse, 2 unresolved"
    assert judged("R-CE improves", table).status == "mixed"
    assert str(judged("most on NeuMF", table)) == "unresolved (order of means, untested): GMF +10.0%, NeuMF +20.0%"
    more = "unresolved (order of means, untested): larger on 1 of 2 backbones; R-CE GMF +15.0%, NeuMF -5.0%"
    assert str(judged("more than R-CE", table)) == more
    assert str(judged("most on NeuMF", table[table["backbone"] == "GMF"])) == "cannot be checked (backbones not run)"
    assert str(judged("more than R-CE", table[table["method"] != "R-CE"])) == "cannot be checked (methods not run)"


def test_the_claim_on_the_same_step():
    table = pd.DataFrame(
        dict(at_own_steps=["better", "better", "unresolved"], at_same_step=["better", "worse", "worse"])
    )
    assert str(judged("remains at the same step", table)) == "mixed: 1 better, 1 worse, of 2 improved cells"
    assert (
        str(judged("remains at the same step", table[2:])) == "cannot be checked (there is no improvement to explain)"
    )


def test_feedback_that_is_no_strategy_of_the_paper_does_not_count():
    table = pd.DataFrame(
        dict(
            strategy=["fine-tuning", "weighted", "warm-up"],
            metric=["recall", "recall", "mrr"],
            change_low=1,
            change_high=2,
        )
    )
    assert str(judged("fine-tuning, warm-up", table)).endswith("intervals above 0 in 1 of 1 cells, below in 0")


def test_a_users_rows_count_at_a_glance_and_for_no_claim(home):
    table = main_rows()
    own = [
        table[table["method"] != "T-CE"].replace({"R-CE": "mine"}),
        table[table["backbone"] == "GMF"].replace({"GMF": "Other"}),
    ]
    both = pd.concat([table, *own], ignore_index=True).drop_duplicates(ignore_index=True)
    for claim in ("T-CE improves", "R-CE improves", "most on NeuMF", "more than R-CE"):
        assert judged(claim, both) == judged(claim, table)
    folder = home / "results" / "mine" / "tables"
    folder.mkdir(parents=True)
    pd.DataFrame({"part": ["train"], "false_positives": ["no flags"]}).to_csv(folder / "parts.csv", index=False)
    both.to_csv(folder / "main.csv", index=False)
    lines = verdicts.at_a_glance("mine")
    assert lines[0] == "false positives in train: no flags" and "cannot be told" in lines[1]
    assert lines[2:] == [
        "T-CE against CE, Recall@K and NDCG@K: 2 better, 0 worse, 2 unresolved of 4 cells",
        "R-CE against CE, Recall@K and NDCG@K: 0 better, 2 worse, 2 unresolved of 4 cells",
        "mine against CE, Recall@K and NDCG@K: 0 better, 2 worse, 2 unresolved of 4 cells",
        "T-CE against CE on Other, Recall@K and NDCG@K: 2 better, 0 worse of 2 cells",
        "R-CE against CE on Other, Recall@K and NDCG@K: 0 better, 2 worse of 2 cells",
    ]
