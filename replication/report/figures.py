"""Figures from tidy numbers: frames in, a ``Figure`` out."""

from collections.abc import Iterable
from itertools import cycle, product

import numpy as np
import pandas as pd
from matplotlib import rcdefaults
from matplotlib.figure import Figure

from replication.methods import METHODS
from replication.methods.colliding import SPACES
from replication.methods.known_positives import STRATEGIES
from replication.methods.method import Style
from replication.report.tables import changed, with_cell, with_metric
from replication.runs.store import Run

rcdefaults()  # figures are alike whatever the user's matplotlibrc says

# Okabe and Ito's colours, told apart by colour-blind readers; the line styles and markers do it in grey.
STYLES = {
    **{name: method.style for name, method in METHODS.items()},
    **STRATEGIES,
    **{f"colliding inference ({space})": style for space, style in SPACES.items()},
    "plain": Style("#000000", "8"),
    "true positives": Style("#0072B2", "1"),
    "false positives": Style("#D55E00", "2", "--"),
    "at random (expected)": Style("#777777", "3", ":"),
    "ours": Style("#000000", "o"),
    "published": Style("#D55E00", "D", "--"),
    "nominal": Style("#999999", "+", ":"),
    "reached": Style("#0072B2", "."),
}
OTHERS = [  # for a user's methods, and for further lines of one method
    Style("#7B3294", "d", (0, (4, 2))),
    Style("#8C510A", "H", (0, (6, 1))),
    Style("#01665E", "8", (0, (2, 2))),
]


def styles_of(lines: Iterable[str]) -> dict[str, Style]:
    """Each line's style: that of its name, or of the part before a comma unless another line has it, or one of the
    others, which begin again where there are too few."""
    styles, others = {}, cycle(OTHERS)
    for name in lines:
        style = STYLES.get(name) or STYLES.get(name.split(",")[0])
        styles[name] = next(others) if style is None or style in styles.values() else style
    return styles


def facets(points: pd.DataFrame, row: str, column: str, xlabel: str, height: float = 2.3, **shared) -> tuple:
    """A figure with a panel for each value of two columns of the points; and a list of (axes, points) of each panel.
    Columns have their value above them, rows theirs at the left."""
    rows, columns, each = points[row].unique(), points[column].unique(), []
    figure = Figure(figsize=(1.2 + 3.1 * len(columns), 0.7 + height * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False, **shared)
    for (in_row, in_column), axis in zip(product(rows, columns), axes.flat):
        axis.set_title(in_column if in_row == rows[0] else "", fontsize=10)
        axis.set_ylabel(in_row if in_column == columns[0] else "")
        axis.set_xlabel(xlabel if in_row == rows[-1] else "")
        axis.grid(alpha=0.25)
        each.append((axis, points[(points[row] == in_row) & (points[column] == in_column)]))
    return figure, each


def _with_legend(figure: Figure) -> Figure:
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def histories(runs: list[Run]) -> pd.DataFrame:
    """The evaluation points of all runs: ``backbone, method, seed, selected`` and the columns of ``history.csv``."""
    frames = [with_cell(run, run.history).assign(selected=run.history["step"] == run.selected_step) for run in runs]
    return pd.concat(frames, ignore_index=True)


def curves(points: pd.DataFrame, rows: dict[str, str], column: str = "backbone", line: str = "method") -> Figure:
    """Columns of :func:`histories` (``rows``: column -> label) against steps: a panel per label and value of
    ``column``, a line per value of ``line``. Thin lines are seeds, a thick one their mean, dots the steps kept."""
    kept = dict.fromkeys(["backbone", "method", "seed", "step", "selected", line])
    tidy = points.rename(columns=rows).melt(list(kept), list(rows.values()), "measured")
    if column != "backbone":  # then a row for each backbone
        tidy["measured"] = tidy["backbone"] + ": " + tidy["measured"]
    figure, each = facets(tidy, "measured", column, "optimizer step", sharex="col")
    styles = styles_of(tidy[line].unique())
    for axis, panel in each:
        for name, group in panel.groupby(line, sort=False):
            look = dict(color=styles[name].color, linestyle=styles[name].linestyle)
            for _, seed in group.groupby("seed", dropna=False):
                axis.plot(seed["step"], seed["value"], color=look["color"], linewidth=0.5, alpha=0.35)
            selected, mean = group[group["selected"]], group.groupby("step")["value"].mean()
            axis.plot(selected["step"], selected["value"], "o", color=look["color"], markersize=3.5, zorder=3)
            axis.plot(mean.index, mean, label=name, linewidth=1.6, **look)
    return _with_legend(figure)


def panels(
    points: pd.DataFrame, *, x: str, line: str, column: str, row: str, xlabel: str, named: bool = False,
    ordered: bool = True, one_scale: bool = True, zero: float | None = None,
) -> Figure:  # fmt: skip
    """Means with their intervals ``mean, low, high``, or without, against ``x``: a line per value of ``line``, a panel
    per value of ``column`` and ``row``, whose values label the vertical axes.

    Args:
        x: a column of numbers with bands around the lines, or with ``named`` of names with error bars.
        ordered: False for names without an order, which no line joins; they are written upright.
        one_scale: whether the panels of a row share the vertical axis.
        zero: height of a thin horizontal line.
    """
    figure, each = facets(points, row, column, xlabel, sharey="row" if one_scale else False)
    styles = styles_of(points[line].unique())
    side = min(0.25, 0.06 * (len(styles) - 1)) if named else 0  # lines stand side by side at each name
    for axis, panel in each:
        names = list(panel[x].unique())
        for aside, (name, style) in zip(np.linspace(-side, side, len(styles)), styles.items()):
            drawn, look = panel[panel[line] == name], dict(color=style.color, label=name)
            look |= dict(linestyle=style.linestyle if ordered else "none")
            if named:
                look |= dict(marker=style.marker, markersize=4, linewidth=1, capsize=2)
                errors = [drawn["mean"] - drawn["low"], drawn["high"] - drawn["mean"]]
                axis.errorbar([names.index(value) + aside for value in drawn[x]], drawn["mean"], errors, **look)
            else:
                axis.plot(drawn[x], drawn["mean"], linewidth=1.5, **look)
                if "low" in drawn:
                    axis.fill_between(drawn[x], drawn["low"], drawn["high"], color=style.color, alpha=0.15, linewidth=0)
        if named:
            texts = [name if isinstance(name, str) else f"{name:g}" for name in names]
            axis.set_xticks(range(len(names)), texts, fontsize=8)
            axis.set_xlim(-0.5, len(names) - 0.5)
        if zero is not None:
            axis.axhline(zero, color="#999999", linewidth=0.8)
        if not ordered:
            axis.tick_params("x", labelrotation=90, labelbottom=panel[row].iloc[0] == points[row].iloc[-1])
    return _with_legend(figure)


def change_figure(table: pd.DataFrame) -> Figure:
    """The change against CE with its 95 % interval: a panel per metric and K, a line per backbone and method."""
    rows = with_metric(changed(table)).assign(row="")
    lines, styles = (rows["backbone"] + " " + rows["method"]).unique(), styles_of(rows["method"].unique())
    figure, each = facets(rows, "row", "measured", "method − CE", height=0.32 * len(lines), sharey=True)
    for axis, panel in each:
        halves = (panel["change_high"] - panel["change"]).fillna(0)
        for place, (method, change, half) in enumerate(zip(panel["method"], panel["change"], halves)):
            axis.errorbar(change, -place, xerr=half, fmt=styles[method].marker, color=styles[method].color, capsize=3)
        axis.axvline(0, color="black", linewidth=1)
        axis.grid(visible=False, axis="y")
        axis.locator_params(axis="x", nbins=4)
        axis.set(ylim=(0.5 - len(lines), 0.5), yticks=-np.arange(len(lines)), yticklabels=lines)
    return figure
