"""A table of interactions: its usable rows, numbered, and what had to be left out of it."""

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from unicodedata import normalize

import duckdb
import numpy as np
import pandas as pd

from replication.sources.table_files import BROKEN, KNOWN, QUALITY, Rows, load

N_NAMED = 10  # rows named of each kind that is left out
DATABASE = {"memory_limit": "2GB", "autoinstall_known_extensions": False, "autoload_known_extensions": False}
MISSING = "(" + ", ".join(f"'{word}'" for word in KNOWN["missing"]) + ")"
DECIMAL_COMMA = r"[-+]?\d*,(\d{1,2}|\d{4,})"


@dataclass(frozen=True, eq=False)
class Table:
    """The usable rows of a table.

    Attributes:
        frame: ``user, item``, numbers from 0; where there are such columns ``value`` (rating, dwell time or flag) and
            ``time`` (NaN where it cannot be read), float; of three tables ``part``, 0, 1 or 2.
        columns: role of ``column_names.yaml`` -> the table's name of the column.
        n_rows: rows of all files, without their headers.
        ids: ``user, item`` -> the text of each number, sorted.
        left_out: ``file, line, column, reason`` of what is left out; ``file`` is empty where there is one only.
        remarks: what else a reader must know of the reading.
    """

    frame: pd.DataFrame
    columns: dict[str, str]
    n_rows: int
    ids: dict[str, np.ndarray]
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["file", "line", "column", "reason"]))
    remarks: list[str] = field(default_factory=list)

    @property
    def quality(self) -> str | None:
        """``flag``, ``rating`` or ``dwell``: what the values are; None where the table has none of them."""
        return next((role for role in QUALITY if role in self.columns), None)

    @property
    def read_as(self) -> str:
        return ", ".join(f"{role} = {name}" for role, name in self.columns.items())

    def reasons(self) -> list[tuple[str, int, str]]:
        """Why rows are left out, how many, and the first ones."""
        at = (self.left_out["file"] + ":" + self.left_out["line"].astype(str)).str.removeprefix(":")
        groups = at.groupby(self.left_out["reason"], sort=False)
        return [(reason, len(at), ", ".join(at[:N_NAMED]) + ", …" * (len(at) > N_NAMED)) for reason, at in groups]

    def told(self) -> list[str]:
        """What was left out, a line for each reason with the first rows, and the remarks."""
        return [f"{reason}: {n:,} left out (row {first})" for reason, n, first in self.reasons()] + self.remarks


def read_table(
    source: str | Path | list[str], columns: dict[str, str | int] | None = None, not_rated: float | None = None
) -> Table:
    """Reads a file, all files of a folder, or those of a pattern such as ``part-*.csv``, as one table.

    Columns are recognised by their names (``column_names.yaml``; what follows a colon, as in ``user_id:token``, does
    not count) unless they are given. Ids are text, so that "001" and "1" are two users. Rows that lack a user or an
    item, whose value cannot be read, or that repeat a pair (its first row stays), are left out and counted.

    Args:
        source: where it lies; or three such places, of train, valid and test, which may lack values.
        columns: role -> column, if it is not recognised or not to be used: its name, or its position from 1.
        not_rated: the rating of rows that are no ratings; they are left out.

    Raises:
        ValueError: no such file, what :func:`replication.sources.table_files.load` refuses, values in some files and
            none or others in the rest, or no usable row.
    """
    sources = source if isinstance(source, list) else [source]
    found = [(part, file) for part, one in enumerate(sources) for file in files_of(one)]
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect(config=DATABASE | {"temp_directory": scratch}) as db:
        with suppress(duckdb.InvalidInputException):  # of Jupyter without ipywidgets, which shows no bar
            db.execute("SET enable_progress_bar = false")
        db.execute("SET TimeZone = 'UTC'")
        db.execute("SET disabled_optimizers = 'in_clause'")  # it makes joins of IN, which lose the order of the rows
        loaded = [load(db, file, Path(scratch, f"f{n}"), columns or {}, part) for n, (part, file) in enumerate(found)]
        table = _usable(db, loaded, not_rated, are_parts=len(sources) > 1)
    if table.frame.empty:
        raise ValueError(f"{source} has no usable row: {'; '.join(table.told()) or 'it has a header only'}")
    return table


def files_of(source: str | Path) -> list[Path]:
    """The file of that name, or all of the folder or the pattern, in the order of their names.

    Raises:
        ValueError: there is none.
    """
    path = Path(source)
    found = path.rglob("*") if path.is_dir() else [path] if path.is_file() else map(Path, glob(str(source)))
    if files := sorted(file for file in found if file.is_file() and (file == path or file.name[0] not in "._")):
        return files
    inside = f"{path} must hold one <name>.train.rating and its companions, or tables"
    raise ValueError(inside if path.is_dir() else f"there is no file {source}")


def _usable(db: duckdb.DuckDBPyConnection, files: list[Rows], not_rated: float | None, are_parts: bool) -> Table:
    columns = {role: name for rows in files for role, name in rows.columns.items()}
    kinds = {next((role for role in QUALITY if role in rows.columns), None) for rows in files}
    quality = next(filter(None, kinds), None)
    if len(kinds - {None} if are_parts else kinds) > 1:
        raise ValueError(f"{files[0].file} and the files beside it must all have {quality}s, or none")
    remarks = [f"{rows.file.name}: " * (len(files) > 1) + remark for rows in files for remark in rows.remarks]
    whole = " UNION ALL ".join(f"FROM {rows.name}" for rows in files)
    db.execute(f"CREATE VIEW cells AS SELECT * REPLACE (nullif(time, '') AS time) FROM ({whole})")
    value, time = _value(db, quality), _time(db, columns.get("time"), remarks)
    about = dict(value=value, quality=quality, column=columns.get(quality), broken=BROKEN, missing=MISSING)
    about["not_rated"] = "NULL" if not_rated is None else not_rated
    reasons = [[text.format(**about) for text in reason] for reason in KNOWN["left_out"]]
    cases = " ".join(f"WHEN {condition} THEN {code}" for code, (*_, condition) in enumerate(reasons))
    for of in ("user", "item"):
        db.execute(f"CREATE TYPE {of}s AS ENUM (SELECT DISTINCT {of} FROM cells ORDER BY 1)")
    found = db.execute(
        "SELECT enum_code(user::users)::INT AS user, enum_code(item::items)::INT AS item, part, "
        f"coalesce({value}, 'nan')::DOUBLE AS value, coalesce({time}, 'nan')::DOUBLE AS time, "
        f"CASE {cases} ELSE {len(reasons)} END::TINYINT AS reason FROM cells"
    ).fetchnumpy()
    reason, (*_, unrated, repeated, used) = found["reason"], range(len(reasons) + 1)
    pairs = (found["part"].astype(np.int64) << 60) + (found["user"].astype(np.int64) << 30) + found["item"]
    pairs = pairs[places := np.flatnonzero(reason == used)]
    in_order = np.sort(pairs)
    if (in_order[1:] == in_order[:-1]).any():  # sorting takes a sixth of the time of finding which ones
        reason[places[pd.Series(pairs).duplicated().to_numpy()]] = repeated
    is_there = {"user": True, "item": True, "value": quality, "time": "time" in columns, "part": are_parts}
    frame = pd.DataFrame({name: found[name][reason == used] for name in is_there if is_there[name]})
    ids = {role: _numbered(db, frame, role, remarks) for role in ("user", "item")}
    only_told = {unrated: "", **({} if quality in ("flag", "rating") else {repeated: ", which is normal for visits"})}
    remarks += [f"{reasons[code][0]}{more}: {n:,}" for code, more in only_told.items() if (n := (reason == code).sum())]
    if n := frame.get("time", pd.Series()).isna().sum():
        remarks.append(f"rows without a readable time ({columns['time']}), kept: {n:,}")
    told = [(text, columns.get(quality if role == "value" else role)) for text, role, _ in reasons]
    left_out = _left_out(files, np.where(np.isin(reason, [used, *only_told]), -1, reason), told)
    n_rows = len(reason) + sum(len(rows.rejected) for rows in files)
    return Table(frame, columns, n_rows, ids, left_out, remarks)


def _left_out(files: list[Rows], codes: np.ndarray, about: list[tuple[str, str]]) -> pd.DataFrame:
    """``file, line, column, reason`` of the lines that are no rows and of the rows with a code from 0."""
    ends, frames = np.cumsum([len(rows.lines) for rows in files]), []
    for rows, of_file in zip(files, np.split(codes, ends[:-1])):
        at = np.argsort(of_file, kind="stable")[(of_file < 0).sum() :]
        told = pd.DataFrame([about[code] for code in of_file[at]], columns=["reason", "column"])
        told = pd.concat([rows.rejected, told.assign(line=rows.lines[at])])
        frames.append(told.assign(file=rows.file.name if len(files) > 1 else ""))
    return pd.concat(frames, ignore_index=True)[["file", "line", "column", "reason"]].astype({"line": int})


def _value(db: duckdb.DuckDBPyConnection, quality: str | None) -> str:
    """SQL that reads ratings, dwell times or flags; 4,5 is a number unless three digits follow every comma."""
    has_comma = f"bool_or(contains(value, ',') AND regexp_full_match(value, '{DECIMAL_COMMA}'))"
    (is_decimal,) = db.execute(f"SELECT {has_comma} FROM cells").fetchone()
    number = "TRY_CAST(replace(value, ',', '.') AS DOUBLE)" if is_decimal else "TRY_CAST(value AS DOUBLE)"
    if quality != "flag":
        return number
    words = " ".join(f"WHEN lower(value) IN {tuple(some)} THEN {flag}" for flag, some in KNOWN["flags"].items())
    return f"CASE {words} WHEN {number} IN (0, 1) THEN {number} END"


def _time(db: duckdb.DuckDBPyConnection, name: str | None, remarks: list[str]) -> str:
    """SQL that reads times in the one way that reads the most of the column: as numbers, or as dates of one kind."""
    ways = {"numbers": "TRY_CAST(time AS DOUBLE)", "dates": "epoch(TRY_CAST(time AS TIMESTAMPTZ))"}
    for kind, days in KNOWN["days"].items():
        ways[kind] = f"epoch(try_strptime(time, {[day + clock for clock in KNOWN['clocks'] for day in days]}))"
    counts = {}
    for kind, way in ways.items():
        counts[kind], n_others = db.execute(f"SELECT count({way}), count(time) - count({way}) FROM cells").fetchone()
        if not n_others and "first" not in kind:
            return way
    first, second = [kind for kind in ways if "first" in kind]
    (n_both,) = db.execute(f"SELECT count({ways[first]}) FROM cells WHERE {ways[second]} IS NOT NULL").fetchone()
    best = max(counts, key=counts.get)
    if best in (first, second) and not min(counts[first], counts[second]) == n_both < counts[best]:
        remarks.append(f"{name}: day and month cannot be told apart, so no time was read; write days as 2020-12-31")
        return "NULL"
    return ways[best]


def _numbered(db: duckdb.DuckDBPyConnection, frame: pd.DataFrame, role: str, remarks: list[str]) -> np.ndarray:
    """Numbers the ids that are left, and gives their texts."""
    texts = db.execute(f"SELECT unnest(enum_range(NULL::{role}s))").fetchall()
    is_there = np.bincount(frame[role], minlength=len(texts)) > 0
    frame[role] = (is_there.cumsum() - 1)[frame[role]]
    ids = np.array([text for (text,) in texts], dtype=object)[is_there]
    alike = pd.Series([normalize("NFC", text) for text in ids if not text.isascii()], dtype=object).duplicated().sum()
    if alike:
        remarks.append(f"{role}s that look the same but are written with other characters (NFC, NFD): {alike:,} pairs")
    missing = f"SELECT {role}, count(*) FROM cells WHERE {role} IN {MISSING} AND {role} <> '' GROUP BY 1 ORDER BY 1"
    words = ", ".join(f"{word} ({n:,} rows)" for word, n in db.execute(missing).fetchall())
    if words:
        remarks.append(f"read as a missing {role}: {words}; if it is an id, write it otherwise")
    return ids
