"""A run that is killed, or whose disk is full, read-only or damaged, loses minutes and never a result."""

import hashlib
import multiprocessing
import os
import resource
import signal
import tempfile
import time

import numpy as np
import pytest
import torch
from conftest import make_split

from denoise_lib import datasets, runs, train
from denoise_lib.losses import cross_entropy
from denoise_lib.models import CDAE

# Children are forked from a server that has imported everything, so that each costs milliseconds and not seconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch._dynamo", "denoise_lib.runs", "test_interruption"])
N_KILLS = 20


def whole_run(connection, checkpoint) -> None:
    """Trains with a checkpoint at every point; sends a word at the start, then the hash of all that it leaves."""
    torch.set_num_threads(1)
    train.CHECKPOINT_SECONDS = 0
    split = make_split(n_users=200, n_items=100, per_user=20)
    model = CDAE(split.matrix(split.train), 32, 0.5, torch.Generator().manual_seed(0))
    ce = lambda logits, labels, step: cross_entropy(logits, labels)  # noqa: E731
    connection.send("starts")
    history = train.fit(model, split, ce, epochs=4, seed=0, batch_size=64, eval_every=5, checkpoint=checkpoint)
    digest = hashlib.sha256(history.frame.to_csv().encode() + str(history.selected_step).encode())
    for weights in model.state_dict().values():
        digest.update(weights.numpy().tobytes())
    connection.send(digest.hexdigest())


def start(checkpoint):
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=whole_run, args=(there, checkpoint))
    process.start()
    there.close()
    assert here.recv() == "starts"
    return process, here


def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_bits(tmp_path):
    process, connection = start(tmp_path / "undisturbed.pt")
    started = time.monotonic()
    expected = connection.recv()
    duration = time.monotonic() - started
    process.join()
    moments = np.random.default_rng(0).uniform(0, duration, N_KILLS)
    n_continued = 0
    for number, moment in enumerate(moments):
        checkpoint = tmp_path / f"{number}.pt"
        process, connection = start(checkpoint)
        time.sleep(moment)
        process.kill()
        process.join()
        n_continued += checkpoint.exists()
        process, connection = start(checkpoint)
        assert connection.recv() == expected, f"killed after {moment:.3f} of {duration:.3f} s"
        process.join()
    assert n_continued > N_KILLS / 2  # else this test has killed nothing that could be continued


def attempt(connection, run, prepare, *arguments) -> None:
    """Computes a run after ``prepare``; sends what became of it and what it warned of."""
    import warnings

    torch.set_num_threads(1)
    train.CHECKPOINT_SECONDS = 0
    prepare(*arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            runs.compute(run)
            outcome = "finished"
        except OSError as error:
            outcome = type(error).__name__
    connection.send((outcome, [str(warning.message) for warning in caught]))


def outcome_of(run, prepare, *arguments):
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=attempt, args=(there, run, prepare, *arguments))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def limit_files(home, n_bytes: int) -> None:
    """No file of this process can grow beyond ``n_bytes``: the quota that stands for a full disk."""
    os.environ["DENOISE_HOME"] = home
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def become_nobody(home) -> None:
    os.environ["DENOISE_HOME"] = home
    if os.geteuid() == 0:  # nothing is read-only to root
        os.setuid(65534)


@pytest.fixture
def run(home, options):
    datasets.load("toy")
    (run,) = runs.plan(["CE"], **options)
    return run


def test_where_no_checkpoint_fits_the_training_goes_on(run, home):
    # The weights, 300 x 8 + 150 x 8 numbers, take 15 KB with their archive; a checkpoint holds them four times.
    outcome, warned = outcome_of(run, limit_files, str(home), 40_000)
    assert outcome == "finished" and "no checkpoint" in warned[0]
    assert runs.load_run(run).selected_step > 0
    assert not list((run.folder.parent / ".partial").iterdir())


def test_a_full_disk_leaves_nothing_that_looks_whole(run, home):
    outcome, _ = outcome_of(run, limit_files, str(home), 2_000)
    assert outcome != "finished" and not run.folder.exists()
    assert runs.map_runs([run])[0].selected_step > 0  # once there is space


def test_a_read_only_results_folder_is_noticed_before_the_training(options, monkeypatch):
    with tempfile.TemporaryDirectory() as home:  # not tmp_path, which is closed to other users
        monkeypatch.setenv("DENOISE_HOME", home)
        os.chmod(home, 0o755)
        datasets.load("toy")
        (run,) = runs.plan(["CE"], **options)
        partial = run.folder.parent / ".partial"
        partial.mkdir(parents=True)
        partial.chmod(0o777)
        run.folder.parent.chmod(0o555)
        outcome, warned = outcome_of(run, become_nobody, home)
        assert outcome == "PermissionError" and not run.folder.exists()
        assert not list(partial.iterdir())  # no checkpoint: it has not trained
        run.folder.parent.chmod(0o777)
        assert outcome_of(run, become_nobody, home) == ("finished", [])
