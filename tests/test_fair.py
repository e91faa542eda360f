"""The fair study: its plan, and its numbers by hand from made-up runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denoise_lib.data import Interactions, Split
from replication.methods import FAIR, METHODS
from replication.runs.parameters import resolve
from replication.runs.settings import plan
from replication.runs.store import Run
from replication.sources import public
from replication.studies import fair

STEPS = [10, 20, 30, 40]


def run(method: str, seed: int, test: list, valid: list, loss: list, **columns) -> Run:
    """A run with a history of four points; NDCG is half of Recall."""
    (settings,) = plan([method], resolve("toy", dict(backbones=["GMF"], seeds=[seed], device="cpu")))
    curves = dict(recall_20_test=test, ndcg_20_test=np.array(test) / 2, recall_20_valid=valid, valid_loss=loss)
    history = pd.DataFrame({"step": STEPS[: len(test)], **curves, **columns})
    return Run(settings, Path(), {"last_point": int(history["step"].iloc[-1])}, history, pd.DataFrame())


def dropping(precision: list, n_dropped: list) -> dict:
    tenths = {f"dropped_tenth_{tenth}": [0.0] * len(n_dropped) for tenth in fair.TENTHS}
    return tenths | {"drop_precision": precision, "dropped_tenth_3": n_dropped}


@pytest.fixture
def runs() -> list[Run]:
    found = []
    for seed, more in ((1, 0.0), (2, 0.02)):
        found += [
            run("CE", seed, [0.1, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.1], [4, 2, 3, 5]),
            run("T-CE", seed, [0.1, 0.2, 0.3 + more, 0.4], [0.1, 0.2, 0.3, 0.4], [5, 4, 3, 2],
                **dropping([np.nan, 0.5, 0.2, 0.9], [0.0, 10, 30, 60])),
            run("oracle-drop", seed, [0.2, 0.5 + more], [0.1, 0.2], [5, 4], **dropping([1.0, 1.0], [5.0, 5])),
        ]  # fmt: skip
    return found


def test_points(runs):
    at = fair.points(runs, 20).set_index(["seed", "method", "rule"])
    assert at["step"].loc[1].to_dict() == {
        ("CE", fair.FAIR_RULE): 30, ("CE", fair.OWN_RULE): 20, ("CE", fair.SAME_STEP): 30,
        ("T-CE", fair.FAIR_RULE): 40, ("T-CE", fair.OWN_RULE): 40, ("T-CE", fair.SAME_STEP): 30,
        ("oracle-drop", fair.FAIR_RULE): 20, ("oracle-drop", fair.OWN_RULE): 20,
        ("oracle-drop", fair.SAME_STEP): 20,  # it stopped before CE's step
    }  # fmt: skip
    assert at.loc[(1, "T-CE", fair.SAME_STEP), ["recall", "ndcg"]].tolist() == [0.3, 0.15]
    assert at.loc[(1, "T-CE", fair.SAME_STEP), "precision"] == pytest.approx((5 + 6) / 40)
    assert np.isnan(at.loc[(1, "CE", fair.SAME_STEP), "precision"])


def test_against_ce_is_paired_by_seed(runs):
    table = fair.against_ce(fair.points(runs, 20), 20).set_index(["rule", "method", "metric"])
    assert table.loc[(fair.SAME_STEP, "T-CE", "recall"), "change"] == pytest.approx((0.1 + 0.12) / 2)
    assert table.loc[(fair.FAIR_RULE, "T-CE", "ndcg"), "change"] == pytest.approx(0.1)


def test_a_run_that_ends_on_its_ramp_has_not_turned(runs, monkeypatch):
    monkeypatch.setattr(fair, "PATIENCE", 1)
    turned = {}
    for ramp in (40, 41):  # the runs end at 40; CE stands for a method with a ramp
        for run in runs:
            run.settings.method_options.update({"ramp_steps": ramp} if run.settings.method == "CE" else {})
        turned[ramp] = fair.stops(runs).set_index("method").loc["CE", "turned"]
    assert turned == {40: 2, 41: 0}


def test_stops(runs, monkeypatch):
    monkeypatch.setattr(fair, "PATIENCE", 1)
    table = fair.stops(runs).set_index("method")
    assert table["turned"].to_dict() == {"CE": 2, "T-CE": 0, "oracle-drop": 0}
    assert table.loc["oracle-drop", ["runs", "earliest", "latest"]].tolist() == [2, 20, 20]


def test_headroom_and_shares():
    gains = {"CE": [0, 0, 0], "T-CE": [0.01, 0.02, 0.03], "oracle-drop": [0.04, 0.05, 0.06], "clean-only": [0.01] * 3}
    rows = [
        dict(backbone=backbone, method=method, seed=seed, rule=fair.FAIR_RULE, recall=0.3 + sign * gain)
        for backbone, sign in (("GMF", 1), ("CDAE", -1))
        for method, values in gains.items()
        for seed, gain in enumerate(values)
    ]
    table = fair.headroom(pd.DataFrame(rows)).set_index(["backbone", "method"])
    of_tce = table.loc[("GMF", "T-CE")]
    assert of_tce["bound"] == "oracle-drop" and of_tce["headroom"] == pytest.approx(0.05)
    assert of_tce["share"] == pytest.approx(0.4) and 0.2 < of_tce["share_low"] < 0.4 < of_tce["share_high"] < 0.6
    assert table.loc[("GMF", "oracle-drop"), "share"] == 1
    assert table.loc["CDAE", "share"].isna().all() and (table.loc["CDAE", "headroom"] < 0).all()


def test_rarity_auc():
    """False positives on items seen 1, 1 and 3 times, true ones on items seen 3, 3 and 2, 2 times."""
    items = np.array([0, 1, 2, 2, 2, 3, 3])
    is_clean = np.array([False, False, False, True, True, True, True])
    part = Interactions(np.arange(7), items, is_clean)
    by_hand = np.mean([[1, 1, 1, 1], [1, 1, 1, 1], [0.5, 0.5, 0, 0]])
    assert fair.rarity_auc(Split("x", 7, 4, part, part, part)) == pytest.approx(by_hand)


def test_plan(home, monkeypatch):
    values = resolve("toy", {"device": "cpu"})
    planned = fair.planned(values)
    assert {run.method for run in planned} == set(FAIR) and {run.backbone for run in planned} == {"GMF"}
    assert {(run.split_seed, run.seed) for run in planned} == {(1, 1), (2, 2), (3, 3)}
    assert all(run.epochs == 60 and run.patience == 20 and run.diagnostics for run in planned)
    assert {run.method for run in planned if run.knows_validation} == {name for name in FAIR if METHODS[name].drop_keys}
    with pytest.raises(ValueError, match="toy.yaml has no lr under fair, .* tools/tune.py toy --fair chooses them"):
        fair.planned(values.having(fair={}))
    monkeypatch.setattr(public, "has_flags", lambda name: False)
    with pytest.raises(ValueError, match="the training part of toy has no flags"):
        fair.planned(values)
    monkeypatch.undo()
    fixed = fair.planned(values.having(fair=values.fair.model_dump() | {"splits": []}))
    assert {(run.split_seed, run.seed) for run in fixed} == {(None, 1), (None, 2), (None, 3)}
    assert replace(planned[0], split_seed=None) in fixed
