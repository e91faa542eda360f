"""Tables against hand-worked runs; figures as files that repeat to the byte."""

from dataclasses import replace
from types import SimpleNamespace

import jupytext
import numpy as np
import pandas as pd
import pytest

from matplotlib.lines import Line2D

from denoise_lib.data import Interactions, Split
from replication.methods import METHODS
from replication.report import doctor, figures, tables
from replication.report.publish import publish_figure, publish_table
from replication.runs.map import map_runs
from replication.runs.settings import plan
from replication.support import paths


def fake_run(tiny, method, seed, value, backbone="GMF"):
    """A run whose every mean is ``value``."""
    (settings,) = plan([method], tiny.having(seeds=[seed], backbones=[backbone]))
    rows = [
        (part, users, metric, k, value, 9)
        for part in ("valid", "test")
        for users in ("all", "warm")
        for metric in ("precision", "recall", "ndcg", "mrr")
        for k in (5, 20)
    ]
    metrics = pd.DataFrame(rows, columns=["part", "users", "metric", "k", "value", "n_users"])
    history = pd.DataFrame({"step": [25, 50], "train_loss": [1.0, 0.5], "valid_loss": [0.6, 0.7]})
    return SimpleNamespace(
        settings=settings, metrics=metrics, history=history, selected_step=25, info={"last_point": 50}
    )


@pytest.fixture
def three_seeds(tiny):
    values = {"CE": (0.10, 0.20, 0.30), "T-CE": (0.11, 0.22, 0.33), "R-CE": (0.09, 0.19001, 0.28999)}
    return [fake_run(tiny, m, seed, v) for m, column in values.items() for seed, v in enumerate(column)]


def test_main_table_by_hand(three_seeds):
    table = tables.main_table(three_seeds, primary=True)
    assert list(table.columns[:15]) == [*tables.CELL, *tables.INTERVALS, "against_ce", *tables.PUBLISHED]
    assert len(table) == 3 * 4 * 2
    row = table.query("method == 'T-CE' and metric == 'recall' and k == 20").iloc[0]
    assert (row["mean"], row["n_seeds"], row["change"]) == pytest.approx((0.22, 3, 0.02))
    half = 4.302653 * 0.01 / 3**0.5  # of the paired differences 0.01, 0.02, 0.03
    assert (row["change_low"], row["change_high"]) == pytest.approx((0.02 - half, 0.02 + half), abs=1e-6)
    assert row["against_ce"] == "too few seeds"
    worse = table.query("method == 'R-CE' and metric == 'ndcg' and k == 20").iloc[0]
    assert worse["against_ce"] == "worse" and worse["change"] == pytest.approx(-0.01, abs=1e-5)
    assert set(table[table["against_ce"].notna()]["k"]) == {20}, "the smaller K is exploratory"
    assert tables.main_table(three_seeds)["against_ce"].isna().all()
    assert (
        table.query("method == 'CE'")[["change", "against_ce", "published", "source", "verdict"]].isna().all(axis=None)
    )


def test_pairing_is_by_seed_not_by_order(three_seeds):
    shuffled = [three_seeds[i] for i in (4, 0, 8, 2, 3, 1, 7, 5, 6)]
    key = ["method", "metric", "k"]
    first, second = (
        tables.main_table(runs).sort_values(key).reset_index(drop=True) for runs in (three_seeds, shuffled)
    )
    pd.testing.assert_frame_equal(first, second)


def test_one_seed_has_no_interval(tiny):
    table = tables.main_table([fake_run(tiny, "CE", 1, 0.1), fake_run(tiny, "T-CE", 1, 0.2)], primary=True)
    assert table[["low", "high", "change_low", "change_high"]].isna().all(axis=None)
    assert table.query("method == 'T-CE'")["against_ce"].dropna().unique().tolist() == ["too few seeds"]
    assert tables.readable(table).loc[("GMF", "T-CE"), ["Recall@20", "ΔRecall@20"]].tolist() == ["**.200**", "+.1000"]


def test_readable_table(three_seeds):
    table = tables.readable(tables.main_table(three_seeds, primary=True))
    names = ["Recall@5", "Recall@20", "NDCG@5", "NDCG@20"]
    assert list(table.columns) == [prefix + name for name in names for prefix in ("", "Δ")]
    space = "\N{NO-BREAK SPACE}"
    assert table.loc[("GMF", "R-CE"), "NDCG@20"] == f".190{space}±{space}.248"
    assert table.loc[("GMF", "R-CE"), "ΔNDCG@20"] == f"▼ -.0100{space}±{space}.0000"
    assert table.loc[("GMF", "R-CE"), "ΔNDCG@5"] == f"-.0100{space}±{space}.0000"
    assert table.loc[("GMF", "T-CE"), "NDCG@5"] == f"**.220{space}±{space}.273**", "the best of its backbone"


def test_summary_counts(three_seeds):
    text = tables.summary(tables.main_table(three_seeds, primary=True)).data
    assert "GMF: T-CE against CE in 2 primary cells: 0 better, 0 worse, 2 too few seeds." in text
    assert "GMF: R-CE against CE in 2 primary cells: 0 better, 2 worse." in text


def test_selection_table(three_seeds):
    table = tables.selection_table(three_seeds)
    assert table.loc[("GMF", "CE"), "selected_steps"] == "25, 25, 25"
    assert table.loc[("GMF", "CE"), "at_last_point"] == "0 of 3"
    assert table.loc[("GMF", "T-CE"), "drop_rate_then"] == "0.051 of 0.1"  # 0.1 * 25 / 49


def test_same_step_by_hand(tiny):
    """CE is kept at step 25 with .10; at step 50, which T-CE selects, it has .25 on its curve."""
    ce, tce = fake_run(tiny, "CE", 1, 0.10), fake_run(tiny, "T-CE", 1, 0.30)
    for metric in ("recall", "ndcg"):
        ce.history[f"{metric}_20_test"] = [0.10, 0.25]
    tce.selected_step = 50
    for run in (ce, tce):
        run.value = lambda metric, k, run=run: run.metrics.query("metric == @metric and k == @k")["value"].iloc[0]
    table = tables.same_step_table([ce, tce], [20])
    assert table["own_steps"].tolist() == pytest.approx([0.2, 0.2]) and table["same_step"].tolist() == pytest.approx(
        [0.05] * 2
    )
    assert table["at_same_step"].tolist() == ["too few seeds"] * 2  # one
    assert tables.readable_same_step(table).loc[("GMF", "T-CE", "Recall@20")].tolist() == ["+.2000", "+.0500"]


def test_same_step_marks():
    space = "\N{NO-BREAK SPACE}"
    limits = {
        f"{name}{end}": [1.0 if name == "own_steps" else -1.0]
        for name in ("own_steps", "same_step")
        for end in ("", "_low", "_high")
    }
    table = pd.DataFrame(
        dict(backbone="GMF", method="T-CE", metric="ndcg", k=5, at_own_steps="better", at_same_step="worse", **limits),
        index=[0],
    )
    assert tables.readable_same_step(table).iloc[0].tolist() == [
        f"▲ +1.0000{space}±{space}.0000",
        f"▼ -1.0000{space}±{space}.0000",
    ]


def test_no_negative_zero():
    changes = pd.Series([-0.00001, -0.0001, 0.2])
    assert tables.spread(changes, sign="+").tolist() == ["+.0000", "-.0001", "+.2000"]
    assert tables.spread(changes, pd.Series([np.nan, 0.1, 0.3])).tolist() == [
        ".0000",
        "-.0001\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}.1001",
        ".2000\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}.1000",
    ]


def test_cold_users_are_the_rest_of_the_sum(tiny):
    run = fake_run(tiny, "CE", 1, 0.0)
    rows = [("test", users, "recall", 5, value, n) for users, value, n in (("all", 0.5, 10), ("warm", 0.7, 6))]
    run.metrics = pd.DataFrame(rows, columns=["part", "users", "metric", "k", "value", "n_users"])
    assert tables.values_of([run], users="cold")["value"].tolist() == pytest.approx([(0.5 * 10 - 0.7 * 6) / 4])
    assert tables.values_of([run], users="warm")["value"].tolist() == [0.7]


def test_reach_by_hand():
    """User 0: one of two test rows is masked. User 1, without training rows: its item is not in train."""
    part = lambda *pairs: Interactions(*np.array(pairs).T, None)  # noqa: E731
    split = Split("hand", 3, 4, part((0, 0), (2, 1)), part((2, 2)), part((0, 0), (0, 1), (1, 3)))
    table = doctor.reach_table(split)
    assert table.loc["all"].tolist() == [2, 3, 1, 1, 0.75, 0.25]
    assert table.loc["without training rows"].tolist() == [1, 1, 0, 1, 1.0, 0.0]


def test_curves_over_the_published_ones():
    """One panel per backbone and method, with a line for each side; backbones share out the rows."""
    points = pd.DataFrame(dict(backbone=["GMF", "NeuMF"], method="CE", seed=1, step=100, valid_loss=9.0, selected=True))
    both = pd.concat([points.assign(of="ours"), points.assign(of="published", seed=np.nan, valid_loss=8.0)])
    drawn = figures.curves(both, {"valid_loss": "loss"}, column="method", line="of")
    assert [axis.get_ylabel() for axis in drawn.axes] == ["GMF: loss", "NeuMF: loss"]
    assert drawn.axes[0].get_legend_handles_labels()[1] == ["ours", "published"]


def test_expected_counts():
    parameters = SimpleNamespace(expected={"users": 3, "items": 5, "rows": 10}, declared_differences={"rows": 9})
    found = {"users": 3, "items": 4, "rows": 9, "test": 2}
    table = run_cell("01_data", "DIFFERS", parameters=parameters, found=found)["counts"]
    assert table["verdict"].tolist() == ["equal", "DIFFERS", "declared", ""]


def test_noise_by_popularity(split):
    table = run_cell("01_data", "noise_by_popularity", split=split, dataset="toy", note="")["noise"]
    assert len(table) == 10 and (table["most_popular"].diff().dropna() >= 0).all()
    assert table["false_positives"].mean() == pytest.approx(1 - split.train.is_clean.mean(), abs=0.02)


def test_published_files_repeat_to_the_byte_and_carry_the_note(home, three_seeds):
    def publish(note):
        points = figures.histories(three_seeds)
        figure = figures.curves(points, {"train_loss": "training loss", "valid_loss": "validation loss"})
        image = publish_figure(figure, points, "toy", "curves", "Loss curves", note)
        publish_table(tables.main_table(three_seeds, note), "toy", "main", note)
        files = [*paths.figures("toy").iterdir(), *(paths.results("toy") / "tables").iterdir()]
        return image, {file.name: file.read_bytes() for file in files}

    image, first = publish("")
    assert sorted(first) == ["curves.csv", "curves.pdf", "curves.png", "main.csv", "main.md"]
    assert publish("")[1] == first
    assert image.alt == "Loss curves"
    _, reduced = publish("epochs=1 instead of 12")
    assert reduced["curves.png"] != first["curves.png"]
    for name in ("curves.csv", "main.csv", "main.md"):
        assert b"epochs=1 instead of 12" in reduced[name] and b"instead of" not in first[name]


def run_cell(notebook, text, **values):
    """The variables after the first cell of a notebook that holds this text in quotes, the name of a figure mostly."""
    cells = [cell.source for cell in jupytext.read(paths.NOTEBOOKS[notebook]).cells if cell.cell_type == "code"]
    cell = next(cell for cell in cells if f'"{text}"' in cell)
    exec(cells[0], values)
    values["publish_figure"] = lambda *about: None
    exec(cell, values)
    return values


def test_schedule_shows_what_is_reached(home, tiny):
    settings = plan(["T-CE"], tiny.having(ramp_steps=1000))  # 3 epochs of 55 steps
    drawn = run_cell("02_tce", "tce_schedule", settings=settings, dataset="toy", note="")
    points = drawn["schedule"]
    assert points.query("reached")["step"].max() < 165 < points["step"].max()
    title = drawn["figure"].axes[0].get_title()
    assert title.startswith("GMF: reaches 0.01") and title.endswith("of 0.1")


def test_schedules_of_other_heights_are_drawn_whole(home, tiny):
    rates = {"GMF": 0.05, "CDAE": 0.2}
    settings = plan(["T-CE"], tiny.having(backbones=list(rates), max_drop_rate=rates))
    drawn = run_cell("02_tce", "tce_schedule", settings=settings, dataset="toy", note="")
    assert drawn["figure"].axes[0].get_ylim()[1] >= 0.2


def test_weight_peaks_where_the_notebook_says():
    drawn = run_cell("03_rce", "rce_weight", dataset="toy", note="")
    points = drawn["shapes"].query("beta == 0.25")
    assert points.loc[points["loss"].idxmax(), "p"] == pytest.approx(np.exp(-1 / 0.25), abs=0.002)
    peaks = [line.get_xydata()[0] for line in drawn["figure"].axes[1].lines if len(line.get_xdata()) == 1]
    assert len(peaks) == 5 and peaks[2] == pytest.approx([np.exp(-4), 4 * np.exp(-1)])


def test_a_missing_method_is_left_out(tiny):
    runs = [fake_run(tiny, "T-CE", 1, 0.1)]
    assert tables.main_table(runs)["change"].isna().all()


def test_outcomes_are_corrected_over_the_primary_cells(tiny):
    """Two cells with p = .02 of T-CE, two of R-CE that change nothing: each alone would be better, of three none is."""
    gains = {"CE": (0.10, 0.20, 0.30), "T-CE": (0.114, 0.220, 0.3235), "R-CE": (0.11, 0.19, 0.30)}
    runs = [fake_run(tiny, method, seed, value) for method in gains for seed, value in enumerate(gains[method])]
    table = tables.main_table(runs, primary=True)
    tested = table[(table["method"] == "T-CE") & table["against_ce"].notna()]
    assert (tested["change_low"] > 0).all() and (tested["p"] < 0.05).all() and (tested["p_signs"] == 0.25).all()
    assert tested["p_holm"].tolist() == pytest.approx((4 * tested["p"]).tolist()), (
        "a family of four, whatever else is there"
    )
    assert set(tested["against_ce"]) == {"too few seeds"}


def test_user_intervals(home, tiny):
    done = map_runs(plan(["CE", "T-CE"], tiny.having(seeds=[1, 2])), 1)
    table = tables.with_user_intervals(tables.main_table(done), done)
    tested, others = table[table["change"].notna()], table[table["change"].isna()]
    assert (tested["user_low"] <= tested["change"]).all() and (tested["change"] <= tested["user_high"]).all()
    assert others["user_low"].isna().all()
    (done[0].folder / "per_user.npz").unlink()  # as in a record
    assert tables.with_user_intervals(tables.main_table(done), done)["user_low"].isna().all()


# ---------------------------------------------------------------------------------------------------------- a user's rows


@pytest.fixture
def with_own(tiny):
    """Fake runs of four seeds; and runs beside them with a user's loss, which gains much, and on a user's backbone."""
    values = {"CE": (0.10, 0.20, 0.30, 0.40), "T-CE": (0.115, 0.22, 0.3225, 0.419), "R-CE": (0.09, 0.19, 0.30, 0.39)}
    runs = [fake_run(tiny, method, seed, value) for method in values for seed, value in enumerate(values[method])]
    values["mine"] = (0.2, 0.31, 0.4, 0.52)
    added = []
    for backbone, method in (("GMF", "mine"), ("Other", "CE"), ("Other", "mine"), ("Other", "T-CE")):
        for seed, value in enumerate(values[method]):
            run = fake_run(tiny, "CE", seed, value)
            run.settings = replace(run.settings, backbone=backbone, method=method)
            added.append(run)
    return runs, added


def test_a_users_rows_are_corrected_apart(with_own):
    runs, added = with_own
    alone, table = tables.main_table(runs, primary=True), tables.main_table(runs + added, primary=True)
    own = tables.is_own(table)
    assert set(table[own]["method"]) == {"mine", "CE", "T-CE"} and set(
        table[own & (table["method"] == "CE")]["backbone"]
    ) == {"Other"}
    key = ["backbone", "method", "metric", "k"]
    beside = table[~own].set_index(key).loc[alone.set_index(key).index].reset_index()[alone.columns]
    pd.testing.assert_frame_equal(beside, alone, check_exact=True)
    of_own = table[own & table["against_ce"].notna()]
    assert of_own["p_holm"].min() == pytest.approx(6 * of_own["p"].min()), "a family of three rows in two cells"
    assert set(table.query("method == 'mine'")["against_ce"].dropna()) == {"better"}
    drawn = figures.change_figure(table)
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()][:3] == ["GMF T-CE", "GMF R-CE", "GMF mine"]


def test_a_users_rows_leave_the_same_step_table_as_it_is(with_own):
    """T-CE's changes have p = .0085, which four tests let pass and ten would not."""
    runs, added = with_own
    for run in runs + added:
        run.history = run.history.assign(recall_20_test=0.1, ndcg_20_test=0.1)
        clear = run.settings.backbone == "GMF" and run.settings.method == "T-CE"
        gain = ((0.0125, 0.0175, 0.0225, 0.0275) if clear else (0.01, -0.01, 0.02, -0.02))[run.settings.seed]
        run.value = lambda metric, k, gain=gain: 0.1 + gain
    alone, table = tables.same_step_table(runs, [20]), tables.same_step_table(runs + added, [20])
    beside = table[~tables.is_own(table)].reset_index(drop=True)
    pd.testing.assert_frame_equal(beside, alone, check_exact=True)
    assert alone.query("method == 'T-CE'")["at_same_step"].tolist() == ["better", "better"]
    assert set(table["method"]) == {"T-CE", "R-CE", "mine"} and set(table["backbone"]) == {"GMF", "Other"}


def test_a_users_rows_leave_the_intervals_over_users_as_they_are(with_own, tmp_path, monkeypatch):
    runs, added = with_own
    rng = np.random.default_rng(0)
    for i, run in enumerate(runs + added):
        run.folder = tmp_path / str(i)
        run.folder.mkdir()
        run.has_users = True
        of_users = {"users": np.arange(50), "ks": np.array([5, 20])}
        of_users |= {metric: rng.random((50, 2)) for metric in tables.METRIC_NAMES}
        run.per_user = lambda of_users=of_users: of_users
    resampled, really = [], tables.bootstrap_intervals
    monkeypatch.setattr(tables, "bootstrap_intervals", lambda of: resampled.append(of) or really(of))
    alone = tables.with_user_intervals(tables.main_table(runs), runs)
    table = tables.with_user_intervals(tables.main_table(runs + added), runs + added)
    key = ["backbone", "method", "metric", "k"]
    beside = table.set_index(key).loc[alone.set_index(key).index].reset_index()[alone.columns]
    pd.testing.assert_frame_equal(beside, alone, check_exact=True)
    assert table.query("method == 'mine'")["user_low"].notna().all()
    assert np.array_equal(resampled[0], resampled[1]) and len(resampled) == 3, (
        "what is resampled does not depend on them"
    )


def test_more_lines_than_styles_are_drawn():
    styles = figures.styles_of([f"mine{i}" for i in range(5)] + ["CE"])
    assert styles["CE"] == figures.STYLES["CE"] and styles["mine0"] == styles["mine3"] != styles["mine1"]
    markers = [style.marker for style in [*figures.OTHERS, *(method.style for method in METHODS.values())]]
    assert len(set(markers)) == len(markers) and set(markers) <= set(Line2D.filled_markers), "told apart in one figure"
