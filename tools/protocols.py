"""Measures what the two protocols of DEVIATIONS.md (D3, D4, D6) change: authors minus corrected, paired by seed.

    python tools/protocols.py ml100k

Runs the data set's parameters once with each protocol (what is on disk is not computed again) and writes
results/<dataset>/tables/protocols.csv|md: differences of the test means with 95 % intervals, and mean selected steps.
"""

import argparse

import pandas as pd

from replication.methods import PAPER
from replication.methods.backbones import BACKBONES
from replication.report import statistics
from replication.report.publish import publish_table
from replication.report.tables import PAPER_METRICS, runs_table, values_of
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters, datasets, resolve
from replication.runs.settings import Settings, plan
from replication.runs.store import Run

CELL = ["backbone", "method", "metric", "k"]


def compare(by_protocol: dict[str, list[Run]]) -> pd.DataFrame:
    """One row per backbone, method, metric and K, with the difference authors - corrected over common seeds."""
    values = pd.concat([values_of(done).assign(protocol=name) for name, done in by_protocol.items()], ignore_index=True)
    is_base = values["protocol"] == "corrected"
    cells = statistics.compare(values, [*CELL, "protocol"], CELL, is_base).set_index(CELL)
    names = {"change": "difference", "change_low": "low", "change_high": "high"}
    table = cells[list(names)].rename(columns=names).dropna(how="all")
    table.insert(0, "corrected", values[is_base].groupby(CELL)["value"].mean())
    for name, done in by_protocol.items():
        steps = runs_table(done).groupby(CELL[:2])["selected_step"].mean()
        table = table.join(steps.rename(f"step_{name}"))
    return table.reset_index()


def planned(parameters: Parameters) -> dict[str, list[Settings]]:
    """The runs of each protocol. The test curve costs time and changes nothing; where the released runs have it, they
    are read as they are."""
    curve = {"corrected": False, "authors": False, parameters.protocol: parameters.test_curve}
    return {name: plan(PAPER, parameters.having(protocol=name, test_curve=each)) for name, each in curve.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=datasets())
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, help="a part of the data set's backbones")
    parser.add_argument("--jobs", type=int, help="runs side by side (default: as many as fit)")
    parser.add_argument("--records-only", action="store_true", help="trains nothing")
    asked = parser.parse_args()
    parameters = resolve(asked.dataset, {"backbones": asked.backbones} if asked.backbones else None)
    use_records = "only" if asked.records_only else True
    table = compare(
        {
            protocol: map_runs(runs, asked.jobs or "auto", f"protocol: {protocol}", use_records)
            for protocol, runs in planned(parameters).items()
        }
    )
    shown = table[table["metric"].isin(PAPER_METRICS)]
    publish_table(table, asked.dataset, "protocols", shown=shown.round(4))
    beyond = ((shown["low"] > 0) | (shown["high"] < 0)).sum()
    print(shown.round(4).to_string(index=False))
    print(f"\n{beyond} of {len(shown)} intervals (95 %, not corrected for their number) leave out 0")


if __name__ == "__main__":
    main()
