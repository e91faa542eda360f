"""A table of interactions of yours: read it, leave out what cannot be used, and make a data set of it."""

import codecs
import csv
import hashlib
import io
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from denoise_lib.data import Interactions, Split, save_split, split_at_random
from denoise_lib.files import replacing
from replication.sources import public
from replication.support import paths

# What a column may be called, in small letters and without anything but letters and digits; the first one that is there
# counts.
NAMES = {
    "user": "userid user uid customerid customer visitorid memberid reviewerid",
    "item": "itemid item iid movieid movie filmid film productid product asin articleid article newsid bookid book "
    "businessid business "
    "trackid track songid song videoid video gameid game postid post",
    "rating": "rating ratings stars score overall",
    "dwell": "dwelltime dwell duration playtime watchtime activetime",
    "flag": "flag isclean clean liked",
    "time": "timestamp time datetime date",
}
QUALITY = ("flag", "rating", "dwell")  # of these the first one that is there tells true from false positives
FLAGS = {word: value for words, value in (("true t yes y", 1.0), ("false f no n", 0.0)) for word in words.split()}
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
        path: the file, in UTF-8, UTF-16 or else Windows-1252. Of tab, semicolon and comma the one that gives the header
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
    raw, numbers, is_broken = _raw(text, separator, header, chosen, path)
    frame = _read_columns(raw, chosen, decimal_comma=separator == ";")
    left_out, keep = {}, np.ones(len(raw), bool)
    for reason, rows in _unusable(frame, chosen, is_broken).items():
        rows = rows & keep
        if rows.any():
            left_out[reason] = numbers[rows]
        keep &= ~rows
    if "time" in frame and (unread := frame["time"].isna() & keep).any():
        remarks.append(f"rows without a readable time ({chosen['time']}), kept: {unread.sum():,}")
    table = Table(frame[keep].reset_index(drop=True), chosen, len(raw), left_out, remarks)
    if not keep.any():
        raise ValueError(f"{path} has no usable row: {'; '.join(table.told()) or 'it has a header only'}")
    return table


def _text(content: bytes) -> tuple[str, list[str]]:
    """A file's text, and a remark where its encoding had to be guessed: no two ids may become one by a wrong one."""
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
    unknown = [role for role in given if role not in NAMES]
    absent = [name for name in given.values() if name not in header]
    if unknown or absent:
        wrong = (
            f"columns: the roles are {', '.join(NAMES)}, got {unknown[0]!r}"
            if unknown
            else f"{path}: no column {absent[0]!r}"
        )
        raise ValueError(f"{wrong}; the file has {', '.join(header)}")
    plain = {re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0]): name for name in reversed(header)}
    found = {}
    for role, names in NAMES.items():
        known = [plain[name] for name in names.split() if name in plain]
        if role in given or known:
            found[role] = given.get(role) or known[0]
    lacking = [role for role in ("user", "item") if role not in found]
    if lacking:
        raise ValueError(
            f"{path}: no column is recognised as the {lacking[0]} among {', '.join(header)}. The first line must name "
            f"the columns; if it does, say which: --set 'columns={{{lacking[0]}: NAME}}', or --column {lacking[0]}=NAME"
            " for the doctor"
        )
    quality = next((role for role in QUALITY if role in given), None) or next(
        (role for role in QUALITY if role in found), None
    )
    used = {role: name for role, name in found.items() if role in ("user", "item", "time", quality)}
    recognised = [name for names in NAMES.values() for name in names.split() if name in plain]
    ignored = sorted({plain[name] for name in recognised} - set(used.values()))
    if ignored:
        remarks.append(
            f"not used, though their names are known: {', '.join(ignored)}; columns={{role: name}} takes others"
        )
    return used


def _raw(text: str, separator: str, header: list[str], chosen: dict[str, str], path: Path):
    """The chosen columns as text, the number of each row's last line, and which rows have another number of columns."""
    places = [header.index(name) for name in chosen.values()]
    reader = _reader(text, separator)
    next(reader)
    rows, numbers, is_broken = [], [], []
    try:
        for fields in reader:
            if any(value.strip() for value in fields):  # blank lines are no rows
                rows.append([fields[place].strip() if place < len(fields) else "" for place in places])
                numbers.append(reader.line_num)
                is_broken.append(len(fields) != len(header))
    except csv.Error as error:
        raise ValueError(
            f"{path}: line {reader.line_num}: {error}; is there a quotation mark that is never closed?"
        ) from None
    return (
        pd.DataFrame(rows, columns=list(chosen.values()), dtype=object),
        np.array(numbers, np.int64),
        np.array(is_broken, bool),
    )


def _read_columns(raw: pd.DataFrame, columns: dict[str, str], decimal_comma: bool) -> pd.DataFrame:
    def numbers(name: str) -> pd.Series:
        text = raw[name].str.replace(",", ".", regex=False) if decimal_comma else raw[name]
        return pd.to_numeric(text, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)

    frame = pd.DataFrame({"user": raw[columns["user"]], "item": raw[columns["item"]]})
    for role, name in columns.items():
        if role == "flag":
            values = raw[name].str.lower().map(FLAGS).astype(float).fillna(numbers(name))
            frame["value"] = values.where(values.isin([0, 1]))
        elif role in QUALITY:
            frame["value"] = numbers(name)
        elif role == "time":
            frame["time"] = numbers(name).fillna(_seconds(raw[name]))
    return frame


def _seconds(text: pd.Series) -> pd.Series:
    """Dates as seconds; NaN for what is none, or is none that pandas can hold."""
    start = pd.Timestamp(0, tz="UTC")
    try:
        return (pd.to_datetime(text, errors="coerce", utc=True, format="mixed") - start).dt.total_seconds()
    except (ValueError, OverflowError):  # a single odd date, whatever errors="coerce" promises
        return (
            pd.Series([_date(one) for one in text], index=text.index, dtype="datetime64[ns, UTC]") - start
        ).dt.total_seconds()


def _date(text: str) -> pd.Timestamp:
    try:
        return pd.to_datetime(text, utc=True).as_unit("ns")
    except (ValueError, OverflowError):
        return pd.NaT


def _unusable(frame: pd.DataFrame, columns: dict[str, str], is_broken: np.ndarray) -> dict[str, np.ndarray]:
    """Reason -> mask of the rows; a row counts for its first reason."""
    reasons = {"rows with another number of columns than the header": is_broken}
    for role in ("user", "item"):
        reasons[f"rows without {role}"] = frame[role].str.lower().isin(MISSING).to_numpy()
    if "value" in frame:
        role = next(role for role in QUALITY if role in columns)
        reasons[f"rows without a readable {role} ({columns[role]})"] = frame["value"].isna().to_numpy()
    bad = np.logical_or.reduce(list(reasons.values()))
    repeats = np.zeros(len(frame), bool)
    repeats[~bad] = frame[~bad].duplicated(["user", "item"]).to_numpy()
    return reasons | {"rows that repeat a pair of user and item": repeats}


# -------------------------------------------------------------------------------------------------------- to a data set


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
        values = (
            ""
            if is_clean is None
            else f"; {table.quality} runs to {table.frame['value'].max():g}, a true positive from {limit:g}"
        )
        raise ValueError(f"{name}: {error}{values}") from None
    return Split(name, len(user_ids), len(item_ids), **parts), np.asarray(user_ids), np.asarray(item_ids)


def guessed_limit(table: Table) -> float | None:
    """3 for ratings from 1 to 5, the paper's rule (known second-hand); None for other scales, which only their owner
    knows."""
    return 3 if table.quality == "rating" and table.frame["value"].between(1, 5).all() else None


def prepare(name: str, ratings: str, columns: dict[str, str], clean_from: float | None) -> Table | None:
    """Makes ``data/<name>/`` from a table, unless it was made from this very table in this very way.

    Beside the three parts it writes ``users.csv`` and ``items.csv`` (number, original id) and ``card.json``. Returns
    the table, or None where it is gone while the data set made from it is there.

    Raises:
        ValueError: what :func:`read_table` and :func:`make_split` refuse, a name that is taken, or a folder with data
            from elsewhere.
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
    wanted["source"] = f"{source.name}, SHA-256 {hashlib.sha256(source.read_bytes()).hexdigest()}"
    if is_made and card["source"] == wanted["source"]:
        return table
    if (folder / f"{name}.train.rating").is_file() and "left out" not in card:
        raise ValueError(
            f"{folder} holds data that were not made from a table; choose another name or move the folder away"
        )
    split, user_ids, item_ids = make_split(table, name, clean_from)
    if card:
        print(f"{name}: the table or how it is read has changed; data/{name} is made anew", file=sys.stderr)
    for ids, file in ((user_ids, "users.csv"), (item_ids, "items.csv")):
        with replacing(folder / file) as temporary:
            pd.DataFrame({"number": range(len(ids)), "id": ids}).to_csv(
                temporary, index=False, quoting=csv.QUOTE_NONNUMERIC
            )
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
    """The original ids of a data set's ``users`` or ``items``, by number; the numbers themselves where no map was
    kept."""
    file = paths.data(name) / f"{what}.csv"
    if file.is_file():
        return pd.read_csv(file, dtype=str, keep_default_na=False)["id"].to_numpy()
    split = public.load(name)
    return np.arange(split.n_users if what == "users" else split.n_items).astype(str)
