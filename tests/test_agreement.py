"""The comparison with the authors' code: its rules by hand, and a reduced form of it where their runs are at hand."""

import importlib.util
import shutil

import pandas as pd
import pytest
from conftest import PROJECT

from replication.methods import PAPER
from replication.report.figures import histories
from replication.runs.map import map_runs
from replication.runs.settings import plan

spec = importlib.util.spec_from_file_location("agreement", PROJECT / "tools" / "agreement.py")
agreement = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agreement)


def metrics(*values: float) -> pd.DataFrame:
    return pd.DataFrame(dict(backbone="GMF", method="CE", metric="recall", k=5, value=values))


def test_holm_by_hand():
    assert agreement.holm(pd.Series([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])


@pytest.mark.parametrize(
    ("theirs", "differs"),
    [
        ((0.200, 0.201, 0.199), True),  # half as much again, and clear
        ((0.1015, 0.1016, 0.1014), False),  # clear, but within 3 %
        ((0.05, 0.10, 0.17), False),  # above 3 %, but not clear
    ],
)
def test_a_difference_is_clear_and_large(theirs, differs):
    table = agreement.compare_metrics(metrics(0.1, 0.1001, 0.0999, 0.1), metrics(*theirs))
    assert table["differs"].tolist() == [differs]


def test_steps_and_curves_have_bounds():
    points = pd.DataFrame(dict(backbone="GMF", method="CE", step=[100, 200, 300], valid_loss=[10.0, 8.0, 20.0]))
    runs_of = lambda step: pd.DataFrame(dict(backbone=["GMF"], method=["CE"], selected_step=[step]))  # noqa: E731
    assert agreement.compare_steps(runs_of(230), runs_of(200))["differs"].tolist() == [False]
    assert agreement.compare_steps(runs_of(231), runs_of(200))["differs"].tolist() == [True]
    steps = agreement.compare_steps(runs_of(200), runs_of(200))
    theirs = points.assign(valid_loss=[10.0, 7.6, 10.0])  # 5.3 % off at 200; 300 comes after the selected step
    assert agreement.compare_curves(points, theirs, steps)["differs"].tolist() == [False, True, False]


def test_first_epochs_follow_the_authors_curve(home, reference):
    """Two seeds of GMF with CE for six epochs: the mean validation loss is within 5 % of theirs at every point."""
    shutil.copytree(reference.parent / "data" / agreement.DATASET, home / "data" / agreement.DATASET)
    assert {(run.protocol, run.epochs) for run in plan(PAPER, agreement.OURS)} == {("authors", 50), ("authors", 30)}
    planned = plan(["CE"], agreement.OURS.having(backbones=["GMF"], seeds=[1, 2], epochs=6))
    ours = histories(map_runs(planned, jobs=1))
    _, their_runs, their_curves = agreement.read_theirs(reference)
    table = agreement.compare_curves(ours, their_curves, agreement.compare_steps(their_runs, their_runs))
    assert len(table) == 7 and table["compared"].all() and not table["differs"].any()
