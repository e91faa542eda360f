"""What a data set holds: tables of a split."""

import numpy as np
import pandas as pd

from denoise_lib.data import FILES, Split


def counts_table(split: Split) -> pd.DataFrame:
    """Rows, users, items and the share of false positives of each part."""
    rows = []
    for name in FILES:
        part = getattr(split, name)
        noise = "no flags" if part.is_clean is None else f"{1 - part.is_clean.mean():.2%}"
        users, items = (len(np.unique(ids)) for ids in (part.users, part.items))
        rows.append(dict(part=name, interactions=len(part), users=users, items=items, false_positives=noise))
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
        left, users = pd.DataFrame({"all": ~masked, "trained": ~masked & ~unseen})[group], test.users[group]
        ceilings = left.groupby(users).mean().mean()
        rows.append(
            {"test users": name, "users": len(np.unique(users)), "rows": group.sum()}
            | {"masked": (masked & group).sum(), "item not in train": (unseen & group).sum()}
            | {"Recall ceiling": ceilings["all"], "ceiling over items of train": ceilings["trained"]}
        )
    return pd.DataFrame(rows).set_index("test users").query("users > 0").round(4)


def expected_table(found: dict[str, int], expected: dict[str, int], declared: dict[str, int]) -> pd.DataFrame:
    """Counts of a data set beside the expected ones; the verdict is ``equal``, ``declared`` or ``DIFFERS``."""
    rows = []
    for name, count in found.items():
        accepted = {expected.get(name, count): "equal", declared.get(name): "declared"}
        row = dict(count=name, found=count, expected=expected.get(name, "not known"))
        rows.append(row | dict(verdict=accepted.get(count, "DIFFERS") if name in expected else ""))
    return pd.DataFrame(rows).set_index("count")


def noise_by_popularity(split: Split, n_groups: int = 10) -> pd.DataFrame:
    """Share of false positives among training interactions, by tenth of the interactions ordered by item popularity."""
    popularity = np.bincount(split.train.items, minlength=split.n_items)[split.train.items]
    tenth = np.argsort(np.argsort(popularity, kind="stable")) * n_groups // len(popularity)
    frame = pd.DataFrame(dict(tenth=tenth + 1, popularity=popularity, false_positive=~split.train.is_clean))
    groups, of = frame.groupby("tenth"), "popularity"
    return groups.agg(least_popular=(of, "min"), most_popular=(of, "max"), false_positives=("false_positive", "mean"))
