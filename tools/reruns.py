"""Compares the runs of a release with those of the release before, whose records lie under results/<dataset>/reruns.

    python tools/reruns.py adressa

Writes results/<dataset>/tables/reruns.csv and .md: for each cell of the main table both means, how far they differ, the
standard deviation over the seeds of the release before, and how many of its runs selected the same step again.
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from replication.methods import METHODS
from replication.methods.backbones import BACKBONES
from replication.report.publish import publish_table
from replication.report.tables import METRIC_NAMES, PAPER_METRICS
from replication.runs.parameters import datasets
from replication.support import paths

ELSEWHERE = ("diagnostics", "device", "threads", "test_curve")  # settings that do not decide what is trained
CELL = ["backbone", "method", "metric", "k"]


def means(folder: Path) -> pd.DataFrame:
    """The test means of all records of a folder, a row per run and metric; ``run`` is what decides the training."""
    frames = []
    for file in sorted(folder.glob("*/run.json")):
        info = json.loads(file.read_text(encoding="utf-8"))
        if "settings" not in info:  # the record of something else
            continue
        used = {name: value for name, value in info["settings"].items() if value not in (None, [])}
        run = json.dumps({name: value for name, value in used.items() if name not in ELSEWHERE}, sort_keys=True)
        rows = pd.read_csv(file.with_name("metrics.csv")).query("part == 'test' and users == 'all'")
        names = {name: used[name] for name in ("backbone", "method")}
        frames.append(rows[rows["metric"].isin(PAPER_METRICS)].assign(run=run, step=info["selected_step"], **names))
    return pd.concat(frames) if frames else pd.DataFrame(columns=[*CELL, "run", "step", "value"])


def compared(before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """One row per cell, of the runs that are in both."""
    pairs = before.merge(now, on=["run", *CELL], suffixes=("_before", "_now"))
    order = [*BACKBONES, *METHODS]
    pairs = pairs.sort_values(CELL[:2], key=lambda names: names.map(order.index), kind="stable")
    pairs["change"], same = pairs["value_now"] - pairs["value_before"], pairs["step_now"] == pairs["step_before"]
    return pairs.assign(same=same).groupby(CELL, sort=False, as_index=False).agg(
        runs=("run", "size"), before=("value_before", "mean"), now=("value_now", "mean"), change=("change", "mean"),
        sd=("value_before", "std"), **{"same step": ("same", "sum")},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=datasets())
    dataset = parser.parse_args().dataset
    folders = [paths.results(dataset) / name for name in ("reruns", "records")]
    table = compared(*map(means, folders))
    if table.empty:
        sys.exit(f"no run was made twice, of those in {' and '.join(map(paths.shown, folders))}")
    shown = table.assign(metric=table["metric"].map(METRIC_NAMES) + "@" + table["k"].astype(str)).drop(columns="k")
    for name, form in {"before": "{:.4f}", "now": "{:.4f}", "change": "{:+.4f}", "sd": "{:.4f}"}.items():
        shown[name] = shown[name].map(form.format)
    publish_table(table, dataset, "reruns", shown=shown)
    print(shown.to_string(index=False))


if __name__ == "__main__":
    main()
