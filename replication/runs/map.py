"""Many runs: which of them are missing, how many fit side by side, and the one bar that shows them."""

import os
from collections import defaultdict
from dataclasses import replace
from functools import partial
from itertools import count

import joblib
import psutil
import torch
from tqdm import tqdm

from replication.runs.compute import RunsFailed, attempt, in_processes, on_cluster
from replication.runs.recipe import build_model, split_for
from replication.runs.settings import Settings
from replication.runs.store import Run, found, load_run
from replication.sources import public


def map_runs(
    runs: list[Settings], jobs: int | str = "auto", label="runs", use_records: bool | str = False
) -> list[Run]:
    """Computes the runs that are not on disk yet, and returns all in the order asked for.

    Args:
        runs: repeated ones are computed once.
        jobs: runs side by side; ``"auto"``: as many as cores, at ``threads`` each, and free memory allow.
        label: of the progress bar.
        use_records: a run that is not on disk but has a record is read from it and not computed; ``"only"``: nothing
            is computed.

    Raises:
        LookupError: some runs have no record, and ``use_records`` is ``"only"``.
        RunsFailed: some runs failed. The others are finished and kept, so a second call computes the failed ones only.
    """
    missing = distinct([run for run in runs if not found(run, use_records)])
    if missing and use_records == "only":
        raise LookupError(f"{len(missing)} runs have no record, such as {missing[0]}")
    missing = [run for run in missing if not found(run)]  # what others start from needs its weights
    if missing:
        _compute(missing, jobs, label)
    return [load_run(run, found(run, use_records)) for run in runs]


def distinct(settings: list[Settings]) -> list[Settings]:
    """Each run once, first those that others start from. Of two that differ in what they record, the fuller one."""
    every = dict.fromkeys([*(first for run in settings for first in run.pretrained), *settings])
    stood_for = {replace(run, diagnostics=None) for run in every if run.diagnostics}
    return sorted((run for run in every if run not in stood_for), key=lambda run: bool(run.pretrained))


def _compute(missing: list[Settings], jobs: int | str, label: str) -> None:
    for dataset in {run.dataset for run in missing}:
        public.ensure(dataset)
    jobs = min(_side_by_side(missing) if jobs == "auto" else jobs, len(missing))
    turns = defaultdict(count)  # the backbones come by turns, so that the first runs tell how long all will take
    missing = sorted(missing, key=lambda run: (bool(run.pretrained), next(turns[run.backbone])))
    shares: dict[Settings, float] = {}  # what is done of each run that was begun
    failures: dict[Settings, str] = {}
    # The time that remains is told by the mean so far, not by the latest runs.
    shape = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=len(missing), desc=label, smoothing=0, bar_format=shape) as bar:

        def advance(run: Settings, share: float, where: str) -> None:
            shares[run] = share
            n_done = sum(share == 1 for share in shares.values())
            bar.set_postfix_str(f"{n_done}/{len(missing)} runs, {where}", refresh=False)
            bar.update(sum(shares.values()) - bar.n)

        def progress(run: Settings, step: int, n_steps: int, valid_loss: float) -> None:
            advance(run, step / n_steps, f"{run.name}: step {step}/{n_steps}, validation loss {valid_loss:.4g}")

        if scheduler := os.environ.get("DENOISE_DASK_SCHEDULER"):
            outcomes = on_cluster(missing, scheduler)
        elif jobs > 1:
            outcomes = in_processes(missing, jobs, progress)
        else:
            outcomes = ((run, attempt(run, partial(progress, run))) for run in missing)
        for run, failure in outcomes:
            advance(run, 1, f"last: {run.name}")
            if failure:
                failures[run] = failure.strip()
    if failures:
        n_failed = f"{len(failures)} of {len(missing)} runs failed; the others are kept."
        raise RunsFailed(f"{n_failed}\n{_described(failures)}")


def _described(failures: dict[Settings, str]) -> str:
    """Each failed run with its cause and its settings, and one traceback for each cause."""
    lines, tracebacks = [], {}
    for run, failure in failures.items():
        cause = failure.splitlines()[-1]
        lines.append(f"{run.name}: {cause}\n    {run}")
        tracebacks.setdefault(cause, failure)
    return "\n".join(lines + [failure for cause, failure in tracebacks.items() if failure != cause])


def _side_by_side(missing: list[Settings]) -> int:
    """How many of these runs the machine's cores, its free memory and that of the GPU allow; at least one."""
    by_cores = joblib.cpu_count() // missing[0].threads
    largest = max(map(_memory_of, {(run.dataset, run.backbone): run for run in missing}.values()))
    free = [psutil.virtual_memory().available]
    if missing[0].device == "cuda" and torch.cuda.is_available():
        free.append(torch.cuda.mem_get_info()[0])
    return max(1, min(by_cores, *(memory // largest for memory in free)))


def _memory_of(run: Settings) -> int:
    """Bytes that a run takes at most, of which 512 MB are Python, torch and the data: weights, gradients, two moments
    of Adam, the best weights so far and a copy on its way to disk are six numbers of 4 bytes for each parameter."""
    try:
        n_parameters = sum(weights.numel() for weights in build_model(run, split_for(run)).parameters())
    except Exception:  # a backbone of the user's that cannot be built: its runs will say so, the others are computed
        n_parameters = 0
    return (512 << 20) + 6 * 4 * n_parameters
