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

from denoise_lib import report, runs
from denoise_lib.statistics import holm

DATASET = "ml100k_sgdl"
EPOCHS = {"GMF": 50, "NeuMF": 30}
SEEDS = list(range(1, 13))
SETTINGS = dict(
    dataset=DATASET, protocol="authors", epochs=EPOCHS, batch_size=1024, lr=0.001, n_negatives=1, eval_every=100,
    top_k=[5, 20], test_curve=False, dim=32, n_layers=3, hidden_dim=200, corruption=0.5, max_drop_rate=0.1,
    ramp_steps=2000, beta=0.25, threads=1, device="cpu",
)  # fmt: skip
MAX_METRIC, MAX_STEP, MAX_CURVE = 0.03, 0.15, 0.05  # relative differences
CELL = ["backbone", "method"]


def planned(backbones=tuple(EPOCHS), seeds=tuple(SEEDS), **changed) -> list[runs.Settings]:
    """Our runs."""
    return runs.plan(runs.METHODS, **SETTINGS | dict(backbones=list(backbones), seeds=list(seeds)) | changed)


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
        row = dict(zip([*CELL, "metric", "k"], cell))
        row |= dict(
            ours=us.mean(), sd=us.std(), n=len(us), theirs=them.mean(), sd_theirs=them.std(), n_theirs=len(them)
        )
        rows.append(
            row | dict(difference=us.mean() / them.mean() - 1, p=stats.ttest_ind(us, them, equal_var=False).pvalue)
        )
    table = pd.DataFrame(rows)
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
    table = pd.read_csv(folder / "authors_runs.csv")
    metrics = table.melt([*CELL, "seed"], [f"{m}_{k}" for m in ("recall", "ndcg") for k in (5, 20)])
    metrics[["metric", "k"]] = metrics["variable"].str.split("_", expand=True)
    curve = pd.read_csv(folder / "authors_curves.csv").rename(columns={"valid_loss_sum": "valid_loss"})
    return metrics.astype({"k": int}), table, curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds authors_runs.csv and authors_curves.csv")
    parser.add_argument("--jobs", type=int, default=None, help="runs side by side (default: one per core)")
    arguments = parser.parse_args()
    their_metrics, their_runs, their_curves = read_theirs(arguments.folder)

    done = runs.map_runs(planned(), arguments.jobs or "auto", label="our runs")
    history = report.histories(done)
    metrics = compare_metrics(report.values_of(done), their_metrics)
    steps = compare_steps(report.runs_table(done), their_runs)
    curve = compare_curves(history, their_curves, steps)

    largest = curve[curve["compared"]].assign(largest=lambda rows: rows["difference"].abs()).groupby(CELL, sort=False)
    selection = steps.merge(largest["largest"].max().rename("largest_curve_difference").reset_index(), on=CELL)
    selection["differs"] |= selection["largest_curve_difference"] > MAX_CURVE
    note = f"theirs: {int(metrics['n_theirs'].max())} runs of the authors' code; ours: {len(SEEDS)} seeds, protocol: authors"
    report.publish_table(metrics.round(4), DATASET, "agreement", note)
    report.publish_table(selection.round(4), DATASET, "agreement_selection", note)
    report.publish_figure(
        curves_figure(curve), curve, DATASET, "agreement_curves", "Our mean validation loss over theirs"
    )
    print(metrics.round(4).to_string(), selection.round(4).to_string(), sep="\n\n")
    found = int(metrics["differs"].sum() + selection["differs"].sum())
    print(f"\n{len(metrics)} metrics, {len(selection)} selected steps and curves compared: {found} differ")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
