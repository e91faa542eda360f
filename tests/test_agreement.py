"""The comparison with the authors' code: its rules by hand, and a reduced form of it where their runs are at hand."""

import importlib.util
import shutil
import sys
from itertools import product

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from scipy import stats

from replication.methods import PAPER
from replication.report.figures import histories
from replication.runs.map import map_runs
from replication.runs.settings import plan
from replication.runs.store import Run

spec = importlib.util.spec_from_file_location("agreement", PROJECT / "tools" / "agreement.py")
agreement = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agreement)


def frame(*values: float, **columns) -> pd.DataFrame:
    return pd.DataFrame(dict(backbone="GMF", method="CE", metric="recall", k=5) | columns | dict(value=values))


def test_holm_by_hand():
    assert agreement.holm(pd.Series([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])


@pytest.mark.parametrize(
    ("theirs", "differs", "equivalent"),
    [
        ((0.200, 0.201, 0.199), True, False),  # half as much again, and clear
        ((0.1015, 0.1016, 0.1014), False, True),  # clear, but within 3 %
        ((0.05, 0.10, 0.17), False, False),  # neither is clear
        ((0.1035, 0.1036, 0.1034), True, True),  # both: 3.4 % off for sure
        ((0.1035, 0.1060, 0.1010), False, False),  # within 4 %, but its interval is not
    ],
)
def test_a_difference_is_clear_and_large_and_equivalence_is_clear_and_small(theirs, differs, equivalent):
    table = agreement.compare_metrics(frame(0.1, 0.1001, 0.0999, 0.1), frame(*theirs))
    assert table[["differs", "equivalent"]].values.tolist() == [[differs, equivalent]]


def test_equivalence_is_two_one_sided_tests():
    """The interval ends at 4 % where the one-sided test of a ratio of 1.04 has p = 5 %, the scale being their mean."""
    us, them = np.array([1.0, 1.02, 1.03, 0.99]), np.array([1.0, 1.01, 0.98])
    (row,) = agreement.compare(frame(*us), frame(*them), ["backbone", "method"]).itertuples()
    for limit, side in ((row.low, "greater"), (row.high, "less")):
        test = stats.ttest_ind(us - limit * them.mean(), them, equal_var=False, alternative=side)
        assert test.pvalue == pytest.approx(0.05)
    assert (row.n, row.n_theirs, row.difference) == (4, 3, pytest.approx(us.mean() / them.mean() - 1))


def test_steps_and_losses_have_bounds():
    def chosen(step: float, loss: float) -> pd.DataFrame:
        runs = pd.DataFrame(
            dict(backbone="GMF", method="CE", selected_step=[step - 1, step + 1], valid_loss=[loss, loss])
        )
        return agreement.selections(runs).assign(is_first=True)

    for step, loss, differs in ((230, 1.049, [False, False]), (231, 1.06, [True, True])):
        found = agreement.compare_selection(chosen(step, loss), chosen(200, 1.0))
        assert found["quantity"].tolist() == [agreement.STEP, agreement.LOSS] and found["differs"].tolist() == differs
        assert (found[["chance", "chance_of_three"]] == 0).all(axis=None), "equal runs never break a bound"


def test_the_first_three_runs_stand_beside_all():
    values, first = [100.0] * 3 + [200.0] * 9, [True] * 3 + [False] * 9
    ours, theirs = (frame(*values, quantity=agreement.STEP) for _ in range(2))
    (row,) = agreement.compare_selection(ours, theirs.assign(is_first=first)).itertuples()
    assert (row.difference, row.difference_of_three, row.n_theirs) == (0, pytest.approx(0.75), 12)
    assert 0 < row.chance < row.chance_of_three < 1


def test_the_chance_of_breaking_a_bound_is_that_of_normal_means():
    ours = stats.norm.ppf((np.arange(400) + 0.5) / 400) * 17 + 100
    expected = 2 * stats.norm.sf(15 / (17 * (1 / 400 + 1 / 3) ** 0.5))
    assert agreement.by_chance(ours, 3, 0.15) == pytest.approx(expected, abs=0.02)


def test_curves_are_compared_up_to_their_selected_step():
    ours = pd.concat([frame(*[10.0 + shift, 8.0 + shift, 20.0], step=[100, 200, 300]) for shift in (0, 0.01)])
    theirs = ours.assign(value=ours["value"] * ours["step"].map({100: 1, 200: 0.95, 300: 0.5}))
    points = agreement.compare_curves(ours, theirs, frame(1, theirs=200.0))
    assert points["differs"].tolist() == [False, True, False]  # 5.3 % off at 200; 300 comes after the selected step
    (row,) = agreement.of_curves(points).itertuples()
    assert (row.points, row.differs, row.equivalent) == (2, True, False)
    assert row.largest_difference == pytest.approx(1 / 0.95 - 1)
    (row,) = agreement.of_curves(points[points["step"] != 200]).itertuples()
    assert (row.points, row.differs, row.equivalent) == (1, False, True)


def fake_runs(scale: float, seeds) -> list[Run]:
    """Finished runs of our plan: curves with a least loss at step 200, metrics about .3."""
    found = []
    for settings in plan(PAPER, agreement.OURS.having(seeds=list(seeds))):
        wobble = scale * (1 + settings.seed / 1000)
        history = pd.DataFrame(dict(step=[100, 200, 300], train_loss=0.5, valid_loss=[7 * wobble, 6 * wobble, 8.0]))
        cells = list(product(("recall", "ndcg"), (5, 20)))
        metrics = pd.DataFrame(cells, columns=["metric", "k"])
        metrics = metrics.assign(value=0.3 * wobble, part="test", users="all", n_users=9)
        found.append(Run(settings, None, {"selected_step": 200, "last_point": 300}, history, metrics))
    return found


def write_theirs(folder) -> None:
    """The five files, of the same code with other seeds."""
    for more, seeds in (("", (4, 5, 6)), ("_more", range(7, 17))):
        rows, curves = [], []
        for run in fake_runs(1.0, seeds):
            cell = {name: getattr(run.settings, name) for name in ("backbone", "method", "seed")}
            metrics = {} if more else {f"{r.metric}_{r.k}": r.value for r in run.metrics.itertuples()}
            rows.append(cell | dict(selected_step=200, selected_valid_loss=run.history["valid_loss"].min()) | metrics)
            curves.append(run.history.rename(columns={"valid_loss": "valid_loss_sum"}).assign(**cell))
        for kind, table in (("runs", pd.DataFrame(rows)), ("curves", pd.concat(curves))):
            kept = table.query("backbone == 'NeuMF' and method != 'CE'") if more else table
            kept.to_csv(folder / f"authors_{kind}{more}.csv", index=False)
    draws = dict(method=["R-CE", "T-CE"], step=100, relative_difference=[1e-8, -2e-8])
    pd.DataFrame(draws).to_csv(folder / "same_draws.csv", index=False)


@pytest.mark.parametrize(("scale", "differs"), [(1.0, False), (1.2, True)])
def test_the_whole_comparison(home, monkeypatch, capsys, scale, differs):
    write_theirs(home)
    monkeypatch.setattr(agreement, "map_runs", lambda *_, **__: fake_runs(scale, range(1, 13)))
    monkeypatch.setattr(sys, "argv", ["agreement.py", str(home)])
    with pytest.raises(SystemExit) as ended:
        agreement.main()
    assert ended.value.code == differs, capsys.readouterr().out
    folder = home / "results" / agreement.DATASET / "tables"
    metrics, selection, curves = (pd.read_csv(folder / f"agreement{of}.csv") for of in ("", "_selection", "_curves"))
    assert len(metrics) == 24 and set(metrics["n_theirs"]) == {3} and (metrics["equivalent"] != differs).all()
    n_theirs = selection.query("quantity == 'selected step'").set_index(["backbone", "method"])["n_theirs"]
    assert n_theirs.tolist() == [3, 3, 3, 3, 13, 13] and len(selection) == 12
    assert (curves["points"] == 2).all() and (curves["equivalent"] != differs).all()
    assert "± 0.0011 (12)" in (folder / "agreement.md").read_text(encoding="utf-8") or differs
    assert "-2.0e-08" in (folder / "same_draws.md").read_text(encoding="utf-8")


def test_a_missing_file_is_named(home, monkeypatch, capsys):
    write_theirs(home)
    (home / "authors_curves_more.csv").unlink()
    monkeypatch.setattr(sys, "argv", ["agreement.py", str(home)])
    with pytest.raises(SystemExit):
        agreement.main()
    assert "authors_curves_more.csv" in capsys.readouterr().err


def test_first_epochs_follow_the_authors_curve(home, reference):
    """Two seeds of GMF with CE for six epochs: the mean validation loss is within 5 % of theirs at every point."""
    shutil.copytree(reference.parent / "data" / agreement.DATASET, home / "data" / agreement.DATASET)
    assert {(run.protocol, run.epochs) for run in plan(PAPER, agreement.OURS)} == {("authors", 50), ("authors", 30)}
    planned = plan(["CE"], agreement.OURS.having(backbones=["GMF"], seeds=[1, 2], epochs=6))
    ours = histories(map_runs(planned, jobs=1)).rename(columns={"valid_loss": "value"})
    _, selected, their_curves = agreement.read_theirs(reference)
    table = agreement.compare_curves(ours, their_curves, frame(1, theirs=selected["value"].max()))
    assert len(table) == 7 and table["compared"].all() and not table["differs"].any()
