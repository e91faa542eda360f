"""The measured difference of the two protocols, against the runs it comes from."""

import importlib.util

import pytest
from conftest import PROJECT

from replication.runs.map import map_runs
from replication.runs.settings import plan

spec = importlib.util.spec_from_file_location("protocols", PROJECT / "tools" / "protocols.py")
protocols = importlib.util.module_from_spec(spec)
spec.loader.exec_module(protocols)


def test_differences_are_paired_by_seed(home, tiny):
    done = {
        protocol: map_runs(plan(["CE"], tiny.having(protocol=protocol, seeds=[1, 2])), jobs=1)
        for protocol in ("corrected", "authors")
    }
    table = protocols.compare({"corrected": done["corrected"], "authors": done["authors"][::-1]})
    row = table.query("metric == 'recall' and k == 20").iloc[0]
    pairs = [a.value("recall", 20) - c.value("recall", 20) for a, c in zip(done["authors"], done["corrected"])]
    assert row["difference"] == pytest.approx(sum(pairs) / 2) and row["low"] <= row["difference"] <= row["high"]
    assert row["step_authors"] == sum(run.selected_step for run in done["authors"]) / 2
