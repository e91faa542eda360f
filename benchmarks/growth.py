"""How time and memory grow: one size is varied at a time over two orders of magnitude, on generated data.

    python benchmarks/growth.py [--backbone GMF] [--save]
    python benchmarks/growth.py --memory [--save]

Each point is a process of its own, so that its peak memory is its own; memory is what comes on top of Python and its
libraries. Prints the fitted exponents, the slope of log time against log size over the upper half of the sizes, where
fixed costs no longer hide it; ``--save`` writes benchmarks/results/growth-<backbone>.csv and .png.
``--memory`` measures the peak of whole processes at the sizes of the data sets instead, on generated data: 20 steps on
the rows of a whole epoch, an evaluation point, and a ranking; ``--save`` writes benchmarks/results/memory.md.
One thread, on the CPU.
"""

import argparse
import datetime
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from denoise_lib.data import Interactions, Split
from denoise_lib.evaluator import rank_items
from denoise_lib.losses import cross_entropy
from denoise_lib.models import CDAE, GMF, NeuMF
from denoise_lib.train import fit
from replication.runs.parameters import datasets, resolve
from replication.support.environment import environment

BASE = dict(users=10_000, items=10_000, interactions=300_000, dim=32)
GRIDS = dict(
    users=[1_000, 3_000, 10_000, 30_000, 100_000],
    items=[1_000, 3_000, 10_000, 30_000, 100_000],
    interactions=[30_000, 100_000, 300_000, 1_000_000, 3_000_000],
    dim=[4, 8, 16, 32, 64, 128, 256, 400],
)
N_RANKED = 1_000  # users; the time is for all, scaled


class Enough(Exception):
    """Ends a training that was wanted for its memory only."""


def generated(users: int, items: int, interactions: int, others: int = 2_000) -> Split:
    """Random interactions; ``others`` of them in each of valid and test."""
    rng = np.random.default_rng(0)
    rows = [Interactions(rng.integers(0, users, n), rng.integers(0, items, n)) for n in (interactions, others, others)]
    return Split("generated", users, items, *rows).without_duplicates()


def model_of(backbone: str, split: Split, dim: int):
    match backbone:
        case "GMF":
            return GMF(split.n_users, split.n_items, dim)
        case "NeuMF":
            return NeuMF(split.n_users, split.n_items, dim)
        case "CDAE":
            return CDAE(split.matrix(split.train), dim)


def peak_memory() -> int:
    """Bytes that this process held at most so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def point(backbone: str, users: int, items: int, interactions: int, dim: int) -> dict:
    """Seconds of an epoch and of ranking all users, and the peak memory in bytes."""
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports what the first optimizer of a process imports
    before = peak_memory()
    split = generated(users, items, interactions)
    model = model_of(backbone, split, dim)
    started = time.perf_counter()
    fit(model, split, lambda logits, labels, step: cross_entropy(logits, labels), epochs=1, seed=0, eval_every=10**9)
    epoch = time.perf_counter() - started
    some = np.arange(min(users, N_RANKED))
    started = time.perf_counter()
    rank_items(model, some, split.matrix(split.train)[some], 20)
    ranking = (time.perf_counter() - started) * users / len(some)
    return {"epoch": epoch, "ranking": ranking, "memory": peak_memory() - before}


def peak_at(backbone: str, users: int, items: int, interactions: int, others: int, dim: int) -> dict:
    """``memory``: the peak of the whole process in bytes."""
    torch.set_num_threads(1)
    split = generated(users, items, interactions, others)
    model = model_of(backbone, split, dim)

    def loss_fn(logits, labels, step):
        if step == 20:
            raise Enough
        return cross_entropy(logits, labels)

    try:
        fit(model, split, loss_fn, epochs=1, seed=0, eval_every=10)
    except Enough:
        some = np.arange(100)
        rank_items(model, some, split.matrix(split.train)[some], 20)
    return {"memory": peak_memory()}


def in_a_process(function, **arguments) -> dict:
    command = [sys.executable, __file__, "--point", json.dumps([function.__name__, arguments])]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(backbone: str) -> pd.DataFrame:
    """``varied, size`` and what :func:`point` gives, one row per point."""
    rows = []
    for varied, sizes in GRIDS.items():
        for size in sizes:
            measured = in_a_process(point, backbone=backbone, **BASE | {varied: size})
            rows.append({"varied": varied, "size": size, **measured})
            print(rows[-1], file=sys.stderr)
    return pd.DataFrame(rows)


def memory_table() -> pd.DataFrame:
    """Peak memory in GB of a run of each backbone at each data set's size, with the widths of its parameters."""
    table = {}
    for name in datasets():
        parameters = resolve(name)
        expected = parameters.expected
        n_train = expected.get("train") or round(0.8 * expected["interactions"])
        size = dict(users=expected["users"], items=expected["items"], interactions=n_train, others=n_train // 8)
        label = f"{name}: {size['users']:,} users x {size['items']:,} items, {size['interactions']:,} training rows"
        table[label] = {}
        for backbone in ("GMF", "NeuMF", "CDAE"):
            dim = parameters.hidden_dim if backbone == "CDAE" else parameters.dim
            table[label][backbone] = in_a_process(peak_at, backbone=backbone, dim=dim, **size)["memory"] / 1e9
            print(label, backbone, table[label][backbone], file=sys.stderr)
    return pd.DataFrame(table).T.rename_axis("peak memory of a run (GB)").round(2)


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of the logarithms over the upper half of each grid: ``varied`` x ``epoch, ranking, memory``."""
    slopes = {}
    for varied, rows in table.groupby("varied", sort=False):
        upper = np.log(rows.iloc[len(rows) // 2 :][["size", "epoch", "ranking", "memory"]])
        slopes[varied] = {name: np.polyfit(upper["size"], upper[name], 1)[0] for name in ("epoch", "ranking", "memory")}
    return pd.DataFrame(slopes).T.rename_axis("varied").round(2)


def figure(table: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Time and memory against each size, on logarithmic axes."""
    labels = {"epoch": "an epoch (s)", "ranking": "ranking all users (s)", "memory": "memory on top (GB)"}
    drawn = Figure(figsize=(12, 7), layout="constrained")
    axes = drawn.subplots(len(labels), len(GRIDS), sharey="row")
    for line, (name, label) in zip(axes, labels.items()):
        line[0].set_ylabel(label)
        for axis, (varied, rows) in zip(line, table.groupby("varied", sort=False)):
            axis.loglog(rows["size"], rows[name] / (1e9 if name == "memory" else 1), "o-", color="#0072B2")
            axis.set_title(f"exponent {slopes.loc[varied, name]:.2f}", fontsize=9)
            axis.grid(alpha=0.25, which="both")
            axis.set_xlabel(varied if name == "memory" else "")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="GMF", choices=["GMF", "NeuMF", "CDAE"])
    parser.add_argument("--save", action="store_true", help="writes benchmarks/results/growth-<backbone>.csv and .png")
    parser.add_argument("--memory", action="store_true", help="the peak memory at the data sets' sizes")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        name, arguments = json.loads(options.point)
        print(json.dumps({"point": point, "peak_at": peak_at}[name](**arguments)))
        return
    results = Path(__file__).parent / "results"
    if options.memory:
        text = memory_table().to_markdown()
        print(text)
        if options.save:
            about = f"{datetime.date.today()} · {environment()['cpu']}, one thread"
            (results / "memory.md").write_text(f"# Memory\n\n{about}\n\n{text}\n", encoding="utf-8")
        return
    table = measure(options.backbone)
    slopes = exponents(table)
    print(slopes.to_markdown())
    if options.save:
        file = results / f"growth-{options.backbone.lower()}"
        table.to_csv(f"{file}.csv", index=False)
        figure(table, slopes).savefig(f"{file}.png", dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
