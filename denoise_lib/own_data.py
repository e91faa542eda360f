"""A table of interactions of one's own: read it, leave out what cannot be used, and make a data set of it."""

import csv
import hashlib
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from denoise_lib import datasets, paths
from denoise_lib.data import Interactions, Split, save_split, split_at_random
from denoise_lib.files import replacing

# What a column may be called, in small letters and without anything but letters and digits.
NAMES = {
    "user": "user userid uid customer customerid visitorid memberid reviewerid",
    "item": "item itemid iid movie movieid product productid asin article articleid book bookid business businessid track trackid",
    "rating": "rating ratings stars score overall",
    "dwell": "dwell dwelltime duration playtime watchtime activetime",
    "flag": "flag clean isclean liked",
    "time": "timestamp time date datetime",
}
QUALITY = ("flag", "rating", "dwell")  # of these the first one that is there tells true from false positives
FLAGS = {"1": 1.0, "true": 1.0, "yes": 1.0, "1.0": 1.0, "0": 0.0, "false": 0.0, "no": 0.0, "0.0": 0.0}
MISSING = ("", "nan", "null", "none")
N_NAMED = 5  # rows named of each kind that is left out


@dataclass(frozen=True, eq=False)
class Table:
    """The usable rows of a table.

    Attributes:
        frame: ``user, item`` as text and, where there are such columns, ``value`` (rating, dwell time or flag) and
            ``time`` (seconds) as float.
        columns: role -> the table's name of the column; the roles are those of :data:`NAMES`.
        n_rows: rows of the file, without its header.
        left_out: what was left out, a sentence for each reason, with the first rows.
    """

    frame: pd.DataFrame
    columns: dict[str, str]
    n_rows: int
    left_out: list[str] = field(default_factory=list)

    @property
    def quality(self) -> str | None:
        """``flag``, ``rating`` or ``dwell``: what the values are; None where the table has none of them."""
        return next((role for role in QUALITY if role in self.columns), None)


def read_table(path: str | Path, columns: dict[str, str] | None = None) -> Table:
    """Reads a CSV or TSV file with a header line.

    Columns are recognised by their names (:data:`NAMES`; what follows a colon, as in ``user_id:token``, does not count)
    unless they are given. Ids are text, so that "001" and "1" are two users. Rows that lack a user or an item, whose
    value cannot be read, or that repeat a pair (its first row stays), are left out and counted.

    Args:
        path: the file; the first of tab, semicolon and comma that its header holds separates the columns.
        columns: role -> column name, for columns that are not recognised or not to be used by their own name.

    Raises:
        ValueError: no such file, no user or item column, two columns for one role, or no usable row.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        first = file.readline().rstrip("\r\n")
    separator = next((one for one in "\t;," if one in first), ",")
    header = next(csv.reader([first], delimiter=separator), [])
    chosen = _roles(header, columns or {}, path)
    raw = pd.read_csv(
        path, sep=separator, usecols=list(chosen.values()), dtype=str, keep_default_na=False, skip_blank_lines=False,
        encoding="utf-8-sig", encoding_errors="replace",
    )  # fmt: skip
    raw = raw.fillna("").apply(lambda column: column.str.strip())
    table = Table(_read_columns(raw, chosen), {role: name for role, name in chosen.items()}, len(raw))
    unusable = _unusable(table, raw, _broken_lines(path, separator, len(header)))
    keep = np.ones(len(raw), bool)
    for reason, rows in unusable.items():
        rows = rows & keep
        if rows.any():
            numbers = ", ".join(str(number) for number in np.flatnonzero(rows)[:N_NAMED] + 2)  # the header is row 1
            more = ", …" if rows.sum() > N_NAMED else ""
            table.left_out.append(f"{reason}: {rows.sum():,} (row {numbers}{more})")
        keep &= ~rows
    if not keep.any():
        raise ValueError(f"{path} has no usable row: {'; '.join(table.left_out) or 'it is empty'}")
    return Table(table.frame[keep].reset_index(drop=True), table.columns, table.n_rows, table.left_out)


def _roles(header: list[str], given: dict[str, str], path: Path) -> dict[str, str]:
    """Role -> column of the file."""
    unknown = [role for role in given if role not in NAMES]
    absent = [name for name in given.values() if name not in header]
    if unknown or absent:
        wrong = f"columns: the roles are {', '.join(NAMES)}, got {unknown[0]!r}" if unknown else f"{path}: no column {absent[0]!r}"
        raise ValueError(f"{wrong}; the file has {', '.join(header)}")
    found = dict(given)
    for role, names in NAMES.items():
        known = [name for name in header if re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0]) in names.split()]
        if role not in given and len(known) > 1:
            raise ValueError(f"{path}: both {known[0]!r} and {known[1]!r} may be the {role}; say columns={{{role}: {known[0]}}}")
        if role not in given and known:
            found[role] = known[0]
    lacking = [role for role in ("user", "item") if role not in found]
    if lacking:
        raise ValueError(
            f"{path}: no column is recognised as the {lacking[0]} among {', '.join(header)}. The first line must name the "
            f"columns; if it does, say which: columns={{{lacking[0]}: NAME}}"
        )
    quality = next((role for role in QUALITY if role in found), None)
    return {role: name for role, name in found.items() if role in ("user", "item", "time", quality)}


def _read_columns(raw: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    frame = raw[[columns["user"], columns["item"]]].set_axis(["user", "item"], axis=1)
    for role, name in columns.items():
        if role == "flag":
            frame["value"] = raw[name].str.lower().map(FLAGS)
        elif role in QUALITY:
            frame["value"] = pd.to_numeric(raw[name], errors="coerce").replace([np.inf, -np.inf], np.nan)
        elif role == "time":
            numbers = pd.to_numeric(raw[name], errors="coerce")
            dates = pd.to_datetime(raw[name].where(numbers.isna()), errors="coerce", utc=True, format="mixed")
            frame["time"] = numbers.fillna((dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds())
    return frame


def _unusable(table: Table, raw: pd.DataFrame, broken: np.ndarray) -> dict[str, np.ndarray]:
    """Reason -> mask of the rows of the file; a row counts for its first reason."""
    frame = table.frame
    reasons = {"blank rows": (raw == "").all(axis=1).to_numpy()}
    if len(broken) == len(frame):
        reasons["rows with another number of columns than the header"] = broken
    for role in ("user", "item"):
        reasons[f"rows without {role}"] = frame[role].str.lower().isin(MISSING).to_numpy()
    if table.quality:
        reasons[f"rows without a readable {table.quality} ({table.columns[table.quality]})"] = frame["value"].isna().to_numpy()
    bad = np.logical_or.reduce(list(reasons.values()))
    repeats = np.zeros(len(frame), bool)
    repeats[~bad] = frame[~bad].duplicated(["user", "item"]).to_numpy()
    return reasons | {"rows that repeat a pair of user and item": repeats}


def _broken_lines(path: Path, separator: str, n_columns: int) -> np.ndarray:
    """Which rows have another number of columns; empty for a file with quoted fields, where lines do not tell."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        lines = file.read().splitlines()[1:]
    if any('"' in line for line in lines):
        return np.empty(0, bool)
    return np.array([bool(line) and line.count(separator) != n_columns - 1 for line in lines], bool)


# -------------------------------------------------------------------------------------------------------- to a data set


def make_split(table: Table, name: str, clean_from: float | None) -> tuple[Split, np.ndarray, np.ndarray]:
    """The split of a table, 80/10/10 at random per user, and the original ids of its users and items, in their order.

    True positives are those flagged, or whose rating or dwell time is at least ``clean_from``; without flags, and without
    a limit, nothing is flagged and the test part holds everything.

    Raises:
        ValueError: a part stays empty.
    """
    user_ids, users = np.unique(table.frame["user"].to_numpy(str), return_inverse=True)
    item_ids, items = np.unique(table.frame["item"].to_numpy(str), return_inverse=True)
    limit = 1 if table.quality == "flag" else clean_from
    is_clean = None if table.quality is None or limit is None else (table.frame["value"] >= limit).to_numpy()
    rows = Interactions(users.astype(np.int64), items.astype(np.int64), is_clean)
    parts = split_at_random(rows, datasets.SPLIT_SEED)
    return Split(name, len(user_ids), len(item_ids), **parts), user_ids, item_ids


def prepare(name: str, ratings: str, columns: dict[str, str], clean_from: float | None) -> None:
    """Makes ``data/<name>/`` from a table, unless it was made from this very table in this very way.

    Beside the three parts it writes ``users.csv`` and ``items.csv`` (number, original id) and ``card.json``.

    Raises:
        ValueError: what :func:`read_table` and :func:`make_split` refuse, or a folder with data from elsewhere.
    """
    source = Path(ratings)
    source = source if source.is_absolute() else paths.home() / source
    if not source.is_file():
        raise ValueError(f"ratings: there is no file {source}")
    origin = {
        "source": f"{source.name}, SHA-256 {hashlib.sha256(source.read_bytes()).hexdigest()}",
        "columns": columns,
        "clean_from": clean_from,
        "split_seed": datasets.SPLIT_SEED,
    }
    folder, card = paths.data(name), datasets.card(name)
    if datasets.is_prepared(name) and all(card.get(key) == value for key, value in origin.items()):
        return
    if folder.is_dir() and any(folder.iterdir()) and "left out" not in card:
        raise ValueError(f"{folder} holds data that were not made from a table; choose another name or move the folder away")
    if card:
        print(f"{name}: the table or how it is read has changed; data/{name} is made anew", file=sys.stderr)
    table = read_table(source, columns)
    split, user_ids, item_ids = make_split(table, name, clean_from)
    single = int((np.bincount(table.frame.groupby("user").ngroup()) == 1).sum())
    for ids, file in ((user_ids, "users.csv"), (item_ids, "items.csv")):
        with replacing(folder / file) as temporary:
            pd.DataFrame({"number": range(len(ids)), "id": ids}).to_csv(temporary, index=False)
    save_split(split, folder)
    origin |= {
        "rows": f"{table.n_rows:,} read, {len(table.frame):,} used",
        "left out": table.left_out or "nothing",
        "read as": table.columns,
        "users with one interaction": f"{single}, in train only",
        "users": split.n_users,
        "items": split.n_items,
    }
    with replacing(folder / "card.json") as temporary:
        temporary.write_text(json.dumps(origin, indent=2) + "\n")
    for line in table.left_out:
        print(f"{name}: left out, {line}", file=sys.stderr)


def original_ids(name: str, what: str) -> np.ndarray:
    """The original ids of a data set's ``users`` or ``items``, by number; the numbers themselves where no map was kept."""
    file = paths.data(name) / f"{what}.csv"
    if file.is_file():
        return pd.read_csv(file, dtype=str, keep_default_na=False)["id"].to_numpy()
    split = datasets.load(name)
    return np.arange(split.n_users if what == "users" else split.n_items).astype(str)


# -------------------------------------------------------------------------------------------------------- to parameters

N_STEPS = 6_000  # of a run on a new data set: about what MovieLens-100K takes until it overfits


def write_params(name: str, ratings: str, columns: dict[str, str] | None = None, clean_from: float | None = None) -> Path:
    """Inspects a table and writes ``params/<name>.yaml`` for it, with comments.

    Raises:
        ValueError: a name that is taken or is no word, or what :func:`read_table` refuses.
    """
    file = paths.PARAMS / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise ValueError(f"{name!r} is no name for a data set; take letters, digits and _")
    if file.exists() or name in datasets.SIZES:
        raise ValueError(f"there is a data set {name!r} already; choose another name" + (f" or delete {file}" if file.exists() else ""))
    table = read_table(ratings, columns)
    if clean_from is None and table.quality == "rating" and table.frame["value"].between(1, 5).all():
        clean_from = 3
    split, _, _ = make_split(table, name, clean_from)
    with replacing(file) as temporary:
        temporary.write_text(_params_text(split, table, str(Path(ratings).resolve()), columns or {}, clean_from))
    return file


def _params_text(split: Split, table: Table, ratings: str, columns: dict[str, str], clean_from: float | None) -> str:
    n_rows = sum(len(part) for part in (split.train, split.valid, split.test))
    steps_per_epoch = -(-2 * len(split.train) // 1024)
    epochs = int(np.clip(round(N_STEPS / steps_per_epoch), 5, 100))
    n_steps = epochs * steps_per_epoch
    eval_every = max(1, n_steps // 60)
    curve = split.n_users * split.n_items < 10**7
    if table.quality == "flag":
        about = f"not needed: {table.columns['flag']} says it"
    elif table.quality:
        values = table.frame["value"]
        about = f"{table.columns[table.quality]} runs from {values.min():g} to {values.max():g}, median {values.median():g}; "
        about += "the lowest one of a true positive" if clean_from is not None else "FILL IN the lowest one of a true positive"
    else:
        about = "the table has no rating, dwell time or flag: what needs flags is left out"
    as_yaml = json.dumps  # JSON is YAML
    return f"""# Written by ./run_all.sh --new from a table of {table.n_rows:,} rows. Change what you like: a run is computed again when its
# settings change. docs/own_data.md says what matters.
dataset: {split.name}

ratings: {as_yaml(ratings)}
columns: {as_yaml(columns)}  # role: name of the column, where it is not recognised. Read: {", ".join(f"{role} = {name}" for role, name in table.columns.items())}
clean_from: {"null" if clean_from is None else f"{clean_from:g}"}  # {about}

# What 01_data must find: the counts when this file was written.
expected: {{users: {split.n_users}, items: {split.n_items}, interactions: {n_rows}}}
declared_differences: {{}}

backbones: [GMF, NeuMF, CDAE]
seeds: [1, 2, 3]                              # more of them narrow the intervals
protocol: corrected

# Usual sizes; nothing was tuned on this table. tools/tune.py chooses max_drop_rate, ramp_steps and beta on validation.
dim: 32
n_layers: 3
hidden_dim: 200
corruption: 0.5
batch_size: 1024
lr: 0.001
n_negatives: 1
epochs: {epochs}  # about {n_steps:,} steps
eval_every: {eval_every}
top_k: {[5, 20] if split.n_items > 20 else [1, min(5, split.n_items)]}
test_curve: {as_yaml(curve)}

max_drop_rate: 0.1                            # of the batch, so 20 % of its positives
ramp_steps: {max(1, n_steps // 2)}  # half of a run, so that the maximum is reached
beta: 0.25

threads: 1
device: auto
jobs: auto
use_records: false

# The studies of 05_diagnostics and 06_extra_feedback (run_all.sh --full). What needs flags is left out without them.
controls: [random-drop, popularity-drop, oracle-drop, clean-only]
study_seeds: {{GMF: [1, 2, 3]}}
grid_seeds: [1, 2, 3]
grids: {{}}
doses: []
extra_seeds: {{GMF: [1, 2, 3]}}
known_shares: [0.05, 0.1, 0.2, 0.5]
compared_share: 0.2
fine_tuning_epochs: 5
fine_tuning_lr: 0.0001
known_weight: 5.0
neighbours: {[n for n in (1, 3, 5, 10, 20, 50, 100) if n < split.n_users]}
lambdas: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
"""
