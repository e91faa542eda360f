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

GROUP = ["part", "backbone", "what"]


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
        planned = grouped(parameters)
        middle = [list(group)[len(group) // 2 :][: options.of_each] for _, group in planned.groupby(GROUP)["run"]]
        done = map_runs([run for group in middle for run in group], label="a sample")
    planned["seconds"] = planned["run"].map({run.settings: run.info["seconds"]["total"] for run in done})
    table = planned.groupby(GROUP, sort=False)["seconds"].agg(**{"runs": "size", "a run, s": "mean"}).reset_index()
    table["all, min"] = table["runs"] * table["a run, s"] / 60
    n_jobs = joblib.cpu_count() // parameters.threads
    minutes = table.groupby("part", sort=False)["all, min"].sum() / n_jobs
    lines = [
        f"# What --full adds on {options.dataset}, estimated", "",
        f"{datetime.date.today()} · {n_jobs} runs side by side · {environment()['cpu']} · "
        f"{len(done)} of {len(planned)} runs were timed", "",
        table.round(1).to_markdown(index=False), "",
        *(f"- {part}: {n:.0f} minutes of training with {n_jobs} runs side by side" for part, n in minutes.items()),
    ]  # fmt: skip
    print("\n".join(lines))
    if options.save:
        (Path(__file__).parent / "results" / f"full-{options.dataset}.md").write_text(
            "\n".join(lines) + "\n", encoding="utf-8"
        )


def grouped(parameters: Parameters) -> pd.DataFrame:
    """``part, backbone, what, run``. Runs of the main table belong to no other part, though 05 records more of them."""
    main_table = plan(parameters.all_methods(), parameters)
    rows = [("main table", run.backbone, "all", run) for run in main_table]
    for part, study in (("05", diagnostics.planned), ("06", extra_feedback.strategy_plan)):
        others = [run for run in dict.fromkeys(study(parameters)) if replace(run, diagnostics=None) not in main_table]
        rows += [(part, run.backbone, _what(run), run) for run in others]
    return pd.DataFrame(rows, columns=[*GROUP, "run"])


def _what(run: Settings) -> str:
    if run.strategy or run.diagnostics:
        return run.strategy or "controls"
    return "sensitivity" if run.dose is None else "dose-response"


if __name__ == "__main__":
    main()
