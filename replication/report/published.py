"""The published numbers beside ours, one by one."""

from dataclasses import dataclass
from importlib.resources import files
from math import isnan, sqrt

import pandas as pd

from replication.report.tables import metric_labels

TOLERANCE = 0.04  # relative; independent runs of the authors' code differ from the published numbers by 0 to 5.5 %
CELL = ["backbone", "method", "metric", "k"]


@dataclass(frozen=True)
class Verdict:
    """What our runs say of a published number or of a claim.

    Attributes:
        status: in one or a few words, such as ``reproduced``.
        limits: what the status holds for, or why there is no better one; it stands in parentheses.
        reasons: what was counted or measured.
    """

    status: str
    limits: str = ""
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        status = f"{self.status} ({self.limits})" if self.limits else self.status
        return ": ".join([status, *([", ".join(self.reasons)] if self.reasons else [])])


def published() -> pd.DataFrame:
    """The 108 numbers of the paper's main table: ``dataset, backbone, method, metric, k, published, source``.

    ``source`` is the authors' log file and its commit, or ``from memory``: no run of CDAE was published, and its rows
    of the paper could not be read again.
    """
    return pd.read_csv(files("replication.report") / "published.csv").rename(columns={"value": "published"})


def published_curves(dataset: str) -> pd.DataFrame:
    """The evaluation points of the authors' logs: ``backbone, method, step, train_loss, valid_loss, source``.

    ``valid_loss`` is a sum of batch means, as ``protocol: authors`` records it.
    """
    points = pd.read_csv(files("replication.report") / "published_curves.csv")
    return points[points["dataset"] == dataset].drop(columns="dataset")


def prediction_half(half: float, n_seeds: int) -> float:
    r"""Half the 95 % prediction interval for one further run, :math:`t\, s \sqrt{1 + 1/n}`, from half the confidence
    interval of the mean, :math:`t\, s / \sqrt n`."""
    return half * sqrt(n_seeds + 1)


def verdict(mean: float, half: float, n_seeds: int, published: float) -> Verdict:
    """What our runs say of a published number, which is a single run.

    Args:
        mean: ours, over seeds.
        half: half the 95 % t-interval of the mean; NaN for one seed.
        n_seeds: number of our runs.
        published: the published number.

    Returns:
        ``reproduced``: our mean is within 4 % of it. ``within seed noise``: it is not, but the published number lies in
        the 95 % prediction interval of ours. ``not reproduced (higher)`` or ``(lower)``: where ours lies.
        ``cannot be checked (…)``: off by more than 4 % with one seed, so that nothing is known of the noise.
    """
    if abs(mean - published) <= TOLERANCE * published + 1e-12:
        return Verdict("reproduced")
    if n_seeds < 2 or isnan(half):
        return Verdict("cannot be checked", "one seed")
    if abs(mean - published) <= prediction_half(half, n_seeds):
        return Verdict("within seed noise")
    return Verdict("not reproduced", "higher" if mean > published else "lower")


def with_published(table: pd.DataFrame, dataset: str, unlike: str = "") -> pd.DataFrame:
    """A main table with its columns ``published, source`` and ``verdict`` (as text) filled, and three more: ``difference``
    (relative, ours to the published) and the 95 % prediction interval ``prediction_low, prediction_high`` for one further run.

    ``unlike`` says why runs cannot be held against the published numbers at all, such as changed settings.
    """
    known = table[CELL].merge(published().query("dataset == @dataset"), on=CELL, how="left")
    half = [prediction_half(high - mean, n) for mean, high, n in zip(table["mean"], table["high"], table["n_seeds"])]
    verdicts = [
        None
        if isnan(number)
        else Verdict("cannot be checked", unlike)
        if unlike
        else verdict(mean, high - mean, n, number)
        for mean, high, n, number in zip(table["mean"], table["high"], table["n_seeds"], known["published"])
    ]
    filled = dict(
        published=known["published"], source=known["source"], difference=table["mean"] / known["published"] - 1
    )
    filled |= dict(prediction_low=table["mean"] - half, prediction_high=table["mean"] + half)
    table = table.assign(verdict=[one and str(one) for one in verdicts], **filled)
    return table[[*table.columns.drop(list(filled)), *filled]]


def beside_published(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a published number, for readers: both numbers, their relative difference, the width of what
    one more run of ours would do (half the prediction interval, relative to the mean), the verdict and the source."""
    rows = table[table["published"].notna()]
    shown = {
        "published": rows["published"].map("{:.4f}".format),
        "ours": rows["mean"].map("{:.4f}".format) + (rows["high"] - rows["mean"]).map(" ± {:.4f}".format),
        "seeds": rows["n_seeds"].map("{:.0f}".format),
        "difference": rows["difference"].map("{:+.1%}".format),
        "one more run": (rows["prediction_high"] / rows["mean"] - 1).map("± {:.1%}".format),
        "verdict": rows["verdict"],
        "source": rows["source"],
    }
    cells = [rows["backbone"], rows["method"], pd.Index(metric_labels(rows), name="metric")]
    return pd.DataFrame(shown).replace([r"^\W*nan.*$", " ± nan$"], ["–", ""], regex=True).set_index(cells)
