"""The runs and the numbers of 05_diagnostics, on runs of a fraction of a second."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from denoise_lib import datasets, methods, report, runs, studies
from denoise_lib.controls import CONTROLS
from denoise_lib.evaluation import evaluate, ranking_task
from denoise_lib.runs import METHODS, load_split, map_runs, plan, training_split


@pytest.fixture(scope="module")
def module_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("studies")
        patch.setenv("DENOISE_HOME", str(folder))
        yield folder


OPTIONS = dict(
    dataset="toy", backbones=["GMF"], seeds=[1, 2], protocol="corrected", epochs=6, batch_size=256, lr=0.01,
    n_negatives=1, eval_every=50, top_k=[5, 20], test_curve=True, dim=8, n_layers=2, hidden_dim=16, corruption=0.5,
    max_drop_rate=0.1, ramp_steps=50, beta=0.25, threads=1, device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def done(module_home):
    return map_runs(plan([*METHODS, *CONTROLS], **OPTIONS, diagnostics=True), 1)


def only(done, method, seed=1):
    (run,) = [run for run in done if run.settings.method == method and run.settings.seed == seed]
    return run


class TestDiagnostics:
    @pytest.mark.parametrize("method", ["CE", "T-CE"])
    def test_change_no_weight(self, done, method):
        with_them = only(done, method)
        without = replace(with_them.settings, diagnostics=None)
        runs.compute(without)
        other = runs.load_run(without)
        assert other.info["files"]["model.pt"] == with_them.info["files"]["model.pt"]
        assert other.info["files"]["metrics.csv"] == with_them.info["files"]["metrics.csv"]
        pd.testing.assert_frame_equal(other.history, with_them.history[other.history.columns])

    def test_stand_for_a_run_without(self, done):
        run = only(done, "R-CE")
        for less in (replace(run.settings, diagnostics=None), replace(run.settings, diagnostics=None, test_curve=False)):
            assert not less.folder.exists() and runs.found(less) == run.folder
        assert runs.found(replace(run.settings, seed=99)) is None

    def test_agree_with_the_final_metrics(self, done):
        run = only(done, "CE")
        row = run.history.set_index("step").loc[run.selected_step]
        for k in (5, 20):
            assert row[f"recall_{k}_valid"] == pytest.approx(run.value("recall", k, "valid"))
            assert row[f"recall_{k}_test"] == pytest.approx(run.value("recall", k))
        split = load_split(run.settings)
        clean = split.valid[split.valid.is_clean]
        expected = evaluate(run.model(), ranking_task(split, clean, [split.train]), (5, 20))["recall"].mean(axis=0)
        assert row[["recall_5_valid_clean", "recall_20_valid_clean"]].tolist() == pytest.approx(expected.tolist())

    def test_ce_is_ces_own_loss(self, done):
        history = only(done, "CE").history
        assert history["valid_ce"].tolist() == pytest.approx(history["valid_loss"].tolist(), rel=1e-5)
        assert (history["valid_ce_clean"] != history["valid_ce"]).all()

    def test_losses_by_flag(self, done):
        run = only(done, "clean-only")
        last = run.history.iloc[-1]
        assert last["loss_false"] > last["loss_true"], "what is not trained on stays hard"

    def test_oracle_drops_nothing_but_false_positives(self, done):
        history = only(done, "oracle-drop").history
        ramped = history[history["drop_share"] < history["false_share"]]
        assert len(ramped) and (history["drop_precision"] > 0.95).all()

    def test_every_dropping_method_drops_as_much(self, done):
        shares = [run.history["drop_share"].tolist() for run in done if run.settings.seed == 1 and "drop_share" in run.history]
        assert len(shares) == 5 and all(share == shares[0] for share in shares)


def test_clean_only_trains_on_less_but_ranks_like_the_others(done):
    run = only(done, "clean-only")
    split = load_split(run.settings)
    assert len(training_split(run.settings, split).train) == split.train.is_clean.sum() < len(split.train)
    per_user, other = run.per_user(), only(done, "CE").per_user()
    assert (per_user["users"] == other["users"]).all() and (per_user["recall"] != other["recall"]).any()
    assert run.value("recall", 20) == pytest.approx(
        evaluate(run.model(), ranking_task(split, split.test, [split.train, split.valid]), (5, 20))["recall"][:, 1].mean()
    )


def test_what_clean_only_leaves_out_is_no_negative(module_home, monkeypatch):
    given = {}
    monkeypatch.setattr(methods, "fit", lambda model, split, loss_fn, **keywords: given.update(keywords, split=split) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runs.compute(plan(["clean-only"], **OPTIONS | {"seeds": [9]})[0])
    assert given["split"].train.is_clean.all() and len(given["observed"]) == len(datasets.load("toy").train)


def test_activity_groups_partition_the_users(done):
    split = datasets.load("toy")
    users = np.unique(split.test.users)
    groups = studies.activity_groups(split, users)
    assert len(groups) == len(users) and groups.notna().all()
    counts = np.bincount(split.train.users, minlength=split.n_users)[users]
    for span, members in pd.Series(counts, index=groups.to_numpy()).groupby(level=0):
        low, high = map(int, span.split("–"))
        assert (members.min(), members.max()) == (low, high)
    spans = sorted(tuple(map(int, span.split("–"))) for span in groups.unique())
    assert len(spans) == 4 and all(before[1] < after[0] for before, after in zip(spans, spans[1:]))


def test_activity_means_add_up(done):
    chosen = studies.of_methods(done, *METHODS)
    table = studies.activity(chosen, datasets.load("toy"))
    assert len(table) == 3 * 2 * 2 * 4
    row = table.query("method == 'T-CE' and metric == 'recall' and k == 20")
    total = (row["mean"] * row["n_users"]).sum() / row["n_users"].sum()
    assert total == pytest.approx(np.mean([only(done, "T-CE", seed).value("recall", 20) for seed in (1, 2)]))
    change = (row["change"] * row["n_users"]).sum() / row["n_users"].sum()
    assert change == pytest.approx(total - np.mean([only(done, "CE", seed).value("recall", 20) for seed in (1, 2)]))
    lows = [int(span.split("–")[0]) for span in row["group"]]
    assert lows == sorted(lows)


def test_selection_study(done):
    table = studies.selection_study(done, 20).query("metric == 'recall'").set_index(["method", "selector"])
    own = [only(done, "T-CE", seed) for seed in (1, 2)]
    assert table.loc[("T-CE", "own loss"), "mean"] == pytest.approx(np.mean([run.value("recall", 20) for run in own]))
    assert table.loc[("T-CE", "T-CE's step"), "mean_step"] == table.loc[("T-CE", "own loss"), "mean_step"]
    best = np.mean([run.history["recall_20_test"].max() for run in own])
    assert table.loc[("T-CE", "best on test (oracle)"), "mean"] == pytest.approx(best)
    ceilings = table["mean"].unstack("selector")
    assert (ceilings.le(ceilings["best on test (oracle)"] + 1e-12, axis=0) | ceilings.isna()).all(axis=None)
    assert studies.readable_selection(studies.selection_study(done, 20)).shape[0] == 8


def test_random_drop_is_the_base_of_the_contrast(done):
    table = studies.tce_against("random-drop", done, [5, 20])
    assert set(table["method"]) == {"T-CE"} and len(table) == 4
    row = table.query("metric == 'recall' and k == 20").iloc[0]
    expected = np.mean([only(done, "T-CE", s).value("recall", 20) - only(done, "random-drop", s).value("recall", 20) for s in (1, 2)])
    assert row["own_steps"] == pytest.approx(expected)


def test_drop_and_memorisation_tables(done):
    drops = studies.drops(done).set_index("method")
    assert set(drops.index) == {"T-CE", *CONTROLS} - {"clean-only"} and drops.loc["oracle-drop", "precision"] > 0.95
    memorised = studies.memorisation(done)
    assert memorised["point"].tolist() == ["selected", "last"] and np.allclose(memorised["gap"], memorised["loss_false"] - memorised["loss_true"])
    points = studies.drop_points(done)
    assert set(points["dropping"]) == {"T-CE", "at random (expected)"}
    clean = studies.clean_training(done)
    assert len(clean) == 4 and np.allclose(clean["clean"] - clean["normal"], clean["change"])


def test_over_seeds_is_the_interval():
    frame = pd.DataFrame(dict(group=["a"] * 3 + ["b"], value=[0.1, 0.2, 0.3, 0.5]))
    found = studies.over_seeds(frame, ["group"]).set_index("group")
    assert found.loc["a"].tolist() == pytest.approx(list(studies.interval([0.1, 0.2, 0.3])))
    assert found.loc["b", "mean"] == 0.5 and np.isnan(found.loc["b", "low"])


def test_dose_plan():
    pairs = studies.dose_plan([0.0, 0.4], {"max_drop_rate": [0.1, 0.05, 0.2], "ramp_steps": [1000.0, 500]}, [1], OPTIONS)
    settings = {(label["line"], label["noise"], label["dose"]): run for label, run in pairs}
    assert len(settings) == len(pairs) == 7 * 2 * 2
    knows = settings["T-CE, knows the dose", "uniform", 0.4]
    assert knows.max_drop_rate == pytest.approx(0.4 / 1.4 / 2) and knows.ramp_steps == 500 and knows.noise == "uniform"
    assert settings["T-CE, knows the dose", "uniform", 0.0] == settings["CE", "popularity", 0.0], "no dose, no drop: CE"
    assert settings["T-CE, drop rate 0.05", "popularity", 0.4].max_drop_rate == 0.05


def test_noisy_runs(module_home):
    pairs = studies.dose_plan([0.0, 0.4], {"max_drop_rate": [0.05, 0.1], "ramp_steps": [20]}, [1, 2], OPTIONS | {"epochs": 1})
    done = map_runs([settings for _, settings in pairs], 1)
    split = load_split(done[-1].settings)
    assert (~split.train.is_clean).mean() == pytest.approx(0.4 / 1.4, abs=0.001)
    table = studies.dose_response([label for label, _ in pairs], done, 20)
    assert (table.query("line == 'CE'")["change"] == 0).all() and table.notna().all(axis=None)
    assert report.dose_table(report.with_metric(table)).shape == (2 * 2 * 7, 2)


def test_sensitivity(done):
    options = OPTIONS | {"epochs": 1}
    pairs = studies.sensitivity_plan({"max_drop_rate": [0.05, 0.1], "beta": [0.5]}, [1, 2], options)
    assert [name for name, _ in pairs] == ["max_drop_rate"] * 4 + ["beta"] * 2
    assert {run.backbone for _, run in pairs} == {"NeuMF"} and [run.method for _, run in pairs[-2:]] == ["R-CE"] * 2
    normal = map_runs(plan(["CE"], **options | {"backbones": ["NeuMF"]}), 1)
    table = studies.sensitivity([name for name, _ in pairs], map_runs([run for _, run in pairs], 1), normal, 20)
    assert len(table) == 3 * 2 * 2 and table.query("method == 'CE'")["change"].isna().all()
    row = table.query("method == 'R-CE' and metric == 'recall'").iloc[0]
    assert row["change"] == pytest.approx(row["mean"] - np.mean([run.value("recall", 20) for run in normal]))


def test_data_without_flags(home, monkeypatch):
    split = datasets.load("toy")
    bare = replace(split, train=type(split.train)(split.train.users, split.train.items))
    monkeypatch.setattr(datasets, "load", lambda name: bare)
    assert studies.methods_for("toy", ["CE", "random-drop", "oracle-drop", "clean-only"]) == ["CE", "random-drop"]
    (run,) = plan(["clean-only"], **OPTIONS | {"seeds": [1]})
    with pytest.raises(RuntimeError, match="has no flags"):
        map_runs([run], 1)


def test_users_of_a_record_come_from_the_run_that_records_less(home, options):
    planned = runs.plan(["CE"], **options, diagnostics=True)
    (run,) = runs.map_runs(planned)
    assert studies.with_users([run])[0].folder == run.folder
    runs.keep_record(planned[0])
    shutil.rmtree(run.folder)
    (record,) = runs.map_runs(planned, use_records=True)
    assert record.is_record and studies.with_users([record]) == []
    (plain,) = runs.map_runs(runs.plan(["CE"], **options))
    (found,) = studies.with_users([record])
    assert found.folder == plain.folder and not found.is_record
