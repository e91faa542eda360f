"""A run that is killed, or whose disk is full, read-only or damaged, loses minutes and never a result."""

import ctypes
import hashlib
import multiprocessing
import os
import resource
import signal
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split

from denoise_lib import checkpoint
from denoise_lib.losses import cross_entropy
from denoise_lib.models import CDAE
from denoise_lib.train import fit
from replication.runs.compute import compute
from replication.runs.map import map_runs
from replication.runs.settings import plan
from replication.runs.store import folder_of, found, load_run
from replication.sources import public

# Children are forked from a server that has imported everything, so that each costs milliseconds and not seconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch._dynamo", "replication.runs.compute", "test_interruption"])
N_KILLS = 20


def whole_run(connection, file) -> None:
    """Trains with a checkpoint at every point; sends a word at the start, then the hash of all that it leaves."""
    torch.set_num_threads(1)
    checkpoint.SECONDS = 0
    split = make_split(n_users=200, n_items=100, per_user=20)
    model = CDAE(split.matrix(split.train), 32, 0.5, torch.Generator().manual_seed(0))
    ce = lambda logits, labels, step: cross_entropy(logits, labels)  # noqa: E731
    connection.send("starts")
    history = fit(model, split, ce, epochs=2, seed=0, batch_size=64, eval_every=5, checkpoint=file)
    digest = hashlib.sha256(history.frame.to_csv().encode() + str(history.selected_step).encode())
    for weights in model.state_dict().values():
        digest.update(weights.numpy().tobytes())
    connection.send(digest.hexdigest())


def start(file):
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=whole_run, args=(there, file))
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
        file = tmp_path / f"{number}.pt"
        process, connection = start(file)
        time.sleep(moment)
        process.kill()
        process.join()
        n_continued += file.exists()
        process, connection = start(file)
        assert connection.recv() == expected, f"killed after {moment:.3f} of {duration:.3f} s"
        process.join()
    assert n_continued > N_KILLS / 2  # else this test has killed nothing that could be continued


def attempt(connection, run, prepare, *arguments) -> None:
    """Computes a run after ``prepare``; sends what became of it and what it warned of."""
    torch.set_num_threads(1)
    checkpoint.SECONDS = 0
    prepare(*arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            compute(run)
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


def obey_permissions(home) -> None:
    """Nothing is read-only to root, so that a process of root's gives up the capability that says so, CAP_DAC_OVERRIDE."""
    os.environ["DENOISE_HOME"] = home
    if os.geteuid() == 0:
        (held,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapPrm")]
        kept = int(held.split()[1], 16) & ~(1 << 1)
        low, high = kept & 0xFFFFFFFF, kept >> 32
        header, sets = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", low, low, 0, high, high, 0)
        assert ctypes.CDLL(None).capset(header, sets) == 0


@pytest.fixture
def run(home, tiny):
    public.ensure("toy")
    (run,) = plan(["CE"], tiny)
    return run


def test_where_no_checkpoint_fits_the_training_goes_on(run, home):
    # The weights, 300 x 8 + 150 x 8 numbers, take 15 KB with their archive; a checkpoint holds them four times.
    outcome, warned = outcome_of(run, limit_files, str(home), 40_000)
    assert outcome == "finished" and "no checkpoint" in warned[0]
    assert load_run(run).selected_step > 0
    assert not list((folder_of(run).parent / ".partial").iterdir())


def test_a_full_disk_leaves_nothing_that_looks_whole(run, home):
    outcome, _ = outcome_of(run, limit_files, str(home), 2_000)
    assert outcome != "finished" and not found(run)
    assert map_runs([run])[0].selected_step > 0  # once there is space


def test_a_read_only_results_folder_is_noticed_before_the_training(run, home):
    folder = folder_of(run).parent
    partial = folder / ".partial"
    partial.mkdir(parents=True)
    folder.chmod(0o555)
    outcome, _ = outcome_of(run, obey_permissions, str(home))
    assert outcome == "PermissionError" and not found(run)
    assert not list(partial.iterdir())  # no checkpoint: it has not trained
    folder.chmod(0o755)
    assert outcome_of(run, obey_permissions, str(home)) == ("finished", [])
