"""Compares this code with runs of the authors' code on the same data: do both draw from the same distribution?

    python tools/agreement.py <folder with authors_runs.csv and authors_curves.csv>

The data set, ml100k_sgdl, is a subset of MovieLens-100K in the authors' format; place its three files in
data/ml100k_sgdl/. Our runs follow ``protocol: authors`` with the settings of theirs and other seeds, 12 for each of the
six cells (GMF and NeuMF x CE, T-CE, R-CE). Writes results/ml100k_sgdl/tables/agreement*.csv|md and
figures/ml100k_sgdl/agreement_curves.*. Exit status 1 if a comparison finds a difference. Finished runs are kept.

Criteria, set before the runs were made:
  metrics         no difference above 3 % of theirs that Welch's test, Holm-corrected over the 24 comparisons, finds
  selected step   our mean within 15 % of theirs
  validation loss our mean curve within 5 % of theirs at each evaluation point up to their mean selected step
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from replication.methods import PAPER
from replication.report.figures import histories
from replication.report.publish import publish_figure, publish_table
from replication.report.statistics import holm
from replication.report.tables import runs_table, values_of
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters
from replication.runs.settings import plan
from replication.sources import public
from replication.support import paths

DATASET = "ml100k_sgdl"
OURS = Parameters(  # and the defaults of the others, with which their code was run as well
    dataset=DATASET, expected={}, backbones=["GMF", "NeuMF"], seeds=list(range(1, 13)), protocol="authors",
    epochs={"GMF": 50, "NeuMF": 30}, test_curve=False, ramp_steps=2000, device="cpu",
)  # fmt: skip
THEIRS = ("authors_runs.csv", "authors_curves.csv")
MAX_METRIC, MAX_STEP, MAX_CURVE = 0.03, 0.15, 0.05  # relative differences
CELL = ["backbone", "method"]


def compare_metrics(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """One row per backbone, method, metric and K: means, standard deviations over seeds, Welch's test, Holm-corrected.

    ``ours`` and ``theirs`` have columns ``backbone, method, metric, k, value``, one row per seed.
    """
    rows = []
    by_cell = dict(list(theirs.groupby([*CELL, "metric", "k"])))
    for cell, group in ours.groupby([*CELL, "metric", "k"], sort=False):
        if cell not in by_cell:
            continue
        us, them = group["value"], by_cell[cell]["value"]
        p = stats.ttest_ind(us, them, equal_var=False).pvalue
        of_ours, of_theirs = (values.agg(["mean", "std", "size"]) for values in (us, them))
        rows.append([*cell, *of_ours, *of_theirs, us.mean() / them.mean() - 1, p])
    columns = [*CELL, "metric", "k", "ours", "sd", "n", "theirs", "sd_theirs", "n_theirs", "difference", "p"]
    table = pd.DataFrame(rows, columns=columns).astype({"n": int, "n_theirs": int})
    table["p_holm"] = holm(table["p"])
    table["differs"] = (table["p_holm"] < 0.05) & (table["difference"].abs() > MAX_METRIC)
    return table


def compare_steps(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Mean selected step of each backbone and method, standard deviations and Welch's p; both frames have ``backbone,
    method, selected_step``. The bound is on the difference of means; p says what so few runs can tell."""
    steps = [frame.groupby(CELL, sort=False)["selected_step"] for frame in (ours, theirs)]
    columns = [values for group in steps for values in (group.mean(), group.std())]
    table = pd.concat(columns, axis=1, keys=["ours", "sd", "theirs", "sd_theirs"], join="inner")
    us, them = (dict(list(group)) for group in steps)
    table["p"] = [stats.ttest_ind(us[cell], them[cell], equal_var=False).pvalue for cell in table.index]
    table["difference"] = table["ours"] / table["theirs"] - 1
    return table.assign(differs=table["difference"].abs() > MAX_STEP).reset_index()


def compare_curves(ours: pd.DataFrame, theirs: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """Mean validation loss at each evaluation point up to their mean selected step; frames: ``backbone, method, step,
    valid_loss``; ``steps``: of :func:`compare_steps`."""
    means = [frame.groupby([*CELL, "step"], sort=False)["valid_loss"].mean() for frame in (ours, theirs)]
    table = pd.concat(means, axis=1, keys=["ours", "theirs"], join="inner").reset_index()
    table["difference"] = table["ours"] / table["theirs"] - 1
    table = table.merge(steps[[*CELL, "theirs"]].rename(columns={"theirs": "selected"}), on=CELL)
    table["compared"] = table["step"] <= table["selected"]
    return table.assign(differs=table["compared"] & (table["difference"].abs() > MAX_CURVE))


def curves_figure(table: pd.DataFrame) -> Figure:
    """Our mean validation curve over theirs, one panel per backbone and method."""
    cells = list(table.groupby(CELL, sort=False))
    figure = Figure(figsize=(9, 5), layout="constrained")
    for axis, ((backbone, method), curve) in zip(figure.subplots(2, (len(cells) + 1) // 2).flat, cells):
        axis.plot(curve["step"], curve["theirs"], color="#999999", linewidth=4, label="authors' code")
        axis.plot(curve["step"], curve["ours"], color="black", linewidth=1, label="ours")
        axis.axvline(curve["selected"].iloc[0], color="black", linestyle=":", linewidth=1)
        axis.set_title(f"{backbone} {method}", fontsize=10)
        axis.set_xlabel("optimizer step")
    figure.supylabel("own validation loss (sum of batch means)", fontsize=10)
    figure.axes[0].legend(frameon=False)
    return figure


def read_theirs(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Their metrics (tidy), selected steps and curves."""
    table, curve = (pd.read_csv(folder / name) for name in THEIRS)
    metrics = table.melt([*CELL, "seed"], [f"{m}_{k}" for m in ("recall", "ndcg") for k in (5, 20)])
    metrics[["metric", "k"]] = metrics["variable"].str.split("_", expand=True)
    return metrics.astype({"k": int}), table, curve.rename(columns={"valid_loss_sum": "valid_loss"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help=f"holds {' and '.join(THEIRS)}")
    parser.add_argument("--jobs", type=int, help="runs side by side (default: as many as fit)")
    parser.add_argument("--records-only", action="store_true", help="trains nothing, needs no data")
    arguments = parser.parse_args()
    needed = [arguments.folder / name for name in THEIRS]
    needed += [] if arguments.records_only else public.files_of(DATASET)
    if missing := [paths.shown(file) for file in needed if not file.is_file()]:
        parser.error(f"there is no {', no '.join(missing)}")
    their_metrics, their_runs, their_curves = read_theirs(arguments.folder)

    done = map_runs(
        plan(PAPER, OURS), arguments.jobs or "auto", "our runs", "only" if arguments.records_only else False
    )
    metrics = compare_metrics(values_of(done), their_metrics)
    steps = compare_steps(runs_table(done), their_runs)
    curve = compare_curves(histories(done), their_curves, steps)

    largest = curve[curve["compared"]].assign(largest=lambda rows: rows["difference"].abs()).groupby(CELL, sort=False)
    selection = steps.merge(largest["largest"].max().rename("largest_curve_difference").reset_index(), on=CELL)
    selection["differs"] |= selection["largest_curve_difference"] > MAX_CURVE
    seeds = f"theirs: {metrics['n_theirs'].max()} runs of the authors' code; ours: {len(OURS.seeds)} seeds"
    publish_table(metrics.round(4), DATASET, "agreement", f"{seeds}, protocol: authors")
    publish_table(selection.round(4), DATASET, "agreement_selection", f"{seeds}, protocol: authors")
    about = "Our mean validation loss over theirs"
    publish_figure(curves_figure(curve), curve, DATASET, "agreement_curves", about)
    print(metrics.round(4).to_string(), selection.round(4).to_string(), sep="\n\n")
    found = int(metrics["differs"].sum() + selection["differs"].sum())
    print(f"\n{len(metrics)} metrics, {len(selection)} selected steps and curves compared: {found} differ")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
