"""Figures from tidy numbers: frames in, a ``Figure`` out."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from denoise_lib.losses import drop_rate_at
from replication.methods import METHODS
from replication.methods.colliding import SPACES
from replication.methods.known_positives import STRATEGIES
from replication.methods.method import Style
from replication.report.tables import METRIC_NAMES, PAPER_METRICS
from replication.runs.recipe import n_steps
from replication.runs.settings import Settings
from replication.runs.store import Run

# Okabe and Ito's colours, told apart by colour-blind readers; the line styles and markers do it in grey.
STYLES = {
    **{name: method.style for name, method in METHODS.items()},
    **{name: strategy.style for name, strategy in STRATEGIES.items()},
    **{f"colliding inference ({space})": style for space, style in SPACES.items()},
    "plain": Style("#000000", "8"),
    "true positives": Style("#0072B2", "1"),
    "false positives": Style("#D55E00", "2", "--"),
    "at random (expected)": Style("#777777", "3", ":"),
}
OTHERS = [  # for a user's methods, and for further lines of one method
    Style("#7B3294", "d", (0, (4, 2))),
    Style("#8C510A", "4", (0, (6, 1))),
    Style("#01665E", "|", (0, (2, 2))),
    Style("#C51B7D", "_", (0, (1, 2))),
    Style("#4D4D4D", "x", (0, (5, 3))),
]


def histories(runs: list[Run]) -> pd.DataFrame:
    """The evaluation points of all runs: ``backbone, method, seed, selected`` and the columns of ``history.csv``."""
    return pd.concat(
        [
            run.history.assign(
                backbone=run.settings.backbone,
                method=run.settings.method,
                seed=run.settings.seed,
                selected=run.history["step"] == run.selected_step,
            )
            for run in runs
        ],
        ignore_index=True,
    )


def curves(points: pd.DataFrame, rows: dict[str, str]) -> Figure:
    """Columns of ``histories`` against steps: one panel per column (``rows``: column -> label) and backbone.

    A thin line is a seed, the thick one their mean, a dot the step whose weights the seed's run kept.
    """
    backbones, styles = points["backbone"].unique(), styles_of(points["method"].unique())
    figure = Figure(figsize=(1 + 3.1 * len(backbones), 0.6 + 2.3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(backbones), squeeze=False, sharex="col")
    for (column, label), line in zip(rows.items(), axes):
        line[0].set_ylabel(label)
        for backbone, axis in zip(backbones, line):
            panel = points[points["backbone"] == backbone]
            for method, group in panel.groupby("method", sort=False):
                style = styles[method]
                for _, seed in group.groupby("seed"):
                    axis.plot(seed["step"], seed[column], color=style.color, linewidth=0.5, alpha=0.35)
                    kept = seed[seed["selected"]]
                    axis.plot(kept["step"], kept[column], "o", color=style.color, markersize=3.5, zorder=3)
                mean = group.groupby("step")[column].mean()
                axis.plot(mean.index, mean, label=method, linewidth=1.6, color=style.color, linestyle=style.linestyle)
            axis.grid(alpha=0.25)
    for backbone, top, bottom in zip(backbones, axes[0], axes[-1]):
        top.set_title(backbone, fontsize=10)
        bottom.set_xlabel("optimizer step")
    axes[0, -1].legend(frameon=False)
    return figure


def panels(
    points: pd.DataFrame, *, x: str, line: str, column: str, row: str, xlabel: str, named: bool = False, ordered: bool = True,
    one_scale: bool = True, zero: float | None = None,
) -> Figure:  # fmt: skip
    """Means with their intervals ``mean, low, high`` against ``x``: a line per value of ``line``, a panel per value of
    ``column`` and ``row``, whose values label the vertical axes.

    Args:
        x: a column of numbers with bands around the lines, or with ``named`` of names at equal distances with error bars.
        ordered: False for names without an order, which no line joins; they are written upright.
        one_scale: whether the panels of a row share the vertical axis.
        zero: height of a thin horizontal line.
    """
    rows, columns, lines = (list(dict.fromkeys(points[of])) for of in (row, column, line))
    figure = Figure(figsize=(1.2 + 3.1 * len(columns), 0.7 + 2.3 * len(rows)), layout="constrained")
    styles = styles_of(lines)
    spread = min(0.5, 0.12 * (len(lines) - 1))  # lines side by side at each name
    for axes, in_row in zip(
        figure.subplots(len(rows), len(columns), squeeze=False, sharey="row" if one_scale else False), rows
    ):
        axes[0].set_ylabel(in_row)
        for axis, in_column in zip(axes, columns):
            panel = points[(points[row] == in_row) & (points[column] == in_column)]
            names = list(dict.fromkeys(panel[x]))
            for place, (name, style) in enumerate(styles.items()):
                drawn = panel[panel[line] == name]
                if named:
                    at = [names.index(value) + spread * (place / max(1, len(lines) - 1) - 0.5) for value in drawn[x]]
                    errors = [drawn["mean"] - drawn["low"], drawn["high"] - drawn["mean"]]
                    axis.errorbar(
                        at, drawn["mean"], errors, label=name, color=style.color, marker=style.marker, markersize=4,
                        linewidth=1, linestyle=style.linestyle if ordered else "none", capsize=2,
                    )  # fmt: skip
                else:
                    axis.plot(
                        drawn[x], drawn["mean"], label=name, linewidth=1.5, color=style.color, linestyle=style.linestyle
                    )
                    axis.fill_between(drawn[x], drawn["low"], drawn["high"], color=style.color, alpha=0.15, linewidth=0)
            if named:
                labels = [name if isinstance(name, str) else f"{name:g}" for name in names]
                axis.set_xticks(range(len(names)), labels, fontsize=8)
                if not ordered:
                    axis.tick_params("x", labelrotation=90, labelbottom=in_row == rows[-1])
                axis.set_xlim(-0.5, len(names) - 0.5)
            if zero is not None:
                axis.axhline(zero, color="#999999", linewidth=0.8)
            axis.grid(alpha=0.25)
            axis.set_title(in_column if in_row == rows[0] else "", fontsize=10)
            axis.set_xlabel(xlabel if in_row == rows[-1] else "")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def styles_of(lines: Iterable[str]) -> dict[str, Style]:
    """Each line's style: that of its name, or of the part before a comma unless another line has it, or one of the others."""
    styles: dict[str, Style] = {}
    for name in lines:
        style = STYLES.get(name) or STYLES.get(name.split(",")[0])
        if style is None or style in styles.values():
            style = next(other for other in OTHERS if other not in styles.values())
        styles[name] = style
    return styles


def with_published_points(points: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Our evaluation points and the published ones of the same backbones and methods, told apart by the column ``of``.
    The published selected step is that of the least validation loss."""
    theirs = published.merge(points[["backbone", "method"]].drop_duplicates())
    least = theirs.groupby(["backbone", "method"])["valid_loss"].transform("min")
    theirs = theirs.assign(selected=theirs["valid_loss"] == least, of="published")
    return pd.concat([points.assign(of="ours"), theirs], ignore_index=True)


def published_figure(points: pd.DataFrame, column: str, label: str) -> Figure:
    """Our curves of one column over the published ones, one panel per published backbone and method.

    Args:
        points: of :func:`with_published_points`.
        column: ``train_loss`` or ``valid_loss``.
        label: of the vertical axis.

    A thin line is a seed of ours, the black one their mean; dots are selected steps, theirs the least published loss.
    """
    ours_of, theirs_of = (
        dict(list(points[points["of"] == of].groupby(["backbone", "method"], sort=False)))
        for of in ("ours", "published")
    )
    n_rows = len({backbone for backbone, _ in theirs_of})
    n_columns = -(-len(theirs_of) // n_rows)
    figure = Figure(figsize=(1 + 3 * n_columns, 0.5 + 2.4 * n_rows), layout="constrained")
    for axis, ((backbone, method), theirs) in zip(
        figure.subplots(n_rows, n_columns, squeeze=False).flat, theirs_of.items()
    ):
        ours = ours_of[backbone, method]
        for _, seed in ours.groupby("seed"):
            axis.plot(seed["step"], seed[column], color="#666666", linewidth=0.4, alpha=0.5)
            kept = seed[seed["selected"]]
            axis.plot(kept["step"], kept[column], "o", color="black", markersize=3)
        mean = ours.groupby("step")[column].mean()
        axis.plot(mean.index, mean, color="black", linewidth=1.3, label="ours")
        axis.plot(theirs["step"], theirs[column], color="#D55E00", linewidth=1.3, linestyle="--", label="published")
        kept = theirs[theirs["selected"]]
        axis.plot(kept["step"], kept[column], "D", color="#D55E00", markersize=5)
        axis.set_title(f"{backbone} {method}", fontsize=10)
        axis.set_xlabel("optimizer step")
        axis.grid(alpha=0.25)
    figure.supylabel(label, fontsize=10)
    figure.axes[0].legend(frameon=False)
    return figure


def schedule_points(settings: list[Settings]) -> pd.DataFrame:
    """T-CE's drop rate against steps, ``backbone, step, drop_rate, reached``; each ramp is drawn to a third past its
    end or to the end of training, whichever is later."""
    frames = []
    for backbone, run in {run.backbone: run for run in settings if run.method == "T-CE"}.items():
        end = n_steps(run)
        last = max(end, int(run.method_options["ramp_steps"] * 4 / 3))
        steps = np.unique(np.linspace(0, last, 200).astype(int))
        rates = [drop_rate_at(step, **run.method_options) for step in steps]
        frames.append(pd.DataFrame(dict(backbone=backbone, step=steps, drop_rate=rates, reached=steps < end)))
    return pd.concat(frames, ignore_index=True)


def schedule_figure(points: pd.DataFrame) -> Figure:
    """Drop rate against steps, one panel per backbone: solid where training goes, dotted beyond its end."""
    backbones = points["backbone"].unique()
    figure = Figure(figsize=(1 + 3.1 * len(backbones), 2.7), layout="constrained")
    for backbone, axis in zip(backbones, figure.subplots(1, len(backbones), squeeze=False, sharey=True)[0]):
        panel = points[points["backbone"] == backbone]
        reached = panel[panel["reached"]]
        axis.plot(panel["step"], panel["drop_rate"], color="#999999", linestyle=":", label="nominal")
        axis.plot(reached["step"], reached["drop_rate"], color=STYLES["T-CE"].color, linewidth=2, label="reached")
        axis.set_title(
            f"{backbone}: reaches {reached['drop_rate'].max():.3g} of {panel['drop_rate'].max():.3g}", fontsize=10
        )
        axis.set_xlabel("optimizer step")
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylim(bottom=0)  # after the last line: a limit that is set ends the fitting of the shared axis
    figure.axes[0].set_ylabel("drop rate (share of the batch)")
    figure.axes[0].legend(frameon=False, loc="upper left")
    return figure


def weight_points(betas: Sequence[float]) -> pd.DataFrame:
    """R-CE's weight and weighted loss of a positive against its predicted probability: ``beta, p, weight, loss``."""
    p = np.linspace(0.001, 1, 500)
    return pd.concat(
        [pd.DataFrame(dict(beta=beta, p=p, weight=p**beta, loss=-(p**beta) * np.log(p))) for beta in betas],
        ignore_index=True,
    )


def weight_figure(points: pd.DataFrame) -> Figure:
    """R-CE's weight of a positive (left) and its weighted loss (right) against the predicted probability."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    greys = np.linspace(0.75, 0, points["beta"].nunique())
    for grey, (beta, line) in zip(greys, points.groupby("beta")):
        left.plot(line["p"], line["weight"], color=str(grey), label=f"β = {beta:g}" + (" (CE)" if beta == 0 else ""))
        right.plot(line["p"], line["loss"], color=str(grey))
        if beta > 0:
            right.plot(np.exp(-1 / beta), np.exp(-1) / beta, "o", color=str(grey), markersize=4)  # its peak
    left.set_ylabel("weight of a positive, $p^β$")
    right.set_ylabel("weighted loss, $-p^β\\,\\log p$")
    right.set_ylim(0, 4)
    for axis in (left, right):
        axis.set_xlabel("predicted probability p")
        axis.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=8)
    return figure


def change_figure(table: pd.DataFrame) -> Figure:
    """The change against CE with its 95 % interval: a panel per metric and K, a line per backbone and method."""
    rows = table[table["change"].notna() & table["metric"].isin(PAPER_METRICS)]
    panels, styles = list(rows.groupby(["metric", "k"], sort=False)), styles_of(rows["method"].unique())
    figure = Figure(figsize=(1.6 + 2.6 * len(panels), 0.9 + 0.32 * len(panels[0][1])), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, ((metric, k), panel) in zip(axes, panels):
        for place, row in enumerate(panel.itertuples()):
            half = 0 if pd.isna(row.change_high) else row.change_high - row.change
            style = styles[row.method]
            axis.errorbar(row.change, -place, xerr=half, fmt=style.marker, color=style.color, capsize=3)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_ylim(0.5 - len(panel), 0.5)
        axis.set_title(f"{METRIC_NAMES[metric]}@{k}", fontsize=10)
        axis.set_xlabel("method − CE")
        axis.grid(alpha=0.25, axis="x")
        axis.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(
        [-place for place in range(len(panels[0][1]))], panels[0][1]["backbone"] + " " + panels[0][1]["method"]
    )
    return figure


def heat_map(grid: pd.DataFrame, title: str) -> Figure:
    """Mean validation Recall of some runs for λ x |N_u|: a panel per space and backbone. A star marks the best point, a frame
    around λ = 1, where neighbours do not count, says that none is better than the plain model."""
    means = grid.groupby(["strategy", "backbone", "neighbours", "lambda"], sort=False)["value"].mean().reset_index()
    spaces, backbones = list(dict.fromkeys(means["strategy"])), list(dict.fromkeys(means["backbone"]))
    figure = Figure(figsize=(1 + 3.1 * len(backbones), 0.8 + 2.3 * len(spaces)), layout="constrained")
    for axes, space in zip(figure.subplots(len(spaces), len(backbones), squeeze=False), spaces):
        for axis, backbone in zip(axes, backbones):
            cells = means[(means["strategy"] == space) & (means["backbone"] == backbone)]
            cells = cells.pivot(index="neighbours", columns="lambda", values="value")
            drawn = axis.imshow(cells.to_numpy(), aspect="auto", origin="lower", cmap="cividis")
            row, column = np.unravel_index(cells.to_numpy().argmax(), cells.shape)
            if cells.columns[column] == 1:
                axis.add_patch(
                    Rectangle((column - 0.5, -0.5), 1, len(cells), fill=False, edgecolor="black", linewidth=3)
                )
            else:
                axis.plot(column, row, marker="*", color="white", markeredgecolor="black", markersize=12)
            axis.set_xticks(range(cells.shape[1]), [f"{own:g}" for own in cells.columns], fontsize=7)
            axis.set_yticks(range(len(cells)), cells.index, fontsize=7)
            axis.set_title(backbone if space == spaces[0] else "", fontsize=10)
            axis.set_xlabel("λ, weight of the own score" if space == spaces[-1] else "")
            if axis is axes[0]:
                axis.set_ylabel(f"space: {space.split('(')[1].rstrip(')')}\nnumber of neighbours", fontsize=9)
            figure.colorbar(drawn, ax=axis).ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    return figure
