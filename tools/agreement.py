"""Compares this code with runs of the authors' code on the same data: do both draw from the same distribution?

    python tools/agreement.py <folder with authors_runs.csv, authors_curves.csv, both with _more, and same_draws.csv>

The data set, ml100k_sgdl, is a subset of MovieLens-100K in the authors' format. Our runs follow ``protocol: authors``
with the settings of theirs and other seeds, 12 for each of six cells (GMF and NeuMF x CE, T-CE, R-CE); those that are
neither on disk nor among the records are trained, for which its three files lie in data/ml100k_sgdl/. Of theirs there
are three in each cell, and ten more of NeuMF with T-CE and R-CE, which have selection and curves, no test metrics.
Writes results/ml100k_sgdl/tables/agreement*.csv|md and same_draws.csv|md and figures/ml100k_sgdl/agreement_curves.*.

Two questions for each number. Does ours *differ*? Is it *equivalent*, the 90 % interval of our relative difference
within 4 % on both sides (two one-sided tests at 5 %)? Where neither is so, the runs cannot tell. It differs where

  metrics          Welch's test, Holm-corrected over the 24 of them, finds a difference, and it is above 3 % of theirs
  selected step    our mean is not within 15 % of theirs
  validation loss  our mean is not within 5 % of theirs at the selected step, or at a point up to their mean one

These bounds were set before our runs were made. That of the step is too narrow for three runs of theirs, as it turned
out: ``chance_of_three`` says how often two samples of one code break a bound, 12 runs against three, ``chance`` with
as many as there are. Exit status 1 if anything differs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from replication.methods import PAPER
from replication.report.figures import histories
from replication.report.publish import publish_figure, publish_table
from replication.report.statistics import holm
from replication.report.tables import values_of
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters
from replication.runs.settings import plan

DATASET = "ml100k_sgdl"
OURS = Parameters(  # and the defaults of the others, with which their code was run as well
    dataset=DATASET, expected={}, backbones=["GMF", "NeuMF"], seeds=list(range(1, 13)), protocol="authors",
    epochs={"GMF": 50, "NeuMF": 30}, test_curve=False, ramp_steps=2000, device="cpu",
)  # fmt: skip
MAX_METRIC, EQUIVALENT = 0.03, 0.04  # relative differences
STEP, LOSS = "selected step", "validation loss there"
BOUNDS = {STEP: 0.15, LOSS: 0.05}
CELL = ["backbone", "method"]
DRAWS = (
    "validation loss of fit, given weights and draws of a run of the authors' code, relative to that of the run; "
    "both made for this project, on one machine"
)


def compare(ours: pd.DataFrame, theirs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per group of ``keys`` that both have, of a column ``value`` with a row per run: ``ours, sd, n, theirs,
    sd_theirs, n_theirs``; ``difference`` of the means and the 90 % interval ``low, high`` of Welch's test, all as
    shares of their mean; ``p``; ``equivalent``, whether that interval lies within ±4 %."""
    rows, by_cell = [], {cell: group["value"] for cell, group in theirs.groupby(keys)}
    for cell, group in ours.groupby(keys, sort=False):
        if cell not in by_cell:
            continue
        us, them = group["value"], by_cell[cell]
        test = stats.ttest_ind(us, them, equal_var=False)
        limits = np.array(test.confidence_interval(0.9)) / them.mean()
        described = [number for values in (us, them) for number in (values.mean(), values.std(), len(values))]
        rows.append([*cell, *described, us.mean() / them.mean() - 1, *limits, test.pvalue])
    columns = ["ours", "sd", "n", "theirs", "sd_theirs", "n_theirs", "difference", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=[*keys, *columns])
    return table.assign(equivalent=(table["low"] > -EQUIVALENT) & (table["high"] < EQUIVALENT))


def compare_metrics(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """:func:`compare` of every cell, metric and K, with Holm's correction over the table."""
    table = compare(ours, theirs, [*CELL, "metric", "k"])
    table["p_holm"] = holm(table["p"])
    return table.assign(differs=(table["p_holm"] < 0.05) & (table["difference"].abs() > MAX_METRIC))


def compare_selection(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """:func:`compare` of every cell's selected step and the loss there, each with a ``bound`` on the means.

    ``difference_of_three`` is that to their first three runs, where ``is_first``; ``chance_of_three`` and ``chance``
    are those of :func:`by_chance` for three runs and for all.
    """
    keys = [*CELL, "quantity"]
    table = compare(ours, theirs, keys)
    of_three = compare(ours, theirs[theirs["is_first"]], keys)
    table["bound"] = table["quantity"].map(BOUNDS)
    table["differs"] = table["difference"].abs() > table["bound"]
    table["difference_of_three"] = of_three["difference"]
    values = [group["value"].to_numpy() for _, group in ours.groupby(keys, sort=False)]
    for name, sizes in (("chance_of_three", of_three["n_theirs"]), ("chance", table["n_theirs"])):
        table[name] = list(map(by_chance, values, sizes, table["bound"]))
    return table


def by_chance(ours: np.ndarray, n_theirs: int, bound: float, n_draws: int = 20_000) -> float:
    """How often the mean of as many runs as ours is further than ``bound`` from that of ``n_theirs``, relative to it,
    when both are runs of one code: drawn from ours, with replacement."""
    rng = np.random.default_rng(0)
    us, them = (rng.choice(ours, (n_draws, n_runs)).mean(axis=1) for n_runs in (len(ours), n_theirs))
    return float((np.abs(us / them - 1) > bound).mean())


def compare_curves(ours: pd.DataFrame, theirs: pd.DataFrame, selected: pd.DataFrame) -> pd.DataFrame:
    """:func:`compare` of the validation loss at every evaluation point; ``compared`` up to their mean selected step,
    the column ``theirs`` of ``selected``, a row per cell."""
    table = compare(ours, theirs, [*CELL, "step"])
    table = table.merge(selected[[*CELL, "theirs"]].rename(columns={"theirs": "selected"}), on=CELL)
    table["compared"] = table["step"] <= table["selected"]
    return table.assign(differs=table["compared"] & (table["difference"].abs() > BOUNDS[LOSS]))


def of_curves(points: pd.DataFrame) -> pd.DataFrame:
    """A row per cell: the largest difference, limit below and above over the points that are compared, and whether the
    curves are equivalent at all of them, which needs no correction."""
    rows = points[points["compared"]].assign(largest_difference=points["difference"].abs()).groupby(CELL, sort=False)
    columns = dict(largest_difference="max", low="min", high="max", differs="any", equivalent="all")
    return rows.size().rename("points").to_frame().join(rows.agg(columns)).reset_index()


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The same for readers: mean ± standard deviation (runs), and relative differences in percent."""
    forms = dict.fromkeys(("difference", "largest_difference", "low", "high", "difference_of_three"), "{:+.1%}".format)
    forms |= dict(p="{:.4f}".format, p_holm="{:.4f}".format, chance="{:.2f}".format, chance_of_three="{:.2f}".format)
    forms |= dict.fromkeys(("differs", "equivalent"), {True: "yes", False: "no"}.get)
    shown = table.assign(**{name: table[name].map(form) for name, form in forms.items() if name in table})
    for code, sd, n in (("ours", "sd", "n"), ("theirs", "sd_theirs", "n_theirs")):
        if code in table:
            cells = zip(table[code], table[sd], table[n])
            shown[code] = [
                f"{mean:.4g} ± {float(f'{deviation:.2g}'):g} ({n_runs})" for mean, deviation, n_runs in cells
            ]
    shown["low"] += " to " + shown.pop("high")
    shown = shown.drop(columns=["sd", "n", "sd_theirs", "n_theirs", "bound"], errors="ignore")
    return shown.rename(columns={"low": "90 % interval"}).rename(columns=lambda name: name.replace("_", " "))


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
    """Their test metrics, selections and curves, tidy with a column ``value``."""
    runs = pd.concat([pd.read_csv(folder / f"authors_runs{more}.csv") for more in ("", "_more")])
    curves = pd.concat([pd.read_csv(folder / f"authors_curves{more}.csv") for more in ("", "_more")])
    metrics = runs.melt([*CELL, "seed"], [f"{m}_{k}" for m in ("recall", "ndcg") for k in (5, 20)]).dropna()
    metrics[["metric", "k"]] = metrics["variable"].str.split("_", expand=True)
    runs = runs.assign(is_first=runs["recall_5"].notna()).rename(columns={"selected_valid_loss": "valid_loss"})
    return metrics.astype({"k": int}), selections(runs), curves.rename(columns={"valid_loss_sum": "value"})


def selections(runs: pd.DataFrame) -> pd.DataFrame:
    """The columns ``selected_step`` and ``valid_loss`` of runs as rows, with their names in ``quantity``."""
    named = runs.rename(columns={"selected_step": STEP, "valid_loss": LOSS})
    return named.melt(named.columns.intersection([*CELL, "seed", "is_first"]), [STEP, LOSS], "quantity")


def publish_same_draws(folder: Path) -> None:
    """The table of runs that share weights and draws: for readers, the relative differences alone."""
    table = pd.read_csv(folder / "same_draws.csv")
    shown = table.pivot(index="step", columns="method", values="relative_difference")
    shown = shown.map(lambda value: f"{value:+.1e}" if value else "equal").add_prefix("relative difference, ")
    publish_table(table, DATASET, "same_draws", DRAWS, shown.rename_axis(columns=None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds the five files")
    parser.add_argument("--jobs", type=int, help="runs side by side (default: as many as fit)")
    parser.add_argument("--records-only", action="store_true", help="trains nothing, needs no data")
    arguments = parser.parse_args()
    try:
        their_metrics, their_selections, their_curves = read_theirs(arguments.folder)
        publish_same_draws(arguments.folder)
    except FileNotFoundError as error:
        parser.error(f"there is no {error.filename}")

    use_records = "only" if arguments.records_only else True
    done = map_runs(plan(PAPER, OURS), arguments.jobs or "auto", "our runs", use_records)
    curves = histories(done)
    metrics = compare_metrics(values_of(done), their_metrics)
    selection = compare_selection(
        selections(curves[curves["selected"]].rename(columns={"step": "selected_step"})), their_selections
    )
    points = compare_curves(
        curves.rename(columns={"valid_loss": "value"}), their_curves, selection.query("quantity == @STEP")
    )
    along = of_curves(points)

    tables = {"agreement": metrics, "agreement_selection": selection, "agreement_curves": along}
    for name, table in tables.items():
        publish_table(
            table, DATASET, name, "ours: protocol: authors; differences are relative to theirs", readable(table)
        )
        print(table.round(4).to_string(), end="\n\n")
    publish_figure(curves_figure(points), points, DATASET, "agreement_curves", "Our mean validation loss over theirs")
    differing = {name: int(table["differs"].sum()) for name, table in tables.items()}
    print(", ".join(f"{name}: {n} of {len(tables[name])} differ" for name, n in differing.items()))
    sys.exit(any(differing.values()))


if __name__ == "__main__":
    main()
