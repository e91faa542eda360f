"""Times this code on a GPU beside one thread of the CPU: epochs and rankings; and dense Adam beside LazyAdam there.

    python benchmarks/gpu.py [ml100k] [adressa] [yelp] [--repeats 3] [--optimizers] [--save]

Sizes and data as in speed.py; an epoch of Yelp's size is timed on a part of its rows and scaled, and so are its
rankings on the CPU. ``--optimizers`` times steps of the two optimizers on the GPU alone, after the 197 steps in which
LazyAdam moves all rows. ``--save`` writes benchmarks/results/<gpu>.md, or optimizer-<gpu>.md.
"""

import datetime

import numpy as np
import torch
from speed import BATCH, K, arguments, batch_of, median, models, one_epoch, seconds, show, split_of
from torch import nn

from denoise_lib.evaluator import evaluate, ranking_task
from denoise_lib.losses import cross_entropy
from denoise_lib.optimizer import LazyAdam
from replication.support.environment import environment

MOST_ROWS = 100_000  # an epoch is timed on so many rows
MOST_USERS = 100  # and a longer ranking on the CPU on so many users
WARM_UP, STEPS = 210, 100


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--optimizers", action="store_true", help="times steps of dense Adam and LazyAdam instead")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    torch.set_num_threads(1)
    about = environment()
    machine = f"{about['gpu']} · {about['cpu']}, one thread · torch {torch.__version__}"
    lines = [f"{datetime.date.today()} · {machine} · medians of {options.repeats}", ""]
    for size in options.size:
        lines += (optimizers if options.optimizers else measure)(size, options.repeats)
    title, name = "Speed on a GPU", about["gpu"]
    if options.optimizers:
        title, name = "Dense Adam and LazyAdam on a GPU", f"optimizer {name}"
    show(lines, title, name if options.save else None)


def measure(size: str, repeats: int) -> list[str]:
    """The lines of one size's table."""
    split, origin = split_of(size)
    n_rows = len(split.train)
    part = split.train[:MOST_ROWS]
    users = np.unique(split.test.users)
    lines = [f"## {size}: {split.n_users:,} users, {split.n_items:,} items, {n_rows:,} training rows ({origin})", ""]
    lines += ["| what | times faster on the GPU | GPU | CPU |", "|---|---:|---:|---:|"]
    for name, make in models(split).items():
        epochs, rankings = [], []
        for device in ("cuda", "cpu"):
            model = make().to(device)
            epochs.append(median(repeats, finished, device, one_epoch, model, split, part) * n_rows / len(part))
            sample = users if device == "cuda" or n_rows <= MOST_ROWS else users[:MOST_USERS]
            task = ranking_task(split, split.test[np.isin(split.test.users, sample)], [split.train, split.valid])
            rankings.append(median(repeats, finished, device, evaluate, model, task, [K]) * len(users) / len(sample))
        for what, (gpu, cpu) in ((f"{name} epoch", epochs), (f"{name} ranking of {len(users):,} users", rankings)):
            lines.append(f"| {what} | {cpu / gpu:.1f} | {seconds(gpu)} | {seconds(cpu)} |")
    return [*lines, ""]


def optimizers(size: str, repeats: int) -> list[str]:
    """The lines of one size's table of optimizers."""
    split, origin = split_of(size)
    batches = [[column.to("cuda") for column in batch_of(split, rng)] for rng in map(np.random.default_rng, range(STEPS))]
    lines = [f"## {size}: {split.n_users:,} users, {split.n_items:,} items, batches of {BATCH} ({origin})", ""]
    lines += ["| step | LazyAdam / dense | dense | LazyAdam |", "|---|---:|---:|---:|"]
    for name, make in models(split).items():
        spent = []
        for lazy in (False, True):
            model = make().to("cuda").train()
            for table in model.modules():
                if isinstance(table, nn.Embedding | nn.EmbeddingBag):
                    table.sparse = lazy
            adam = LazyAdam(model) if lazy else torch.optim.Adam(model.parameters(), fused=True)
            for start in range(0, WARM_UP, STEPS):
                take_steps(model, adam, batches[: WARM_UP - start])
            spent.append(median(repeats, finished, "cuda", take_steps, model, adam, batches) / STEPS)
        lines.append(f"| {name} | {spent[1] / spent[0]:.1f} | {seconds(spent[0])} | {seconds(spent[1])} |")
    return [*lines, ""]


def take_steps(model: nn.Module, adam: torch.optim.Optimizer, batches: list) -> None:
    for users, items, labels in batches:
        adam.zero_grad()
        cross_entropy(model(users, items), labels).backward()
        adam.step()


def finished(device: str, function, *arguments) -> None:
    """Calls the function and waits until the device has done what it was given."""
    function(*arguments)
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
