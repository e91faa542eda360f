"""Shows what the default job spends its processor time on: a run of each backbone by its parts, then the notebooks.

    python benchmarks/shares.py [ml100k] [--method CE] [--repeats 3] [--notebooks] [--save]

Of each part the least time of the repeats is shown: other work on the machine only ever adds to it. ``--notebooks``
executes those of the default job too, in a copy of the home (``DENOISE_HOME``), whose runs must be finished; ``--save``
writes benchmarks/results/shares-<dataset>.md.
Set the allocator's variables as run_all.sh does: ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000``.
"""

import argparse
import datetime
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch

from denoise_lib import train
from replication.app.cli import MAIN
from replication.app.notebooks import execute
from replication.runs import measure, recipe
from replication.runs.parameters import resolve
from replication.runs.settings import Settings, plan
from replication.sources import public
from replication.support import paths
from replication.support.environment import environment

PARTS = {  # what is timed, by the part that it belongs to; whatever it calls belongs to it too
    "negatives and shuffling": (train, "_epoch_rows"),
    "backward": (torch.Tensor, "backward"),
    "optimizer": (torch.optim.Adam, "step"),
    "validation": (train, "_valid_loss"),
    "ranking at the points": (measure, "evaluate"),
    "final ranking": (recipe, "final_metrics"),
}


class Clock:
    """Processor seconds by part; what happens outside of all parts is ``the rest``."""

    def __init__(self):
        self.seconds, self.part, self.since = Counter(), "the rest", time.process_time()

    def enter(self, part: str) -> None:
        now = time.process_time()
        self.seconds[self.part] += now - self.since
        self.part, self.since = part, now

    def timed(self, part: str, function: Callable) -> Callable:
        def wrapper(*arguments, **keywords):
            if self.part != "the rest":
                return function(*arguments, **keywords)
            self.enter(part)
            try:
                return function(*arguments, **keywords)
            finally:
                self.enter("the rest")

        return wrapper


def parts_of(run: Settings) -> Counter:
    """Trains and evaluates a run: processor seconds by part."""
    split, clock = public.load(run.dataset), Clock()
    loss_and_values = recipe.loss_and_values

    def timed_loss(*arguments):
        loss, values = loss_and_values(*arguments)
        return clock.timed("loss", loss), values

    backbone = type(recipe.build_model(run, recipe.split_for(run)))
    with ExitStack() as patches:
        for part, (owner, name) in {**PARTS, "forward": (backbone, "forward")}.items():
            patches.enter_context(patch.object(owner, name, clock.timed(part, getattr(owner, name))))
        patches.enter_context(patch.object(recipe, "loss_and_values", timed_loss))
        recipe.train(run, split)
    clock.enter("the rest")
    return clock.seconds


def table_of_runs(runs: list[Settings], repeats: int) -> pd.DataFrame:
    """Seconds, and shares of the whole in percent, of each part (rows) of a run of each backbone."""
    columns = {}
    for run in runs:
        seconds = pd.DataFrame([parts_of(run) for _ in range(repeats)]).min()
        columns[run.backbone] = seconds
        columns[f"{run.backbone}, %"] = 100 * seconds / seconds.sum()
    table = pd.DataFrame(columns)
    table = table.loc[list(dict.fromkeys(["forward", "loss", "backward", "optimizer", *PARTS, "the rest"]))]
    table.loc["all"] = table.sum()
    return table.rename_axis("part")


def table_of_notebooks(dataset: str) -> pd.DataFrame:
    """Processor and elapsed seconds of starting a process that computes runs, and of each notebook with its kernel."""
    imports = [sys.executable, "-c", "import replication.runs.compute"]
    rows = [_spent("start of a process", lambda: subprocess.run(imports, check=True))]
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree(paths.home(), home, dirs_exist_ok=True)
        with patch.dict(os.environ, DENOISE_HOME=home):
            for name in MAIN:
                target = Path(home, f"{name}.ipynb")
                values = {"dataset": dataset, "changes": {}}
                rows.append(_spent(name, lambda: execute(paths.NOTEBOOKS[name], target, values)))
    return pd.DataFrame(rows).set_index("what")


def _spent(what: str, work: Callable) -> dict:
    def processor() -> float:
        spent = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in spent)

    before, started = processor(), time.perf_counter()
    work()
    return {"what": what, "processor": processor() - before, "elapsed": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="ml100k")
    parser.add_argument("--method", default="CE")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--notebooks", action="store_true", help="the notebooks too; the home's runs must be finished")
    parser.add_argument("--save", action="store_true", help="writes benchmarks/results/shares-<dataset>.md")
    options = parser.parse_args()
    runs = {run.backbone: run for run in reversed(plan([options.method], resolve(options.dataset)))}
    lines = [
        f"# Where a run of {options.dataset} with {options.method} spends its time", "",
        f"{datetime.date.today()} · {environment()['cpu']} · torch {torch.__version__} · one thread · "
        f"processor seconds, least of {options.repeats}", "",
        table_of_runs(list(runs.values())[::-1], options.repeats).round(2).to_markdown(),
    ]  # fmt: skip
    if options.notebooks:
        lines += ["", table_of_notebooks(options.dataset).round(1).to_markdown()]
    print("\n".join(lines))
    if options.save:
        (Path(__file__).parent / "results" / f"shares-{options.dataset}.md").write_text(
            "\n".join(lines) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
