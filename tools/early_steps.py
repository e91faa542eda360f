"""How far CE, T-CE and R-CE of one seed are one run, as early as the published NeuMF runs on Adressa were selected.

    python tools/early_steps.py

With one seed the three losses share initial weights and draws. Trains NeuMF for one epoch with each loss and three
seeds, the other settings those of params/adressa.yaml, and ranks for 2,000 test users at each evaluation point. Writes
results/adressa/tables/early_steps.csv|md, and the runs' records.
"""

import argparse

import pandas as pd

from replication.methods import PAPER
from replication.report.publish import publish_table
from replication.report.tables import METRIC_NAMES, PAPER_METRICS, with_cell
from replication.runs.map import map_runs
from replication.runs.parameters import resolve
from replication.runs.settings import plan
from replication.runs.store import Run, keep_record

STEPS = [100, 200]  # of 100, 200 and 100 are the published CE, T-CE and R-CE
CHANGES = dict(backbones=["NeuMF"], seeds=[1, 2, 3], epochs=1, test_curve=True, curve_users=2_000, device="cpu")


def spreads(done: list[Run], ks: list[int]) -> pd.DataFrame:
    """One row per step and metric: each method's mean over seeds, and differences, as root mean squares: that of T-CE
    and of R-CE to CE of the same seed, and ``two seeds``, that between two seeds of one method."""
    curves = pd.concat([with_cell(run, run.history) for run in done])
    names = {f"{metric}_{k}_test": f"{METRIC_NAMES[metric]}@{k}" for metric in PAPER_METRICS for k in ks}
    tidy = curves[curves["step"].isin(STEPS)].melt(["step", "method", "seed"], list(names), "measured")
    tidy["measured"] = tidy["measured"].map(names)
    keys, rms = ["step", "measured"], lambda values: (values**2).groupby(keys, sort=False).mean() ** 0.5
    values = tidy.pivot_table("value", [*keys, "seed"], "method", sort=False)[list(PAPER)].rename_axis(columns=None)
    table = values.groupby(keys, sort=False).mean()
    for method in PAPER[1:]:
        table[f"{method} to CE"] = rms(values[method] - values["CE"])
    table["two seeds"] = rms(values.groupby(keys, sort=False).std().stack()) * 2**0.5
    return table.assign(seeds=values.groupby(keys, sort=False).size()).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, help="runs side by side (default: as many as fit)")
    parser.add_argument("--records-only", action="store_true", help="trains nothing, needs no data")
    asked = parser.parse_args()
    parameters = resolve("adressa", CHANGES)
    use_records = "only" if asked.records_only else True
    done = map_runs(plan(PAPER, parameters), asked.jobs or "auto", "early steps", use_records)
    for run in done:
        if not run.is_record:
            keep_record(run.settings)
    table = spreads(done, sorted(parameters.top_k))
    publish_table(table, "adressa", "early_steps", shown=table.round(4))
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
