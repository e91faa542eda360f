"""A table of interactions of yours, or a split made elsewhere, as a data set."""

import csv
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from denoise_lib.data import FILES, Interactions, Split, save_split, split_in_order
from denoise_lib.files import replacing
from replication.sources import public
from replication.sources.tables import Table, files_of, read_table
from replication.support import paths


def read(
    source: str | Path | list[str], name: str | None = None, columns: dict[str, str | int] | None = None,
    split: str = "random", not_rated: float | None = None, **limit: float | None,
) -> tuple[Split, Table | None, float | None, str]:  # fmt: skip
    """A split made of a table (:func:`read_table`, :func:`make_split`) or elsewhere (:func:`authors_split`); the table,
    if there is one; the lowest value of a true positive, and why that one: ``clean_from``, or without it a guess.

    Raises:
        ValueError: two tables, or more than three, and what these functions refuse.
    """
    if isinstance(source, list) and len(source) not in (1, 3):
        raise ValueError(f"take one table, or three: those of train, valid and test; got {len(source)}")
    if made := authors_split(source, name):
        return made, None, None, "not needed: a split has flags, or it has none"
    table = read_table(source, columns, not_rated)
    clean_from, why = guessed_limit(table)
    if limit and table.quality:
        clean_from, why = limit["clean_from"], why.partition("; ")[0] + "; as you say"
    name = name or Path(source[0] if isinstance(source, list) else source).stem
    return make_split(table, name, clean_from, split), table, clean_from, why


def make_split(table: Table, name: str, clean_from: float | None, split: str = "random") -> Split:
    """The split of a table: three tables as they are, or else 80/10/10 per user, in ``random`` order or by ``time``:
    the last rows go to test, and those without a readable time count as the first ones.

    True positives are those flagged, or whose rating or dwell time is at least ``clean_from``; without flags and
    without a limit, nothing is flagged and the test part holds everything.

    Raises:
        ValueError: a part stays empty, or there is no time to split by.
    """
    limit, frame = 1 if table.quality == "flag" else clean_from, table.frame
    is_clean = None if table.quality is None or limit is None else (frame["value"] >= limit).to_numpy()
    rows = Interactions(frame["user"].to_numpy(), frame["item"].to_numpy(), is_clean)
    if split == "time" and not ("time" in frame and frame["time"].notna().any()):
        raise ValueError(f"{name}: split: time needs a column with times; columns={{time: NAME}} names it")
    try:
        if "part" in frame:
            parts = {part: _part(part, rows, frame) for part in FILES}
        elif split == "time":
            parts = split_in_order(rows, frame["time"].fillna(-np.inf).to_numpy())
        else:
            parts = split_in_order(rows, np.random.default_rng(public.SPLIT_SEED).random(len(rows)))
    except ValueError as error:
        values = f"; {table.quality} runs to {frame['value'].max():g}, a true positive from {limit:g}" if limit else ""
        raise ValueError(f"{name}: {error}{values if is_clean is not None else ''}") from None
    return Split(name, len(table.ids["user"]), len(table.ids["item"]), **parts)


def _part(part: str, rows: Interactions, frame: pd.DataFrame) -> Interactions:
    """A part that is a table by itself: flagged where the table has values; test goes without its false positives."""
    is_in = (frame["part"] == [*FILES].index(part)).to_numpy()
    if rows.is_clean is not None and frame["value"][is_in].isna().all():
        rows = replace(rows, is_clean=None)
    elif part == "test" and rows.is_clean is not None:
        is_in = is_in & rows.is_clean
    if not is_in.any():
        raise ValueError(f"the {part} part is empty")
    return rows[is_in]


def authors_split(source: str | Path | list[str], name: str | None = None) -> Split | None:
    """The split in a folder with ``X.train.rating`` and its companions, or in these files; None for other sources.

    Raises:
        ValueError, FileNotFoundError: other companions, or what :func:`denoise_lib.data.load_split` refuses.
    """
    given = [Path(file) for file in source] if isinstance(source, list) else sorted(Path(source).glob("*.train.rating"))
    if not given or not given[0].name.endswith(".train.rating"):
        return None
    folder, stem = given[0].parent, given[0].name.removesuffix(".train.rating")
    three = [folder / pattern.format(stem) for pattern in FILES.values()]
    if given not in (three[:1], three):
        raise ValueError(f"{source} must hold one {', '.join(file.name for file in three)}")
    return replace(public.read(folder, stem), name=name or stem)


def guessed_limit(table: Table) -> tuple[float | None, str]:
    """The lowest value of a true positive, and why: 3 on a scale of five stars, the paper's rule (known second-hand).
    Of other scales only their owner knows it."""
    if not table.quality:
        return None, "the table has no rating, dwell time or flag: what needs flags is left out"
    name, values = table.columns[table.quality], table.frame["value"].dropna()
    low, high, is_rating = values.min(), values.max(), table.quality == "rating"
    span = f"{name} runs from {low:g} to {high:g}, median {values.median():g}; "
    if table.quality == "flag":
        return None, f"not needed: {name} says it"
    if low == high:
        return None, f"{name} is {low:g} in every row; that is no scale, so what needs flags is left out"
    if is_rating and 0.5 <= low and 3 < high <= 5:
        return 3, span + "the lowest one of a true positive"
    ask = f"; {(values == low).mean():.0%} are {low:g}: if that means not rated, set not_rated: {low:g}"
    return None, span + "FILL IN the lowest one of a true positive" + ask * (is_rating and low in (-1, 0))


def prepare(
    name: str, ratings: str | list[str], columns: dict[str, str | int], clean_from: float | None,
    split: str = "random", not_rated: float | None = None,
) -> Table | None:  # fmt: skip
    """Makes ``data/<name>/`` from a table or a split made elsewhere, unless it was made from this one in this way: the
    three parts, ``card.json``, and of a table ``users.csv``, ``items.csv`` (number, original id) and ``left_out.csv``.
    Returns the table if it was read for that.

    Raises:
        ValueError: what :func:`read` refuses, a name that is taken, or a folder with data from elsewhere.
    """
    if name in public.CATALOGUE:
        raise ValueError(f"ratings: {name} has a source of its own; choose another name for a table of your own")
    folder, card = paths.data(name), public.card(name)
    sources = _places(ratings)
    wanted = {"columns": columns, "clean_from": clean_from, "split": split, "not_rated": not_rated}
    is_made = public.is_prepared(name) and wanted == {key: ({"split": "random"} | card).get(key) for key in wanted}
    try:
        wanted["source"] = [_digest(file) for one in sources for file in files_of(one)]
    except ValueError as error:
        if not is_made:
            raise ValueError(f"ratings: {error}") from None
        print(f"{name}: {error} any more; data/{name}, which was made from it, is used", file=sys.stderr)
        return None
    if is_made and card["source"] == wanted["source"]:
        return None
    if public.files_of(name)[0].is_file() and "left out" not in card:
        raise ValueError(f"{folder} holds data that were not made from a table; choose another name or move it away")
    made, table, *_ = read(
        sources if len(sources) > 1 else sources[0], name, columns, split, not_rated, clean_from=clean_from
    )
    if card:
        print(f"{name}: the table or how it is read has changed; data/{name} is made anew", file=sys.stderr)
    save_split(made, folder)
    about = {"split_seed": public.SPLIT_SEED, "users": made.n_users, "items": made.n_items, "left out": "nothing"}
    if table:
        about |= {
            "rows": f"{table.n_rows:,} read, {len(table.frame):,} used",
            "left out": table.told() or "nothing",
            "read as": table.columns,
            "users in train only": made.n_users - len(pd.unique(np.concatenate([made.valid.users, made.test.users]))),
            "users with one interaction": int((np.bincount(table.frame["user"]) == 1).sum()),
        }
        told = {"left_out": table.left_out}
        told |= {f"{of}s": pd.DataFrame({"number": range(len(ids)), "id": ids}) for of, ids in table.ids.items()}
        for what, rows in told.items():
            with replacing(folder / f"{what}.csv") as temporary:
                rows.to_csv(temporary, index=False, quoting=csv.QUOTE_NONNUMERIC)
        print("".join(f"{name}: {line}\n" for line in table.told()), end="", file=sys.stderr)
    public.write_card(name, wanted | about)
    return table


def table_of(name: str, ratings: str | list[str], columns: dict[str, str | int], not_rated: float | None, **_):
    """The :class:`Table` that ``data/<name>/`` was made of; None where that was a split, or lies there no longer."""
    sources = _places(ratings)
    try:
        is_there = "rows" in public.card(name) and all(map(files_of, sources))
    except ValueError:
        return None
    return read_table(sources if len(sources) > 1 else sources[0], columns, not_rated) if is_there else None


def _places(ratings: str | list[str]) -> list[str]:
    return [str(paths.home() / one) for one in ([ratings] if isinstance(ratings, str) else ratings)]


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return f"{file.name}, SHA-256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"


def original_ids(name: str, what: str) -> np.ndarray:
    """The original ids of a data set's ``users`` or ``items``, by number; where no map was kept, the numbers."""
    file = paths.data(name) / f"{what}.csv"
    if file.is_file():
        return pd.read_csv(file, dtype=str, keep_default_na=False)["id"].to_numpy()
    split = public.load(name)
    return np.arange(split.n_users if what == "users" else split.n_items).astype(str)
