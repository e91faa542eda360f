"""Runs: one (data set, backbone, method, seed, settings) each, computed once and kept in a folder of its own.

A run is a pure function of its settings and its data, so a notebook asks for runs and gets from disk what is there::

    results/<dataset>/runs/<id>/
        run.json       settings, environment, timings, selected step, SHA-256 of the other files
        history.csv    one row per evaluation point
        metrics.csv    means over users: part, users, metric, k, value, n_users
        per_user.npz   the test metrics of every user
        model.pt       weights (a state dict)

The first three of them, kept under version control in ``results/<dataset>/records/<id>/``, are a run's *record*.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from denoise_lib import datasets, paths
from denoise_lib.controls import CONTROLS, DROPPING, drop_keys, row_values
from denoise_lib.data import Split
from denoise_lib.diagnostics import DropCounter, diagnostic_probes
from denoise_lib.evaluation import final_metrics, test_probes
from denoise_lib.files import replacing_folder
from denoise_lib.losses import (
    cross_entropy, dropped_samples, drop_rate_at, reweighted_cross_entropy, truncated_cross_entropy
)  # fmt: skip
from denoise_lib.models import CDAE, GMF, MLP, NeuMF
from denoise_lib.noise import clean_part, with_false_positives
from denoise_lib.train import PROTOCOLS, fit

RESULT_VERSION = 1  # raise it whenever the numbers change: older runs are then computed again
BACKBONES = ("GMF", "MLP", "NeuMF", "NeuMF-pre", "CDAE")
METHODS = ("CE", "T-CE", "R-CE")  # the paper's; controls.py has the others


# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    """All that decides a run's result besides its data. What a backbone or method does not use is None, so that a
    CE run is the same run whatever T-CE's drop rate is."""

    dataset: str
    backbone: str
    method: str
    seed: int
    protocol: str
    epochs: int
    batch_size: int
    lr: float
    n_negatives: int
    eval_every: int
    top_k: tuple[int, ...]
    test_curve: bool  # record test metrics at every evaluation point, for analysis only
    dim: int | None = None
    n_layers: int | None = None
    hidden_dim: int | None = None
    corruption: float | None = None
    max_drop_rate: float | None = None
    ramp_steps: int | None = None
    beta: float | None = None
    diagnostics: bool | None = None  # record what diagnostics.py measures, at every evaluation point; changes no weight
    noise: str | None = None  # kind of the false positives added to the clean part of the data (noise.py)
    dose: float | None = None  # and how many, in clean positives
    threads: int = 1
    device: str = "cpu"
    pretrained: tuple["Settings", ...] = ()  # the GMF and MLP runs that NeuMF-pre starts from

    @property
    def name(self) -> str:
        return f"{self.backbone} {self.method} seed {self.seed}"

    def id(self) -> str:
        """A readable prefix and a hash of settings, data and result version."""
        used = {name: value for name, value in asdict(self).items() if value is not None}
        content = json.dumps([used, datasets.checksums(self.dataset), RESULT_VERSION], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        return f"{self.backbone}-{self.method}-seed{self.seed}-{digest}".lower()

    @property
    def folder(self) -> Path:
        return paths.results(self.dataset) / "runs" / self.id()


def plan(
    methods: Iterable[str],
    *,
    dataset: str,
    backbones: list[str],
    seeds: list[int] | dict[str, list[int]],
    protocol: str,
    epochs: int | dict[str, int],
    batch_size: int,
    lr: float,
    n_negatives: int,
    eval_every: int,
    top_k: list[int],
    test_curve: bool,
    dim: int,
    n_layers: int,
    hidden_dim: int,
    corruption: float,
    max_drop_rate: float | dict[str, float],
    ramp_steps: int | dict[str, int],
    beta: float | dict[str, float],
    threads: int,
    device: str,
    diagnostics: bool = False,
) -> list[Settings]:
    """The settings of every (backbone, method, seed). ``seeds``, ``epochs``, ``max_drop_rate``, ``ramp_steps`` and
    ``beta`` are one value or a map from backbone to value; ``device: auto`` is CUDA where there is one.

    Raises:
        ValueError: a value out of range, or a map that lacks a backbone.
    """
    _check_choices("backbones", backbones, BACKBONES)
    _check_choices("methods", methods, METHODS + CONTROLS)
    _check_choices("protocol", [protocol], PROTOCOLS)
    _check_choices("device", [device], ("auto", "cpu", "cuda"))
    lists = seeds.values() if isinstance(seeds, dict) else [seeds]
    for name, values in [*(("seeds", values) for values in lists), ("top_k", top_k), ("backbones", backbones)]:
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} is a list of at least one value without repeats, got {values}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"

    def own_value(backbone: str, name: str, value):
        if not isinstance(value, dict):
            return value
        if backbone not in value:
            raise ValueError(f"{name} names {', '.join(value)}, but not {backbone}; give it one value or add it")
        return value[backbone]

    def settings(backbone: str, method: str, seed: int) -> Settings:
        own = partial(own_value, backbone)
        is_cdae, drops = backbone == "CDAE", method in DROPPING
        run = Settings(
            dataset, backbone, method, seed, protocol, own("epochs", epochs), batch_size, lr, n_negatives, eval_every,
            tuple(sorted(top_k)), test_curve,
            dim=None if is_cdae else dim,
            n_layers=None if backbone in ("GMF", "CDAE") else n_layers,
            hidden_dim=hidden_dim if is_cdae else None,
            corruption=float(corruption) if is_cdae else None,
            max_drop_rate=float(own("max_drop_rate", max_drop_rate)) if drops else None,
            ramp_steps=own("ramp_steps", ramp_steps) if drops else None,
            beta=float(own("beta", beta)) if method == "R-CE" else None,
            diagnostics=diagnostics or None,
            threads=threads,
            device=device,
            pretrained=tuple(settings(half, method, seed) for half in ("GMF", "MLP")) if backbone == "NeuMF-pre" else (),
        )  # fmt: skip
        _check_ranges(run)
        return run

    return [
        settings(backbone, method, seed)
        for backbone in backbones
        for method in methods
        for seed in own_value(backbone, "seeds", seeds)
    ]


def _check_choices(name: str, values: Iterable[str], choices: tuple[str, ...]) -> None:
    for value in values:
        if value not in choices:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(choices)}")


def _check_ranges(run: Settings) -> None:
    counts = ("epochs", "batch_size", "n_negatives", "eval_every", "dim", "n_layers", "hidden_dim", "threads")
    for name in counts:
        value = getattr(run, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name in ("corruption", "max_drop_rate"):
        value = getattr(run, name)
        if value is not None and not 0 <= value < 1:
            raise ValueError(f"{name} is a share in [0, 1), got {value}")
    for name in ("seed", "ramp_steps", "beta"):
        value = getattr(run, name)
        if value is not None and value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    if run.top_k[0] < 1 or run.lr <= 0:
        raise ValueError(f"top_k must be at least 1 and lr positive, got {run.top_k} and {run.lr}")


# --------------------------------------------------------------------------------------------------------- computing


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, read from its folder."""

    settings: Settings
    folder: Path
    info: dict  # run.json
    history: pd.DataFrame
    metrics: pd.DataFrame

    @property
    def selected_step(self) -> int:
        return self.info["selected_step"]

    def value(self, metric: str, k: int, part: str = "test", users: str = "all") -> float:
        """One mean from ``metrics.csv``."""
        rows = self.metrics.query("part == @part and users == @users and metric == @metric and k == @k")
        return float(rows["value"].item())

    def per_user(self) -> dict[str, np.ndarray]:
        """``users (U,)``, ``ks`` and the test ``precision, recall, ndcg, mrr (U, len(ks))``. A record has none."""
        with np.load(self.folder / "per_user.npz") as arrays:
            return dict(arrays)

    def model(self) -> torch.nn.Module:
        """The trained model, on the CPU and in evaluation mode. A record has none."""
        model = build_model(self.settings, training_split(self.settings, load_split(self.settings)))
        model.load_state_dict(torch.load(self.folder / "model.pt", weights_only=True, map_location="cpu"))
        return model.eval()


def map_runs(
    settings: list[Settings], jobs: int | str = "auto", label: str = "runs", use_records: bool = False
) -> list[Run]:
    """Computes the runs that are not on disk yet and returns all, in the order asked for.

    Args:
        settings: the runs; repeated ones are computed once.
        jobs: runs side by side; ``"auto"``: as many as ``jobs * threads`` fit on the machine's cores.
        label: of the progress bar.
        use_records: a run that is not on disk but has a record is read from it and not computed.

    Raises:
        RuntimeError: some runs failed. The others are finished and kept, so a second call computes the failed ones only.
    """
    for stage in ([half for run in settings for half in run.pretrained], settings):
        missing = [run for run in dict.fromkeys(stage) if not found(run, use_records)]
        _compute_all(missing, jobs, label)
    return [load_run(run, found(run, use_records)) for run in settings]


def found(run: Settings, use_records: bool = False) -> Path | None:
    """The folder of a finished run, or of its record where that will do; None where there is neither.

    A run that recorded more on its way has the same weights and numbers, so it stands for the same run that records less.
    """
    for test_curve, diagnostics in product((run.test_curve, True), (run.diagnostics, True)):
        folder = replace(run, test_curve=test_curve, diagnostics=diagnostics).folder
        if folder.exists():
            return folder
    return record_of(run) if use_records else None


def record_of(run: Settings) -> Path | None:
    """The record of a run with these settings, on whatever device and with whatever data files it was made."""

    def comparable(settings: dict) -> dict:
        return {k: v for k, v in settings.items() if v not in (None, [], ()) and k not in ("device", "threads", "pretrained")}

    wanted = comparable(json.loads(json.dumps(asdict(run))))
    prefix = f"{run.backbone}-{run.method}-seed{run.seed}-".lower()
    for file in sorted((paths.results(run.dataset) / "records").glob(f"{prefix}*/run.json")):
        info = json.loads(file.read_text())
        if info["result_version"] == RESULT_VERSION and comparable(info["settings"]) == wanted:
            return file.parent
    return None


def records_of_other_data(dataset: str) -> list[str]:
    """The data files that differ between here and any record of a data set."""
    here = datasets.checksums(dataset)
    infos = (json.loads(file.read_text()) for file in (paths.results(dataset) / "records").glob("*/run.json"))
    return sorted({name for info in infos for name, digest in info["data"].items() if here.get(name) != digest})


def keep_record(run: Settings) -> None:
    """Copies a finished run's ``run.json``, ``history.csv`` and ``metrics.csv`` to its record."""
    with replacing_folder(paths.results(run.dataset) / "records" / run.id()) as folder:
        for name in ("run.json", "history.csv", "metrics.csv"):
            shutil.copyfile(run.folder / name, folder / name)


def load_run(settings: Settings, folder: Path | None = None) -> Run:
    """Reads a finished run, from its own folder or from that of its record."""
    folder = folder or settings.folder
    info = json.loads((folder / "run.json").read_text())
    return Run(settings, folder, info, pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "metrics.csv"))


def _compute_all(missing: list[Settings], jobs: int | str, label: str) -> None:
    if not missing:
        return
    if jobs == "auto":
        jobs = max(1, joblib.cpu_count() // missing[0].threads)
    jobs = min(jobs, len(missing))
    failures = []
    with tqdm(total=len(missing), desc=label, unit="run") as bar:

        def show(run: Settings) -> Callable:
            def progress(step: int, n_steps: int, valid_loss: float) -> None:
                bar.set_postfix_str(f"{run.name}: step {step}/{n_steps}, validation loss {valid_loss:.4g}", refresh=False)
                bar.update(0)

            return progress

        if jobs == 1:
            outcomes = (_attempt(run, show(run)) for run in missing)
        else:
            parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
            outcomes = parallel(joblib.delayed(_attempt_in_worker)(run, os.getpid(), paths.home()) for run in missing)
        for run, failure in outcomes:
            bar.set_postfix_str(f"last: {run.name}", refresh=False)
            bar.update()
            if failure:
                failures.append(f"{run.name}: {failure.strip().splitlines()[-1]}\n{run}\n{failure}")
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(missing)} runs failed; the others are kept.\n" + "\n".join(failures))


def _attempt(run: Settings, progress: Callable | None = None) -> tuple[Settings, str | None]:
    try:
        compute(run, progress)
    except Exception:
        return run, traceback.format_exc(limit=-4)
    return run, None


def _attempt_in_worker(run: Settings, parent: int, home: Path) -> tuple[Settings, str | None]:
    follow(parent)
    os.environ["DENOISE_HOME"] = str(home)  # a worker lives on between calls, the home may have changed since
    return _attempt(run)


@cache
def follow(parent: int) -> None:
    """Ends this process soon after its parent ends, whatever ended the parent: nothing trains on unseen."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.3)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def compute(run: Settings, progress: Callable | None = None) -> None:
    """Trains, evaluates and writes one run; its folder appears only when it is whole."""
    started = time.perf_counter()
    split = load_split(run)
    trained_on = training_split(run, split)
    model = build_model(run, trained_on).to(run.device)
    checkpoint = run.folder.parent / ".partial" / f"{run.folder.name}.pt"
    drops = DropCounter() if run.diagnostics and run.method in DROPPING else None
    with _threads(run.threads):
        history = fit(
            model, trained_on, loss_of(run, drops), epochs=run.epochs, seed=run.seed, batch_size=run.batch_size, lr=run.lr,
            n_negatives=run.n_negatives, eval_every=run.eval_every, protocol=run.protocol, observed=split.train,
            probes=_probes(run, split, drops),
            row_values=row_values(trained_on.train, split.n_items) if _takes_values(run) else None,
            optimizer=torch.optim.SGD if run.backbone == "NeuMF-pre" else None,
            checkpoint=checkpoint, progress=progress,
        )  # fmt: skip
        trained = time.perf_counter()
        metrics, per_user = final_metrics(model, split, run.top_k)

    with replacing_folder(run.folder) as folder:
        history.frame.to_csv(folder / "history.csv", index=False)
        metrics.to_csv(folder / "metrics.csv", index=False)
        np.savez(folder / "per_user.npz", **per_user)
        torch.save({name: weights.cpu() for name, weights in model.state_dict().items()}, folder / "model.pt")
        info = {
            "id": run.folder.name,
            "settings": asdict(run),
            "result_version": RESULT_VERSION,
            "data": datasets.checksums(run.dataset),
            "selected_step": history.selected_step,
            "last_point": int(history.frame["step"].iloc[-1]),
            "n_parameters": sum(weights.numel() for weights in model.parameters()),
            "seconds": {"training": trained - started, "total": time.perf_counter() - started},
            "environment": environment(),
            "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())},
        }
        (folder / "run.json").write_text(json.dumps(info, indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)


def load_split(run: Settings) -> Split:
    """The split as a run sees it: ``protocol: corrected`` leaves repeated pairs out, and a run with a ``dose`` has made-up
    false positives in the place of the flagged ones."""
    split = datasets.load(run.dataset)
    if run.protocol == "corrected":
        split = split.without_duplicates()
    if run.dose is not None:
        split = with_false_positives(clean_part(split), run.dose, run.noise, run.seed)
    return split


def training_split(run: Settings, split: Split) -> Split:
    """What a run is trained and selected on. What it does not train on is still observed: it is no negative, and the
    ranking leaves it out."""
    return clean_part(split) if run.method == "clean-only" else split


def n_steps(run: Settings) -> int:
    """Optimizer steps of a whole run."""
    n_rows = len(training_split(run, load_split(run)).train) * (1 + run.n_negatives)
    return run.epochs * math.ceil(n_rows / run.batch_size)


def build_model(run: Settings, split: Split) -> torch.nn.Module:
    """The backbone with its initial weights, drawn from the run's seed."""
    generator = torch.Generator().manual_seed(run.seed)
    match run.backbone:
        case "GMF":
            return GMF(split.n_users, split.n_items, run.dim, generator)
        case "MLP":
            return MLP(split.n_users, split.n_items, run.dim, run.n_layers, generator)
        case "NeuMF":
            return NeuMF(split.n_users, split.n_items, run.dim, run.n_layers, generator)
        case "NeuMF-pre":
            return NeuMF.from_pretrained(*(load_run(half, found(half)).model() for half in run.pretrained))
        case "CDAE":
            return CDAE(split.matrix(split.train), run.hidden_dim, run.corruption, generator)


def loss_of(run: Settings, drops: DropCounter | None = None) -> Callable:
    """A method is its loss: (logits, labels, step) -> scalar, with a fourth argument where it :func:`_takes_values`.

    ``drops`` counts what is dropped in training.
    """

    def truncated(logits, labels, step, values=None):
        drop_rate = drop_rate_at(step, run.max_drop_rate, run.ramp_steps)
        if values is None:
            return truncated_cross_entropy(logits, labels, drop_rate)
        keys = drop_keys(run.method, logits, labels, values)
        if drops is not None:
            drops.add(dropped_samples(keys, labels, drop_rate), values)
        return truncated_cross_entropy(logits, labels, drop_rate, keys)

    match run.method:
        case "CE" | "clean-only":
            return lambda logits, labels, step: cross_entropy(logits, labels)
        case "R-CE":
            return lambda logits, labels, step: reweighted_cross_entropy(logits, labels, run.beta)
        case _:
            return truncated


def _takes_values(run: Settings) -> bool:
    return run.method in DROPPING and (run.method != "T-CE" or bool(run.diagnostics))


def _probes(run: Settings, split: Split, drops: DropCounter | None) -> dict[str, Callable] | None:
    if run.diagnostics:
        return diagnostic_probes(split, run.top_k, run.n_negatives, run.seed, drops)
    return test_probes(split, run.top_k) if run.test_curve else None


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Sets torch's threads, which are part of a run's bits, for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ------------------------------------------------------------------------------------------------------- environment


@cache
def environment() -> dict[str, str]:
    """What a run was computed with: versions, processor and the commit of the code."""
    packages = ("torch", "numpy", "scipy", "pandas")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": str(joblib.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "commit": _commit(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _commit() -> str:
    command = ["git", "-C", str(paths.PROJECT), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
