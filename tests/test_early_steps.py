"""How far the losses of one seed are one run: by hand."""

import runpy
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import PROJECT

TOOL = runpy.run_path(str(PROJECT / "tools" / "early_steps.py"))


def test_spreads_by_hand():
    """CE has .1 and .3, T-CE the same plus .01, R-CE the same plus .03 and minus .04."""
    runs = []
    for seed, ce in ((1, 0.1), (2, 0.3)):
        for method, value in (("CE", ce), ("T-CE", ce + 0.01), ("R-CE", ce + (0.03 if seed == 1 else -0.04))):
            names = [f"{metric}_3_test" for metric in ("recall", "ndcg")]
            history = pd.DataFrame({"step": [100, 200, 300]} | dict.fromkeys(names, value))
            settings = SimpleNamespace(backbone="NeuMF", method=method, seed=seed)
            runs.append(SimpleNamespace(settings=settings, history=history))
    table = TOOL["spreads"](runs, [3])
    measured = ["Recall@3", "NDCG@3"]
    assert table[["step", "measured"]].values.tolist() == [[step, name] for step in (100, 200) for name in measured]
    row = table.iloc[3]
    assert row[["CE", "T-CE", "R-CE"]].tolist() == pytest.approx([0.2, 0.21, 0.195])
    assert row[["T-CE to CE", "R-CE to CE"]].tolist() == pytest.approx([0.01, (0.0009 / 2 + 0.0016 / 2) ** 0.5])
    assert row["two seeds"] == pytest.approx(((0.2**2 + 0.2**2 + 0.13**2) / 3) ** 0.5)
