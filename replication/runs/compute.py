"""Computing one run, from what it starts from to its folder."""

import hashlib
import json
import tempfile
import traceback
from collections.abc import Callable

import numpy as np
import torch

from denoise_lib.files import replacing_folder
from replication.runs import recipe
from replication.runs.settings import Settings
from replication.runs.store import folder_of, found, load_run
from replication.sources import public


class RunsFailed(RuntimeError):
    """Some runs failed, or none could start: the message names each with its settings, and says what happened."""


def compute(run: Settings, progress: Callable | None = None) -> None:
    """Trains, evaluates and writes one run. Where it was stopped before, it continues from its checkpoint.

    Raises:
        OSError: the results cannot be written; a folder in which nothing can be made is noticed before the training.
    """
    folder = folder_of(run)
    checkpoint = folder.parent / ".partial" / f"{folder.name}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder.parent).close()

    write(run, recipe.train(run, public.load(run.dataset), pretrained(run), checkpoint, progress))
    checkpoint.unlink(missing_ok=True)


def pretrained(run: Settings) -> list[torch.nn.Module]:
    if lacking := [first.name for first in run.pretrained if not found(first)]:
        raise RuntimeError(f"it starts from {' and '.join(lacking)}, which failed")
    return [load_run(first, found(first)).model() for first in run.pretrained]


def write(run: Settings, finished: recipe.Finished) -> None:
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
        (folder / "run.json").write_text(json.dumps(info, indent=2) + "\n")


def attempt(run: Settings, progress: Callable | None = None) -> tuple[Settings, str | None]:
    try:
        compute(run, progress)
    except Exception:
        return run, traceback.format_exc(limit=-4)
    return run, None
