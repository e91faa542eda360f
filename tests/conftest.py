"""Every test works in an empty temporary home, and reads the reference vectors only where they are."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

_own = tempfile.TemporaryDirectory(
    prefix="denoise-tests-"
)  # deleted at the end; and each process of pytest-xdist has its own
os.environ["DENOISE_HOME"] = _own.name

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402

from denoise_lib.data import Interactions, Split  # noqa: E402
from replication.runs.parameters import Parameters, resolve  # noqa: E402
from replication.support import paths  # noqa: E402

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
def own(home, monkeypatch):
    """An empty home with a params folder of its own."""
    (home / "params").mkdir()
    monkeypatch.setattr(paths, "PARAMS", home / "params")
    monkeypatch.setenv("DENOISE_PARAMS", str(home / "params"))  # for kernels
    (home / "params" / "toy.yaml").write_text((PROJECT / "params" / "toy.yaml").read_text(encoding="utf-8"))
    return home


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


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Path:
    """A home that holds all that ``--full toy`` makes, for tests that look at it, and to copy for those that go on from
    there. One process of pytest-xdist makes it, the others wait; run_tests.sh replays the notebooks in it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    home = Path(os.environ.get("DENOISE_RELEASE") or shared / "release")
    with FileLock(f"{home}.lock"):
        if not (home / "results" / "toy" / "notebooks" / "06_extra_feedback.ipynb").exists():
            done = run_all("--full", "toy", home=home)
            assert done.returncode == 0 and "toy: finished" in done.stdout, done.stderr[-2000:]
    return home


def notebooks(folder: Path, real: tuple[str, ...] = (), seconds: int = 0) -> dict[str, Path]:
    """What stands in the place of ``paths.NOTEBOOKS``: all but the ``real`` ones import nothing, so that a kernel starts
    in a second, and wait a while."""
    folder.mkdir()
    for name, text in paths.NOTEBOOKS.items():
        header, wait = text.read_text().partition("# %%")[0], f'__import__("time").sleep({seconds})'
        cells = f'# %% tags=["parameters"]\ndataset, changes = "", {{}}\n\n# %%\n{wait}\n'
        (folder / text.name).write_text(text.read_text() if name in real else header + cells)
    return {name: folder / text.name for name, text in paths.NOTEBOOKS.items()}


def copy_of_the_code(folder: Path, real: tuple[str, ...] = (), seconds: int = 0) -> Path:
    """The packages with the notebooks of :func:`notebooks`."""
    for name in ("denoise_lib", "replication", "params"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    notebooks(folder / "notebooks", real, seconds)
    return folder


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "slow: starts other processes or trains for long; ./run_tests.sh --quick leaves it out"
    )


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that the processes of pytest-xdist end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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
