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
import json
import os
import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import psutil
import torch
from tqdm import tqdm

from denoise_lib import datasets, methods, paths, workers
from denoise_lib.data import Split
from denoise_lib.files import replacing_folder
from denoise_lib.methods import build_model, load_split, n_steps, training_split
from denoise_lib.settings import BACKBONES, METHODS, RESULT_VERSION, Settings, plan

__all__ = [
    "BACKBONES", "METHODS", "RESULT_VERSION", "Run", "RunsFailed", "Settings", "build_model", "compute", "compute_missing", "found",
    "keep_record", "load_run", "load_split", "map_runs", "n_steps", "plan", "record_of", "training_split",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, read from its folder."""

    settings: Settings
    folder: Path
    info: dict  # run.json
    history: pd.DataFrame
    metrics: pd.DataFrame

    @property
    def is_record(self) -> bool:
        """Whether it lacks weights and the values of each user."""
        return not (self.folder / "model.pt").is_file()

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
        model = build_model(self.settings, load_split(self.settings), _pretrained(self.settings))
        model.load_state_dict(torch.load(self.folder / "model.pt", weights_only=True, map_location="cpu"))
        return model.eval()


class RunsFailed(RuntimeError):
    """Some runs failed, or none could start: the message names each with its settings, and says what happened."""


def map_runs(
    settings: list[Settings], jobs: int | str = "auto", label: str = "runs", use_records: bool = False
) -> list[Run]:
    """Computes the runs that are not on disk yet and returns all, in the order asked for: :func:`compute_missing`, then reading."""
    compute_missing(settings, jobs, label, use_records)
    return [load_run(run, found(run, use_records)) for run in settings]


def compute_missing(settings: list[Settings], jobs: int | str = "auto", label: str = "runs", use_records: bool = False) -> None:
    """Computes the runs that are not on disk yet.

    Args:
        settings: the runs; repeated ones are computed once.
        jobs: runs side by side; ``"auto"``: as many as the machine's cores, at ``threads`` each, and its free memory allow.
        label: of the progress bar.
        use_records: a run that is not on disk but has a record is read from it and not computed.

    Raises:
        RunsFailed: some runs failed. The others are finished and kept, so a second call computes the failed ones only.
    """
    missing = [run for run in settings if not found(run, use_records)]
    _compute_all([run for run in distinct(missing) if not found(run)], jobs, label)  # what others start from needs its weights


def distinct(settings: list[Settings]) -> list[Settings]:
    """Each run once, first the runs that others start from; without those for which another one stands, since it records the
    same and more."""
    every = dict.fromkeys([*(first for run in settings for first in run.pretrained), *settings])
    stood_for = {replace(run, diagnostics=None) for run in every if run.diagnostics}
    return sorted((run for run in every if run not in stood_for), key=lambda run: bool(run.pretrained))


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
    jobs = min(_side_by_side(missing) if jobs == "auto" else jobs, len(missing))
    failures = []
    # Backbones differ in length: the time that remains is told by the mean so far, not by the latest runs.
    with tqdm(total=len(missing), desc=label, unit="run", smoothing=0) as bar:

        def show(run: Settings) -> Callable:
            def progress(step: int, n_steps: int, valid_loss: float) -> None:
                bar.set_postfix_str(f"{run.name}: step {step}/{n_steps}, validation loss {valid_loss:.4g}", refresh=False)
                bar.update(0)

            return progress

        if scheduler := os.environ.get("DENOISE_DASK_SCHEDULER"):
            outcomes = _on_cluster(missing, scheduler)
        elif jobs == 1:
            outcomes = (_attempt(run, show(run)) for run in missing)
        else:
            outcomes = workers.outcomes(missing, jobs, show, is_ready=lambda run: all(map(found, run.pretrained)))
        for run, failure in outcomes:
            bar.set_postfix_str(f"last: {run.name}", refresh=False)
            bar.update()
            if failure:
                failures.append((run, failure.strip()))
    if failures:
        raise RunsFailed(f"{len(failures)} of {len(missing)} runs failed; the others are kept.\n" + _described(failures))


def _described(failures: list[tuple[Settings, str]]) -> str:
    """Each failed run with its cause and its settings, and one traceback for each cause."""
    lines, tracebacks = [], {}
    for run, failure in failures:
        cause = failure.splitlines()[-1]
        lines.append(f"{run.name}: {cause}\n    {run}")
        tracebacks.setdefault(cause, failure)
    return "\n".join(lines + [failure for cause, failure in tracebacks.items() if failure != cause])


def _side_by_side(missing: list[Settings]) -> int:
    """How many of these runs the machine's cores, its free memory and that of the GPU they use have room for; at least one."""
    by_cores = joblib.cpu_count() // missing[0].threads
    largest = max(map(_memory_of, {(run.dataset, run.backbone): run for run in missing}.values()))
    free = [psutil.virtual_memory().available]
    if missing[0].device == "cuda" and torch.cuda.is_available():
        free.append(torch.cuda.mem_get_info()[0])
    return max(1, min(by_cores, *(memory // largest for memory in free)))


def _memory_of(run: Settings) -> int:
    """Bytes that a run takes at most, of which 512 MB are Python, torch and the data: weights, gradients, two moments of Adam,
    the best weights so far and a copy on its way to disk are six numbers of 4 bytes for each parameter."""
    whole = replace(run, backbone="NeuMF") if run.backbone == "NeuMF-pre" else run
    model = build_model(replace(whole, pretrained=()), load_split(run))
    return (512 << 20) + 6 * 4 * sum(weights.numel() for weights in model.parameters())


def _attempt(run: Settings, progress: Callable | None = None) -> tuple[Settings, str | None]:
    try:
        compute(run, progress)
    except Exception:
        return run, traceback.format_exc(limit=-4)
    return run, None


def _on_cluster(missing: list[Settings], scheduler: str) -> Iterator[tuple[Settings, str | None]]:
    """Computes runs on a Dask cluster. A data set travels once to each worker, what a run gives comes back and is written
    here, and a run whose worker dies is given to another one, three times.

    The result is the same to the last bit as on a single machine of the same kind. docs/cluster.md says how to start one.
    """
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError:
        raise RunsFailed("DENOISE_DASK_SCHEDULER is set but Dask is not installed: pip install -e '.[cluster]'") from None
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise RunsFailed(f"DENOISE_DASK_SCHEDULER: no scheduler answers at {scheduler} ({error})") from None
    with client:
        names = dict.fromkeys(run.dataset for run in missing)
        data = {name: client.scatter(datasets.load(name), broadcast=True, hash=False) for name in names}
        for stage in ([run for run in missing if not run.pretrained], [run for run in missing if run.pretrained]):
            run_of = {}
            for run in stage:
                try:
                    first_stages = _pretrained(run)
                except RuntimeError as error:
                    yield run, str(error)
                    continue
                run_of[client.submit(_in_cluster_worker, run, data[run.dataset], first_stages, pure=False)] = run
            for future in as_completed(run_of):
                run = run_of[future]
                if future.status == "finished":
                    _write(run, future.result())
                    yield run, None
                else:
                    yield run, "".join(traceback.format_exception(future.exception(), limit=-4))
                future.release()


_ONE_RUN = threading.Lock()  # in a worker with several threads too: torch's threads and generators are the process's


def _in_cluster_worker(run: Settings, data: Split, pretrained: list[torch.nn.Module]) -> methods.Finished:
    with _ONE_RUN:
        return methods.train(run, data, pretrained)


def compute(run: Settings, progress: Callable | None = None) -> None:
    """Trains, evaluates and writes one run. Where it was stopped before, it continues from its checkpoint.

    Raises:
        OSError: the results cannot be written; a folder in which nothing can be made is noticed before the training.
    """
    checkpoint = run.folder.parent / ".partial" / f"{run.folder.name}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=run.folder.parent).close()

    _write(run, methods.train(run, datasets.load(run.dataset), _pretrained(run), checkpoint, progress))
    checkpoint.unlink(missing_ok=True)


def _pretrained(run: Settings) -> list[torch.nn.Module]:
    if lacking := [first.name for first in run.pretrained if not found(first)]:
        raise RuntimeError(f"it starts from {' and '.join(lacking)}, which failed")
    return [load_run(first, found(first)).model() for first in run.pretrained]


def _write(run: Settings, finished: methods.Finished) -> None:
    """Writes a run's folder, which appears only when it is whole."""
    frame = finished.history.frame
    with replacing_folder(run.folder) as folder:
        frame.to_csv(folder / "history.csv", index=False)
        finished.metrics.to_csv(folder / "metrics.csv", index=False)
        np.savez(folder / "per_user.npz", **finished.per_user)
        torch.save(finished.weights, folder / "model.pt")
        info = {
            "id": run.folder.name,
            "settings": asdict(run),
            "result_version": RESULT_VERSION,
            "data": datasets.checksums(run.dataset),
            "selected_step": finished.history.selected_step,
            "last_point": int(frame["step"].max()) if len(frame) else -1,
            "n_parameters": sum(weights.numel() for weights in finished.weights.values()),
            "seconds": finished.seconds,
            "environment": finished.environment,
            "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())},
        }
        (folder / "run.json").write_text(json.dumps(info, indent=2) + "\n")
