"""Records: tables without training, and never by default."""

import json
from dataclasses import replace

import pytest

from denoise_lib import params, paths, runs


@pytest.fixture
def recorded(home, options) -> list[runs.Settings]:
    """A finished run whose record is all that is left."""
    import shutil

    planned = runs.plan(["CE"], **options)
    runs.map_runs(planned, jobs=1)
    runs.keep_record(planned[0])
    shutil.rmtree(planned[0].folder)
    return planned


def test_a_record_stands_for_its_run(recorded, options):
    (run,) = runs.map_runs(recorded, jobs=1, use_records=True)
    assert run.folder.parent.name == "records" and not recorded[0].folder.exists()
    assert sorted(file.name for file in run.folder.iterdir()) == ["history.csv", "metrics.csv", "run.json"]
    assert len(run.metrics) and run.selected_step == run.info["selected_step"]
    (other,) = runs.plan(["CE"], **options | {"epochs": 2})
    assert runs.found(other, use_records=True) is None


def test_a_record_has_no_weights_to_start_from(recorded):
    tuned = replace(recorded[0], strategy="fine-tuning", known_share=0.2, epochs=1, pretrained=(recorded[0],))
    runs.map_runs([recorded[0], tuned], jobs=1, use_records=True)
    assert recorded[0].folder.exists() and tuned.folder.exists()


def test_default_computes(recorded):
    (run,) = runs.map_runs(recorded, jobs=1)
    assert run.folder == recorded[0].folder and run.folder.exists()


def test_records_of_other_data_or_version(recorded):
    file = next((paths.results("toy") / "records").glob("*/run.json"))
    info = json.loads(file.read_text())
    assert runs.records_of_other_data("toy") == []
    file.write_text(json.dumps(info | {"data": info["data"] | {"toy.train.rating": "0" * 64}}))
    assert runs.records_of_other_data("toy") == ["toy.train.rating"]
    assert runs.record_of(recorded[0]) == file.parent
    values = params.read("toy") | {"use_records": True}
    assert params.note(values) == "records of runs with another toy.train.rating than the one here"
    file.write_text(json.dumps(info | {"result_version": -1}))
    assert runs.record_of(recorded[0]) is None


def test_seeds_by_backbone(options):
    planned = runs.plan(["CE"], **options | {"backbones": ["GMF", "CDAE"], "seeds": {"GMF": [1, 2], "CDAE": [7]}})
    assert [(run.backbone, run.seed) for run in planned] == [("GMF", 1), ("GMF", 2), ("CDAE", 7)]
    with pytest.raises(ValueError, match="seeds names GMF, but not CDAE"):
        runs.plan(["CE"], **options | {"backbones": ["CDAE"], "seeds": {"GMF": [1]}})
    with pytest.raises(ValueError, match="without repeats"):
        runs.plan(["CE"], **options | {"seeds": {"GMF": [1, 1]}})
