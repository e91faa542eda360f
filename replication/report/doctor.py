"""The data doctor: what is wrong with a split, what that does to the metrics, and what to do about it."""

from importlib.resources import files

import numpy as np
import pandas as pd

from denoise_lib.data import FILES, Split
from denoise_lib.losses import drop_rate_at
from denoise_lib.train import steps_per_epoch
from replication.runs.parameters import Parameters
from replication.sources import own_table

# Where results are called invalid; all five limits are ours.
LOWEST_CEILING = 0.95  # of mean Recall
MOST_OVERLAP = 0.1  # share of validation rows that are in train
MOST_UNSEEN = 0.5  # share of test rows whose item is not in train
FEWEST_USERS = 30  # of the test part
MOST_LEFT_OUT = 0.1  # share of a table's rows


def examine(split: Split, parameters: Parameters | None = None, table: own_table.Table | None = None) -> pd.DataFrame:
    """What a reader must know of a split before trusting metrics on it.

    Args:
        split: as it is on disk, with repeated rows.
        parameters: of the data set; with them, T-CE's schedule is looked at too.
        table: the table that the split was made from; with its times, leakage is looked at too.

    Returns:
        One row per finding, columns ``part, finding, count, consequence, remedy, invalid``, where ``invalid`` (bool) says
        that metrics on this split do not mean what they are taken for; empty where nothing was found.
    """
    texts = pd.read_csv(files("replication.report") / "findings.csv", index_col="name")
    pairs = {part: getattr(split, part).users * split.n_items + getattr(split, part).items for part in FILES}
    found = [*_left_out(table), *_rows(split, pairs), *_overlaps(split, pairs), *_never_trained(split)]
    found += [
        *_test_users(split),
        *_flags(split),
        *_times(split, pairs, table),
        *_schedule(parameters, len(split.train)),
    ]
    rows = [
        {column: text.format(**values) for column, text in texts.loc[name].items()}
        | {"count": count, "invalid": invalid}
        for name, count, invalid, values in found
        if count
    ]
    columns = ["part", "finding", "count", "consequence", "remedy", "invalid"]
    return pd.DataFrame(rows, columns=columns).astype({"count": int, "invalid": bool})


# Each of these yields the name of a finding in findings.csv, how often it was found, whether it makes results invalid, and
# the values of its texts.


def _left_out(table: own_table.Table | None):
    for reason, rows in table.left_out.items() if table else ():
        first = ", ".join(map(str, rows[: own_table.N_NAMED]))
        yield "left_out", len(rows), len(rows) > MOST_LEFT_OUT * table.n_rows, dict(reason=reason, first=first)


def _rows(split: Split, pairs: dict[str, np.ndarray]):
    for part, of_part in pairs.items():
        yield "repeated", len(of_part) - len(np.unique(of_part)), False, dict(part=part)
        yield "no_flags", len(of_part) * (getattr(split, part).is_clean is None), False, dict(part=part)


def _overlaps(split: Split, pairs: dict[str, np.ndarray]):
    in_train = np.isin(pairs["valid"], pairs["train"])
    yield "valid_in_train", in_train.sum(), in_train.mean() > MOST_OVERLAP, {}
    masked = np.isin(pairs["test"], np.concatenate([pairs["train"], pairs["valid"]]))
    reachable = pd.Series(~masked).groupby(split.test.users).mean()  # of each user's rows, the share that can be ranked
    yield "masked", masked.sum(), reachable.mean() < LOWEST_CEILING, dict(ceiling=reachable.mean())
    yield "all_masked", (reachable == 0).sum(), False, {}


def _never_trained(split: Split):
    for part in ("valid", "test"):
        rows = getattr(split, part)
        unseen = ~np.isin(rows.items, split.train.items)
        yield "untrained_users", len(np.setdiff1d(rows.users, split.train.users)), False, dict(part=part)
        yield "unseen_items", unseen.sum(), part == "test" and unseen.mean() > MOST_UNSEEN, dict(part=part)
    for of, size in (("users", split.n_users), ("items", split.n_items)):
        used = np.unique(np.concatenate([getattr(getattr(split, part), of) for part in FILES]))
        yield f"absent_{of}", size - len(used), False, {}


def _test_users(split: Split):
    n_users = len(np.unique(split.test.users))
    yield "untested_users", split.n_users - n_users, n_users < FEWEST_USERS, dict(n_users=n_users)


def _flags(split: Split):
    if split.test.is_clean is not None:
        n_false = (~split.test.is_clean).sum()
        yield "false_in_test", n_false, n_false > 0, {}
    is_clean = split.train.is_clean
    if is_clean is None:
        return
    if is_clean.all() or not is_clean.any():
        yield "all_alike", len(is_clean), False, {}
        return
    n_false = (~is_clean).sum()
    yield "mostly_false", n_false * (is_clean.mean() < 0.5), False, {}
    popularity = np.bincount(split.train.items, minlength=split.n_items)[split.train.items]
    means = dict(true=popularity[is_clean].mean(), false=popularity[~is_clean].mean())
    yield "popular_false", n_false * (means["false"] > means["true"]), False, means


def _times(split: Split, pairs: dict[str, np.ndarray], table: own_table.Table | None):
    """A random split lets a model learn from what came later."""
    if table is None or "time" not in table.frame:
        return
    users, items = (
        pd.factorize(table.frame[name], sort=True)[0] for name in ("user", "item")
    )  # as make_split numbers them
    time_of = pd.Series(table.frame["time"].to_numpy(), index=users * split.n_items + items)
    latest = time_of[pairs["train"]].groupby(split.train.users).max()
    precede = time_of[pairs["test"]].to_numpy() < latest.reindex(split.test.users).to_numpy()
    yield "later", precede.sum(), False, {}


def _schedule(parameters: Parameters | None, n_train: int):
    for row in effective_drop_rates(parameters, n_train).itertuples() if parameters else ():
        yield "ramp", max(0, row.ramp - row.steps), False, dict(backbone=row.Index, last=row.last, maximum=row.maximum)


def effective_drop_rates(parameters: Parameters, n_train: int) -> pd.DataFrame:
    """What T-CE will really drop, for each backbone: the drop rate's maximum, its last value and its mean over a run, as
    shares of the batch, and the last one as a share of the positives."""
    rows, n_negatives = [], parameters.n_negatives
    for backbone in parameters.all_backbones():
        epochs, ramp, maximum = (parameters.value(name, backbone) for name in ("epochs", "ramp_steps", "max_drop_rate"))
        n_steps = epochs * steps_per_epoch(n_train, n_negatives, parameters.batch_size)
        rates = np.array([drop_rate_at(step, maximum, ramp) for step in range(n_steps)])
        row = {"backbone": backbone, "steps": n_steps, "ramp": ramp, "maximum": maximum, "last": rates[-1]}
        rows.append(row | {"mean": rates.mean(), "last, of the positives": min(1.0, rates[-1] * (1 + n_negatives))})
    return pd.DataFrame(rows).set_index("backbone").round(4)
