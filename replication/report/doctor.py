"""The data doctor: what is wrong with a split, what that does to the metrics, and what to do about it."""

import numpy as np
import pandas as pd

from denoise_lib.data import FILES, Interactions, Split
from denoise_lib.losses import drop_rate_at
from denoise_lib.train import steps_per_epoch
from replication.runs.parameters import Parameters
from replication.sources import own_table

COLUMNS = ["part", "finding", "count", "consequence", "remedy", "invalid"]
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
    findings = [
        *(_left_out(table) if table is not None else []),
        *_rows(split),
        *_overlaps(split),
        *_never_trained(split),
    ]
    findings += [*_test_users(split), *_flags(split)]
    findings += _times(split, table) if table is not None and "time" in table.frame else []
    findings += _schedule(parameters, len(split.train)) if parameters else []
    return pd.DataFrame([finding for finding in findings if finding[2]], columns=COLUMNS).astype(
        {"count": int, "invalid": bool}
    )


def _left_out(table: own_table.Table):
    for reason, rows in table.left_out.items():
        first = ", ".join(map(str, rows[: own_table.N_NAMED]))
        yield (
            "table", reason, len(rows), f"left out, so no part has them; the first: row {first}",
            "mend the file, if they matter", len(rows) > MOST_LEFT_OUT * table.n_rows,
        )  # fmt: skip


def _pairs(split: Split) -> dict[str, np.ndarray]:
    """Each part's rows as one number for each pair."""
    return {part: getattr(split, part).users * split.n_items + getattr(split, part).items for part in FILES}


def _rows(split: Split):
    for part, pairs in _pairs(split).items():
        yield (
            part, "rows that repeat a pair", len(pairs) - len(np.unique(pairs)),
            "counted twice where they are kept", "protocol: corrected leaves them out", False,
        )  # fmt: skip
        if getattr(split, part).is_clean is None:
            yield (
                part, "rows without a flag", len(pairs),
                "nothing that needs flags can be computed from this part",
                "say clean_from, or add a column of ratings, dwell times or flags, if there are any", False,
            )  # fmt: skip


def _overlaps(split: Split):
    pairs = _pairs(split)
    in_train = np.isin(pairs["valid"], pairs["train"])
    yield (
        "train/valid", "valid rows whose pair is in train", in_train.sum(),
        "the validation loss rewards memorising", "leave them out of one of the two", in_train.mean() > MOST_OVERLAP,
    )  # fmt: skip
    masked = np.isin(pairs["test"], np.concatenate([pairs["train"], pairs["valid"]]))
    shares = _reachable_shares(split.test.users, masked)
    ceiling = shares.mean()
    yield (
        "test", "test rows whose pair is in train or valid", masked.sum(),
        f"masked, so never ranked: mean Recall cannot exceed {ceiling:.3f}",
        "make the parts disjoint", ceiling < LOWEST_CEILING,
    )  # fmt: skip
    yield (
        "test", "test users of whom every row is masked", (shares == 0).sum(),
        "their Recall is 0 whatever the model", "make the parts disjoint", False,
    )  # fmt: skip


def _reachable_shares(users: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """For each test user the share of the own rows that can be ranked at all."""
    n_rows = np.bincount(users)
    n_reachable = np.bincount(users[~masked], minlength=len(n_rows))
    return n_reachable[n_rows > 0] / n_rows[n_rows > 0]


def _never_trained(split: Split):
    for part in ("valid", "test"):
        rows: Interactions = getattr(split, part)
        absent = np.setdiff1d(rows.users, split.train.users)
        yield (
            part, "users without training rows", len(absent),
            "their embeddings stay as they were drawn", "split each user's rows; read metrics of such users apart", False,
        )  # fmt: skip
        unseen = ~np.isin(rows.items, split.train.items)
        yield (
            part, "rows whose item is not in train", unseen.sum(), "the item was only ever seen as a negative",
            "read the ceiling in the table of reach", part == "test" and unseen.mean() > MOST_UNSEEN,
        )  # fmt: skip
    for field, size in (("users", split.n_users), ("items", split.n_items)):
        used = np.unique(np.concatenate([getattr(getattr(split, part), field) for part in FILES]))
        yield (
            "all", f"{field[:-1]} ids that occur in no part", size - len(used),
            "rows of the tables that nothing trains" + ("; sampled and ranked" if field == "items" else ""),
            "number the ids without gaps, from 0", False,
        )  # fmt: skip


def _test_users(split: Split):
    n_users = len(np.unique(split.test.users))
    yield (
        "test", "users without test rows", split.n_users - n_users,
        f"metrics are over the other {n_users:,} and say nothing about them",
        "expected where a user has fewer than about five rows, or only false positives were drawn", n_users < FEWEST_USERS,
    )  # fmt: skip


def _flags(split: Split):
    test, train = split.test, split.train
    if test.is_clean is not None:
        yield (
            "test", "flagged false positives", (~test.is_clean).sum(),
            "a disliked item counts as a hit", "leave them out of the test part", not test.is_clean.all(),
        )  # fmt: skip
    if train.is_clean is None:
        return
    is_clean = train.is_clean
    if is_clean.all() or not is_clean.any():
        yield (
            "train", "rows that are all flagged alike", len(train),
            "flags tell nothing: noise and oracles cannot be measured", "look at the limit or the column of the flags", False,
        )  # fmt: skip
        return
    if is_clean.mean() < 0.5:
        yield (
            "train", "false positives, more than there are true ones", (~is_clean).sum(),
            "flags that are the wrong way round give such a share", "1 must mean a true positive; turn them if they are inverted",
            False,
        )  # fmt: skip
    popularity = np.bincount(train.items, minlength=split.n_items)[train.items]
    true, false = popularity[is_clean].mean(), popularity[~is_clean].mean()
    if false > true:
        yield (
            "train", "false positives on items more popular than the true ones'", (~is_clean).sum(),
            f"{false:.1f} interactions an item on average against {true:.1f}: treating items by popularity lowers the noise too",
            "compare with popularity-drop; check that 1 means a true positive", False,
        )  # fmt: skip


def _times(split: Split, table: own_table.Table):
    """Test rows older than the youngest training row of their user: a random split lets a model learn from what came later."""
    frame = table.frame
    users, items = (pd.factorize(frame[name], sort=True)[0] for name in ("user", "item"))  # as make_split numbers them
    time_of = pd.Series(frame["time"].to_numpy(), index=users * split.n_items + items)
    pairs = _pairs(split)
    latest = time_of[pairs["train"]].groupby(split.train.users).max()
    precede = time_of[pairs["test"]].to_numpy() < latest.reindex(split.test.users).to_numpy()
    yield (
        "test", "test rows older than a training row of their user", precede.sum(),
        "the model learns from what came later: metrics are higher than they would be in use",
        "split by time where that matters; comparisons of losses on one split stay fair", False,
    )  # fmt: skip


def _schedule(parameters: Parameters, n_train: int):
    for row in effective_drop_rates(parameters, n_train).itertuples():
        yield (
            "train", f"steps that {row.Index}'s T-CE ends before the end of its ramp", max(0, row.ramp - row.steps),
            f"its drop rate ends at {row.last:.3g} of the batch, not at {row.maximum:g}",
            "a shorter ramp_steps, or more epochs", False,
        )  # fmt: skip


def effective_drop_rates(parameters: Parameters, n_train: int) -> pd.DataFrame:
    """What T-CE will really drop, for each backbone: the drop rate's maximum, its last value and its mean over a run, as
    shares of the batch, and the last one as a share of the positives."""
    rows = []
    for backbone in parameters.all_backbones():
        value = lambda name: parameters.value(name, backbone)  # noqa: E731, B023
        n_negatives, ramp, maximum = parameters.n_negatives, value("ramp_steps"), value("max_drop_rate")
        n_steps = value("epochs") * steps_per_epoch(n_train, n_negatives, parameters.batch_size)
        rates = np.array([drop_rate_at(step, maximum, ramp) for step in range(n_steps)])
        of_positives = min(1.0, rates[-1] * (1 + n_negatives))
        row = {"backbone": backbone, "steps": n_steps, "ramp": ramp, "maximum": maximum, "last": rates[-1]}
        rows.append(row | {"mean": rates.mean(), "last, of the positives": of_positives})
    return pd.DataFrame(rows).set_index("backbone").round(4)
