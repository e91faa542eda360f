"""The runs and the numbers of 05_diagnostics, on runs of a fraction of a second."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from denoise_lib.evaluator import evaluate, ranking_task
from denoise_lib.losses import cross_entropies
from denoise_lib.train import score_pairs, validation_rows
from replication.methods import CONTROLS, PAPER
from replication.report import tables
from replication.runs import recipe, store
from replication.runs.compute import compute
from replication.runs.map import map_runs
from replication.runs.parameters import resolve
from replication.runs.recipe import split_for, training_split
from replication.runs.settings import plan
from replication.sources import public
from replication.studies import diagnostics, sensitivity

PARAMETERS = resolve(
    "toy",
    dict(backbones=["GMF"], seeds=[1, 2], epochs=6, batch_size=256, lr=0.01, eval_every=50, dim=8, n_layers=2)
    | dict(hidden_dim=16, max_drop_rate=0.1, ramp_steps=50, device="cpu"),
)


@pytest.fixture(scope="module")
def module_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("studies")
        patch.setenv("DENOISE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def done(module_home):
    return map_runs(plan([*PAPER, *CONTROLS], PARAMETERS, diagnostics=True), 1)


def only(done, method, seed=1):
    (run,) = [run for run in done if run.settings.method == method and run.settings.seed == seed]
    return run


class TestDiagnostics:
    @pytest.mark.parametrize("method", ["CE", "T-CE"])
    def test_change_no_weight(self, done, method):
        with_them = only(done, method)
        without = replace(with_them.settings, diagnostics=None)
        compute(without)
        other = store.load_run(without)
        assert other.info["files"]["model.pt"] == with_them.info["files"]["model.pt"]
        assert other.info["files"]["metrics.csv"] == with_them.info["files"]["metrics.csv"]
        pd.testing.assert_frame_equal(other.history, with_them.history[other.history.columns])

    def test_stand_for_a_run_without(self, done):
        run = only(done, "R-CE")
        for less in (
            replace(run.settings, diagnostics=None),
            replace(run.settings, diagnostics=None, test_curve=False),
        ):
            assert not store.folder_of(less).exists() and store.found(less) == run.folder
        assert store.found(replace(run.settings, seed=99)) is None

    def test_agree_with_the_final_metrics(self, done):
        run = only(done, "CE")
        row = run.history.set_index("step").loc[run.selected_step]
        for k in (5, 20):
            assert row[f"recall_{k}_valid"] == pytest.approx(run.value("recall", k, "valid"))
            assert row[f"recall_{k}_test"] == pytest.approx(run.value("recall", k))
        split = split_for(run.settings)
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
        shares = [
            run.history["drop_share"].tolist() for run in done if run.settings.seed == 1 and "drop_share" in run.history
        ]
        assert len(shares) == 5 and all(share == shares[0] for share in shares)


def test_clean_only_trains_on_less_but_ranks_like_the_others(done):
    run = only(done, "clean-only")
    split = split_for(run.settings)
    assert len(training_split(run.settings, split).train) == split.train.is_clean.sum() < len(split.train)
    per_user, other = run.per_user(), only(done, "CE").per_user()
    assert (per_user["users"] == other["users"]).all() and (per_user["recall"] != other["recall"]).any()
    assert run.value("recall", 20) == pytest.approx(
        evaluate(run.model(), ranking_task(split, split.test, [split.train, split.valid]), (5, 20))["recall"][
            :, 1
        ].mean()
    )


def test_what_clean_only_leaves_out_is_no_negative(module_home, monkeypatch):
    given = {}
    monkeypatch.setattr(
        recipe, "fit", lambda model, split, loss_fn, **options: given.update(options, split=split) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        compute(plan(["clean-only"], PARAMETERS.having(seeds=[9]))[0])
    assert given["split"].train.is_clean.all() and len(given["observed"]) == len(public.load("toy").train)


def test_activity_groups_partition_the_users(done):
    split = public.load("toy")
    users = np.unique(split.test.users)
    counts = np.bincount(split.train.users, minlength=split.n_users)[users]
    assert diagnostics.training_counts(done, PARAMETERS).to_dict() == dict(zip(users, counts))
    groups = diagnostics.activity_groups(pd.Series(counts, users))
    assert len(groups) == len(users) and groups.notna().all()
    for span, members in pd.Series(counts, index=groups.to_numpy()).groupby(level=0):
        low, high = map(int, span.split("–"))
        assert (members.min(), members.max()) == (low, high)
    spans = sorted(tuple(map(int, span.split("–"))) for span in groups.unique())
    assert len(spans) == 4 and all(before[1] < after[0] for before, after in zip(spans, spans[1:]))


def test_activity_means_add_up(done):
    chosen = diagnostics.of_methods(done, *PAPER)
    table = diagnostics.activity(chosen, diagnostics.training_counts(chosen, PARAMETERS))
    assert len(table) == 3 * 2 * 2 * 4
    row = table.query("method == 'T-CE' and metric == 'recall' and k == 20")
    total = (row["mean"] * row["n_users"]).sum() / row["n_users"].sum()
    assert total == pytest.approx(np.mean([only(done, "T-CE", seed).value("recall", 20) for seed in (1, 2)]))
    change = (row["change"] * row["n_users"]).sum() / row["n_users"].sum()
    assert change == pytest.approx(total - np.mean([only(done, "CE", seed).value("recall", 20) for seed in (1, 2)]))
    lows = [int(span.split("–")[0]) for span in row["group"]]
    assert lows == sorted(lows)


def test_selection_study(done):
    table = diagnostics.selection_study(done, 20).query("metric == 'recall'").set_index(["method", "selector"])
    own = [only(done, "T-CE", seed) for seed in (1, 2)]
    assert table.loc[("T-CE", "own loss"), "mean"] == pytest.approx(np.mean([run.value("recall", 20) for run in own]))
    assert table.loc[("T-CE", "T-CE's step"), "mean_step"] == table.loc[("T-CE", "own loss"), "mean_step"]
    best = np.mean([run.history["recall_20_test"].max() for run in own])
    assert table.loc[("T-CE", "best on test (oracle)"), "mean"] == pytest.approx(best)
    ceilings = table["mean"].unstack("selector")
    assert (ceilings.le(ceilings["best on test (oracle)"] + 1e-12, axis=0) | ceilings.isna()).all(axis=None)


def test_random_drop_is_the_base_of_the_contrast(done):
    table = tables.same_step_table(diagnostics.of_methods(done, "T-CE", "random-drop"), [5, 20], base="random-drop")
    assert set(table["method"]) == {"T-CE"} and len(table) == 4
    row = table.query("metric == 'recall' and k == 20").iloc[0]
    expected = np.mean(
        [only(done, "T-CE", s).value("recall", 20) - only(done, "random-drop", s).value("recall", 20) for s in (1, 2)]
    )
    assert row["own_steps"] == pytest.approx(expected)


def test_drop_and_memorisation_tables(done):
    drops = diagnostics.drops(done).set_index("method")
    assert set(drops.index) == {"T-CE", *CONTROLS} - {"clean-only"} and drops.loc["oracle-drop", "precision"] > 0.95
    memorised = diagnostics.memorisation(done)
    assert memorised["point"].tolist() == ["selected", "last"] and np.allclose(
        memorised["gap"], memorised["loss_false"] - memorised["loss_true"]
    )
    first, last = memorised["loss_false"]
    assert np.isnan(memorised["later"][0]) and memorised["later"][1] == pytest.approx(last - first)
    points = diagnostics.drop_points(done)
    assert set(points["dropping"]) == {"T-CE", "at random (expected)"}
    clean = diagnostics.clean_training(done)
    assert len(clean) == 4 and np.allclose(clean["clean"] - clean["normal"], clean["change"])


def test_held_out_losses_are_those_of_the_validation_rows_with_each_flag(done):
    run = only(done, "CE")
    split = split_for(run.settings)
    users, items, labels = validation_rows(split, split.matrix(split.train), 1, run.settings.seed)
    losses = cross_entropies(score_pairs(run.model(), users, items), torch.from_numpy(labels)).detach().numpy()
    is_false = np.tile(~split.valid.is_clean, 2)
    at_selected = diagnostics.held_out([run], split.valid.is_clean.mean()).iloc[0]
    found = at_selected["loss_true"], at_selected["loss_false"]
    assert found == pytest.approx((losses[~is_false].mean(), losses[is_false].mean()), rel=1e-5)


def studied(**changes):
    """The parameters with small grids and doses."""
    grids = {"max_drop_rate": [0.1, 0.05, 0.2], "ramp_steps": [1000, 500]}
    return PARAMETERS.having(**dict(doses=[0.0, 0.4], grids=grids, grid_seeds=[1]) | changes)


def test_dose_plan(home):
    public.load("toy")
    pairs = sensitivity.dose_plan(studied())
    settings = {(label["line"], label["noise"], label["dose"]): run for label, run in pairs}
    assert len(settings) == len(pairs) == 7 * 2 * 2
    knows = settings["T-CE, knows the dose", "uniform", 0.4]
    assert knows.method_options == {"max_drop_rate": pytest.approx(0.4 / 1.4 / 2), "ramp_steps": 500}
    assert knows.noise == "uniform" and knows.backbone == "GMF"
    assert settings["T-CE, knows the dose", "uniform", 0.0] == settings["CE", "popularity", 0.0], "no dose, no drop: CE"
    assert settings["T-CE, drop rate 0.05", "popularity", 0.4].method_options["max_drop_rate"] == 0.05


def test_noisy_runs(module_home):
    grids = {"max_drop_rate": [0.05, 0.1], "ramp_steps": [20]}
    pairs = sensitivity.dose_plan(studied(grids=grids, grid_seeds=[1, 2], epochs=1))
    done = map_runs([settings for _, settings in pairs], 1)
    split = split_for(done[-1].settings)
    assert (~split.train.is_clean).mean() == pytest.approx(0.4 / 1.4, abs=0.001)
    table = sensitivity.dose_response([label for label, _ in pairs], done, 20)
    assert (table.query("line == 'CE'")["change"] == 0).all() and table.notna().all(axis=None)
    of_line = {
        name: [run for (label, _), run in zip(pairs, done) if label == dict(line=name, noise="uniform", dose=0.4)]
        for name in ("CE", "R-CE")
    }
    row = table.query("line == 'R-CE' and noise == 'uniform' and dose == 0.4 and metric == 'ndcg'").iloc[0]
    values = {name: np.array([run.value("ndcg", 20) for run in runs]) for name, runs in of_line.items()}
    assert (row["mean"], row["change"]) == pytest.approx(
        (values["R-CE"].mean(), (values["R-CE"] - values["CE"]).mean())
    )
    assert row["mean_step"] == np.mean([run.selected_step for run in of_line["R-CE"]])


def test_sensitivity(done):
    parameters = studied(grids={"max_drop_rate": [0.05, 0.1], "beta": [0.5]}, doses=[], grid_seeds=[1, 2], epochs=1)
    pairs = sensitivity.sensitivity_plan(parameters)
    assert [name for name, _ in pairs] == ["max_drop_rate"] * 4 + ["beta"] * 2 + [""] * 2
    assert {run.backbone for _, run in pairs} == {"NeuMF"}
    assert [run.method for _, run in pairs[4:]] == ["R-CE"] * 2 + ["CE"] * 2
    tried = map_runs([run for _, run in pairs], 1)
    table, normal = sensitivity.sensitivity([name for name, _ in pairs], tried, 20), tried[-2:]
    assert len(table) == 3 * 2 * 2 and table.query("method == 'CE'")["change"].isna().all()
    row = table.query("method == 'R-CE' and metric == 'recall'").iloc[0]
    assert row["change"] == pytest.approx(row["mean"] - np.mean([run.value("recall", 20) for run in normal]))
    assert table["metric"].tolist() == ["recall", "recall", "ndcg", "ndcg"] * 3


def test_data_without_flags(home, monkeypatch):
    split = public.load("toy")
    bare = replace(split, train=type(split.train)(split.train.users, split.train.items))
    monkeypatch.setattr(public, "load", lambda name: bare)
    parameters = PARAMETERS.having(controls=["random-drop", "oracle-drop", "clean-only"])
    assert diagnostics.methods_for(parameters) == [*PAPER, "random-drop"]
    (run,) = plan(["clean-only"], PARAMETERS.having(seeds=[1]))
    with pytest.raises(RuntimeError, match="has no flags"):
        map_runs([run], 1)


def test_users_of_a_record_come_from_the_run_that_records_less(home, tiny):
    public.load("toy")
    planned = plan(["CE"], tiny, diagnostics=True)
    (run,) = map_runs(planned)
    assert diagnostics.with_users([run])[0].folder == run.folder
    store.keep_record(planned[0])
    shutil.rmtree(run.folder)
    (record,) = map_runs(planned, use_records=True)
    assert record.is_record and diagnostics.with_users([record]) == []
    (plain,) = map_runs(plan(["CE"], tiny))
    (found,) = diagnostics.with_users([record])
    assert found.folder == plain.folder and not found.is_record


def test_your_own_losses_and_backbones_are_studied_beside_the_controls(home, tiny):
    public.load("toy")
    files = {"own_methods": ["examples/robust_losses.py"], "own_backbones": ["examples/lightgcn.py"]}
    parameters = tiny.having(**files, study_seeds={"GMF": [1, 2]})
    settings = diagnostics.main_plan(parameters)
    beside = [run for run in settings if not (run.method_source or run.backbone_source)]
    assert beside == diagnostics.main_plan(tiny.having(study_seeds={"GMF": [1, 2]}))
    own = {(run.backbone, run.method) for run in settings} - {(run.backbone, run.method) for run in beside}
    assert {("GMF", "symmetric_cross_entropy"), ("LightGCN", "CE"), ("LightGCN", "oracle-drop")} < own
    assert not any(
        run.backbone_source for _, run in sensitivity.sensitivity_plan(parameters) + sensitivity.dose_plan(parameters)
    )


def test_own_rows_in_the_selection_study_and_by_activity(done):
    as_own = [
        SimpleNamespace(
            **vars(run)
            | {
                "settings": replace(run.settings, backbone="Other"),
                "value": run.value,
                "per_user": run.per_user,
                "selected_step": run.selected_step,
            }
        )
        for run in done
    ]
    alone, table = (diagnostics.selection_study(runs, 20) for runs in (done, done + as_own))
    pd.testing.assert_frame_equal(table[table["backbone"] == "GMF"].reset_index(drop=True), alone, check_exact=True)
    assert len(table) == 2 * len(alone)
    main = [diagnostics.of_methods(runs, *PAPER) for runs in (done, done + as_own)]
    counts = diagnostics.training_counts(done, PARAMETERS)
    alone, table = (diagnostics.activity(runs, counts) for runs in main)
    beside = table[~tables.is_own(table)].reset_index(drop=True)
    pd.testing.assert_frame_equal(beside, alone, check_exact=True)
