"""Times this code beside a plain loop and beside what the machine can do, and prints the table.

    python benchmarks/speed.py [ml100k] [yelp] [--repeats 5] [--save]

``ml100k`` is measured on its data where they are, else on generated data of that size; ``yelp`` on generated data of
Yelp's size, where epochs are timed on a part of the rows (with tables of full size) and scaled, and so are the rankings
of the plain loop and of NeuMF. ``--save`` writes benchmarks/results/<machine>.md.
Everything runs on one thread, on the CPU. Set the allocator's variables as run_all.sh does:
``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000``.
"""

import argparse
import datetime
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain
import torch

from denoise_lib.data import Interactions, Split
from denoise_lib.evaluator import evaluate, ranking_task
from denoise_lib.losses import cross_entropy
from denoise_lib.models import CDAE, GMF, NeuMF
from denoise_lib.optimizer import LARGE, optimizer_for
from denoise_lib.sampling import sample_negatives
from denoise_lib.train import fit, steps_per_epoch
from replication.sources import public
from replication.support.environment import environment

SIZES = {  # users, items, training rows
    "ml100k": (943, 1682, 80_000),
    "yelp": (45_548, 57_396, 1_672_520),
    "adressa": (212_231, 6_596, 419_491),
}
BATCH, K = 1024, 20
PLAIN_STEPS, PLAIN_USERS, PLAIN_ROWS = 200, 60, 200_000  # beyond these sizes the plain loop is timed on a part


def main() -> None:
    options = arguments(__doc__, repeats=5).parse_args()
    torch.set_num_threads(1)
    machine = environment()["cpu"]
    lines = [
        f"{datetime.date.today()} · {machine} · torch {torch.__version__} · one thread · medians of {options.repeats}"
    ]
    for size in options.size:
        lines += ["", *measure(size, options.repeats)]
    show(lines, "Speed", machine if options.save else None)


def arguments(doc: str, repeats: int) -> argparse.ArgumentParser:
    """What the benchmarks of speed understand."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("size", nargs="*", default=["ml100k"], help=f"of {', '.join(SIZES)} (default: ml100k)")
    parser.add_argument("--repeats", type=int, default=repeats, help="the median of so many is shown")
    parser.add_argument("--save", action="store_true", help="writes benchmarks/results/<machine>.md")
    return parser


def show(lines: list[str], title: str, machine: str | None) -> None:
    """Prints the lines; with the name of a machine, writes them to benchmarks/results/<machine>.md too."""
    print("\n".join(lines))
    if machine:
        file = Path(__file__).parent / "results" / f"{'-'.join(machine.lower().replace('(r)', '').split())}.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"# {title}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def split_of(size: str) -> tuple[Split, str]:
    """The data set, or a random one of its size, in which an item's popularity falls with its rank."""
    n_users, n_items, n_rows = SIZES[size]
    if public.is_prepared(size):
        return public.load(size), "its data"
    rng = np.random.default_rng(0)

    def part(n: int) -> Interactions:
        return Interactions(rng.integers(0, n_users, n), (n_items * rng.random(n) ** 2).astype(np.int64))

    split = Split(size, n_users, n_items, part(n_rows), part(n_rows // 8), part(n_rows // 8))
    return split.without_duplicates(), "generated"


def measure(size: str, repeats: int) -> list[str]:
    """The lines of one size's table."""
    split, origin = split_of(size)
    n_rows = len(split.train)
    n_steps = steps_per_epoch(n_rows, 1, BATCH)
    lines = [
        f"## {size}: {split.n_users:,} users, {split.n_items:,} items, {n_rows:,} training rows ({origin})",
        "",
        "| what | times faster than plain | ours | plain | floor | ours / floor |",
        "|---|---:|---:|---:|---:|---:|",
    ]

    def row(what: str, ours: float, plain_loop: float) -> None:
        lines.append(f"| {what} | {plain_loop / ours:.1f} | {seconds(ours)} | {seconds(plain_loop)} |  |  |")

    rng, observed = np.random.default_rng(0), split.matrix(split.train)
    negatives = median(repeats, sample_negatives, split.train.users, observed, 1, rng)
    row("negatives of an epoch", negatives, plain_negatives(split)[1])
    parts = []
    for name, make in models(split).items():
        part = split.train[:PLAIN_ROWS]
        epoch = median(repeats, one_epoch, make(), split, part) * n_rows / len(part)
        row(f"{name} epoch", epoch, plain_epoch(make, split, n_steps))
        model = make()
        step = step_parts(model, split, 60 if n_rows > PLAIN_ROWS else n_steps)
        floor = adam_floor(model, repeats) + gemm_floor(model, repeats)
        total = sum(step.values())
        lines.append(f"| {name} step | | {seconds(total)} | | {seconds(floor)} | {total / floor:.1f} |")
        parts.append(f"{name}: " + ", ".join(f"{part} {seconds(value)}" for part, value in step.items()))
    users = np.unique(split.test.users)
    for name, make in models(split).items():
        model = make().eval()
        sample = users if n_rows <= PLAIN_ROWS or name == "GMF" else users[:500]
        task = ranking_task(split, split.test[np.isin(split.test.users, sample)], [split.train, split.valid])
        ours = median(min(repeats, 3), evaluate, model, task, [K]) * len(users) / len(sample)
        few = users[:PLAIN_USERS] if n_rows > PLAIN_ROWS or name != "GMF" else users
        ranked = timed(plain.rank_and_measure, model, split, few, K)
        row(f"{name} ranking of {len(users):,} users", ours, ranked * len(users) / len(few))
    return [*lines, "", "Parts of a step: " + "; ".join(parts) + "."]


def models(split: Split) -> dict:
    interactions = split.matrix(split.train)
    return {
        "GMF": lambda: GMF(split.n_users, split.n_items),
        "NeuMF": lambda: NeuMF(split.n_users, split.n_items),
        "CDAE": lambda: CDAE(interactions),
    }


def one_epoch(model, split: Split, train: Interactions) -> None:
    """Trains on from wherever the model is: its initial weights are not part of an epoch."""
    few, loss_fn = replace(split, train=train, valid=split.valid[:BATCH]), lambda *batch: cross_entropy(*batch[:2])
    fit(model, few, loss_fn, epochs=1, seed=0, batch_size=BATCH, eval_every=10**9)


def plain_negatives(split: Split) -> tuple[plain.PlainDataset, float]:
    """The plain data set of at most ``PLAIN_ROWS`` rows, and the seconds in which it draws all negatives."""
    dataset = plain.PlainDataset(replace(split, train=split.train[:PLAIN_ROWS]))
    return dataset, timed(dataset.draw_negatives) * len(split.train) / len(dataset.positives)


def plain_epoch(make, split: Split, n_steps: int) -> float:
    """Seconds of the plain epoch; where it is long, its steps are scaled from ``PLAIN_STEPS``."""
    dataset, drawn = plain_negatives(split)
    started = time.perf_counter()
    done = plain.train_steps(make(), dataset, cross_entropy, BATCH, n_steps=PLAIN_STEPS)
    return drawn + (time.perf_counter() - started) * n_steps / done


def step_parts(model, split: Split, n_steps: int) -> dict[str, float]:
    """Mean seconds of the parts of a training step, as ``fit`` makes it."""
    rng = np.random.default_rng(0)
    parts = dict.fromkeys(("forward", "backward", "optimizer"), 0.0)
    warm_up = 200  # in its first 197 steps LazyAdam moves all rows
    model.train()
    with optimizer_for(model, None, BATCH, lr=0.001) as optimizer:
        for step in range(n_steps + warm_up):
            users, items, labels = batch_of(split, rng)
            clock = [time.perf_counter()]
            optimizer.zero_grad()
            loss = cross_entropy(model(users, items), labels)
            clock.append(time.perf_counter())
            loss.backward()
            clock.append(time.perf_counter())
            optimizer.step()
            clock.append(time.perf_counter())
            if step >= warm_up:
                for part, spent in zip(parts, np.diff(clock)):
                    parts[part] += spent / n_steps
    return parts


def batch_of(split: Split, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positives, and a negative for the user of each: users, items and labels."""
    rows = rng.integers(0, len(split.train), BATCH // 2)
    users = torch.from_numpy(np.tile(split.train.users[rows], 2))
    items = torch.from_numpy(np.concatenate([split.train.items[rows], rng.integers(0, split.n_items, BATCH // 2)]))
    return users, items, torch.arange(BATCH).lt(BATCH // 2).float()


def adam_floor(model, repeats: int) -> float:
    """Seconds to move what Adam must: it reads parameter, gradient and two moments and writes three of them. Of a large
    table it must move a batch's rows."""
    n = sum(w[:BATCH].numel() if len(w) > LARGE * BATCH else w.numel() for w in model.parameters())
    a, b, c = (torch.zeros(7 * n // 3) for _ in range(3))
    return median(repeats, torch.add, a, b, out=c)


def gemm_floor(model, repeats: int) -> float:
    """Seconds of the tower's matrix products: one forward and two backward for each layer; 0 without a tower."""
    total = 0.0
    for layer in [layer for layer in getattr(model, "hidden", []) if hasattr(layer, "weight")]:
        x, y, w = torch.zeros(BATCH, layer.in_features), torch.zeros(BATCH, layer.out_features), layer.weight.detach()
        total += sum(median(repeats, torch.mm, *pair) for pair in ((x, w.T), (y, w), (y.T, x)))
    return total


def median(repeats: int, function, *arguments, **keywords) -> float:
    """Seconds of a call; a first one, which warms up, does not count."""
    return statistics.median([timed(function, *arguments, **keywords) for _ in range(repeats + 1)][1:])


def timed(function, *arguments, **keywords) -> float:
    started = time.perf_counter()
    function(*arguments, **keywords)
    return time.perf_counter() - started


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.2f} ms"


if __name__ == "__main__":
    main()
