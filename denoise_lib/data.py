"""Interactions and their split: reading and writing the authors' format, and making a split from ratings.

A data set is three tab-separated files without header, ids counted from 0::

    <name>.train.rating     user  item  [flag]
    <name>.valid.rating     user  item  [flag]
    <name>.test.negative    user  item  [flag]      or      (user, item)  <negatives, never used> ...

A flag is 1 for a true positive and 0 for a false positive, although the authors' variables are called ``noisy``.
"""

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from denoise_lib.files import replacing

Shares = tuple[float, float, float]  # of train, valid and test
FILES = {"train": "{}.train.rating", "valid": "{}.valid.rating", "test": "{}.test.negative"}


@dataclass(frozen=True, eq=False)
class Interactions:
    """Observed (user, item) pairs, one row each.

    Attributes:
        users, items: int64 ``(n,)`` ids.
        is_clean: bool ``(n,)``, True for a true positive, or None where the data carry no flags.
    """

    users: np.ndarray
    items: np.ndarray
    is_clean: np.ndarray | None = None

    def __post_init__(self):
        shapes = {np.shape(column) for column in (self.users, self.items, self.is_clean) if column is not None}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise ValueError("users, items and is_clean are vectors of one length")

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, rows) -> "Interactions":
        """The chosen rows (a slice, a mask or positions)."""
        flags = None if self.is_clean is None else self.is_clean[rows]
        return Interactions(self.users[rows], self.items[rows], flags)


@dataclass(frozen=True, eq=False)
class Split:
    """A data set in three parts; ids lie in ``[0, n_users)`` and ``[0, n_items)``."""

    name: str
    n_users: int
    n_items: int
    train: Interactions
    valid: Interactions
    test: Interactions

    def matrix(self, *parts: Interactions) -> csr_matrix:
        """The 0/1 CSR matrix ``(n_users, n_items)`` of all pairs in the given parts."""
        users = np.concatenate([part.users for part in parts])
        items = np.concatenate([part.items for part in parts])
        matrix = csr_matrix((np.ones(len(users), np.int8), (users, items)), shape=(self.n_users, self.n_items))
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    def without_duplicates(self) -> "Split":
        """The same split with each part's first row of every (user, item) pair only."""
        first = {}
        for name in FILES:
            part = getattr(self, name)
            rows = np.unique(part.users * self.n_items + part.items, return_index=True)[1]
            first[name] = part[np.sort(rows)]
        return replace(self, **first)


def load_split(folder: str | Path, name: str, n_users: int | None = None, n_items: int | None = None) -> Split:
    """Reads the three files of a data set.

    Args:
        folder: where ``<name>.train.rating`` and its companions lie.
        name: the data set's name.
        n_users, n_items: declared sizes; None takes the largest id of all parts plus one.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a row that is not two or three integers, a negative id, an id beyond a declared size, a flag other
            than 0 or 1, or an empty part; the message names file, line, field and remedy.
    """
    folder = Path(folder)
    parts = {part: read_part(folder / pattern.format(name)) for part, pattern in FILES.items()}
    sizes = []
    for field, declared in (("users", n_users), ("items", n_items)):
        ids = {part: getattr(rows, field) for part, rows in parts.items()}
        sizes.append(size := declared or 1 + max(int(column.max()) for column in ids.values()))
        for part, column in ids.items():
            if (row := int(np.argmax(column >= size))) or column[0] >= size:
                raise ValueError(
                    f"{folder / FILES[part].format(name)}: row {row + 1}: {field[:-1]} {column[row]} is beyond the "
                    f"declared {size} {field}; ids run from 0 to {size - 1}. Correct the file or declare n_{field}."
                )
    return Split(name, *sizes, **parts)


def save_split(split: Split, folder: str | Path) -> None:
    """Writes a split's three files; :func:`load_split` reads the same rows back. A file appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part, pattern in FILES.items():
        rows: Interactions = getattr(split, part)
        columns = [rows.users, rows.items] + ([] if rows.is_clean is None else [rows.is_clean.astype(np.int64)])
        with replacing(folder / pattern.format(split.name)) as temporary:
            pd.DataFrame(np.column_stack(columns)).to_csv(temporary, sep="\t", header=False, index=False)


def read_part(path: Path) -> Interactions:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: place it there; ./run_all.sh gets or makes those that it knows.")
    try:
        table = _read_table(path)
    except ValueError:  # pandas' ParserError is one
        raise ValueError(_first_fault(path)) from None
    users, items = np.ascontiguousarray(table[:, :2].T)
    return Interactions(users, items, table[:, 2] == 1 if table.shape[1] == 3 else None)


_PAIR = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)(\t|\s*$)")  # and after the tab negatives that are never used


def _read_table(path: Path) -> np.ndarray:
    """The columns of either format, int64 ``(n, 2)`` or ``(n, 3)``.

    Raises:
        ValueError: anything is wrong; :func:`_first_fault` says what.
    """
    with open(path, encoding="utf-8") as file:
        if file.read(1) == "(":
            file.seek(0)
            pairs = [_PAIR.match(line) for line in file if line.strip()]
            if None in pairs:
                raise ValueError
            return np.array([pair.group(1, 2) for pair in pairs]).astype(np.int64)
    table = pd.read_csv(path, sep="\t", header=None, dtype=np.int64, index_col=False).to_numpy()
    if table.shape[1] not in (2, 3) or (table < 0).any() or (table[:, 2:] > 1).any():
        raise ValueError
    return table


def _first_fault(path: Path) -> str:
    """Says in one sentence what is wrong with the first faulty row. Slow, so it is asked only about a bad file."""
    n_fields = None
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            where, fields = f"{path}: line {number}: ", line.rstrip("\r\n").split("\t")
            if not line.strip() or _PAIR.match(line):
                continue
            if line.startswith("("):
                return f"{where}expected (user, item) with two ids of at least 0 before the first tab."
            n_fields = n_fields or len(fields)
            if len(fields) not in (2, 3) or len(fields) != n_fields:
                expected = n_fields if n_fields in (2, 3) else "2 or 3"
                return (
                    f"{where}{len(fields)} tab-separated columns, expected {expected} (user, item and, in every row or "
                    "in none, a 0/1 flag). Separate the columns by tabs."
                )
            for field, value in zip(("user", "item", "flag"), fields):
                where = f"{path}: line {number}: {field} is "
                if not re.fullmatch(r"\s*-?\d+\s*", value):
                    return f"{where}{value!r}, not an integer. Map the ids to 0, 1, 2, … first."
                if int(value) < 0:
                    return f"{where}{value.strip()}, a negative number. Ids are counted from 0."
                if field == "flag" and int(value) > 1:
                    return (
                        f"{where}{value.strip()}; it is 1 for a true and 0 for a false positive. "
                        "If the column holds ratings, make the split with denoise_lib.data.split_ratings."
                    )
    return f"{path} has no rows: an empty part cannot be used. Place a file with at least one interaction there."


def split_ratings(frame: pd.DataFrame, *, clean_from: float, seed: int, shares: Shares = (0.8, 0.1, 0.1)) -> Split:
    """Makes a split from explicit ratings: every rating is an observed interaction, a low one a false positive.

    Each user's rows are put in random order and cut at the shares. False positives stay in train and valid and leave
    test, as in the paper. Ids of any sortable type are numbered in sorted order, that of ``numpy.unique``.

    Args:
        frame: columns ``user, item, rating``; others are ignored. A repeated pair keeps its first row.
        clean_from: the lowest rating of a true positive.
        seed: of the split.
        shares: of train, valid and test for each user; they sum to 1.

    Raises:
        ValueError: a column is missing or has empty or non-numeric cells, or what :func:`split_in_order` refuses.
    """
    missing = {"user", "item", "rating"} - set(frame.columns)
    if missing:
        raise ValueError(f"the ratings lack the columns {sorted(missing)}; they have {list(frame.columns)}")
    rating = pd.to_numeric(frame["rating"], errors="coerce")
    bad = np.flatnonzero(frame["user"].isna() | frame["item"].isna() | rating.isna())
    if len(bad):
        raise ValueError(f"{len(bad)} ratings have an empty or non-numeric cell, first in row {bad[0] + 1}; drop them")
    repeats = frame.duplicated(["user", "item"]).to_numpy()
    if repeats.any():
        warnings.warn(f"{repeats.sum()} ratings repeat a (user, item) pair; the first of each is kept", stacklevel=2)
    frame, rating = frame[~repeats], rating[~repeats]

    user_ids, users = np.unique(frame["user"].to_numpy(), return_inverse=True)
    item_ids, items = np.unique(frame["item"].to_numpy(), return_inverse=True)
    rows = Interactions(users.astype(np.int64), items.astype(np.int64), (rating >= clean_from).to_numpy())
    keys = np.random.default_rng(seed).random(len(rows))
    return Split("ratings", len(user_ids), len(item_ids), **split_in_order(rows, keys, shares))


def split_in_order(rows: Interactions, keys: np.ndarray, shares: Shares = (0.8, 0.1, 0.1)) -> dict[str, Interactions]:
    """Cuts each user's rows, in the order of their ``keys`` (float ``(n,)``: random, or times), at the shares: ``train,
    valid, test``. A user's only row goes to train; flagged false positives stay in train and valid and leave test.

    Raises:
        ValueError: shares that do not sum to 1, or a part that would stay empty.
    """
    if abs(sum(shares) - 1) > 1e-9 or min(shares) < 0:
        raise ValueError(f"shares of train, valid and test are not negative and sum to 1, got {shares}")
    order, n_rows = np.lexsort((keys, rows.users)), np.bincount(rows.users)  # no loop over users
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(n_rows.cumsum() - n_rows, n_rows)
    n_train = np.maximum(1, np.rint(n_rows * shares[0]))
    before_test = np.maximum(n_train, np.rint(n_rows * (shares[0] + shares[1])))
    if min(shares) and ((before_test == n_train).all() or (before_test >= n_rows).all()):
        n_rest = np.maximum(0, n_rows - n_train)  # rounding leaves a part nothing: users take turns with odd rows
        before_test = n_train + (n_rest + np.cumsum(n_rest % 2) % 2) // 2
    in_train, in_test = rank < n_train[rows.users], rank >= before_test[rows.users]
    masks = {"train": in_train, "valid": ~in_train & ~in_test, "test": in_test}
    if rows.is_clean is not None:
        masks["test"] = in_test & rows.is_clean
    for part, mask in masks.items():
        if not mask.any():
            needs = "a user needs 3 rows for one in valid or test, 8 for one in each; the most here is"
            raise ValueError(f"the {part} part stays empty, or has no true positive: {needs} {n_rows.max()}")
    return {part: rows[mask] for part, mask in masks.items()}
