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
import shutil
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
        model = build_model(self.settings, split_for(self.settings))
        model.load_state_dict(torch.load(self.folder / "model.pt", weights_only=True, map_location="cpu"))
        return model.eval()


def folder_of(run: Settings) -> Path:
    """Where a run lies, or will lie; its data must be on disk."""
    return paths.results(run.dataset) / "runs" / run.id(public.checksums(run.dataset))


def found(run: Settings, use_records: bool = False) -> Path | None:
    """The folder of a finished run, or of its record where that will do; None where there is neither.

    A run that recorded more on its way has the same weights and numbers, so it stands for one that records less.
    """
    recording = product((run.test_curve, True), (run.diagnostics, True))
    fuller = [replace(run, test_curve=curve, diagnostics=diagnostics) for curve, diagnostics in recording]
    here = map(folder_of, fuller) if public.is_prepared(run.dataset) else ()
    records = map(record_of, fuller) if use_records else ()
    return next((folder for folder in chain(here, records) if folder and folder.exists()), None)


def record_of(run: Settings) -> Path | None:
    """The record of a run with these settings, on whatever device and with whatever data files it was made."""

    def comparable(settings: dict) -> dict:
        used = {name: value for name, value in settings.items() if value not in (None, [], ())}
        return {name: value for name, value in used.items() if name not in ("device", "threads", "pretrained")}

    wanted = comparable(json.loads(json.dumps(run.flat())))
    prefix = f"{run.backbone}-{run.method}-seed{run.seed}-".lower()
    for file in sorted((paths.results(run.dataset) / "records").glob(f"{prefix}*/run.json")):
        info = json.loads(file.read_text(encoding="utf-8"))
        if info["result_version"] == run.result_version and comparable(info["settings"]) == wanted:
            return file.parent
    return None


def records_of_other_data(dataset: str) -> list[str]:
    """The data files that differ between here and any record of a data set."""
    here = public.checksums(dataset)
    infos = (
        json.loads(file.read_text(encoding="utf-8")) for file in (paths.results(dataset) / "records").glob("*/run.json")
    )
    return sorted({name for info in infos for name, digest in info["data"].items() if here.get(name) != digest})


def keep_record(run: Settings) -> None:
    """Copies a finished run's ``run.json``, ``history.csv`` and ``metrics.csv`` to its record."""
    with replacing_folder(paths.results(run.dataset) / "records" / run.id(public.checksums(run.dataset))) as folder:
        for name in ("run.json", "history.csv", "metrics.csv"):
            shutil.copyfile(folder_of(run) / name, folder / name)


def load_run(settings: Settings, folder: Path | None = None) -> Run:
    """Reads a finished run, from its own folder or from that of its record."""
    folder = folder or folder_of(settings)
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return Run(settings, folder, info, pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "metrics.csv"))


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
            "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())},
        }
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
