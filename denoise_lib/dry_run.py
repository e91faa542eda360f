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

from denoise_lib import datasets, methods, paths, runs
from denoise_lib.data import FILES, Interactions, Split
from denoise_lib.evaluation import VALIDATION_USERS
from denoise_lib.evaluator import rank_items
from denoise_lib.train import fit

N_TIMED, N_RANKED = 40, 100  # steps and users


def describe(values: dict, planned: list[runs.Settings]) -> str:
    """The text of ``--dry-run`` for one data set; nothing is downloaded, trained to the end or written."""
    name, expected = values["dataset"], values["expected"]
    is_there = datasets.is_prepared(name)
    lines = [f"{name}: {len(planned)} runs" + (f", {sum(bool(runs.found(run)) for run in planned)} finished" if is_there else "")]
    files = [paths.data(name) / pattern.format(name) for pattern in FILES.values()]
    missing = [] if is_there else [paths.shown(file) for file in files if not file.is_file()]
    gets_them = f"makes them from {paths.shown(Path(values['ratings']))}" if values["ratings"] else "tries to get them"
    lines.append(f"  missing files: {', '.join(missing)}; the first run {gets_them}" if missing else "  no file is missing")
    sizes = _sizes(expected)
    lines.append("  timed on generated data of " + ", ".join(f"{count:,} {what}" for what, count in sizes.items()))
    lines.append(f"  {'backbone':10}{'runs':>5}{'steps':>9}{'parameters':>13}{'memory':>9}{'a step':>9}{'a run':>10}")
    processes = multiprocessing.get_context("forkserver")  # forked from one that has imported everything, which takes seconds
    processes.set_forkserver_preload(["torch._dynamo", "denoise_lib.dry_run"])
    total = 0.0
    for backbone in dict.fromkeys(run.backbone for run in planned):
        group = [run for run in planned if run.backbone == backbone]
        probe = replace(next(run for run in group if run.method == "CE"), pretrained=())
        with ProcessPoolExecutor(1, mp_context=processes) as pool:  # one of its own, so that its peak memory is this backbone's
            cost = pool.submit(_measure, probe, sizes).result()
        steps = probe.epochs * math.ceil(sizes["train"] * (1 + probe.n_negatives) / probe.batch_size)
        all_seconds = sum(_seconds(run, cost, sizes) for run in group)
        seconds = all_seconds / len(group)
        total += all_seconds
        lines.append(
            f"  {backbone:10}{len(group):5}{steps:9,}{cost['parameters']:13,}{cost['memory'] / 2**30:6.1f} GB"
            f"{cost['step'] * 1000:6.1f} ms{_duration(seconds):>10}"
        )
    jobs = values["jobs"] if values["jobs"] != "auto" else max(1, joblib.cpu_count() // planned[0].threads)
    lines.append(f"  all runs from nothing: about {_duration(total / jobs)} with {jobs} side by side, start-up and notebooks on top")
    return "\n".join(lines)


def _seconds(run: runs.Settings, cost: dict[str, float], sizes: dict[str, int]) -> float:
    """A run's time, from its backbone's costs. Stages on known positives are as long as their ``epochs`` on everything."""
    steps = run.epochs * math.ceil(sizes["train"] * (1 + run.n_negatives) / run.batch_size)
    points = steps // run.eval_every
    rankings = points * bool(run.test_curve or run.diagnostics) * sizes["test_users"]
    rankings += sizes["test_users"] + min(VALIDATION_USERS, sizes["users"])
    return steps * cost["step"] + points * cost["validation"] + rankings * cost["user"]


def _sizes(expected: dict[str, int]) -> dict[str, int]:
    """The expected counts; those that are not known follow from a split of 8 : 1 : 1."""
    train = expected.get("train", int(0.8 * expected.get("interactions", 0)))
    known = {"users": expected["users"], "items": expected["items"], "train": train}
    for part in ("valid", "test"):
        known[part] = expected.get(part, train // 8)
    return known | {"test_users": expected.get("test_users", expected["users"])}


def _measure(run: runs.Settings, sizes: dict[str, int]) -> dict[str, float]:
    """Seconds of a step, a validation pass and one ranked user; parameters; peak memory in bytes. In a fresh process."""
    torch.set_num_threads(run.threads)
    rng = np.random.default_rng(0)
    n_users, n_items = sizes["users"], sizes["items"]

    def part(n: int) -> Interactions:
        return Interactions(rng.integers(0, n_users, n), rng.integers(0, n_items, n), None)

    split = Split("generated", n_users, n_items, part(sizes["train"]), part(sizes["valid"]), part(sizes["test"]))
    device = torch.device(run.device)
    model = runs.build_model(replace(run, backbone="NeuMF") if run.backbone == "NeuMF-pre" else run, split).to(device)

    def seconds(n_steps: int, n_valid: int) -> float:
        """Of some steps, on as many rows as they take, or in several passes over a part that has fewer."""
        n_rows = max(1, n_steps * run.batch_size // (1 + run.n_negatives))
        short = replace(split, train=split.train[slice(0, n_rows)], valid=split.valid[slice(0, n_valid)])
        steps_of_a_pass = math.ceil(len(short.train) * (1 + run.n_negatives) / run.batch_size)
        started = time.perf_counter()
        fit(
            model, short, methods.loss_of(run), epochs=math.ceil(n_steps / steps_of_a_pass), seed=0, batch_size=run.batch_size, lr=run.lr,
            n_negatives=run.n_negatives, eval_every=10**9, protocol=run.protocol, observed=split.train,
        )  # fmt: skip
        return time.perf_counter() - started

    few = run.batch_size
    seconds(2, few)
    short, long, validated = seconds(2, few), seconds(2 + N_TIMED, few), seconds(2, sizes["valid"])
    users = np.arange(min(N_RANKED, n_users))
    started = time.perf_counter()
    rank_items(model, users, split.matrix(split.train)[users], max(run.top_k))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "step": max(0.0, long - short) / N_TIMED,
        "validation": max(0.0, validated - short),
        "user": (time.perf_counter() - started) / len(users),
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "memory": peak if sys.platform == "darwin" else 1024 * peak,
    }


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
