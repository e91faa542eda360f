"""Params files, the command line, and the packages' three lists."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
from concurrent import futures
from itertools import product

import psutil
import pytest
import yaml
from conftest import PROJECT, wait_until
from packaging.requirements import Requirement
from packaging.version import Version

from denoise_lib import cli, datasets, params, paths, runs
from denoise_lib.notebooks import NotebookFailed

FILES = sorted((PROJECT / "params").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_params_files(file):
    values = params.read(file.stem)
    assert set(values) == set(params.all_declared()), "every file has every declared key"
    assert runs.plan(runs.METHODS, **params.of_runs(values))
    text = yaml.safe_load(file.read_text())
    assert not [key for key, value in text.items() if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value)]


def test_every_notebook_declares_its_parameters():
    names = ["01_data", "02_tce", "03_rce", "04_tables", "05_diagnostics", "06_extra_feedback", "07_own_loss"]
    assert [notebook.stem for notebook in params.notebooks()] == names
    for notebook in params.notebooks():
        declared = params.declared(notebook)
        assert "dataset" in declared and all(about for _, about in declared.values())
    kinds = {}
    for notebook in params.notebooks():
        for name, (kind, _) in params.declared(notebook).items():
            assert kinds.setdefault(name, kind) == kind


def test_overrides():
    values = params.override(params.read("toy"), ["seeds=[1, 2]", "beta=1", "epochs={GMF: 2, NeuMF: 1, CDAE: 3}"])
    assert values["seeds"] == [1, 2] and values["epochs"]["CDAE"] == 3
    settings = runs.plan(["R-CE"], **params.of_runs(values))
    assert {(run.backbone, run.epochs, run.beta) for run in settings} == {("GMF", 2, 1.0), ("NeuMF", 1, 1.0), ("CDAE", 3, 1.0)}


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("epocs=3", "did you mean epochs"),
        ("epochs=many", "must be int | dict"),
        ("epochs=2.5", "must be int | dict"),
        ("epochs={GMF: many}", "must be int | dict"),
        ("epochs=true", "must be int | dict"),
        ("seeds=3", "must be list"),
        ("seeds=[a]", "must be list"),
        ("lr=1e-3", "must be float; YAML reads 1e-3 as text, write 0.001"),
        ("epochs", "expected key=value"),
        ("seeds=[1", "not a YAML value"),
        ("dataset=toy", "as an argument"),
    ],
)
def test_refused_overrides(assignment, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        params.override(params.read("toy"), [assignment])


def test_changed_settings_are_named():
    values = params.read("toy")
    assert params.note(values) == ""
    assert params.note(values | {"jobs": 7}) == ""
    assert params.note(values | {"epochs": 1, "seeds": [9]}) == (
        "not the released settings: seeds=[9] instead of [1, 2, 3], epochs=1 instead of 12"
    )


def run_all(*arguments, home, **kwargs):
    command = [sys.executable, "-m", "denoise_lib.cli", *arguments]
    return subprocess.run(command, env=os.environ | {"DENOISE_HOME": str(home)}, capture_output=True, text=True, **kwargs)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["tyo"], "did you mean toy?"),
        (["--set", "epocs=1", "toy"], "did you mean epochs?"),
        (["--set", "backbones=[GMFF]", "toy"], "GMFF"),
        (["--jobs", "0", "toy"], "positive number or auto"),
    ],
)
def test_refused_calls_run_nothing(home, arguments, message):
    done = run_all(*arguments, home=home)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert list(home.iterdir()) == []


def test_help_and_list(home):
    done = run_all("--help", home=home)
    assert done.returncode == 0 and "max_drop_rate" in done.stdout and "share of the batch" in done.stdout
    done = run_all("--list", home=home)
    assert "toy: no data yet" in done.stdout and "27 runs missing" in done.stdout


REDUCED = ["--set", "backbones=[GMF]", "--set", "seeds=[1]", "--set", "epochs=2", "toy"]


def test_full_plans_no_run_twice():
    assert [notebook.stem[:2] for notebook in cli._notebooks(full=False)] == ["01", "02", "03", "04"]
    assert [notebook.stem[:2] for notebook in cli._notebooks(full=True)] == ["01", "02", "03", "04", "05", "06"]
    values = params.read("toy")
    main, everything = cli._planned(values, full=False), cli._planned(values, full=True)
    assert len(main) == 27 and len(everything) == len(set(everything))
    recorded = {dataclasses.replace(run, diagnostics=None) for run in everything}
    assert set(main) < recorded and len(recorded) == len(everything)  # none is planned twice, once with diagnostics
    assert {run.method for run in everything} == {*runs.METHODS, *values["controls"]}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("grids={lr: [0.1]}", "grids: 'lr' is not one of"),
        ("grids={max_drop_rate: [1.5]}", "max_drop_rate is a share"),
        ("grids={}", "doses takes its drop rates"),
        ("doses=[2.0]", r"in \[0, 1\], got \[2.0\]"),
        ("controls=[coin-drop]", "'coin-drop' is not one of"),
        ("known_shares=[0.2, 2.0]", "known_shares are shares"),
        ("lambdas=[-0.1]", "lambdas lie in"),
        ("neighbours=[300]", "below the number of users, 300"),
    ],
)
def test_studies_are_checked_before_any_training(home, assignment, message):
    datasets.load("toy")
    with pytest.raises(ValueError, match=message):
        cli._planned(params.override(params.read("toy"), [assignment]), full=True)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def test_nothing_outlives_a_killed_call_and_it_continues(home):
    """The same call, killed and interrupted in training, killed and interrupted while notebooks run, and then left alone."""
    arguments = ["--jobs", "2", "--set", "backbones=[GMF, CDAE]", "--set", "seeds=[1, 2]", "--set", "epochs=25", "toy"]
    command = [sys.executable, "-m", "denoise_lib.cli", *arguments]
    folder, executing = home / "results/toy/runs", home / "results/toy/notebooks/02_tce.partial.ipynb"
    finished: dict[str, str] = {}
    for when, how in product(("training", "showing"), (signal.SIGKILL, signal.SIGINT)):
        executing.unlink(missing_ok=True)
        started = subprocess.Popen(
            command, env=os.environ | {"DENOISE_HOME": str(home)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Where the tests themselves run in the background, SIGINT is ignored, and a child would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        n_before = len(finished)
        wait_until(executing.exists if when == "showing" else lambda: len(_finished(folder)) >= n_before + 2, 240)  # noqa: B023
        wait_until(lambda: len(family(psutil.Process(started.pid))) >= 3)  # noqa: B023 - two workers or two kernels
        processes = family(psutil.Process(started.pid))
        assert finished.items() <= _finished(folder).items(), "a finished run was computed again"
        finished = _finished(folder)
        started.send_signal(how)
        started.wait(timeout=10)
        wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes[1:]), 2)  # noqa: B023
        _, errors = started.communicate()
        if how == signal.SIGINT:
            assert started.returncode == 130 and "Continue with: ./run_all.sh --jobs 2" in errors

    again = run_all(*arguments, home=home)
    assert again.returncode == 0, again.stderr
    assert len(_finished(folder)) == 12
    assert finished.items() <= _finished(folder).items(), "a finished run was computed again"

    # It is a reduced run, and says so.
    assert "epochs=25 instead of 12" in again.stdout and "results/toy/tables" in again.stdout
    assert "VERDICTS" not in again.stdout  # nothing was published of toy
    executed = sorted(file.name for file in (home / "results/toy/notebooks").iterdir())
    assert executed == ["01_data.ipynb", "02_tce.ipynb", "03_rce.ipynb", "04_tables.ipynb"]
    assert "epochs=25 instead of 12" in (home / "results/toy/tables/main.md").read_text()
    assert "12 runs finished, 0 missing" in run_all("--list", *arguments, home=home).stdout


def _finished(folder) -> dict[str, str]:
    """Finished runs and their run.json, which holds times and the hashes of the other files."""
    return {file.parent.name: file.read_text() for file in folder.glob("[!.]*/run.json")}


def test_a_failing_notebook_is_reported(home):
    failed = run_all("--set", "expected={users: 7}", *REDUCED, home=home)
    assert failed.returncode == 1
    for part in ("01_data: cell", "ValueError", "users", "01_data.partial.ipynb", "./run_all.sh --set 'expected={users: 7}'"):
        assert part in failed.stderr, part
    assert len(failed.stderr.splitlines()) < 40 and "Traceback" not in failed.stderr
    assert (home / "results/toy/notebooks/01_data.partial.ipynb").exists()
    assert not (home / "results/toy/runs").exists()  # what 01 refuses is not trained on


def test_a_notebook_that_fails_takes_no_other_with_it(home, monkeypatch, capsys):
    executed, waiting = [], threading.Event()

    def execute(name, notebook, values):
        if notebook.stem == "02_tce":
            raise NotebookFailed("02_tce: cell 3 failed with ValueError")
        if notebook.stem != "01_data":  # the others end once all are waited for, long after that failure
            waiting.wait(10)
        executed.append(notebook.stem)

    def wait(*arguments, **options):
        waiting.set()
        return futures.wait(*arguments, **options)

    monkeypatch.setattr(cli, "_execute", execute)
    monkeypatch.setattr(cli, "wait", wait)
    monkeypatch.setattr(runs, "compute_missing", lambda *_: None)
    datasets.load("toy")
    assert cli._replicate("toy", params.read("toy"), False, ["toy"]) is False
    assert executed[0] == "01_data" and sorted(executed) == ["01_data", "03_rce", "04_tables"]
    errors = capsys.readouterr().err
    assert "27 runs, 0 of them on disk" in errors and "cell 3 failed" in errors and "Continue, once it is mended, with: ./run_all.sh toy" in errors


def test_a_second_start_waits_and_says_for_what(home):
    lock = cli._only_one("toy")
    command = [sys.executable, "-m", "denoise_lib.cli", *REDUCED]
    second = subprocess.Popen(command, env=os.environ | {"DENOISE_HOME": str(home)}, stderr=subprocess.PIPE, text=True)
    try:
        line = second.stderr.readline()
        assert line.strip() == f"toy: waiting for process {os.getpid()}, which is working on {os.path.relpath(paths.results('toy'))}"
        assert not (home / "results" / "toy" / "notebooks").exists()
        lock.release()
        assert second.stderr.readline().startswith("toy: 01_data")
    finally:
        second.kill()
        second.communicate()


def test_the_three_lists_of_packages_agree():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    everything = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    wanted = [requirement for requirement in map(Requirement, everything) if requirement.name != project["name"]]
    lines = [line for line in (PROJECT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    locked = dict(line.lower().replace("_", "-").split("==") for line in lines)
    for requirement in wanted:
        assert Version(locked[requirement.name.lower().replace("_", "-")]) in requirement.specifier, requirement
    assert locked["torch"] == "2.13.0"
    assert not [name for name in locked if name.startswith(("nvidia", "triton"))]

    conda = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e .[test]"]
    (python,) = [entry.split("=")[1] for entry in conda if isinstance(entry, str) and entry.startswith("python=")]
    assert Version(python) in Requirement(f"x{project['requires-python']}").specifier
