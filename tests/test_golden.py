"""A golden toy run: it fails when numbers change without ``RESULT_VERSION`` being raised.

After a change that is meant to move numbers: raise ``RESULT_VERSION`` in ``replication/runs/settings.py``, then write the new
ones with ``python tests/test_golden.py``. The tolerance allows for another processor's rounding, nothing more.
"""

import json
import os
import tempfile
from pathlib import Path

import pytest

from replication.methods import PAPER
from replication.runs.map import map_runs
from replication.runs.parameters import resolve
from replication.runs.settings import RESULT_VERSION, plan

GOLDEN = Path(__file__).with_name("golden.json")
CHANGES = dict(
    seeds=[7], epochs=2, batch_size=256, lr=0.003, n_negatives=1, eval_every=25, top_k=[5, 20], test_curve=False, dim=8,
    n_layers=2, hidden_dim=16, corruption=0.5, max_drop_rate=0.1, ramp_steps=50, beta=0.25, threads=1, device="cpu",
)  # fmt: skip


def measure() -> dict:
    values = resolve("toy", CHANGES)
    settings = [run for protocol in ("corrected", "authors") for run in plan(PAPER, values.having(protocol=protocol))]
    return {
        f"{run.settings.name} {run.settings.protocol}": {
            "selected_step": run.selected_step,
            "train_loss": run.history["train_loss"].tolist(),
            "valid_loss": run.history["valid_loss"].tolist(),
            "ndcg_20": run.value("ndcg", 20),
        }
        for run in map_runs(settings, jobs=1)
    }


def test_numbers_change_only_with_the_result_version(home):
    golden = json.loads(GOLDEN.read_text())
    assert golden["result_version"] == RESULT_VERSION, "write the golden run anew: python tests/test_golden.py"
    measured = measure()
    assert measured.keys() == golden["runs"].keys()
    for name, expected in golden["runs"].items():
        found = measured[name]
        for key in ("train_loss", "valid_loss"):
            assert found[key] == pytest.approx(expected[key], rel=1e-4), (name, key)
        assert found["selected_step"] == expected["selected_step"], name
        assert found["ndcg_20"] == pytest.approx(expected["ndcg_20"], abs=0.005), name


if __name__ == "__main__":
    os.environ["DENOISE_HOME"] = tempfile.mkdtemp()
    GOLDEN.write_text(json.dumps({"result_version": RESULT_VERSION, "runs": measure()}, indent=1) + "\n")
