"""What a full run would cost, measured in a few steps on generated data of the declared size."""

import math
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import torch

from denoise_lib.data import FILES, Interactions, Split
from denoise_lib.evaluator import VALIDATION_USERS, rank_items
from denoise_lib.optimizer import LARGE
from denoise_lib.train import fit, steps_per_epoch
from replication.runs.parameters import Parameters
from replication.runs.recipe import build_model, loss_and_values
from replication.runs.settings import Settings
from replication.runs.store import found
from replication.sources import public
from replication.support import paths

N_TIMED, N_RANKED = 40, 100  # steps and users
DENSE_STEPS = 200  # of a run with large tables, at first; they tell nothing of the later ones


def describe(parameters: Parameters, planned: list[Settings]) -> str:
    """The text of ``--dry-run`` for one data set; nothing is downloaded, trained to the end or written."""
    sizes = _sizes(parameters)
    n_finished = sum(bool(found(run)) for run in planned)
    lines = [
        f"{parameters.dataset}: {len(planned)} runs, {n_finished} finished",
        f"  {_missing_files(parameters)}",
        "  timed on generated data of " + ", ".join(f"{count:,} {what}" for what, count in sizes.items()),
        f"  {'backbone':10}{'runs':>5}{'steps':>9}{'parameters':>13}{'memory':>9}{'a step':>9}{'a run':>10}",
    ]
    # Each backbone has a process of its own, whose peak memory is the backbone's, forked from one that has imported
    # everything, which takes seconds.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch._dynamo", "replication.app.dry_run"])
    total = 0.0
    for backbone in dict.fromkeys(run.backbone for run in planned):
        group = [run for run in planned if run.backbone == backbone]
        probe = replace(next(run for run in group if run.method == "CE"), pretrained=())
        with ProcessPoolExecutor(1, mp_context=processes) as pool:
            cost = pool.submit(_measure, probe, sizes).result()
        steps = probe.epochs * steps_per_epoch(sizes["train"], probe.n_negatives, probe.batch_size)
        seconds = sum(_seconds(run, cost, sizes) for run in group)
        total += seconds
        lines.append(
            f"  {backbone:10}{len(group):5}{steps:9,}{cost['parameters']:13,}{cost['memory'] / 2**30:6.1f} GB"
            f"{cost['step'] * 1000:6.1f} ms{_duration(seconds / len(group)):>10}"
        )
    jobs = max(1, joblib.cpu_count() // planned[0].threads) if parameters.jobs == "auto" else parameters.jobs
    whole = f"about {_duration(total / jobs)} with {jobs} side by side, start-up and notebooks on top"
    return "\n".join([*lines, f"  all runs from nothing: {whole}"])


def _missing_files(parameters: Parameters) -> str:
    missing = [paths.shown(file) for file in public.files_of(parameters.dataset) if not file.is_file()]
    if public.is_prepared(parameters.dataset) or not missing:
        return "no file is missing"
    table = ", ".join(paths.shown(Path(one)) for one in np.atleast_1d(parameters.ratings or []))
    how = f"makes them from {table}" if table else "tries to get them"
    return f"missing files: {', '.join(missing)}; the first run {how}"


def _seconds(run: Settings, cost: dict[str, float], sizes: dict[str, int]) -> float:
    """A run's time, from its backbone's costs. Stages on known positives count as ``epochs`` on everything."""
    steps = run.epochs * steps_per_epoch(sizes["train"], run.n_negatives, run.batch_size)
    points = steps // run.eval_every
    rankings = points * bool(run.test_curve or run.diagnostics) * sizes["test_users"]
    rankings += sizes["test_users"] + min(VALIDATION_USERS, sizes["users"])
    return steps * cost["step"] + points * cost["validation"] + rankings * cost["user"]


def _sizes(parameters: Parameters) -> dict[str, int]:
    """The expected counts, without any those of the data; what is not known follows from a split of 8 : 1 : 1."""
    expected = parameters.expected
    if not {"users", "items"} <= set(expected):
        split = public.load(parameters.dataset)
        counts = {part: len(getattr(split, part)) for part in FILES}
        expected = counts | {"users": split.n_users, "items": split.n_items}
    train = expected.get("train", int(0.8 * expected.get("interactions", 0)))
    sizes = {"train": train, "valid": train // 8, "test": train // 8, "test_users": expected["users"]} | expected
    return {what: sizes[what] for what in ("users", "items", "train", "valid", "test", "test_users")}


def _measure(run: Settings, sizes: dict[str, int]) -> dict[str, float]:
    """Seconds of a step, a validation pass and one ranked user; parameters; bytes at most, in a fresh process."""
    torch.set_num_threads(run.threads)
    rng, ids = np.random.default_rng(0), (sizes["users"], sizes["items"])
    rows = [Interactions(*(rng.integers(0, n, sizes[part]) for n in ids)) for part in ("train", "valid", "test")]
    split = Split("generated", *ids, *rows)
    model = build_model(run, split).to(run.device)
    loss_fn, _ = loss_and_values(run, split)
    moments = []

    def noting_loss(*batch) -> torch.Tensor:
        moments.append(time.perf_counter())
        return loss_fn(*batch)

    def seconds(n_steps: int, n_valid: int) -> float:
        """Of some steps, on as many rows as they take, or in several passes over a part that has fewer."""
        n_rows = max(1, n_steps * run.batch_size // (1 + run.n_negatives))
        short = replace(split, train=split.train[:n_rows], valid=split.valid[:n_valid])
        in_epoch = steps_per_epoch(len(short.train), run.n_negatives, run.batch_size)
        started = time.perf_counter()
        fit(
            model, short, noting_loss, epochs=math.ceil(n_steps / in_epoch), seed=0, batch_size=run.batch_size,
            lr=run.lr, n_negatives=run.n_negatives, eval_every=10**9, protocol=run.protocol, observed=split.train,
        )  # fmt: skip
        return time.perf_counter() - started

    few = run.batch_size
    seconds(2, few)
    validated = seconds(2, sizes["valid"]) - seconds(2, few)
    skipped = DENSE_STEPS if max(ids) > LARGE * run.batch_size else 2
    moments.clear()
    seconds(skipped + N_TIMED, few)
    users = np.arange(min(N_RANKED, split.n_users))
    started = time.perf_counter()
    rank_items(model, users, split.matrix(split.train)[users], max(run.top_k))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "step": (moments[skipped + N_TIMED - 1] - moments[skipped - 1]) / N_TIMED,
        "validation": max(0.0, validated),
        "user": (time.perf_counter() - started) / len(users),
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "memory": peak if sys.platform == "darwin" else 1024 * peak,
    }


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
