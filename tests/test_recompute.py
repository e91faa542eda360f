"""Tables made anew from records, without data or training, and what is said where something differs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import PROJECT

from replication.app import recompute
from replication.runs.map import map_runs
from replication.runs.settings import plan
from replication.runs.store import changed_records, found, keep_record, kept, records_in
from replication.sources import public
from replication.support import paths


@pytest.fixture(scope="module")
def recorded(release, tmp_path_factory) -> Path:
    """A home with the tables of a release and its records, and without data and runs."""
    home = shutil.copytree(release, tmp_path_factory.mktemp("recorded") / "home")
    command = [sys.executable, PROJECT / "tools" / "keep_records.py", "toy"]
    done = subprocess.run(command, env=os.environ | {"DENOISE_HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("data", "figures", "results/toy/runs", "results/toy/measured"):
        shutil.rmtree(home / name)
    return home


@pytest.fixture
def released(recorded, tmp_path, monkeypatch) -> Path:
    """A copy to change; no data can be made or had."""
    home = shutil.copytree(recorded, tmp_path / "home")
    monkeypatch.setenv("DENOISE_HOME", str(home))
    monkeypatch.delattr(public, "ensure")
    return home / "results" / "toy"


@pytest.mark.slow
def test_all_tables_are_made_from_records_alone(released, capfd):
    status = recompute.main(["toy"])
    told = capfd.readouterr().out
    assert status == 0, told
    files = [file for file in released.glob("tables/*") if file.stem not in recompute.OF_DATA]
    assert f"toy: {len(files) + 1} files made anew from" in told and told.count(": as released") == 1
    assert "of the data files alone: checks.csv, checks.md, drop_rates.csv" in told
    assert {"main", "statistics", "activity", "extra_feedback", "colliding_chosen"} <= {file.stem for file in files}
    assert paths.results("toy") == released and not (released.parents[1] / "data").exists()
    means = [pd.read_csv(file) for file in released.glob("records/**/metrics*.csv")]
    assert len(means) > 100 and all(frame["value"].notna().all() for frame in means)


@pytest.mark.slow
def test_a_changed_record_and_a_changed_table_are_named(released, capfd, monkeypatch):
    monkeypatch.setattr(recompute, "NOTEBOOKS", ["02_tce"])
    for file in [*released.glob("tables/*"), released / "runs.csv"]:
        if not file.name.startswith(("tce.", "tce_selection.")):
            file.unlink()
    assert recompute.main(["toy"]) == 0, capfd.readouterr().out
    record = next(released.glob("records/gmf-t-ce-seed1-*/metrics.csv"))
    original, changed = (
        record.read_text(),
        record.read_text().replace("test,all,recall,20,0.", "test,all,recall,20,0.0"),
    )
    record.write_text(changed)
    assert recompute.main(["toy"]) == 1
    told = capfd.readouterr().out
    assert f"toy: record {paths.shown(record)} is changed or missing" in told and "NOT as released" in told
    record.write_text(original)
    table = released / "tables" / "tce.csv"
    frame = pd.read_csv(table)
    before, frame.loc[3, "mean"] = frame.loc[3, "mean"], 0.5
    frame.to_csv(table, index=False)
    assert recompute.main(["toy"]) == 1
    told = capfd.readouterr().out
    assert "tables/tce.csv, row 5 (GMF, " in told and f"column mean: released 0.5, made {before}; 1 cells" in told
    assert "is changed or missing" not in told
    (released / "tables" / "unknown.csv").write_text("a\n1\n")
    assert recompute.main(["toy"]) == 1 and "toy: not made: unknown.csv" in capfd.readouterr().out


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("0.1,x", "0.10000000000000002,x", ""),
        ("0.0,x", "1e-17,x", ""),
        ("0.1,x", "0.1000000002,x", "column b: released 0.1, made 0.1000000002"),
        ("0.1,x", "0.1,y", "column c: released x, made y"),
        ("0.1,", "0.1,x", "column c: released , made x"),
        ("0.1,x", "0.1,x\n2,0.1,x", "released 1 rows, made 2; columns of one alone: none"),
    ],
)
def test_numbers_are_compared_to_nine_digits_and_text_exactly(home, old, new, told):
    files = home / "old.csv", home / "new.csv"
    for file, text in zip(files, (old, new)):
        file.write_text(f"a,b,c\n1,{text}\n")
    found = recompute.differences(*files)
    assert len(found) == bool(told) and told in "".join(found)


def test_the_first_other_line_of_a_text_is_shown_where_it_differs(home):
    files = home / "old.md", home / "new.md"
    for file, text in zip(files, ("a\n| GMF | CE | 0.1 |\nc\n", "a\n| GMF | CE | 0.2 |\n")):
        file.write_text(text)
    (found,) = recompute.differences(*files)
    assert found.endswith("line 2: released …| GMF | CE | 0.1 |…, made …| GMF | CE | 0.2 |…; 2 lines differ")
    assert recompute.differences(files[0], files[0]) == []


def test_runs_are_compared_with_the_records_of_the_release(home, tiny, monkeypatch):
    planned = plan(["CE"], tiny.having(seeds=[1, 2]))
    assert map_runs(planned, jobs=1) and recompute.as_released(planned) == ""
    keep_record(planned[0])
    monkeypatch.setattr(paths, "PROJECT", home)
    told = "1 of 2 runs, selected steps equal, largest difference of a metric"
    assert recompute.as_released(planned) == f"as released: {told} 0"
    metrics = next(records_in("toy").glob("*/metrics.csv"))
    frame = pd.read_csv(metrics)
    frame.assign(value=frame["value"] + 6e-8).to_csv(metrics, index=False)
    assert recompute.as_released(planned) == f"as released: {told} 6e-8"
    frame.assign(value=frame["value"] + 2e-3).to_csv(metrics, index=False)
    assert recompute.as_released(planned) == f"not as released: {told} 0.002 (GMF CE seed 1)"
    frame.assign(k=frame["k"] + 1).to_csv(metrics, index=False)
    assert recompute.as_released(planned).startswith("not as released"), "nothing in common"
    frame.to_csv(metrics, index=False)
    about = metrics.with_name("run.json")
    about.write_text(json.dumps(json.loads(about.read_text()) | {"selected_step": -1}))
    assert "1 of 2 runs, selected steps of 1 differ (GMF CE seed 1), " in recompute.as_released(planned)


def test_a_record_is_known_by_its_sums_and_holds_users_where_asked(home, tiny):
    (planned,) = plan(["CE"], tiny)
    (run,) = map_runs([planned], jobs=1)
    keep_record(planned)
    keep_record(planned, with_users=True)
    shutil.rmtree(run.folder)
    (record,) = map_runs([planned], use_records="only")
    pd.testing.assert_frame_equal(record.history, run.history)
    assert record.is_record and record.has_users and changed_records("toy") == []
    (record.folder / "per_user.npz").write_bytes(b"")
    assert changed_records("toy") == [record.folder / "per_user.npz"]
    (record.folder / "metrics.csv").unlink()
    assert changed_records("toy") == [record.folder / name for name in ("metrics.csv", "per_user.npz")]


def test_nothing_is_computed_where_records_only_are_asked_for(home, tiny):
    (planned,) = plan(["CE"], tiny)
    with pytest.raises(LookupError, match="1 runs have no record, such as .*backbone='GMF'"):
        map_runs([planned], use_records="only")
    with pytest.raises(LookupError, match="no record of baselines as these parameters"):
        kept("baselines", {}, dict, tiny.having(use_records="only"))
    assert found(planned, "only") is None and not list(home.iterdir())


def test_what_was_made_is_read_from_its_record_where_it_was_made_of_the_same(home, tiny):
    public.load("toy")
    frame = pd.DataFrame({"method": ["one", "other"], "value": [0.1, None]})
    make = lambda: {"metrics": frame}  # noqa: E731
    assert kept("baselines", {"top_k": [5]}, make, tiny)["metrics"] is frame
    shutil.copytree(home / "results" / "toy" / "measured", records_in("toy"))
    reading = tiny.having(use_records=True)
    read = kept("baselines", {"top_k": [5]}, make, reading)["metrics"]
    assert read.to_dict("list") == {"method": ["one"], "value": [0.1]}
    assert kept("baselines", {"top_k": [6]}, make, reading)["metrics"] is frame
    assert changed_records("toy") == []
