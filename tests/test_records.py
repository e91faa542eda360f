"""Records: tables without training, and never by default."""

import json
import shutil
from dataclasses import replace

import pytest
from conftest import PROJECT

from replication.runs.map import map_runs
from replication.runs.parameters import resolve
from replication.runs.settings import Settings, plan
from replication.runs.store import folder_of, found, keep_record, note, record_of, records_of_other_data
from replication.support import paths


@pytest.fixture
def recorded(home, tiny) -> list[Settings]:
    """A finished run whose record is all that is left."""
    planned = plan(["CE"], tiny)
    map_runs(planned, jobs=1)
    keep_record(planned[0])
    shutil.rmtree(folder_of(planned[0]))
    return planned


def test_a_record_stands_for_its_run(recorded, tiny):
    (run,) = map_runs(recorded, jobs=1, use_records=True)
    assert run.folder.parent.name == "records" and not folder_of(recorded[0]).exists()
    assert sorted(file.name for file in run.folder.iterdir()) == ["history.csv.gz", "metrics.csv", "run.json"]
    assert len(run.metrics) and run.selected_step == run.info["selected_step"]
    (other,) = plan(["CE"], tiny.having(epochs=2))
    assert found(other, use_records=True) is None


def test_a_record_of_more_stands_for_a_run_that_records_less(home, tiny):
    (fuller,) = plan(["CE"], tiny, diagnostics=True)
    map_runs([fuller], jobs=1)
    keep_record(fuller)
    shutil.rmtree(folder_of(fuller))
    (run,) = map_runs(plan(["CE"], tiny), jobs=1, use_records=True)
    assert run.is_record and run.settings.diagnostics is None
    assert found(replace(fuller, seed=2), use_records=True) is None


def test_a_record_has_no_weights_to_start_from(recorded):
    tuned = replace(recorded[0], strategy="fine-tuning", known_share=0.2, epochs=1, pretrained=(recorded[0],))
    map_runs([recorded[0], tuned], jobs=1, use_records=True)
    assert folder_of(recorded[0]).exists() and folder_of(tuned).exists()


def test_a_release_is_compared_with_the_one_before(home, monkeypatch):
    """Runs that are in both are paired by what decides their training, whatever else they record."""
    monkeypatch.syspath_prepend(PROJECT / "tools")
    import reruns

    before, now = home / "reruns", home / "records"
    for folder, seed, recall, step, more in (
        (before, 1, 0.1, 100, {}), (before, 2, 0.3, 100, {}), (before, 3, 0.9, 100, {}),
        (now, 1, 0.2, 100, {"diagnostics": True}), (now, 2, 0.3, 200, {}), (now, 4, 0.9, 100, {}),
    ):  # fmt: skip
        run = folder / str(seed)
        run.mkdir(parents=True)
        settings = dict(backbone="GMF", method="CE", seed=seed, dose=None) | more
        (run / "run.json").write_text(json.dumps({"settings": settings, "selected_step": step}))
        (run / "metrics.csv").write_text(f"part,users,metric,k,value,n_users\ntest,all,recall,20,{recall},5\n")
    (row,) = reruns.compared(reruns.means(before), reruns.means(now)).to_dict("records")
    assert (row["runs"], row["same step"]) == (2, 1)
    assert row["before"] == pytest.approx(0.2) and row["change"] == pytest.approx(0.05)


def test_default_computes(recorded):
    (run,) = map_runs(recorded, jobs=1)
    assert run.folder == folder_of(recorded[0]) and run.folder.exists()


def test_records_of_other_data_or_version(recorded):
    file = next((paths.results("toy") / "records").glob("*/run.json"))
    info = json.loads(file.read_text())
    assert records_of_other_data("toy") == []
    file.write_text(json.dumps(info | {"data": info["data"] | {"toy.train.rating": "0" * 64}}))
    assert records_of_other_data("toy") == ["toy.train.rating"]
    assert record_of(recorded[0]) == file.parent
    assert (
        note(resolve("toy", {"use_records": True})) == "records of runs with another toy.train.rating than the one here"
    )
    file.write_text(json.dumps(info | {"result_version": -1}))
    assert record_of(recorded[0]) is None
