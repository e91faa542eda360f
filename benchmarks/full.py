"""Estimates what ``run_all.sh --full`` adds to ``run_all.sh``: trains a sample of the runs, as many side by side as it would.

    python benchmarks/full.py [ml100k] [--of-each 1] [--save]

The runs are grouped by backbone and by what they are for; ``--of-each`` of every group are trained in an empty home, and their
mean time stands for the group. ``--save`` writes benchmarks/results/full-<dataset>.md.
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

from denoise_lib import extra_studies, params, paths, runs, studies
from denoise_lib.environment import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="ml100k")
    parser.add_argument("--of-each", type=int, default=1, help="runs of each group that are trained (default: 1)")
    parser.add_argument("--save", action="store_true", help="writes benchmarks/results/full-<dataset>.md")
    options = parser.parse_args()
    values = params.read(options.dataset)
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree(paths.data(options.dataset), Path(home, "data", options.dataset))
        os.environ["DENOISE_HOME"] = home
        groups = grouped(values)
        sample = [run for group in groups.values() for run in group[len(group) // 2 :][: options.of_each]]
        seconds = {run.settings: run.info["seconds"]["total"] for run in runs.map_runs(sample, label="a sample")}
    table = estimate(groups, seconds)
    n_jobs = joblib.cpu_count() // values["threads"]
    lines = [
        f"# What --full adds on {options.dataset}, estimated", "",
        f"{datetime.date.today()} · {n_jobs} runs side by side · {environment()['cpu']} · {len(seconds)} of {table['runs'].sum()} runs were timed", "",
        table.round(1).to_markdown(index=False), "",
        *says(table, n_jobs),
    ]  # fmt: skip
    print("\n".join(lines))
    if options.save:
        (Path(__file__).parent / "results" / f"full-{options.dataset}.md").write_text("\n".join(lines) + "\n")


def grouped(values: dict) -> dict[tuple[str, str, str], list[runs.Settings]]:
    """(part, backbone, what) -> its runs. Those of the main table are no part of the others, though 05 records more of them."""
    main_table = runs.plan(runs.METHODS, **params.of_runs(values))
    groups: dict = {}
    for run in main_table:
        groups.setdefault(("main table", run.backbone, "all"), []).append(run)
    for part, planned in (("05", studies.planned(values)), ("06", extra_studies.strategy_plan(values))):
        for run in dict.fromkeys(planned):
            if replace(run, diagnostics=None) in main_table:
                continue
            what = run.strategy or ("controls" if run.diagnostics else "dose-response" if run.dose is not None else "sensitivity")
            groups.setdefault((part, run.backbone, what), []).append(run)
    return groups


def estimate(groups: dict, seconds: dict[runs.Settings, float]) -> pd.DataFrame:
    """A row for each group: how many runs, the mean time of those that were timed, and all of them one after another."""
    rows = []
    for (part, backbone, what), group in groups.items():
        timed = [seconds[run] for run in group if run in seconds]
        mean = sum(timed) / len(timed)
        rows.append({"part": part, "backbone": backbone, "what": what, "runs": len(group), "a run, s": mean, "all, min": mean * len(group) / 60})
    return pd.DataFrame(rows)


def says(table: pd.DataFrame, n_jobs: int) -> list[str]:
    minutes = table.groupby("part", sort=False)["all, min"].sum() / n_jobs
    return [f"- {part}: {total:.0f} minutes of training with {n_jobs} runs side by side" for part, total in minutes.items()]


if __name__ == "__main__":
    main()
