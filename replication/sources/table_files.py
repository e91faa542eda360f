"""Files as people bring them, as tables of text in DuckDB: encoding, packing, separator, quotes, names, broken lines."""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import yaml

KNOWN = yaml.safe_load((files("replication.sources") / "column_names.yaml").read_text(encoding="utf-8"))
NAMES = {role: names.split() for role, names in KNOWN["names"].items()}
QUALITY = ("flag", "rating", "dwell")  # of these the first one that is there tells true from false positives
SEPARATORS = ("\t", ";", "|", "::", ",")
PACKED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zX": lzma.decompress}
KINDS = "a table is CSV (separated by commas, tabs, ;, | or ::), JSON lines or Parquet, as it is or packed"
SAY = (
    "Say which: --set 'columns={{{0}: NAME}}', or --column {0}=NAME for the doctor; where no line names the columns, by "
    "position: --set 'columns={{user: 1, item: 2}}'"
)
BROKEN = "\ufdd0"  # in the place of bytes that are no UTF-8; no text may hold this character
csv.field_size_limit(1 << 30)
codecs.register_error("mark", lambda error: (BROKEN, error.end))
codecs.register_error("control", lambda error: (error.object[error.start : error.end].decode("latin-1"), error.end))


@dataclass
class Rows:
    """A file's rows in its order, in the table ``name`` of a database: texts ``user, item, value, time`` and ``part``.

    ``columns``: role -> the file's name of it. ``lines``: of each row, from 1; a row with line breaks in its cells counts
    as one. ``rejected``: ``line, column, reason`` of what is no row.
    """

    file: Path
    name: str
    columns: dict[str, str]
    lines: np.ndarray
    rejected: pd.DataFrame
    remarks: list[str]


@dataclass
class Layout:
    """``names`` of the columns, whether the file has them, the ``ways`` to read it (what DuckDB reads, and each column of
    that), which lines are no rows, and how many others there are (0: it has no lines)."""

    names: list[str]
    has_names: bool
    ways: list[tuple[str, list[str]]]
    no_rows: tuple = ()
    n_lines: int = 0


def load(db: duckdb.DuckDBPyConnection, file: Path, folder: Path, given: dict[str, str | int], part: int = 0) -> Rows:
    """Reads a file into a table of the database.

    Args:
        folder: a new one, for a copy in UTF-8.
        given: role -> name, or position from 1, of a column.

    Raises:
        ValueError: no column for user or item, or two; a file that cannot be read.
    """
    folder.mkdir()
    name, n_rows, remarks = f"rows_of_{folder.name}", -1, []
    try:
        layout = _layout(db, file, folder, given, remarks)
        places = find_columns(file, layout.names, given, remarks)
        for source, cells in layout.ways:  # the one that gives the most rows is the right one
            for table in ("trial", "reject_errors", "reject_scans"):
                db.execute(f"DROP TABLE IF EXISTS {table}")
            cell_of = {"value" if role in QUALITY else role: cells[place] for role, place in places.items()}
            texts = [f"coalesce(trim({cell_of[role]}), '') AS {role}" for role in cell_of if role != "time"]
            texts += [f"nullif(trim({cell_of['time']}), '') AS time"] if "time" in cell_of else []
            texts += [f"NULL::TEXT AS {role}" for role in ("value", "time") if role not in cell_of]
            (n_found,) = db.execute(
                f"CREATE TABLE trial AS SELECT {', '.join(texts)}, {part}::UTINYINT AS part FROM {source}"
            ).fetchone()
            if n_found > n_rows:
                n_rows = n_found
                db.execute(f"DROP TABLE IF EXISTS {name}; ALTER TABLE trial RENAME TO {name}")
                db.execute("CREATE TABLE IF NOT EXISTS reject_errors (line INT, error_type TEXT, column_idx INT)")
                of_line = "line, min(column_idx) AS place, min_by(error_type, column_idx) AS reason"
                rejected = db.execute(f"SELECT {of_line} FROM reject_errors GROUP BY line ORDER BY line").df()
            if n_rows >= layout.n_lines:
                break
    except (duckdb.Error, OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise ValueError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    names = layout.names if layout.has_names else [f"column {n + 1}" for n in range(len(layout.names))]
    if not layout.has_names:
        remarks.append(f"no line names the columns; the first row is {', '.join(layout.names)}")
    if (n_more := layout.n_lines - n_rows - len(rejected)) > 0:
        remarks.append(f"{n_more:,} lines more than rows: line breaks in cells, or a quotation mark without its end")
    rejected["reason"] = [KNOWN["rejected"].get(reason, reason.lower()) for reason in rejected["reason"]]
    rejected["column"] = [names[place - 1] if 0 < place <= len(names) else "" for place in rejected["place"]]
    others = np.unique([*layout.no_rows, *rejected["line"]]).astype(int) - 1
    lines = np.delete(np.arange(1, n_rows + len(others) + 1), others[others < n_rows + len(others)])[:n_rows]
    return Rows(file, name, {role: names[place] for role, place in places.items()}, lines, rejected, remarks)


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
        if not places[role]:
            recognised = f"no column is recognised as the {role} among {shown}"
            raise ValueError(f"{file}: {recognised}. {SAY.format(role)}. {KINDS}")
        if len(places[role]) > 1:
            several = " or ".join(names[place] for place in places[role])
            raise ValueError(f"{file}: the {role} may be {several}. {SAY.format(role)}")
    used = {role: places[role][0] for role in ("user", "item", quality, "time") if places.get(role)}
    known = {names[place] for found in places.values() for place in found} - {names[at] for at in used.values()}
    if known:
        told = f"not used, though their names are known: {', '.join(sorted(known))}"
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


def _layout(db: duckdb.DuckDBPyConnection, file: Path, folder: Path, given: dict, remarks: list[str]) -> Layout:
    with open(file, "rb") as stream:
        head = stream.read(4)
    if head == b"PAR1":
        source = f"read_parquet('{_link(file, folder / 'parquet')}')"
        names = [name for name, *_ in db.execute(f"DESCRIBE FROM {source}").fetchall()]
        return Layout(names, True, [(source, ['"' + name.replace('"', '""') + '"::VARCHAR' for name in names])])
    is_zstd = head == b"(\xb5/\xfd"
    text = _link(file, folder / "text.zst") if is_zstd else _utf8(file, folder / "text", remarks)
    as_lines = _reader(text, ["line"], "\1", "", "", 0)
    sample = [line or "" for (line,) in db.execute(f"SELECT line FROM {as_lines} LIMIT 200").fetchall()]
    start = "".join(sample).lstrip()[:1]
    if not start:
        raise ValueError(f"{file} is empty; its first line must name the columns")
    if start in "{[":  # an object a line, or an array of them
        source = f"read_json_objects('{text}', ignore_errors=true)"
        keys = db.execute(f"SELECT DISTINCT unnest(json_keys(json)) FROM (FROM {source} LIMIT 1000)").fetchall()
        names = sorted(name for (name,) in keys if '"' not in name)
        cells = ["json_extract_string(json, " + _sql(f'$."{name}"') + ")" for name in names]
        return Layout(names, True, [(source, cells)])
    mark = "'" if start == "'" else '"'
    separator, names, before, has_names = _header(sample, mark, given)
    n_before, cells = sum(1 + "".join(record).count("\n") for record in before), [f"c{n}" for n in range(len(names))]
    blank, n_lines, n_marked = db.execute(
        f"SELECT list(n) FILTER (trim(coalesce(line, '')) = ''), max(n), count(*) FILTER (contains(line, {_sql(mark)})) "
        f"FROM (SELECT row_number() OVER () AS n, line FROM {as_lines})"
    ).fetchone()
    no_rows = {*range(1, n_before + 1), *(blank or ())}
    ways = [(_reader(text, cells, separator, "", "", n_before), cells)]
    if n_marked:
        # A mark without its end may swallow half a file, so marks are also read as they stand, but for those around cells.
        quoted = [(_reader(text, cells, separator, mark, escape, len(before)), cells) for escape in (mark, "\\")]
        bare = _sql(rf"^\s*{mark}(.*?){mark}?\s*$")
        ways = [*quoted, (ways[0][0], [rf"regexp_replace({cell}, {bare}, '\1')" for cell in cells])]
    return Layout(names, has_names, ways, tuple(no_rows), n_lines - len(no_rows))


def _header(sample: list[str], mark: str, given: dict) -> tuple[str, list[str], list[list[str]], bool]:
    """Separator, names, the records above the first row, and whether the names are names: those of the first record in
    which the columns are found; else the first regular record stands for them."""
    records = {one: _records(sample, one, mark) for one in SEPARATORS}
    usual = {one: Counter(map(len, filter(None, found))).most_common(1)[0] for one, found in records.items()}
    headers = {
        one: [at for at, record in enumerate(found[:20]) if _is_header(record, given)] for one, found in records.items()
    }
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


def _is_header(record: list[str], given: dict[str, str | int]) -> bool:
    """Whether the columns that are not given by position are found by their names, and any is."""
    by_name = {role: _places(record, role, given) for role in NAMES if not isinstance(given.get(role), int)}
    return all(by_name.get(role, True) for role in ("user", "item")) and any(by_name.values())


def _records(sample: list[str], separator: str, mark: str) -> list[list[str]]:
    text = "\n".join(sample)
    if len(separator) > 1:
        text, separator = text.replace(separator, "\1"), "\1"
    escape = "\\" if "\\" + mark in text else None
    reader = csv.reader(
        io.StringIO(text), delimiter=separator, quotechar=mark, skipinitialspace=True, escapechar=escape
    )
    return [[cell.strip() for cell in record] if any(record) else [] for record in reader]


def _reader(text: Path, names: list[str], separator: str, quote: str, escape: str, n_before: int) -> str:
    named = ", ".join(f"'{name}': 'VARCHAR'" for name in names)
    return (
        f"read_csv('{text}', auto_detect=false, header=false, columns={{{named}}}, delim='{separator}', "
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
    unpack = next((unpack for start, unpack in PACKED.items() if content.startswith(start)), None)
    if unpack or content.startswith(b"PK\3\4"):
        content = unpack(content) if unpack else _only_member(file)
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


def _only_member(file: Path) -> bytes:
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise ValueError(f"{file} holds {', '.join(names[:5])}; unpack it and name one file, save a workbook as CSV")
    return archive.read(names[0])
