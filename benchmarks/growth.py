"""How time and memory grow: one size is varied at a time over two orders of magnitude, on generated data.

    python benchmarks/growth.py [--backbone GMF] [--save]

Each point is a process of its own, so that its peak memory is its own. Prints the fitted exponents, the slope of log time
against log size over the upper half of the sizes, where fixed costs no longer hide it; ``--save`` writes
benchmarks/results/growth-<backbone>.csv and .png. One thread, on the CPU.
"""

import argparse
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

BASE = dict(users=10_000, items=10_000, interactions=300_000, dim=32)
GRIDS = dict(
    users=[1_000, 3_000, 10_000, 30_000, 100_000],
    items=[1_000, 3_000, 10_000, 30_000, 100_000],
    interactions=[30_000, 100_000, 300_000, 1_000_000, 3_000_000],
    dim=[4, 8, 16, 32, 64, 128, 256, 400],
)
N_RANKED = 1_000  # users; the time is for all, scaled


def point(backbone: str, users: int, items: int, interactions: int, dim: int) -> dict:
    """Seconds of the negatives and of an epoch, of ranking all users, and the peak memory of this process in bytes."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = [Interactions(rng.integers(0, users, n), rng.integers(0, items, n)) for n in (interactions, 2_000, 2_000)]
    split = Split("generated", users, items, *rows).without_duplicates()
    model = {
        "GMF": lambda: GMF(users, items, dim),
        "NeuMF": lambda: NeuMF(users, items, dim),
        "CDAE": lambda: CDAE(split.matrix(split.train), dim),
    }[backbone]()
    started = time.perf_counter()
    fit(model, split, lambda logits, labels, step: cross_entropy(logits, labels), epochs=1, seed=0, eval_every=10**9)
    epoch = time.perf_counter() - started
    some = np.arange(min(users, N_RANKED))
    started = time.perf_counter()
    rank_items(model, some, split.matrix(split.train)[some], 20)
    ranking = (time.perf_counter() - started) * users / len(some)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"epoch": epoch, "ranking": ranking, "memory": peak if sys.platform == "darwin" else 1024 * peak}


def measure(backbone: str) -> pd.DataFrame:
    """``varied, size`` and what :func:`point` gives, one row per point."""
    rows = []
    for varied, sizes in GRIDS.items():
        for size in sizes:
            arguments = json.dumps({"backbone": backbone, **BASE, varied: size})
            found = subprocess.run([sys.executable, __file__, "--point", arguments], capture_output=True, text=True, check=True)
            rows.append({"varied": varied, "size": size, **json.loads(found.stdout)})
            print(rows[-1], file=sys.stderr)
    return pd.DataFrame(rows)


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of the logarithms over the upper half of each grid: ``varied`` x ``epoch, ranking, memory``."""
    slopes = {}
    for varied, rows in table.groupby("varied", sort=False):
        upper = np.log(rows.iloc[len(rows) // 2 :][["size", "epoch", "ranking", "memory"]])
        slopes[varied] = {name: np.polyfit(upper["size"], upper[name], 1)[0] for name in ("epoch", "ranking", "memory")}
    return pd.DataFrame(slopes).T.rename_axis("varied").round(2)


def figure(table: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Time and memory against each size, on logarithmic axes."""
    labels = {"epoch": "an epoch (s)", "ranking": "ranking all users (s)", "memory": "peak memory (GB)"}
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
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(point(**json.loads(options.point))))
        return
    table = measure(options.backbone)
    slopes = exponents(table)
    print(slopes.to_markdown())
    if options.save:
        file = Path(__file__).parent / "results" / f"growth-{options.backbone.lower()}"
        file.parent.mkdir(exist_ok=True)
        table.to_csv(f"{file}.csv", index=False)
        figure(table, slopes).savefig(f"{file}.png", dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
