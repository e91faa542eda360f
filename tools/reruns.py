"""Compares runs that were made twice: those of the main table with those of 05_diagnostics, which train the same way, and with
those under results/<dataset>/reruns, records (run.json, history.csv, metrics.csv) that stand there for this comparison only.

    python tools/reruns.py adressa

Writes results/<dataset>/tables/reruns.csv and .md: for each pair with the same settings, where each was made (processor or GPU,
commit), both selected steps, and both means of Recall and NDCG.
"""

import argparse
import json

import pandas as pd

from denoise_lib import paths
from denoise_lib.report import METRIC_NAMES, PAPER_METRICS, publish_table

UNUSED = (None, [])
ELSEWHERE = ("diagnostics", "device", "threads", "test_curve")  # settings that do not decide what is trained


def record(folder) -> dict:
    """A record's settings, as a key, and what is compared."""
    info = json.loads((folder / "run.json").read_text())
    settings, environment = info["settings"], info["environment"]
    means = pd.read_csv(folder / "metrics.csv").query("part == 'test' and users == 'all'")
    means = means[means["metric"].isin(PAPER_METRICS)]
    return {
        "key": json.dumps(
            {
                name: settings[name]
                for name in sorted(settings)
                if settings[name] not in UNUSED and name not in ELSEWHERE
            }
        ),
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
    return pd.DataFrame(rows).sort_values("run", ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    files = [
        file for name in ("records", "reruns") for file in sorted((paths.results(dataset) / name).glob("*/run.json"))
    ]
    table = compared([record(file.parent) for file in files])
    shown = table.map(lambda value: f"{value:+.5f}" if isinstance(value, float) else value)
    publish_table(table, dataset, "reruns", shown=shown)
    print(shown[["run", "made on", "again on", "steps", "largest difference"]].to_string(index=False))


if __name__ == "__main__":
    main()
