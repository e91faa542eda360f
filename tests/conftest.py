"""Every test works in an empty temporary home, and reads the reference vectors only where they are."""

import os
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
def options() -> dict:
    """Arguments of ``plan`` for runs of a fraction of a second on the toy data."""
    return dict(
        dataset="toy", backbones=["GMF"], seeds=[1], protocol="corrected", epochs=3, batch_size=256, lr=0.003,
        n_negatives=1, eval_every=25, top_k=[5, 20], test_curve=True, dim=8, n_layers=2, hidden_dim=16, corruption=0.5,
        max_drop_rate=0.1, ramp_steps=50, beta=0.25, threads=1, device="cpu",
    )  # fmt: skip


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
