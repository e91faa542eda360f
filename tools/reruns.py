"""Compares runs that were made twice: those of the main table with those of 05_diagnostics, which train the same way,
and with those under results/<dataset>/reruns, records that stand there for this comparison alone.

    python tools/reruns.py adressa

Writes results/<dataset>/tables/reruns.csv and .md: for each pair with the same settings, where each was made (processor
or GPU, commit), both selected steps, and how far the means of Recall and NDCG differ.
"""

import argparse
import json
import sys

import pandas as pd

from replication.report.publish import publish_table
from replication.report.tables import METRIC_NAMES, PAPER_METRICS
from replication.runs.parameters import datasets
from replication.support import paths

ELSEWHERE = ("diagnostics", "device", "threads", "test_curve")  # settings that do not decide what is trained


def record(folder) -> dict:
    """A record's settings, as a key, and what is compared."""
    info = json.loads((folder / "run.json").read_text())
    settings, environment = info["settings"], info["environment"]
    decides = {name: value for name, value in settings.items() if value not in (None, []) and name not in ELSEWHERE}
    means = pd.read_csv(folder / "metrics.csv").query("part == 'test' and users == 'all'")
    means = means[means["metric"].isin(PAPER_METRICS)]
    return {
        "key": json.dumps(decides, sort_keys=True),
        "again": bool(settings.get("diagnostics")) or folder.parent.name == "reruns",
        "run": f"{settings['backbone']} {settings['method']} seed {settings['seed']}",
        "made on": environment["gpu"] if settings["device"] == "cuda" else environment["cpu"],
        "commit": environment["commit"],
        "step": info["selected_step"],
        "means": {f"{METRIC_NAMES[row.metric]}@{row.k}": row.value for row in means.itertuples()},
    }


def compared(records: list[dict]) -> pd.DataFrame:
    """One row per run that was made twice; ``largest difference`` is over its means."""
    first = {one["key"]: one for one in records if not one["again"]}
    rows = []
    for again in records:
        if again["again"] and again["key"] in first:
            before = first[again["key"]]
            differences = {name: again["means"][name] - value for name, value in before["means"].items()}
            rows.append(
                {"run": again["run"], "made on": before["made on"], "again on": again["made on"]}
                | {"commits": f"{before['commit']}, {again['commit']}", "steps": f"{before['step']}, {again['step']}"}
                | {"largest difference": max(differences.values(), key=abs)} | differences
            )  # fmt: skip
    return pd.DataFrame(sorted(rows, key=lambda row: row["run"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=datasets())
    dataset = parser.parse_args().dataset
    folders = [paths.results(dataset) / name for name in ("records", "reruns")]
    table = compared([record(file.parent) for folder in folders for file in sorted(folder.glob("*/run.json"))])
    if table.empty:
        sys.exit(f"no run was made twice, of those in {' and '.join(map(paths.shown, folders))}")
    shown = table.map(lambda value: f"{value:+.5f}" if isinstance(value, float) else value)
    publish_table(table, dataset, "reruns", shown=shown)
    print(shown[["run", "made on", "again on", "steps", "largest difference"]].to_string(index=False))


if __name__ == "__main__":
    main()
