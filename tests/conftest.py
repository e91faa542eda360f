"""Every test works in an empty temporary home, and reads the reference vectors only where they are."""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

_own = tempfile.TemporaryDirectory(prefix="denoise-tests-")  # deleted at the end; and each process of pytest-xdist has its own
os.environ["DENOISE_HOME"] = _own.name

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from denoise_lib.data import Interactions, Split  # noqa: E402
from replication.runs.parameters import Parameters, resolve  # noqa: E402

PROJECT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)
warnings.simplefilter("error", pd.errors.ChainedAssignmentError)


@pytest.fixture
def reference() -> Path:
    """The folder of conformance vectors and published runs, which users do not have."""
    folder = PROJECT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("the reference vectors are not beside this checkout")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home of this test's own."""
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def tiny() -> Parameters:
    """Parameters of runs of a fraction of a second: the toy data set's, smaller still."""
    smaller = dict(backbones=["GMF"], seeds=[1], epochs=3, dim=8, hidden_dim=16, ramp_steps=50, device="cpu")
    return resolve("toy", smaller)


def run_all(*arguments, home, **options) -> subprocess.CompletedProcess:
    """The command line, as a user calls it."""
    command = [sys.executable, "-m", "replication", *map(str, arguments)]
    environment = os.environ | {"DENOISE_HOME": str(home)}
    return subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, **options)


def wait_until(condition, seconds: float = 60) -> None:
    """Returns once another process or thread has made the condition true; fails if it has not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def make_split(n_users=40, n_items=30, per_user=12, noise=0.25, seed=0) -> Split:
    """A small random split: 60 % train, 20 % valid, 20 % test, with flags."""
    rng = np.random.default_rng(seed)
    rows = [(user, item) for user in range(n_users) for item in rng.choice(n_items, per_user, replace=False)]
    users, items = np.array(rows).T
    is_clean = rng.random(len(users)) >= noise
    part = rng.permutation(len(users)) % 5
    everything = Interactions(users, items, is_clean)
    return Split(
        "small", n_users, n_items, everything[part < 3], everything[part == 3], everything[(part == 4) & is_clean]
    )


@pytest.fixture
def split() -> Split:
    return make_split()
