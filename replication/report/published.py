"""The published numbers beside ours, one by one."""

from importlib.resources import files

import numpy as np
import pandas as pd

from replication.report.tables import CELL, cell_index, with_metric

TOLERANCE = 0.04  # relative; independent runs of the authors' code differ from the published numbers by 0 to 5.5 %


def published() -> pd.DataFrame:
    """The 108 numbers of the paper's main table: ``dataset, backbone, method, metric, k, published, source``.

    ``source`` is the authors' log file and its commit, or ``from memory``: CDAE has no log, the paper was not at hand.
    """
    return pd.read_csv(files("replication.report") / "published.csv").rename(columns={"value": "published"})


def published_curves(dataset: str) -> pd.DataFrame:
    """The evaluation points of the authors' logs: ``backbone, method, step, train_loss, valid_loss, source`` and
    ``selected``, true at the least validation loss, which is a sum of batch means as ``protocol: authors`` records it.
    """
    points = pd.read_csv(files("replication.report") / "published_curves.csv").query("dataset == @dataset")
    least = points.groupby(["backbone", "method"])["valid_loss"].transform("min")
    return points.assign(selected=points["valid_loss"] == least).drop(columns="dataset")


def with_published(table: pd.DataFrame, dataset: str, unlike: str = "") -> pd.DataFrame:
    r"""A main table with its columns ``published, source`` and ``verdict`` filled, and three more: ``difference``
    (relative, ours to the published) and ``prediction_low, prediction_high``, the 95 % prediction interval for one
    further run, :math:`\bar x \pm t\, s \sqrt{1 + 1/n}`, from that of the mean, :math:`\bar x \pm t\, s / \sqrt n`.

    ``reproduced``: our mean is within 4 % of the published number. ``within seed noise``: it is not, but that number
    lies in our prediction interval. ``not reproduced (higher)`` or ``(lower)``: where ours lies. ``cannot be checked``:
    ``unlike`` says why no run can be held against the published ones, such as changed settings; or ours is off by more
    than 4 %, and of one seed the noise is unknown.
    """
    known = table[CELL].merge(published().query("dataset == @dataset"), on=CELL, how="left")
    mean, theirs = table["mean"], known["published"]
    further, off = (table["high"] - mean) * np.sqrt(table["n_seeds"] + 1), (mean - theirs).abs()
    verdicts = {
        None: theirs.isna(),
        f"cannot be checked ({unlike})": pd.Series(bool(unlike), table.index),
        "reproduced": off <= TOLERANCE * theirs + 1e-12,
        "cannot be checked (one seed)": further.isna(),
        "within seed noise": off <= further,
        "not reproduced (higher)": mean > theirs,
    }
    found = np.select(list(verdicts.values()), list(verdicts), "not reproduced (lower)")
    filled = dict(published=theirs, source=known["source"], difference=mean / theirs - 1)
    filled |= dict(prediction_low=mean - further, prediction_high=mean + further)
    return table.assign(verdict=found, **filled)[[*table.columns.drop(["published", "source"]), *filled]]


def beside_published(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a published number, for readers: both numbers, their relative difference, the width of what
    one more run of ours would do (half the prediction interval, relative to the mean), the verdict and the source."""
    rows = with_metric(table[table["published"].notna()])
    cells = {
        "published": rows["published"].map("{:.4f}".format),
        "ours": rows["mean"].map("{:.4f}".format) + (rows["high"] - rows["mean"]).map(" ± {:.4f}".format),
        "seeds": rows["n_seeds"].map("{:.0f}".format),
        "difference": rows["difference"].map("{:+.1%}".format),
        "one more run": (rows["prediction_high"] / rows["mean"] - 1).map("± {:.1%}".format),
    }
    shown = pd.DataFrame(cells).replace([r"^\W*nan.*$", " ± nan$"], ["–", ""], regex=True)
    shown = shown.assign(verdict=rows["verdict"], source=rows["source"])
    return shown.set_index(cell_index(rows))
