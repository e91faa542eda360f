"""Estimates what ``run_all.sh --full`` adds to ``run_all.sh``: trains a sample of the runs, side by side as it would.

    python benchmarks/full.py [ml100k] [--of-each 1] [--save]

The runs are grouped by backbone and by what they are for; ``--of-each`` of every group are trained in an empty home,
and their mean time stands for the group. ``--save`` writes benchmarks/results/full-<dataset>.md.
Set the allocator's variables as run_all.sh does: ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000``.
"""

import argparse
import datetime
import os
import shutil
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import joblib
import pandas as pd

from replication.runs.map import map_runs
from replication.runs.parameters import Parameters, datasets, resolve
from replication.runs.settings import Settings, plan
from replication.sources import public
from replication.studies import diagnostics, extra_feedback
from replication.support import paths
from replication.support.environment import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="ml100k", choices=datasets())
    parser.add_argument("--of-each", type=int, default=1, help="runs of each group that are trained (default: 1)")
    parser.add_argument("--save", action="store_true", help="writes benchmarks/results/full-<dataset>.md")
    options = parser.parse_args()
    parameters = resolve(options.dataset)
    public.ensure(options.dataset)
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree(paths.data(options.dataset), Path(home, "data", options.dataset))
        os.environ["DENOISE_HOME"] = home
        groups = grouped(parameters)
        sample = [run for group in groups.values() for run in group[len(group) // 2 :][: options.of_each]]
        seconds = {run.settings: run.info["seconds"]["total"] for run in map_runs(sample, label="a sample")}
    table = estimate(groups, seconds)
    n_jobs = joblib.cpu_count() // parameters.threads
    minutes = table.groupby("part", sort=False)["all, min"].sum() / n_jobs
    lines = [
        f"# What --full adds on {options.dataset}, estimated", "",
        f"{datetime.date.today()} · {n_jobs} runs side by side · {environment()['cpu']} · "
        f"{len(seconds)} of {table['runs'].sum()} runs were timed", "",
        table.round(1).to_markdown(index=False), "",
        *(f"- {part}: {n:.0f} minutes of training with {n_jobs} runs side by side" for part, n in minutes.items()),
    ]  # fmt: skip
    print("\n".join(lines))
    if options.save:
        (Path(__file__).parent / "results" / f"full-{options.dataset}.md").write_text("\n".join(lines) + "\n")


def grouped(parameters: Parameters) -> dict[tuple[str, str, str], list[Settings]]:
    """(part, backbone, what) -> its runs. Those of the main table belong to no other part, though 05 records more of
    them."""
    main_table = plan(parameters.all_methods(), parameters)
    groups = defaultdict(list)
    for run in main_table:
        groups["main table", run.backbone, "all"].append(run)
    for part, study in (("05", diagnostics.planned), ("06", extra_feedback.strategy_plan)):
        for run in dict.fromkeys(study(parameters)):
            if replace(run, diagnostics=None) not in main_table:
                controls = "controls" if run.diagnostics else None
                what = run.strategy or controls or ("sensitivity" if run.dose is None else "dose-response")
                groups[part, run.backbone, what].append(run)
    return groups


def estimate(groups: dict, seconds: dict[Settings, float]) -> pd.DataFrame:
    """A row for each group: its number of runs, the mean time of the timed ones, and that of all one after another."""
    rows = []
    for (part, backbone, what), group in groups.items():
        mean = pd.Series([seconds[run] for run in group if run in seconds]).mean()
        about = {"part": part, "backbone": backbone, "what": what, "runs": len(group)}
        rows.append(about | {"a run, s": mean, "all, min": mean * len(group) / 60})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
