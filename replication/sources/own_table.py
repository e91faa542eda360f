"""A table of interactions of yours: read it, leave out what cannot be used, and make a data set of it."""

import codecs
import csv
import io
import json
import re
import sys
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from denoise_lib.data import Interactions, Split, save_split, split_at_random
from denoise_lib.files import replacing
from replication.sources import public
from replication.sources.fetch import sha256
from replication.support import paths

NAMES = yaml.safe_load((files("replication.sources") / "column_names.yaml").read_text(encoding="utf-8"))
QUALITY = ("flag", "rating", "dwell")  # of these the first one that is there tells true from false positives
FLAGS = dict.fromkeys(("true", "t", "yes", "y"), 1.0) | dict.fromkeys(("false", "f", "no", "n"), 0.0)
MISSING = ("", "nan", "null", "none")
N_NAMED = 5  # rows named of each kind that is left out


@dataclass(frozen=True, eq=False)
class Table:
    """The usable rows of a table.

    Attributes:
        frame: ``user, item`` as text and, where there are such columns, ``value`` (rating, dwell time or flag) and
            ``time`` (seconds, NaN where it cannot be read) as float.
        columns: role -> the table's name of the column; the roles are those of :data:`NAMES`.
        n_rows: rows of the file, without its header.
        left_out: reason -> numbers of the rows that are left out for it; the header is row 1.
        remarks: what else a reader must know of the reading.
    """

    frame: pd.DataFrame
    columns: dict[str, str]
    n_rows: int
    left_out: dict[str, np.ndarray] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def quality(self) -> str | None:
        """``flag``, ``rating`` or ``dwell``: what the values are; None where the table has none of them."""
        return next((role for role in QUALITY if role in self.columns), None)

    @property
    def read_as(self) -> str:
        return ", ".join(f"{role} = {name}" for role, name in self.columns.items())

    def told(self) -> list[str]:
        """What was left out, a line for each reason with the first rows, and the remarks."""
        lines = []
        for reason, rows in self.left_out.items():
            more = ", …" if len(rows) > N_NAMED else ""
            lines.append(f"{reason}: {len(rows):,} left out (row {', '.join(map(str, rows[:N_NAMED]))}{more})")
        return lines + self.remarks


def read_table(path: str | Path, columns: dict[str, str] | None = None) -> Table:
    """Reads a CSV or TSV file with a header line.

    Columns are recognised by their names (:data:`NAMES`; what follows a colon, as in ``user_id:token``, does not count)
    unless they are given. Ids are text, so that "001" and "1" are two users. Rows that lack a user or an item, whose
    value cannot be read, or that repeat a pair (its first row stays), are left out and counted.

    Args:
        path: the file, in UTF-8, UTF-16 or else Latin-1. Of tab, semicolon and comma the one that gives the header
            the most columns separates them; in a file with semicolons a comma may be the decimal point.
        columns: role -> column name, for columns that are not recognised or not to be used by their own name.

    Raises:
        ValueError: no such file, no user or item column, a column that is given but not there, or no usable row.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    text, remarks = _text(path.read_bytes())
    separator, header = _header(text, path)
    chosen = _roles(header, columns or {}, path, remarks)
    raw = _raw(text, separator, header, chosen, path)
    frame = _read_columns(raw, decimal_comma=separator == ";")
    left_out, keep = {}, pd.Series(True, frame.index)
    for reason, rows in _unusable(frame, chosen, raw["broken"]).items():
        if (rows & keep).any():
            left_out[reason] = frame.index[rows & keep].to_numpy()
        keep &= ~rows
    if "time" in frame and (unread := frame["time"].isna() & keep).any():
        remarks.append(f"rows without a readable time ({chosen['time']}), kept: {unread.sum():,}")
    table = Table(frame[keep].reset_index(drop=True), chosen, len(raw), left_out, remarks)
    if not keep.any():
        raise ValueError(f"{path} has no usable row: {'; '.join(table.told()) or 'it has a header only'}")
    return table


def _text(content: bytes) -> tuple[str, list[str]]:
    """A file's text, and a remark where it is not Unicode: Latin-1 reads any bytes, and two ids stay two."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("latin-1"), ["the file is not UTF-8 and was read as Latin-1"]


def _reader(text: str, separator: str):
    # Tab-separated files quote nothing, and a lone quotation mark must not swallow what follows.
    quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, skipinitialspace=True)


def _header(text: str, path: Path) -> tuple[str, list[str]]:
    if not text.strip():
        raise ValueError(f"{path} is empty; its first line must name the columns")
    headers = {separator: next(_reader(text, separator), []) for separator in "\t;,"}
    separator = max(headers, key=lambda one: len(headers[one]))
    return separator, [name.strip() for name in headers[separator]]


def _roles(header: list[str], given: dict[str, str], path: Path, remarks: list[str]) -> dict[str, str]:
    """Role -> column of the file. Columns that might have been meant too are remarked on."""
    unknown = [f"columns: the roles are {', '.join(NAMES)}, got {role!r}" for role in given if role not in NAMES]
    absent = [f"{path}: no column {name!r}" for name in given.values() if name not in header]
    if wrong := unknown + absent:
        raise ValueError(f"{wrong[0]}; the file has {', '.join(header)}")
    plain = {re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0]): name for name in reversed(header)}
    known = {role: [plain[name] for name in names if name in plain] for role, names in NAMES.items()}
    found = {role: given.get(role) or known[role][0] for role in NAMES if role in given or known[role]}
    for role in ("user", "item"):
        if role not in found:
            raise ValueError(
                f"{path}: no column is recognised as the {role} among {', '.join(header)}. The first line must name "
                f"the columns; if it does, say which: --set 'columns={{{role}: NAME}}', or --column {role}=NAME "
                "for the doctor"
            )
    quality = next((role for said in (given, found) for role in QUALITY if role in said), None)
    used = {role: name for role, name in found.items() if role in ("user", "item", "time", quality)}
    if ignored := sorted(set().union(*known.values()) - set(used.values())):
        told = f"not used, though their names are known: {', '.join(ignored)}"
        remarks.append(f"{told}; columns={{role: name}} takes others")
    return used


def _raw(text: str, separator: str, header: list[str], chosen: dict[str, str], path: Path) -> pd.DataFrame:
    """The chosen columns as text, named by role, and ``broken``: whether a row has another number of columns than the
    header. The index is the number of a row's last line."""
    places = [header.index(name) for name in chosen.values()]
    reader, rows, numbers = _reader(text, separator), [], []
    next(reader)
    try:
        for fields in reader:
            if any(value.strip() for value in fields):  # blank lines are no rows
                values = [fields[place].strip() if place < len(fields) else "" for place in places]
                rows.append([*values, len(fields) != len(header)])
                numbers.append(reader.line_num)
    except csv.Error as error:
        why = f"{error}; is there a quotation mark that is never closed?"
        raise ValueError(f"{path}: line {reader.line_num}: {why}") from None
    return pd.DataFrame(rows, numbers, [*chosen, "broken"], dtype=object).astype({"broken": bool})


def _read_columns(raw: pd.DataFrame, decimal_comma: bool) -> pd.DataFrame:
    def numbers(text: pd.Series) -> pd.Series:
        text = text.str.replace(",", ".", regex=False) if decimal_comma else text
        return pd.to_numeric(text, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)

    frame = raw[["user", "item"]].copy()
    for role, text in raw.items():
        if role == "flag":
            values = text.str.lower().map(FLAGS).astype(float).fillna(numbers(text))
            frame["value"] = values.where(values.isin([0, 1]))
        elif role in QUALITY:
            frame["value"] = numbers(text)
        elif role == "time":
            frame["time"] = numbers(text).fillna(_seconds(text))
    return frame


def _seconds(text: pd.Series) -> pd.Series:
    """Dates as seconds; NaN where the text is no date, or one that pandas cannot hold."""
    start = pd.Timestamp(0, tz="UTC")
    try:
        return (pd.to_datetime(text, errors="coerce", utc=True, format="mixed") - start).dt.total_seconds()
    except (ValueError, OverflowError):  # a single odd date, whatever errors="coerce" promises
        return (pd.Series(map(_date, text), text.index, "datetime64[ns, UTC]") - start).dt.total_seconds()


def _date(text: str) -> pd.Timestamp:
    try:
        return pd.to_datetime(text, utc=True).as_unit("ns")
    except (ValueError, OverflowError):
        return pd.NaT


def _unusable(frame: pd.DataFrame, columns: dict[str, str], is_broken: pd.Series) -> dict[str, pd.Series]:
    """Reason -> mask of the rows; a row counts for its first reason."""
    reasons = {"rows with another number of columns than the header": is_broken}
    reasons |= {f"rows without {role}": frame[role].str.lower().isin(MISSING) for role in ("user", "item")}
    if "value" in frame:
        role = next(role for role in QUALITY if role in columns)
        reasons[f"rows without a readable {role} ({columns[role]})"] = frame["value"].isna()
    good = frame[~np.logical_or.reduce(list(reasons.values()))]
    repeats = good.duplicated(["user", "item"]).reindex(frame.index, fill_value=False)
    return reasons | {"rows that repeat a pair of user and item": repeats}


def make_split(table: Table, name: str, clean_from: float | None) -> tuple[Split, np.ndarray, np.ndarray]:
    """The split of a table, 80/10/10 at random per user, and the original ids of its users and items, in their order.

    True positives are those flagged, or whose rating or dwell time is at least ``clean_from``; without flags, and
    without a limit, nothing is flagged and the test part holds everything.

    Raises:
        ValueError: a part stays empty.
    """
    users, user_ids = pd.factorize(table.frame["user"], sort=True)
    items, item_ids = pd.factorize(table.frame["item"], sort=True)
    limit = 1 if table.quality == "flag" else clean_from
    is_clean = None if table.quality is None or limit is None else (table.frame["value"] >= limit).to_numpy()
    rows = Interactions(users.astype(np.int64), items.astype(np.int64), is_clean)
    try:
        parts = split_at_random(rows, public.SPLIT_SEED)
    except ValueError as error:
        told = [f"{name}: {error}"]
        if is_clean is not None:
            told.append(f"{table.quality} runs to {table.frame['value'].max():g}, a true positive from {limit:g}")
        raise ValueError("; ".join(told)) from None
    return Split(name, len(user_ids), len(item_ids), **parts), np.asarray(user_ids), np.asarray(item_ids)


def guessed_limit(table: Table) -> float | None:
    """3 for ratings from 1 to 5, the paper's rule (known second-hand); of other scales only their owner knows it."""
    return 3 if table.quality == "rating" and table.frame["value"].between(1, 5).all() else None


def prepare(name: str, ratings: str, columns: dict[str, str], clean_from: float | None) -> Table | None:
    """Makes ``data/<name>/`` from a table, unless it was made from this very table in this very way.

    Beside the three parts it writes ``users.csv`` and ``items.csv`` (number, original id) and ``card.json``. Returns
    the table, or None where it is gone while the data set made from it is there.

    Raises:
        ValueError: what :func:`read_table` and :func:`make_split` refuse, or a name or folder that is taken.
    """
    if name in public.CATALOGUE:
        raise ValueError(f"ratings: {name} has a source of its own; choose another name for a table of your own")
    source, folder, card = paths.home() / ratings, paths.data(name), public.card(name)
    wanted = {"columns": columns, "clean_from": clean_from, "split_seed": public.SPLIT_SEED}
    is_made = public.is_prepared(name) and all(card.get(key) == value for key, value in wanted.items())
    if not source.is_file():
        if not is_made:
            raise ValueError(f"ratings: there is no file {source}")
        print(f"{name}: {source} is gone; data/{name}, which was made from it, is used", file=sys.stderr)
        return None
    table = read_table(source, columns)
    wanted["source"] = f"{source.name}, SHA-256 {sha256(source.read_bytes())}"
    if is_made and card["source"] == wanted["source"]:
        return table
    if (folder / f"{name}.train.rating").is_file() and "left out" not in card:
        raise ValueError(f"{folder} holds data that were not made from a table; choose another name or move it away")
    split, user_ids, item_ids = make_split(table, name, clean_from)
    if card:
        print(f"{name}: the table or how it is read has changed; data/{name} is made anew", file=sys.stderr)
    for what, ids in (("users", user_ids), ("items", item_ids)):
        with replacing(folder / f"{what}.csv") as temporary:
            pd.Series(ids, name="id").rename_axis("number").to_csv(temporary, quoting=csv.QUOTE_NONNUMERIC)
    save_split(split, folder)
    n_train_only = split.n_users - len(np.unique(np.concatenate([split.valid.users, split.test.users])))
    about = {
        "rows": f"{table.n_rows:,} read, {len(table.frame):,} used",
        "left out": table.told() or "nothing",
        "read as": table.columns,
        "users in train only": n_train_only,
        "users with one interaction": int((table.frame.groupby("user").size() == 1).sum()),
        "users": split.n_users,
        "items": split.n_items,
    }
    with replacing(folder / "card.json") as temporary:
        temporary.write_text(json.dumps(wanted | about, indent=2) + "\n")
    for line in table.told():
        print(f"{name}: {line}", file=sys.stderr)
    return table


def original_ids(name: str, what: str) -> np.ndarray:
    """The original ids of a data set's ``users`` or ``items``, by number; where no map was kept, the numbers."""
    file = paths.data(name) / f"{what}.csv"
    if file.is_file():
        return pd.read_csv(file, dtype=str, keep_default_na=False)["id"].to_numpy()
    split = public.load(name)
    return np.arange(split.n_users if what == "users" else split.n_items).astype(str)
