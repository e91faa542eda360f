"""The command line: what it refuses, what it plans, and what becomes of a call that fails, waits or is killed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent import futures
from dataclasses import replace
from itertools import product

import psutil
import pytest
from conftest import PROJECT, copy_of_the_code, run_all, wait_until

from replication.app import cli
from replication.app.notebooks import NotebookFailed
from replication.methods import PAPER
from replication.runs.parameters import resolve
from replication.sources import public
from replication.support import paths

REFUSED = [
    (["tyo"], "did you mean toy?"),
    (["--set", "epocs=1", "toy"], "did you mean epochs?"),
    (["--set", "backbones=[GMFF]", "toy"], "GMFF"),
    (["--jobs", "0", "toy"], "jobs is 0 (int); it must be 'auto', or greater than or equal to 1"),
    (["toy", "--set", "neighbours=[0]", "--full"], "neighbours.0 is 0"),
]


@pytest.mark.parametrize("arguments, message", REFUSED)
def test_refused_calls_run_nothing(home, arguments, message):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code.startswith("run_all.sh: ") and message in exit.value.code
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_a_refused_call_ends_with_status_1(home):
    arguments, message = REFUSED[0]
    done = run_all(*arguments, home=home)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_help_and_list(home, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert exit.value.code == 0 and "max_drop_rate" in shown and "share of the batch" in shown
    assert cli.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert "toy: no data yet" in shown and "27 runs missing" in shown


def test_full_plans_no_run_twice():
    assert [name[:2] for name in cli.MAIN] == ["01", "02", "03", "04"]
    assert [cli.STUDIES[name][0][:2] for name in cli.STUDIES] == ["05", "06", "08"]
    assert {*cli.MAIN, *(notebook for notebook, _ in cli.STUDIES.values())} < set(paths.NOTEBOOKS)
    values = resolve("toy")
    main, everything = cli._planned(values), cli._planned(values, studies=cli.FULL)
    assert len(main) == 27 and len(everything) == len(set(everything))
    recorded = {replace(run, diagnostics=None) for run in everything}
    assert set(main) < recorded and len(recorded) == len(everything)  # none is planned twice, once with diagnostics
    assert {run.method for run in everything} == {*PAPER, *values.controls}


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_nothing_outlives_a_killed_call_and_it_continues(home, tmp_path_factory):
    """The same call, killed and interrupted in training, killed and interrupted while notebooks run, and then left
    alone."""
    arguments = ["--jobs", "2", "--set", "backbones=[GMF, CDAE]", "--set", "seeds=[1]", "--set", "epochs=15", "toy"]
    project = copy_of_the_code(tmp_path_factory.mktemp("project"), seconds=4)
    command = [sys.executable, "-m", "replication", *arguments]
    environment = os.environ | {"DENOISE_HOME": str(home), "PYTHONPATH": str(project)}
    folder, executing = home / "results/toy/runs", home / "results/toy/notebooks/02_tce.partial.ipynb"
    finished: dict[str, str] = {}
    for when, how in product(("training", "showing"), (signal.SIGKILL, signal.SIGINT)):
        executing.unlink(missing_ok=True)
        started = subprocess.Popen(
            command, env=environment, cwd=project, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Where the tests themselves run in the background, SIGINT is ignored, and a child would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            n_before = len(finished)
            if when == "showing":
                wait_until(executing.exists, 240)
            wait_until(lambda: when == "showing" or len(_finished(folder)) >= n_before + 2, 240)  # noqa: B023
            wait_until(lambda: len(family(psutil.Process(started.pid))) >= 3)  # noqa: B023 - workers or kernels
            processes = family(psutil.Process(started.pid))
            assert finished.items() <= _finished(folder).items(), "a finished run was computed again"
            finished = _finished(folder)
            started.send_signal(how)
            started.wait(timeout=10)
            wait_until(lambda: not any(map(is_alive, processes)), 5)  # noqa: B023
        finally:
            started.kill()
            _, errors = started.communicate()
        if how == signal.SIGINT:
            assert started.returncode == 130 and "Continue with: ./run_all.sh --jobs 2" in errors

    shutil.copy(paths.NOTEBOOKS["04_tables"], project / "notebooks")  # which makes what the last lines tell
    again = subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert len(_finished(folder)) == 6
    assert finished.items() <= _finished(folder).items(), "a finished run was computed again"

    # It is a reduced run, and says so.
    assert "epochs=15 instead of 12" in again.stdout and "results/toy/tables" in again.stdout
    assert "VERDICTS" not in again.stdout  # nothing was published of toy
    executed = sorted(file.name for file in (home / "results/toy/notebooks").iterdir())
    assert executed == ["01_data.ipynb", "02_tce.ipynb", "03_rce.ipynb", "04_tables.ipynb"]
    assert "epochs=15 instead of 12" in (home / "results/toy/tables/main.md").read_text()
    assert "6 runs finished, 0 missing" in run_all("--list", *arguments, home=home).stdout


def _finished(folder) -> dict[str, str]:
    """Finished runs and their run.json, which holds times and the hashes of the other files."""
    return {file.parent.name: file.read_text() for file in folder.glob("[!.]*/run.json")}


REDUCED = ["--set", "backbones=[GMF]", "--set", "seeds=[1]", "--set", "epochs=2", "toy"]


@pytest.mark.slow
def test_a_failing_notebook_is_reported(home):
    failed = run_all("--set", "expected={users: 7}", *REDUCED, home=home)
    assert failed.returncode == 1
    for part in (
        "01_data: cell",
        "ValueError",
        "users",
        "01_data.partial.ipynb",
        "./run_all.sh --set 'expected={users: 7}'",
    ):
        assert part in failed.stderr, part
    assert len(failed.stderr.splitlines()) < 40 and "Traceback" not in failed.stderr
    assert (home / "results/toy/notebooks/01_data.partial.ipynb").exists()
    assert not (home / "results/toy/runs").exists()  # what 01 refuses is not trained on


def test_a_notebook_that_fails_takes_no_other_with_it(home, monkeypatch, capsys):
    executed, waiting = [], threading.Event()

    def execute(name, notebook, changes):
        if notebook == "02_tce":
            raise NotebookFailed("02_tce: cell 3 failed with ValueError")
        if notebook != "01_data":  # the others end once all are waited for, long after that failure
            waiting.wait(10)
        executed.append(notebook)

    def wait(*arguments, **options):
        waiting.set()
        return futures.wait(*arguments, **options)

    monkeypatch.setattr(cli, "_execute", execute)
    monkeypatch.setattr(cli, "wait", wait)
    monkeypatch.setattr(cli.run_map, "map_runs", lambda *_: None)
    public.ensure("toy")
    assert cli._replicate(resolve("toy"), {}, True, [], ["toy"]) is False
    assert executed[0] == "01_data" and sorted(executed) == ["01_data", "03_rce", "04_tables"]
    errors = capsys.readouterr().err
    assert (
        "27 runs, 0 of them on disk" in errors
        and "cell 3 failed" in errors
        and "Continue, once it is mended, with: ./run_all.sh toy" in errors
    )


@pytest.mark.slow
def test_a_second_start_waits_and_says_for_what(home):
    lock = cli._only_one("toy")
    command = [sys.executable, "-m", "replication", *REDUCED]
    environment = os.environ | {"DENOISE_HOME": str(home)}
    second = subprocess.Popen(command, env=environment, cwd=PROJECT, stderr=subprocess.PIPE, text=True)
    try:
        where = os.path.relpath(paths.results("toy"), PROJECT)
        expected = f"toy: waiting for process {os.getpid()}, which is working on {where}"
        assert second.stderr.readline().strip() == expected
        assert not (home / "results" / "toy" / "notebooks").exists()
        lock.release()
        assert second.stderr.readline().startswith("toy: 01_data")
    finally:
        second.kill()
        second.communicate()
