"""Takes the processor time of training with dense Adam and with LazyAdam side by side, and prints the tables.

    python benchmarks/optimizer.py [yelp] [adressa] [--steps 100] [--epochs] [--save]

``dense`` is fused Adam, with a large table's gradient kept from step to step and the rows of a batch added into it;
``torch`` and ``numba`` are LazyAdam's two forms. All get the same batches and take turns, so that other work on the
machine falls on each. A step is timed after the first 197, in which LazyAdam moves all rows as dense Adam does. An
epoch is one of ``fit`` over 280,000 training rows, with negatives and a validation at every 100th step. Data as in
speed.py: a data set where it is prepared, else generated data of its size in which an item's popularity falls with
its rank. One thread, on the CPU. ``--save`` writes benchmarks/results/optimizer-<machine>.md. Set the allocator's
variables as run_all.sh does: ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000``.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date
from unittest.mock import patch

import numba
import numpy as np
import torch
from speed import BATCH, arguments, batch_of, models, seconds, show, split_of
from torch import nn

from denoise_lib import optimizer, train
from denoise_lib.losses import cross_entropy
from denoise_lib.optimizer import LARGE, optimizer_for
from replication.support.environment import environment

WARM_UP = 210  # steps
TURN = 10  # steps of one form before the next one's turn
EPOCH_ROWS = 280_000
PARTS = ("catch-up", "forward", "backward", "update")


class Dense:
    """Fused Adam; the gradients of large tables are kept."""

    def __init__(self, model: nn.Module, lr: float):
        self.adam, self.kept = torch.optim.Adam(model.parameters(), lr=lr, fused=True), {}
        self.zero_grad, self.state_dict = self.adam.zero_grad, self.adam.state_dict

    def step(self) -> None:
        for parameter in self.adam.param_groups[0]["params"]:
            if parameter.grad.is_sparse:
                rows, values = parameter.grad._indices()[0], parameter.grad._values()
                gradient, written = self.kept.get(parameter) or (torch.zeros_like(parameter), rows[:0])
                gradient.index_fill_(0, written, 0).index_add_(0, rows, values)
                self.kept[parameter], parameter.grad = (gradient, rows), gradient
        self.adam.step()


@contextmanager
def dense(model: nn.Module, make, batch_size: int, lr: float) -> Iterator[Dense]:
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings > LARGE * batch_size]
    for table in tables:
        table.sparse = True
    torch.set_flush_denormal(True)
    yield Dense(model, lr)
    for table in tables:
        table.sparse = False


FORMS = {"dense": dense, "torch": optimizer_for, "numba": optimizer_for}


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--steps", type=int, default=100, help="timed steps of each form (default: %(default)s)")
    parser.add_argument("--epochs", action="store_true", help="times epochs too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = f"torch {torch.__version__} · numba {numba.__version__}"
    about = f"{date.today()} · {environment()['cpu']} · {versions} · one thread · processor time"
    lines = [f"{about} · medians of {options.steps} steps"]
    for size in options.size:
        split, origin = split_of(size)
        lines += ["", f"## {size}: {split.n_users:,} users, {split.n_items:,} items, batches of {BATCH} ({origin})", ""]
        lines.append(f"| step | dense / numba | dense / torch | dense | torch | numba | {' | '.join(PARTS)} (numba) |")
        lines.append("|---" + "|---:" * 9 + "|")
        for name, make in models(split).items():
            parts = step_parts(make, split, options.steps)
            plain, operations, loops = (statistics.median(map(sum, parts[form])) for form in FORMS)
            shares = [statistics.median(part) for part in zip(*parts["numba"])]
            times = [f"{1000 * value:.2f} ms" for value in (plain, operations, loops, *shares)]
            lines.append(f"| {name} | {plain / loops:.1f} | {plain / operations:.1f} | {' | '.join(times)} |")
            print(lines[-1], flush=True)
        lines += ["", "| epoch | second: dense / numba | first: dense / numba | dense | numba, first | second |"]
        lines.append("|---" + "|---:" * 5 + "|")
        for name, make in models(split).items() if options.epochs else ():
            first, second, lazy_first, lazy = epochs(make, split)
            times = " | ".join(map(seconds, (second, lazy_first, lazy)))
            lines.append(f"| {name} | {second / lazy:.1f} | {first / lazy_first:.1f} | {times} |")
            print(lines[-1], flush=True)
    name = f"optimizer {environment()['cpu']}" if options.save else None
    show(lines, "Dense Adam at the cost of the rows that are read", name)


def step_parts(make, split, n_steps: int) -> dict[str, list[np.ndarray]]:
    """For each form, the processor seconds of the parts of each step."""
    rng, loops, parts = np.random.default_rng(0), optimizer._loops, {form: [] for form in FORMS}
    trained = {form: make().train() for form in FORMS}
    with ExitStack() as stack:
        adams = {form: stack.enter_context(FORMS[form](trained[form], None, BATCH, 0.001)) for form in FORMS}
        for turn in range((WARM_UP + n_steps) // TURN):
            batches = [batch_of(split, rng) for _ in range(TURN)]
            for form in FORMS if turn > WARM_UP // TURN - 2 else ("torch", "numba"):  # dense needs little warming up
                with patch.object(optimizer, "_loops", loops if form == "numba" else lambda: None):
                    spent = [_step(trained[form], adams[form], *batch) for batch in batches]
                parts[form] += spent if turn >= WARM_UP // TURN else []
    return parts


def _step(model: nn.Module, adam, users, items, labels) -> np.ndarray:
    caught_up, catch_up = [], optimizer.LazyAdam._catch_up
    with patch.object(optimizer.LazyAdam, "_catch_up", lambda *given: caught_up.append(timed(catch_up, *given))):
        clock = [time.process_time()]
        loss = cross_entropy(model(users, items), labels)
        clock.append(time.process_time())
    loss.backward()
    clock.append(time.process_time())
    adam.step()
    adam.zero_grad()
    clock.append(time.process_time())
    forward, backward, update = np.diff(clock)
    return np.array([sum(caught_up), forward - sum(caught_up), backward, update])


def timed(function, *arguments, **keywords) -> float:
    """Processor seconds of a call."""
    started = time.process_time()
    function(*arguments, **keywords)
    return time.process_time() - started


def epochs(make, split) -> list[float]:
    """Processor seconds of the first and the second epoch: with dense Adam, then with LazyAdam."""
    few, rows_of, found = replace(split, train=split.train[:EPOCH_ROWS]), train._epoch_rows, []
    for form in ("dense", "numba"):
        starts = []
        noted = lambda *given: starts.append(time.process_time()) or rows_of(*given)  # noqa: E731
        loss_fn = lambda logits, labels, step: cross_entropy(logits, labels)  # noqa: E731
        with patch.object(train, "optimizer_for", FORMS[form]), patch.object(train, "_epoch_rows", noted):
            train.fit(make(), few, loss_fn, epochs=2, seed=0, batch_size=BATCH)
        found += np.diff([*starts, time.process_time()]).tolist()
    return found


if __name__ == "__main__":
    main()
