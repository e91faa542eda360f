"""Times this code on a GPU beside one thread of the CPU: epochs and rankings, and prints the table.

    python benchmarks/gpu.py [ml100k] [yelp] [--repeats 3] [--save]

Sizes and data as in speed.py; an epoch of Yelp's size is timed on a part of its rows and scaled, and so are its
rankings on the CPU. ``--save`` writes benchmarks/results/<gpu>.md.
"""

import datetime

import numpy as np
import torch
from speed import K, arguments, median, models, one_epoch, seconds, show, split_of

from denoise_lib.evaluator import evaluate, ranking_task
from replication.support.environment import environment

MOST_ROWS = 100_000  # an epoch is timed on so many rows
MOST_USERS = 100  # and a longer ranking on the CPU on so many users


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    torch.set_num_threads(1)
    about = environment()
    machine = f"{about['gpu']} · {about['cpu']}, one thread · torch {torch.__version__}"
    lines = [f"{datetime.date.today()} · {machine} · medians of {options.repeats}", ""]
    for size in options.size:
        lines += measure(size, options.repeats)
    show(lines, "Speed on a GPU", about["gpu"] if options.save else None)


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


def finished(device: str, function, *arguments) -> None:
    """Calls the function and waits until the device has done what it was given."""
    function(*arguments)
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
