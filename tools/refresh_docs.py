"""Writes the pages that hold results or parameters anew: README.md, docs/parameters.md, docs/results_*.md and others.

python tools/refresh_docs.py

The texts are the templates replication/report/templates/*.md.j2; every number comes from a table under results/ or
benchmarks/results/.
"""

import argparse
from importlib.resources import files
from math import log, sqrt
from pathlib import Path

import jinja2
import pandas as pd
from scipy import stats

from replication.methods.backbones import BACKBONES
from replication.report.published import published, published_curves
from replication.report.tables import PAPER_METRICS
from replication.report.verdicts import TITLES
from replication.runs import parameters
from replication.support import paths

PAGES = {
    name.partition("/")[2] or name: paths.PROJECT / f"{name}.md"
    for name in (
        "README",
        "docs/agreement",
        "docs/parameters",
        "docs/results_adressa",
        "docs/results_ml100k",
        "docs/denoising",
        "docs/extra_feedback",
        "docs/performance",
    )
}
HEAD = (
    "<!-- Written by tools/refresh_docs.py from replication/report/templates/{}.md.j2; a test holds it to that. -->\n"
)


def table(dataset: str, name: str) -> pd.DataFrame:
    """A released table; of one with metrics, Recall and NDCG."""
    found = pd.read_csv(paths.PROJECT / "results" / dataset / "tables" / f"{name}.csv")
    return found[found["metric"].isin(PAPER_METRICS)] if "metric" in found else found


def shown(dataset: str, name: str) -> str:
    """The same as readers have it: the Markdown beside the CSV, without the note above it."""
    text = (paths.PROJECT / "results" / dataset / "tables" / f"{name}.md").read_text(encoding="utf-8").strip()
    return text[text.index("|") :]


def measured(name: str) -> str:
    """A page of benchmarks/results without its title, its headings a level lower."""
    text = (paths.PROJECT / "benchmarks" / "results" / f"{name}.md").read_text(encoding="utf-8").strip()
    return text.partition("\n")[2].strip().replace("\n## ", "\n### ")


def where(frame: pd.DataFrame, **values) -> pd.DataFrame:
    """The rows with these values; an error if there are none."""
    for column, value in values.items():
        frame = frame[frame[column].isin(value if isinstance(value, list) else [value])]
    if frame.empty:
        raise KeyError(f"no row with {values}")
    return frame


def one(frame: pd.DataFrame, column: str, **values):
    """The value of a column in the one row with these values."""
    (value,) = where(frame, **values)[column]
    return value


def n(frame: pd.DataFrame, column: str, outcome, **values) -> int:
    """How many rows with these values have an outcome."""
    return int((where(frame, **values)[column] == outcome).sum())


def gap(
    frame: pd.DataFrame, method: str, selector: str, backbone: str, of: str = "CE", metric: str = "recall"
) -> float:
    """Of a table of selectors: a method's mean minus another's at one selector, at the larger K."""
    cell = dict(selector=selector, backbone=backbone, metric=metric, k=frame["k"].max())
    return one(frame, "mean", method=method, **cell) - one(frame, "mean", method=of, **cell)


def needed(n_seeds: int, family: int) -> float:
    """The least mean difference, in standard deviations over seeds, that Holm's correction can reject first."""
    return stats.t.ppf(1 - 0.05 / (2 * family), n_seeds - 1) / sqrt(n_seeds)


def slopes(what: str, of: str) -> list[float]:
    """The growth of a time between neighbouring sizes, as the exponent of a power law."""
    points = pd.read_csv(paths.PROJECT / "benchmarks" / "results" / "growth-gmf.csv").query("varied == @what")
    steps = zip(points["size"], points["size"][1:], points[of], points[of][1:])
    return [log(later / time) / log(larger / size) for size, larger, time, later in steps]


def side_by_side(metric: str = "recall", k: int = 20) -> pd.DataFrame:
    """Published / ours of every data set and backbone; a dash where there is none."""
    ours = pd.concat({name: table(name, "main") for name in ("adressa", "ml100k")}, names=["dataset"]).reset_index()
    cells = pd.concat([published()[["dataset", "backbone", "method", "metric", "k"]], ours[ours["backbone"].notna()]])
    cells = cells.query("metric == @metric and k == @k")[["dataset", "backbone", "method"]].drop_duplicates()
    keys = [*cells, "metric", "k"]
    cells = cells.assign(metric=metric, k=k).merge(published(), "left", keys).merge(ours[[*keys, "mean"]], "left", keys)
    space = "\N{NO-BREAK SPACE}"
    text = cells["published"].map("{:.3f}".format) + f"{space}/{space}" + cells["mean"].map("{:.3f}".format)
    text = text.str.replace("nan", "–").str.replace("0.", ".", regex=False)
    order = dict(dataset=list(TITLES), backbone=list(BACKBONES))
    rows = cells.assign(text=text).pivot(index=["dataset", "backbone"], columns="method", values="text")
    rows = rows.reindex([key for key in pd.MultiIndex.from_product(order.values()) if key in rows.index])
    return rows[["CE", "T-CE", "R-CE"]].rename(index=TITLES).rename_axis(["data set", "backbone"])


def groups() -> list[tuple[str, list[list[str]]]]:
    """Each group of parameters: its title, and name, type, default and meaning of each, as Markdown."""
    described = {name: about for name, *about in parameters.described()}
    found = []
    for group in reversed(parameters.Parameters.__bases__):
        rows = [
            [name, *(text.replace("|", r"\|").replace("<", r"\<") for text in described[name])]
            for name in group.model_fields
        ]
        found.append((group.__doc__.partition(".")[0], rows))
    return found


def page(name: str) -> str:
    """The text of a page."""
    folder = Path(str(files("replication.report") / "templates"))
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    templates.filters |= {
        "signed": lambda value, digits=3: f"{value:+.{digits}f}".replace("0.", ".", 1),
        "plain": lambda value, digits=3: f"{value:.{digits}f}".replace("0.", ".", 1),
        "percent": lambda value, digits=0: f"{100 * value:.{digits}f} %",
    }
    known = (table, shown, measured, where, one, n, gap, needed, slopes, side_by_side, groups, published_curves)
    templates.globals |= {function.__name__: function for function in known}
    templates.globals |= {"TYPES": parameters.TYPES, "backbones": ["GMF", "NeuMF", "CDAE"]}
    return HEAD.format(name.lower()) + templates.get_template(f"{name.lower()}.md.j2").render()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, file in PAGES.items():
        file.write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
