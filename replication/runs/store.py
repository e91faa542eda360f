"""Runs: one (data set, backbone, method, seed, settings) each, computed once and kept in a folder of its own.

A run is a pure function of its settings and its data, so a notebook asks for runs and gets from disk what is there::

    results/<dataset>/runs/<id>/
        run.json       settings, environment, timings, selected step, SHA-256 of the other files
        history.csv    one row per evaluation point
        metrics.csv    means over users: part, users, metric, k, value, n_users
        per_user.npz   the test metrics of every user
        model.pt       weights (a state dict)

A run's *record*, kept under version control in ``results/<dataset>/records/<id>/``, has the first three of them, the
history compressed, and ``per_user.npz`` where a table uses it. Beside the records of runs lie those of what else tables
are made of (:func:`kept`), and ``card.json``, what they must know of the data.
"""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from denoise_lib.files import replacing_folder
from replication.runs.parameters import Parameters
from replication.runs.recipe import Finished, build_model, split_for
from replication.runs.settings import Settings
from replication.sources import public
from replication.support import paths

LEFT_OUT = ("model.pt", "per_user.npz")  # of records: always, and where no table uses it


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
        """Whether it lacks weights."""
        return not (self.folder / "model.pt").is_file()

    @property
    def has_users(self) -> bool:
        """Whether it has the values of each user, which most records lack."""
        return (self.folder / "per_user.npz").is_file()

    @property
    def selected_step(self) -> int:
        return self.info["selected_step"]

    def value(self, metric: str, k: int, part: str = "test", users: str = "all") -> float:
        """One mean from ``metrics.csv``."""
        rows = self.metrics.query("part == @part and users == @users and metric == @metric and k == @k")
        return float(rows["value"].item())

    def per_user(self) -> dict[str, np.ndarray]:
        """``users (U,)``, ``ks`` and the test ``precision, recall, ndcg, mrr (U, len(ks))``; where ``has_users``."""
        with np.load(self.folder / "per_user.npz") as arrays:
            return dict(arrays)

    def model(self) -> torch.nn.Module:
        """The trained model, on the CPU and in evaluation mode. A record has none."""
        model = build_model(self.settings, split_for(self.settings))
        model.load_state_dict(torch.load(self.folder / "model.pt", weights_only=True, map_location="cpu"))
        return model.eval()


def folder_of(run: Settings) -> Path:
    """Where a run lies, or will lie; its data must be on disk."""
    return paths.results(run.dataset) / "runs" / run.id(public.checksums(run.dataset))


def found(run: Settings, use_records: bool | str = False) -> Path | None:
    """The folder of a finished run, or of its record where that will do; None where there is neither.

    A run that recorded more on its way has the same weights and numbers, so it stands for one that records less.
    """
    recording = product((run.test_curve, True), (run.diagnostics, True))
    fuller = [replace(run, test_curve=curve, diagnostics=diagnostics) for curve, diagnostics in recording]
    here = map(folder_of, fuller) if public.is_prepared(run.dataset) else ()
    records = map(record_of, fuller) if use_records else ()
    return next((folder for folder in chain(here, records) if folder and folder.exists()), None)


def record_of(run: Settings, records: Path | None = None) -> Path | None:
    """The record of a run with these settings, on whatever device and with whatever data files it was made; of the data
    set's ``records``, or of others."""

    def comparable(settings: dict) -> dict:
        used = {name: value for name, value in settings.items() if value not in (None, [], ())}
        return {name: value for name, value in used.items() if name not in ("device", "threads", "pretrained")}

    wanted = comparable(json.loads(json.dumps(run.flat())))
    prefix = f"{run.backbone}-{run.method}-seed{run.seed}-".lower()
    for file in sorted((records or records_in(run.dataset)).glob(f"{prefix}*/run.json")):
        info = _read(file)
        if info["result_version"] == run.result_version and comparable(info["settings"]) == wanted:
            return file.parent
    return None


def records_in(dataset: str) -> Path:
    """Where the records of a data set lie."""
    return paths.results(dataset) / "records"


def records_of_other_data(dataset: str) -> list[str]:
    """The data files that differ between here and any record of a data set; none where there are no data here."""
    here = public.checksums(dataset) if public.is_prepared(dataset) else {}
    pairs = {pair for file in records_in(dataset).glob("*/run.json") for pair in _read(file)["data"].items()}
    return sorted({name for name, digest in pairs if here.get(name, digest) != digest})


def changed_records(dataset: str) -> list[Path]:
    """The files of records that are missing or not as their ``run.json`` says."""
    about = {file: _read(file)["files"].items() for file in sorted(records_in(dataset).glob("*/run.json"))}
    kept = [(file.with_name(name), digest) for file, files in about.items() for name, digest in files]
    kept = [(file, digest) for file, digest in kept if file.is_file() or file.name not in LEFT_OUT]
    return [file for file, digest in kept if not file.is_file() or _digest(file) != digest]


def keep_record(run: Settings, with_users: bool = False) -> None:
    """Writes the record of a finished run, in the place of an older one."""
    done = load_run(run, found(run))
    with _anew(records_in(run.dataset) / done.folder.name) as folder:
        shutil.copyfile(done.folder / "metrics.csv", folder / "metrics.csv")
        (folder / "history.csv.gz").write_bytes(gzip.compress((done.folder / "history.csv").read_bytes(), mtime=0))
        if with_users:
            np.savez_compressed(folder / "per_user.npz", **done.per_user())
        _write_info(folder, done.info)


def kept(name: str, of: dict, make: Callable[[], dict[str, pd.DataFrame]], parameters: Parameters) -> dict:
    """What tables are made of besides runs, file name -> frame: what ``make`` gives, which needs data or weights; or
    its record, where ``use_records`` says so and it was made ``of`` the same, in JSON.

    What is made is left in ``results/<dataset>/measured/<name>/`` for ``tools/keep_records.py``, without rows whose
    ``value`` is empty.

    Raises:
        LookupError: ``use_records`` is ``only``, and there is no such record.
    """
    record = records_in(parameters.dataset) / name
    if parameters.use_records and (record / "run.json").is_file() and _read(record / "run.json")["of"] == of:
        return {file.stem: pd.read_csv(file) for file in record.glob("*.csv")}
    if parameters.use_records == "only":
        raise LookupError(f"there is no record of {name} as these parameters ask for it")
    frames = make()
    with _anew(paths.results(parameters.dataset) / "measured" / name) as folder:
        for file, frame in frames.items():
            frame.dropna(subset=frame.columns.intersection(["value"])).to_csv(folder / f"{file}.csv", index=False)
        _write_info(folder, {"of": of, "data": public.checksums(parameters.dataset)})
    return frames


def load_run(settings: Settings, folder: Path | None = None) -> Run:
    """Reads a finished run, from its own folder or from that of its record."""
    folder = folder or folder_of(settings)
    history = folder / "history.csv"
    history = history if history.is_file() else folder / "history.csv.gz"
    return Run(settings, folder, _read(folder / "run.json"), pd.read_csv(history), pd.read_csv(folder / "metrics.csv"))


def write(run: Settings, finished: Finished) -> None:
    """Writes a run's folder, which appears only when it is whole."""
    frame = finished.history.frame
    with replacing_folder(folder_of(run)) as folder:
        frame.to_csv(folder / "history.csv", index=False)
        finished.metrics.to_csv(folder / "metrics.csv", index=False)
        np.savez(folder / "per_user.npz", **finished.per_user)
        torch.save(finished.weights, folder / "model.pt")
        info = {
            "id": folder_of(run).name,
            "settings": run.flat(),
            "result_version": run.result_version,
            "data": public.checksums(run.dataset),
            "selected_step": finished.history.selected_step,
            "last_point": int(frame["step"].max()) if len(frame) else -1,
            "n_parameters": sum(weights.numel() for weights in finished.weights.values()),
            "seconds": finished.seconds,
            "environment": finished.environment,
        }
        _write_info(folder, info)


def _anew(folder: Path) -> AbstractContextManager[Path]:
    """:func:`replacing_folder` in the place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    return replacing_folder(folder)


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _write_info(folder: Path, info: dict) -> None:
    """Writes ``run.json``, with the SHA-256 of the other files of a folder."""
    info = info | {"files": {file.name: _digest(file) for file in sorted(folder.iterdir())}}
    (folder / "run.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def note(parameters: Parameters) -> str:
    """What a reader of a table must know of its making, printed on every table and figure, so that a reduced run cannot
    be taken for the released one: results-changing parameters that differ from the data set's file, data that are not
    the published ones, records of runs on other data. Empty if none of these."""
    card, changes, limit = public.card(parameters.dataset), parameters.changes(), parameters.released("clean_from")
    if card.get("clean_from", limit) != limit:  # what your table's data were made with, whichever notebook asks
        changes["clean_from"] = card["clean_from"], limit
    told = {name: tuple(map(_whole, values)) for name, values in changes.items()}
    changed = ", ".join(f"{name}={value} instead of {released}" for name, (value, released) in told.items())
    file = "the params file's" if parameters.released("ratings") else "the released"
    remarks = [f"not {file} settings: {changed}"] if changed else []
    remarks += card.get("warnings", [])
    if parameters.use_records and (differing := records_of_other_data(parameters.dataset)):
        remarks.append(f"records of runs with another {', another '.join(differing)} than the one here")
    return "; ".join(remarks)


def _whole(value):
    """4.0 as a reader writes it, 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
