"""The data doctor: what a split holds, what is wrong with it, what that does to the metrics, and what to do."""

from importlib.resources import files

import numpy as np
import pandas as pd

from denoise_lib.data import FILES, Split
from denoise_lib.losses import drop_rate_at
from denoise_lib.train import steps_per_epoch
from replication.runs.parameters import Parameters
from replication.sources.tables import Table

# Where results are called invalid; all five limits are ours.
LOWEST_CEILING = 0.95  # of mean Recall
MOST_OVERLAP = 0.1  # share of validation rows that are in train
MOST_UNSEEN = 0.5  # share of test rows whose item is not in train
FEWEST_USERS = 30  # of the test part
MOST_LEFT_OUT = 0.1  # share of a table's rows


def examine(split: Split, parameters: Parameters | None = None, table: Table | None = None) -> pd.DataFrame:
    """What a reader must know of a split before trusting metrics on it.

    Args:
        split: as it is on disk, with repeated rows.
        parameters: of the data set; with them, T-CE's schedule is looked at too.
        table: the table that the split was made from; with its times, leakage is looked at too.

    Returns:
        One row per finding, columns ``part, finding, count, consequence, remedy, invalid``, where ``invalid`` (bool)
        says that metrics on this split do not mean what they are taken for; empty where nothing was found.
    """
    pairs = {part: getattr(split, part).users * split.n_items + getattr(split, part).items for part in FILES}
    found = [*_of_table(split, pairs, table), *_of_pairs(split, pairs), *_of_ids(split), *_of_flags(split)]
    for row in effective_drop_rates(parameters, len(split.train)).itertuples() if parameters else ():
        values = dict(backbone=row.Index, last=row.last, maximum=row.maximum)
        found.append(("ramp", max(0, row.ramp - row.steps), False, values))
    texts = pd.read_csv(files("replication.report") / "findings.csv", index_col="name")
    columns = [*texts.columns[:2], "count", *texts.columns[2:], "invalid"]
    rows = [
        {column: text.format(**values) for column, text in texts.loc[name].items()}
        | {"count": count, "invalid": invalid}
        for name, count, invalid, values in found
        if count
    ]
    return pd.DataFrame(rows, columns=columns).astype({"count": int, "invalid": bool})


# pandas finds unique values and members by hashes that keep their speed where numpy's lose it, on numbers of pairs.
# Each of these yields the name of a finding in findings.csv, how often it was found, whether it makes results invalid,
# and the values of its texts.


def _of_table(split: Split, pairs: dict[str, np.ndarray], table: Table | None):
    if table is None:
        return
    for reason, n, first in table.reasons():
        yield "left_out", n, n > MOST_LEFT_OUT * table.n_rows, dict(reason=reason, first=first)
    if "time" in table.frame:  # a random split lets a model learn from what came later
        of_table = (table.frame["user"] * split.n_items + table.frame["item"]).to_numpy()
        order = np.argsort(of_table, kind="stable")
        places = {part: order[np.searchsorted(of_table, pairs[part], sorter=order)] for part in ("train", "test")}
        times = {part: table.frame["time"].to_numpy()[rows] for part, rows in places.items()}
        latest = pd.Series(times["train"]).groupby(split.train.users).max()
        precede = times["test"] < latest.reindex(split.test.users).to_numpy()
        yield "later", precede.sum(), False, {}


def _of_pairs(split: Split, pairs: dict[str, np.ndarray]):
    for part, of_part in pairs.items():
        yield "repeated", len(of_part) - len(pd.unique(of_part)), False, dict(part=part)
        yield "no_flags", len(of_part) * (getattr(split, part).is_clean is None), False, dict(part=part)
    in_train = pd.Index(pairs["valid"]).isin(pairs["train"])
    yield "valid_in_train", in_train.sum(), in_train.mean() > MOST_OVERLAP, {}
    masked = pd.Index(pairs["test"]).isin(np.concatenate([pairs["train"], pairs["valid"]]))
    reachable = pd.Series(~masked).groupby(split.test.users).mean()  # of each user's rows, the share that can be ranked
    yield "masked", masked.sum(), reachable.mean() < LOWEST_CEILING, dict(ceiling=reachable.mean())
    yield "all_masked", (reachable == 0).sum(), False, {}


def _of_ids(split: Split):
    for part in ("valid", "test"):
        rows = getattr(split, part)
        unseen = ~pd.Index(rows.items).isin(split.train.items)
        yield (
            "untrained_users",
            (~pd.Index(pd.unique(rows.users)).isin(split.train.users)).sum(),
            False,
            dict(part=part),
        )
        yield "unseen_items", unseen.sum(), part == "test" and unseen.mean() > MOST_UNSEEN, dict(part=part)
    for of, size in (("users", split.n_users), ("items", split.n_items)):
        used = pd.unique(np.concatenate([getattr(getattr(split, part), of) for part in FILES]))
        yield f"absent_{of}", size - len(used), False, {}
    n_users = len(pd.unique(split.test.users))
    yield "untested_users", split.n_users - n_users, n_users < FEWEST_USERS, dict(n_users=n_users)


def _of_flags(split: Split):
    is_clean, is_true = split.train.is_clean, split.test.is_clean
    if is_true is not None:
        yield "false_in_test", (~is_true).sum(), not is_true.all(), {}
    if is_clean is None:
        return
    if is_clean.all() or not is_clean.any():
        yield "all_alike", len(is_clean), False, {}
        return
    n_false = (~is_clean).sum()
    popularity = np.bincount(split.train.items, minlength=split.n_items)[split.train.items]
    means = dict(true=popularity[is_clean].mean(), false=popularity[~is_clean].mean())
    yield "mostly_false", n_false * (is_clean.mean() < 0.5), False, {}
    yield "popular_false", n_false * (means["false"] > means["true"]), False, means


def effective_drop_rates(parameters: Parameters, n_train: int) -> pd.DataFrame:
    """What T-CE will really drop, for each backbone: the drop rate's maximum, its last value and its mean over a run,
    as shares of the batch, and the last one as a share of the positives."""
    rows, n_negatives = [], parameters.n_negatives
    for backbone in parameters.all_backbones():
        epochs, ramp, maximum = (parameters.value(name, backbone) for name in ("epochs", "ramp_steps", "max_drop_rate"))
        n_steps = epochs * steps_per_epoch(n_train, n_negatives, parameters.batch_size)
        rates = np.array([drop_rate_at(step, maximum, ramp) for step in range(n_steps)])
        row = {"backbone": backbone, "steps": n_steps, "ramp": ramp, "maximum": maximum, "last": rates[-1]}
        rows.append(row | {"mean": rates.mean(), "last, of the positives": min(1.0, rates[-1] * (1 + n_negatives))})
    return pd.DataFrame(rows).set_index("backbone").round(4)


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
