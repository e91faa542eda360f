"""Files as people bring them, as tables of text in DuckDB: encoding, packing, separator, quotes, names, bad lines."""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd
import yaml

KNOWN = yaml.safe_load((files("replication.sources") / "column_names.yaml").read_text(encoding="utf-8"))
NAMES = {role: names.split() for role, names in KNOWN["names"].items()}
QUALITY = ("flag", "rating", "dwell")  # of these the first one that is there tells true from false positives
SEPARATORS = ("\t", ";", "|", "::", ",")
PACKED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zX": lzma.decompress}
BROKEN = "\ufdd0"  # in the place of bytes that are no UTF-8; no text may hold this character
csv.field_size_limit(1 << 30)
codecs.register_error("mark", lambda error: (BROKEN, error.end))
codecs.register_error("control", lambda error: (error.object[error.start : error.end].decode("latin-1"), error.end))


class Rows(NamedTuple):
    """A file's rows in its order: the table ``name`` of a database, texts ``user, item, value, time`` and ``part``."""

    file: Path
    name: str
    columns: dict[str, str]  # role -> the file's name of it
    lines: np.ndarray  # of each row, from 1; a row with line breaks in its cells counts as one
    rejected: pd.DataFrame  # line, column, reason of what is no row
    remarks: list[str]


def load(db: duckdb.DuckDBPyConnection, file: Path, folder: Path, given: dict[str, str | int], part: int = 0) -> Rows:
    """Reads a file into a table of the database.

    Args:
        folder: a new one, for a copy in UTF-8.
        given: role -> name, or position from 1, of a column.

    Raises:
        ValueError: no column for user or item, or two; a file that cannot be read.
    """
    folder.mkdir()
    table, n_rows, remarks = f"rows_of_{folder.name}", -1, []
    try:
        names, has_names, ways, no_rows, n_lines = _layout(db, file, folder, given, remarks)
        places = find_columns(file, names, given, remarks)
        for source, cells in ways:  # the one that gives the most rows is the right one
            db.execute(
                "DROP TABLE IF EXISTS trial; DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans"
            )
            cell_of = {"value" if role in QUALITY else role: cells[at] for role, at in places.items()}
            texts = {"value": "NULL::TEXT", "time": "NULL::TEXT"}
            texts |= {role: f"coalesce(trim({cell}), '')" for role, cell in cell_of.items()}
            chosen = ", ".join(f"{text} AS {role}" for role, text in texts.items())
            create = f"CREATE TABLE trial AS SELECT {chosen}, {part}::UTINYINT AS part FROM {source}"
            if (n_found := db.execute(create).fetchone()[0]) > n_rows:
                n_rows = n_found
                db.execute(f"DROP TABLE IF EXISTS {table}; ALTER TABLE trial RENAME TO {table}")
                db.execute("CREATE TABLE IF NOT EXISTS reject_errors (line INT, error_type TEXT, column_idx INT)")
                of_line = "line, min(column_idx) AS place, min_by(error_type, column_idx) AS reason"
                rejected = db.execute(f"SELECT {of_line} FROM reject_errors GROUP BY line ORDER BY line").df()
            if n_rows >= n_lines:
                break
    except (duckdb.Error, OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise ValueError(f"{file} cannot be read: {str(error).splitlines()[0]}. {KNOWN['kinds']}") from None
    if not has_names:
        remarks.append(f"no line names the columns; the first row is {', '.join(names)}")
        names = [f"column {place + 1}" for place in range(len(names))]
    if (n_more := n_lines - n_rows - len(rejected)) > 0:
        remarks.append(f"{n_more:,} lines more than rows: line breaks in cells, or a quotation mark without its end")
    rejected["reason"] = [KNOWN["rejected"].get(reason, reason.lower()) for reason in rejected["reason"]]
    rejected["column"] = [names[place - 1] if 0 < place <= len(names) else "" for place in rejected["place"]]
    others = np.unique([*no_rows, *rejected["line"]]).astype(int)
    lines = np.setdiff1d(np.arange(1, n_rows + len(others) + 1), others, assume_unique=True)[:n_rows]
    return Rows(file, table, {role: names[at] for role, at in places.items()}, lines, rejected, remarks)


def find_columns(file: Path, names: list[str], given: dict[str, str | int], remarks: list[str]) -> dict[str, int]:
    """Role -> place of its column; remarks on those that might have been meant too.

    Raises:
        ValueError: a role or column that is not there, no column for user or item, or several.
    """
    shown = ", ".join(name if name.isprintable() else "?" for name in names)[:300]
    places = {role: _places(names, role, given) for role in NAMES}
    wrong = [f"the roles are {', '.join(NAMES)}, got {role!r}" for role in given if role not in NAMES]
    wrong += [f"no column {name!r}" for role, name in given.items() if not places.get(role)]
    if wrong:
        raise ValueError(f"{file}: columns: {wrong[0]}; the file has {shown}")
    quality = next((role for known in (given, places) for role in QUALITY if known.get(role)), None)
    for role in filter(None, ("user", "item", quality)):
        say = KNOWN["say"].format(role=role)
        if not places[role]:
            raise ValueError(f"{file}: no column is recognised as the {role} among {shown}. {say} {KNOWN['kinds']}")
        if len(places[role]) > 1:
            several = " or ".join(names[place] for place in places[role])
            raise ValueError(f"{file}: the {role} may be {several}. {say}")
    used = {role: places[role][0] for role in ("user", "item", quality, "time") if places.get(role)}
    if others := {names[at] for found in places.values() for at in found} - {names[at] for at in used.values()}:
        told = f"not used, though their names are known: {', '.join(sorted(others))}"
        remarks.append(f"{told}; columns={{role: name}} takes others")
    return used


def _places(names: list[str], role: str, given: dict[str, str | int]) -> list[int]:
    wanted = given.get(role)
    if isinstance(wanted, int):
        return [wanted - 1] if 0 < wanted <= len(names) else []
    if wanted is not None:
        return [place for place, name in enumerate(names) if name == wanted]
    plain = [re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0]) for name in names]
    return [place for place, name in enumerate(plain) if name in NAMES[role]]


def _layout(db: duckdb.DuckDBPyConnection, file: Path, folder: Path, given: dict, remarks: list[str]) -> tuple:
    """The names of the columns; whether the file has them; the ways to read it, each what DuckDB reads and each column
    of that; which lines are no rows; how many others there are, 0 where it has no lines."""
    with open(file, "rb") as stream:
        head = stream.read(4)
    if head == b"PAR1":
        source = f"read_parquet({_sql(str(_link(file, folder / 'parquet')))})"
        names = [name for name, *_ in db.execute(f"DESCRIBE FROM {source}").fetchall()]
        return names, True, [(source, ['"' + name.replace('"', '""') + '"::VARCHAR' for name in names])], [], 0
    is_zstd = head == b"(\xb5/\xfd"
    text = _link(file, folder / "text.zst") if is_zstd else _utf8(file, folder / "text", remarks)
    as_lines = _reader(text, ["line"], "\1", "", "", 0)
    sample = [line or "" for (line,) in db.execute(f"SELECT line FROM {as_lines} LIMIT 200").fetchall()]
    start = "".join(sample).lstrip()[:1]
    if not start:
        raise ValueError(f"{file} is empty; its first line must name the columns")
    if start in "{[":  # an object a line, or an array of them
        source = f"read_json_objects({_sql(str(text))}, ignore_errors=true)"
        keys = db.execute(f"SELECT DISTINCT unnest(json_keys(json)) FROM (FROM {source})").fetchall()
        names = sorted(name for (name,) in keys if '"' not in name)
        cells = ["json_extract_string(json, " + _sql(f'$."{name}"') + ")" for name in names]
        return names, True, [(source, cells)], [], 0
    mark = "'" if start == "'" else '"'
    separator, names, before, has_names = _header(sample, mark, given)
    n_before, cells = sum(1 + "".join(record).count("\n") for record in before), [f"c{n}" for n in range(len(names))]
    counts = f"list(n) FILTER (trim(coalesce(line, '')) = ''), max(n), count(*) FILTER (contains(line, {_sql(mark)}))"
    numbered = f"(SELECT row_number() OVER () AS n, line FROM {as_lines})"
    blank, n_lines, n_marked = db.execute(f"SELECT {counts} FROM {numbered}").fetchone()
    no_rows, bare = {*range(1, n_before + 1), *(blank or ())}, _reader(text, cells, separator, "", "", n_before)
    ways = [(bare, cells)]
    if n_marked:
        # A mark without its end may swallow half a file: marks are also read as they stand, but for those around cells.
        quoted = [(_reader(text, cells, separator, mark, escape, len(before)), cells) for escape in (mark, "\\")]
        inside = _sql(rf"^\s*{mark}(.*?){mark}?\s*$")
        ways = [*quoted, (bare, [rf"regexp_replace({cell}, {inside}, '\1')" for cell in cells])]
    return names, has_names, ways, no_rows, n_lines - len(no_rows)


def _header(sample: list[str], mark: str, given: dict) -> tuple[str, list[str], list[list[str]], bool]:
    """Separator, names, the records above the first row, and whether the names are names: those of the first record in
    which the columns are found; else the first regular record stands for them."""

    def is_header(record: list[str]) -> bool:  # the columns that are not given by position are there, and there are any
        by_name = {role: _places(record, role, given) for role in NAMES if not isinstance(given.get(role), int)}
        return all(by_name.get(role, True) for role in ("user", "item")) and any(by_name.values())

    records = {one: _records(sample, one, mark) for one in SEPARATORS}
    usual = {one: Counter(map(len, filter(None, found))).most_common(1)[0] for one, found in records.items()}
    headers = {one: [at for at, each in enumerate(found[:20]) if is_header(each)] for one, found in records.items()}
    separator = max(records, key=lambda one: (bool(headers[one]), usual[one][0] > 1, usual[one][1], usual[one][0]))
    found, n_columns = records[separator], usual[separator][0]
    if not headers[separator]:
        at = [len(record) for record in found].index(n_columns)
        return separator, found[at], found[:at], False
    at = headers[separator][0]
    names = found[at]
    if n_columns == len(names) + 1:  # R names no column of row names; others end their rows, not the header, with one
        last = next((record[-1] for record in found[at + 1 :] if len(record) == n_columns), "")
        names = ["", *names] if last else [*names, ""]
    return separator, names, found[: at + 1], True


def _records(sample: list[str], separator: str, mark: str) -> list[list[str]]:
    text = "\n".join(sample).replace("::", "\1" if separator == "::" else "::")
    dialect = dict(delimiter=separator.replace("::", "\1"), quotechar=mark, skipinitialspace=True)
    records = csv.reader(io.StringIO(text), **dialect, escapechar="\\" if "\\" + mark in text else None)
    return [[cell.strip() for cell in record] if any(record) else [] for record in records]


def _reader(text: Path, names: list[str], separator: str, quote: str, escape: str, n_before: int) -> str:
    named = ", ".join(f"'{name}': 'VARCHAR'" for name in names)
    return (
        f"read_csv({_sql(str(text))}, auto_detect=false, header=false, columns={{{named}}}, delim={_sql(separator)}, "
        f"quote={_sql(quote)}, escape={_sql(escape)}, skip={n_before}, store_rejects=true)"
    )


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _link(file: Path, link: Path) -> Path:
    link.symlink_to(file.resolve())  # DuckDB would take [ or * in a name for a pattern
    return link


def _utf8(file: Path, copy: Path, remarks: list[str]) -> Path:
    """The file under a plain name if it is ASCII with one kind of line end, else a copy in UTF-8.

    Text with more whole characters of several bytes than broken ones is UTF-8, else Windows-1252.
    """
    content = file.read_bytes()
    if unpack := next((unpack for start, unpack in PACKED.items() if content.startswith(start)), None):
        content = unpack(content)
    elif content.startswith(b"PK\3\4"):
        archive = zipfile.ZipFile(file)
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(names) != 1:
            raise ValueError(
                f"{file} holds {', '.join(names[:5])}; unpack it and name one file, save a workbook as CSV"
            )
        content = archive.read(names[0])
    elif content.isascii() and b"\0" not in content[:1000] and content.count(b"\r") in (0, content.count(b"\n")):
        return _link(file, copy)
    head = content[:1000]
    nuls = head[::2].count(0), head[1::2].count(0)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "mark")
    elif sum(nuls) > len(head) // 20:  # no other text holds any
        text = content.decode("utf-16-be" if nuls[0] > nuls[1] else "utf-16-le", "mark")
    else:
        text = content.decode("utf-8-sig", "mark")
        n_broken = text.count(BROKEN)
        if n_broken and len(text) - len(text.encode("ascii", "ignore")) <= 2 * n_broken:
            text = content.decode("cp1252", "control")
            remarks.append("the file is not UTF-8 and was read as Windows-1252")
        elif n_broken:
            remarks.append(f"{n_broken:,} characters are no UTF-8; each costs the cell that it stands in")
    copy.write_text(text.replace("\r\n", "\n").replace("\r", "\n"), encoding="utf-8", newline="\n")
    return copy
