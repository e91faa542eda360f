"""Draws the figure of the README from the released tables: docs/images/main_result.png, and a CSV of what is drawn.

python tools/main_result.py
"""

import argparse

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.report.figures import STYLES
from replication.report.published import published
from replication.report.verdicts import TITLES
from replication.support import paths

IMAGE = paths.PROJECT / "docs" / "images" / "main_result.png"
KEYS, MEASURED = ["backbone", "method"], "metric == 'recall' and k == 20"
OWN, SAME, PAPER = "each at the step of its own loss", "CE at the same step", "published (one run)"
GREY = STYLES["at random (expected)"].color
LOOKS = {OWN: (-0.1, 8), SAME: (0.22, 5), PAPER: (-0.34, 6)}  # distance from the middle of its line, size


def points() -> pd.DataFrame:
    """Changes of Recall@20 against CE: ``dataset, backbone, method, what, change, low, high, resolved``."""
    frames = []
    for dataset in ("adressa", "ml100k"):
        folder = paths.PROJECT / "results" / dataset / "tables"
        main = pd.read_csv(folder / "main.csv").query(MEASURED + " and change.notna()")
        main = main[[*KEYS, "change", "change_low", "change_high", "against_ce"]].set_axis(
            [*KEYS, "change", "low", "high", "outcome"], axis=1
        )
        frames.append(main.assign(dataset=dataset, what=OWN))
        if (folder / "same_step.csv").exists():
            same = pd.read_csv(folder / "same_step.csv").query(MEASURED)
            same = same[[*KEYS, "same_step", "same_step_low", "same_step_high", "at_same_step"]]
            frames.append(same.set_axis(main.columns, axis=1).assign(dataset=dataset, what=SAME))
        paper = published().query(f"dataset == @dataset and {MEASURED} and source != 'from memory'")
        paper = paper.pivot(index="backbone", columns="method", values="published")
        paper = paper.sub(paper.get("CE"), axis=0).drop(columns="CE", errors="ignore").stack().rename("change")
        frames.append(paper.reset_index().assign(dataset=dataset, what=PAPER))
    found = pd.concat(frames, ignore_index=True)
    found["resolved"] = found.pop("outcome").isin(["better", "worse"])
    return found[["dataset", *KEYS, "what", "change", "low", "high", "resolved"]]


def figure(drawn: pd.DataFrame) -> Figure:
    """A panel for each data set, a line for each backbone and method."""
    figure = Figure(figsize=(7.5, 5), layout="constrained", dpi=120)
    lines = drawn[KEYS].drop_duplicates().apply(tuple, axis=1).tolist()
    for axis, (dataset, panel) in zip(figure.subplots(1, 2, sharex=True, sharey=True), drawn.groupby("dataset")):
        axis.axvline(0, color="black", linewidth=1)
        for row in panel.itertuples():
            aside, size = LOOKS[row.what]
            color, marker = _look(row.what, row.method)
            bar = None if pd.isna(row.low) else [[row.change - row.low], [row.high - row.change]]
            look = dict(fmt=marker, color=color, markersize=size, markerfacecolor=color if row.resolved else "white")
            axis.errorbar(row.change, lines.index((row.backbone, row.method)) + aside, xerr=bar, **look)
        own = panel[panel["what"] == OWN]
        better, worse = [(own["resolved"] & (own["change"] * sign > 0)).sum() for sign in (1, -1)]
        axis.set_title(f"{TITLES[dataset]}\n{better} of {len(own)} better, {worse} worse", fontsize=12)
        axis.set_yticks(range(len(lines)), [" ".join(line) for line in lines], fontsize=12)
        axis.set_xlabel("change of Recall@20 against CE", fontsize=12)
        axis.tick_params("x", labelsize=11)
        axis.set_xticks([0, 0.02, 0.04])
        axis.grid(axis="x", alpha=0.25)
    axis.invert_yaxis()
    looks = {what: dict(zip(("color", "marker"), _look(what, "T-CE"))) for what in LOOKS}
    looks[PAPER]["markerfacecolor"] = "white"
    looks["hollow: not decided (Holm)"] = looks[OWN] | dict(markerfacecolor="white")
    handles = [Line2D([], [], linestyle="none", label=name, **look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    return figure


def _look(what: str, method: str) -> tuple[str, str]:
    """Colour and marker: the method's, grey where both are at one step, and a diamond for what was published."""
    if what == PAPER:
        return GREY, STYLES["published"].marker
    return STYLES[method].color if what == OWN else GREY, STYLES[method].marker


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    drawn = points()
    drawn.to_csv(IMAGE.with_suffix(".csv"), index=False)
    figure(drawn).savefig(IMAGE)


if __name__ == "__main__":
    main()
