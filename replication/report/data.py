"""What a data set holds: tables and figures of a split."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from denoise_lib.data import FILES, Split
from replication.report.figures import STYLES, facets


def counts_table(split: Split) -> pd.DataFrame:
    """Rows, users, items and the share of false positives of each part."""
    rows = []
    for part in FILES:
        interactions = getattr(split, part)
        noise = "no flags" if interactions.is_clean is None else f"{1 - interactions.is_clean.mean():.2%}"
        users, items = (len(np.unique(ids)) for ids in (interactions.users, interactions.items))
        rows.append(dict(part=part, interactions=len(interactions), users=users, items=items, false_positives=noise))
    return pd.DataFrame(rows).set_index("part")


def reach_table(split: Split) -> pd.DataFrame:
    """What the test part lets any model reach, for users with and without training rows.

    ``masked``: rows whose pair is in train or valid, which the ranking leaves out. ``item not in train``: rows whose
    item no training row has, so that it was only ever seen as a negative. The ceilings are mean Recall over users if
    every row that is left were ranked first: without the masked ones, and without those items too.
    """
    test, rows = split.test, []
    masked = np.asarray(split.matrix(split.train, split.valid)[test.users, test.items]).ravel() > 0
    unseen = ~np.isin(test.items, split.train.items)
    in_train, in_valid = (np.isin(test.users, part.users) for part in (split.train, split.valid))
    groups = {
        "all": np.ones(len(test), bool),
        "with training rows": in_train,
        "without training rows": ~in_train,
        "without training and validation rows": ~in_train & ~in_valid,
    }
    for name, group in groups.items():
        users = test.users[group]
        ceilings = [pd.Series(left[group]).groupby(users).mean().mean() for left in (~masked, ~masked & ~unseen)]
        rows.append(
            {"test users": name, "users": len(np.unique(users)), "rows": group.sum()}
            | {"masked": (masked & group).sum(), "item not in train": (unseen & group).sum()}
            | dict(zip(("Recall ceiling", "ceiling over items of train"), ceilings))
        )
    return pd.DataFrame(rows).set_index("test users").query("users > 0").round(4)


def expected_table(
    found: dict[str, int], expected: dict[str, int], declared_differences: dict[str, int]
) -> pd.DataFrame:
    """Counts of a data set beside the expected ones; the verdict is ``equal``, ``declared`` or ``DIFFERS``."""
    rows = []
    for name, count in found.items():
        accepted = {expected.get(name, count): "equal", declared_differences.get(name): "declared"}
        row = dict(count=name, found=count, expected=expected.get(name, "not known"))
        rows.append(row | dict(verdict=accepted.get(count, "DIFFERS") if name in expected else ""))
    return pd.DataFrame(rows).set_index("count")


def checksum_table(checksums: dict[str, str]) -> pd.DataFrame:
    """File and SHA-256."""
    return pd.DataFrame({"file": checksums.keys(), "SHA-256": checksums.values()}).set_index("file")


def frequency_points(split: Split) -> pd.DataFrame:
    """Training interactions of items and of users, most first: ``of, rank, interactions``. Of a run of equal counts
    only its two ends are kept: the same line with a few hundred points, however many users there are."""
    frames = []
    for of, ids, size in (("item", split.train.items, split.n_items), ("user", split.train.users, split.n_users)):
        counts = np.sort(np.bincount(ids, minlength=size))[::-1]
        is_end = np.diff(counts, prepend=-1, append=-1) != 0
        ends = np.flatnonzero(is_end[:-1] | is_end[1:])
        frames.append(pd.DataFrame(dict(of=of, rank=ends + 1, interactions=counts[ends])))
    return pd.concat(frames, ignore_index=True)


def frequency_figure(points: pd.DataFrame, of: str) -> Figure:
    """Interactions against rank on logarithmic axes, of items or of users."""
    drawn = points[(points["of"] == of) & (points["interactions"] > 0)].assign(row="training interactions", column="")
    figure, ((axis, _),) = facets(drawn, "row", "column", f"rank of the {of}")
    axis.loglog(drawn["rank"], drawn["interactions"], color=STYLES["T-CE"].color)
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25, which="both")
    return figure


def noise_by_popularity(split: Split, n_groups: int = 10) -> pd.DataFrame:
    """Share of false positives among training interactions, by tenth of the interactions ordered by item popularity."""
    popularity = np.bincount(split.train.items, minlength=split.n_items)[split.train.items]
    tenth = np.argsort(np.argsort(popularity, kind="stable")) * n_groups // len(popularity)
    frame = pd.DataFrame(dict(tenth=tenth + 1, popularity=popularity, false_positive=~split.train.is_clean))
    groups, of = frame.groupby("tenth"), "popularity"
    return groups.agg(least_popular=(of, "min"), most_popular=(of, "max"), false_positives=("false_positive", "mean"))


def noise_figure(table: pd.DataFrame) -> Figure:
    """False positives against popularity."""
    drawn = table.assign(row="false positives (%)", column="", percent=100 * table["false_positives"])
    xlabel = "tenth of the training interactions, by item popularity\n(1: least popular items; dashed: all)"
    figure, ((axis, _),) = facets(drawn, "row", "column", xlabel)
    axis.bar(drawn.index, drawn["percent"], color=STYLES["T-CE"].color)
    axis.grid(visible=False)
    axis.axhline(drawn["percent"].mean(), color="black", linestyle="--", linewidth=1)
    axis.set_xticks(drawn.index)
    return figure
