"""Measures what the two protocols of DEVIATIONS.md (D3, D4, D6) change: authors minus corrected, paired by seed.

    python tools/protocols.py ml100k

Runs the data set's parameters once with each protocol (what is on disk is not computed again) and writes
results/<dataset>/tables/protocols.csv|md: differences of the test means with 95 % intervals, and mean selected steps.
"""

import argparse

import pandas as pd

from denoise_lib import params, report, runs
from denoise_lib.statistics import interval

CELL = ["backbone", "method", "metric", "k"]


def compare(by_protocol: dict[str, list[runs.Run]]) -> pd.DataFrame:
    """One row per backbone, method, metric and K, with the difference authors - corrected over common seeds."""
    values = {name: report.values_of(done).set_index([*CELL, "seed"])["value"] for name, done in by_protocol.items()}
    steps = {
        name: report.runs_table(done).groupby(["backbone", "method"])["selected_step"].mean()
        for name, done in by_protocol.items()
    }
    corrected = values["corrected"].groupby(CELL).mean()
    rows = []
    for cell, differences in (values["authors"] - values["corrected"]).dropna().groupby(CELL, sort=False):
        mean, low, high = interval(differences)
        row = dict(zip(CELL, cell)) | {"corrected": corrected[cell], "difference": mean, "low": low, "high": high}
        rows.append(row | {f"step_{name}": steps[name].loc[cell[:2]] for name in steps})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--backbones", nargs="+", help="a part of the data set's backbones")
    parser.add_argument("--jobs", type=int, default=None, help="runs side by side (default: as many as fit)")
    arguments = parser.parse_args()
    options = params.of_runs(params.read(arguments.dataset))
    if arguments.backbones:
        options["backbones"] = arguments.backbones
    done = {}
    for protocol in ("corrected", "authors"):
        # The test curve costs time and changes nothing; where the released runs have it, they are read as they are.
        curve = options["test_curve"] and protocol == options["protocol"]
        planned = runs.plan(runs.METHODS, **options | {"protocol": protocol, "test_curve": curve})
        done[protocol] = runs.map_runs(
            planned, arguments.jobs or "auto", label=f"protocol: {protocol}", use_records=True
        )
    table = compare(done)
    shown = table[table["metric"].isin(["recall", "ndcg"])]
    report.publish_table(table, arguments.dataset, "protocols", shown=shown.round(4))
    beyond = ((shown["low"] > 0) | (shown["high"] < 0)).sum()
    print(shown.round(4).to_string(index=False))
    print(f"\n{beyond} of {len(shown)} intervals (95 %, not corrected for their number) leave out 0")


if __name__ == "__main__":
    main()
