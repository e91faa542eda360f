"""The same runs on a Dask cluster: a real scheduler and two worker processes on the loopback, with no disk in common."""

import os
import signal
import threading
from dataclasses import replace

import pytest
from conftest import wait_until

from replication.runs.compute import RunsFailed
from replication.runs.map import map_runs
from replication.runs.settings import plan
from replication.runs.store import found

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
FILES = ("history.csv", "metrics.csv", "per_user.npz", "model.pt")


@pytest.fixture(scope="module")
def home_of_the_workers(tmp_path_factory):
    return tmp_path_factory.mktemp("of-the-workers")  # empty, and not the driver's


@pytest.fixture(scope="module")
def cluster(home_of_the_workers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DENOISE_HOME", str(home_of_the_workers))
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            yield cluster


def hashes(runs) -> list:
    return [[run.info["files"][name] for name in FILES] for run in runs]


def test_same_bits_as_here_and_nothing_is_written_there(cluster, home_of_the_workers, tmp_path, monkeypatch, tiny):
    settings = plan(["CE", "T-CE"], tiny.having(seeds=[1, 2]))
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path / "alone"))
    here = hashes(map_runs(settings, 1))
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path / "driver"))
    monkeypatch.setenv("DENOISE_DASK_SCHEDULER", cluster.scheduler_address)
    there = map_runs(settings, 1)
    assert hashes(there) == here
    assert len(list((tmp_path / "driver" / "results" / "toy" / "runs").glob("gmf-*"))) == 4
    assert not list(home_of_the_workers.iterdir())
    assert map_runs(settings, 1)[0].info == there[0].info, "from disk"


def test_a_worker_that_is_killed_costs_nothing(cluster, tmp_path, monkeypatch, tiny):
    settings = plan(["CE"], tiny.having(seeds=list(range(8)), epochs=8))
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path / "driver"))
    monkeypatch.setenv("DENOISE_DASK_SCHEDULER", cluster.scheduler_address)
    victim = next(iter(cluster.workers.values())).pid

    def kill():
        wait_until(lambda: list((tmp_path / "driver" / "results" / "toy" / "runs").glob("gmf-*")))
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    done = map_runs(settings, 1)
    killer.join()
    assert len(done) == 8
    wait_until(lambda: next(iter(cluster.workers.values())).pid not in (victim, None))  # it was killed and replaced
    monkeypatch.delenv("DENOISE_DASK_SCHEDULER")
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path / "alone"))
    assert hashes(map_runs(settings, 1)) == hashes(done)


def test_a_failing_run_is_named_and_the_others_are_kept(cluster, tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path / "driver"))
    monkeypatch.setenv("DENOISE_DASK_SCHEDULER", cluster.scheduler_address)
    good, bad = plan(["CE"], tiny)[0], plan(["CE"], tiny.having(lr=1e30))[0]
    with pytest.raises(RuntimeError, match="1 of 2 runs failed.*\nGMF CE seed 1: ValueError: the model gives NaN scores"):
        map_runs([good, bad], 1)
    assert found(good) and not found(bad)


def test_a_run_starts_from_others_and_says_that_they_failed(cluster, tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path / "driver"))
    monkeypatch.setenv("DENOISE_DASK_SCHEDULER", cluster.scheduler_address)
    good, bad = plan(["CE"], tiny)[0], plan(["CE"], tiny.having(lr=1e30))[0]
    tuned = [replace(good, strategy="fine-tuning", known_share=0.2, epochs=1, pretrained=(first,)) for first in (bad, good)]
    with pytest.raises(RunsFailed, match="2 of 4 runs failed") as error:
        map_runs(tuned, 1)
    assert f"it starts from {bad.name}, which failed" in str(error.value)
    assert [bool(found(run)) for run in tuned] == [False, True]


def test_no_scheduler(home, monkeypatch, tiny):
    monkeypatch.setenv("DENOISE_DASK_SCHEDULER", "tcp://127.0.0.1:1")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(RunsFailed, match="no scheduler answers at tcp"):
        map_runs(plan(["CE"], tiny), 1)
