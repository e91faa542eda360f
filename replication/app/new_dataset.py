"""``./run_all.sh --new NAME FILE``: the params file of a data set that is made from a table of yours."""

import json
import re
from pathlib import Path
from string import Template

import numpy as np

from denoise_lib.data import Split
from denoise_lib.files import replacing
from denoise_lib.train import steps_per_epoch
from replication.sources import public
from replication.sources.own_table import Table, guessed_limit, make_split, read_table
from replication.support import paths

N_STEPS = 6_000  # of a run on a new data set; ours, between ml100k's 3,140 (NeuMF) and 9,420 (GMF)


def write_params(
    name: str, ratings: str, columns: dict[str, str] | None = None, clean_from: float | None = None
) -> tuple[Path, list[str]]:
    """Inspects a table and writes ``params/<name>.yaml`` for it, with comments. Returns the file, and what a reader
    should know of the table.

    Raises:
        ValueError: a name that is taken or is no word, or what :func:`read_table` refuses.
    """
    file = paths.PARAMS / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise ValueError(f"{name!r} is no name for a data set; take letters, digits and _")
    if file.exists() or name in public.CATALOGUE:
        raise ValueError(
            f"there is a data set {name!r} already; choose another name"
            + (f" or delete {file}" if file.exists() else "")
        )
    table = read_table(ratings, columns)
    clean_from = guessed_limit(table) if clean_from is None else clean_from
    split, _, _ = make_split(table, name, clean_from)
    about_limit = _about_limit(table, clean_from)
    with replacing(file) as temporary:
        temporary.write_text(
            _params_text(split, table, str(Path(ratings).resolve()), columns or {}, clean_from, about_limit)
        )
    n_false = len(table.frame) - sum(len(part) for part in (split.train, split.valid, split.test))
    used = f"{len(table.frame):,} of {table.n_rows:,} rows, {split.n_users:,} users, {split.n_items:,} items"
    used += f"; read as {_read_as(table)}"
    used += f"; {n_false:,} false positives leave the test part" if n_false else ""
    return file, [used, *table.told(), f"clean_from: {_number(clean_from)}, {about_limit}"]


def _number(value: float | None) -> str:
    """As YAML reads it back as a number."""
    return "null" if value is None else repr(int(value) if float(value).is_integer() else float(value))


def _about_limit(table: Table, clean_from: float | None) -> str:
    if table.quality == "flag":
        return f"not needed: {table.columns['flag']} says it"
    if not table.quality:
        return "the table has no rating, dwell time or flag: what needs flags is left out"
    values = table.frame["value"]
    span = (
        f"{table.columns[table.quality]} runs from {values.min():g} to {values.max():g}, median {values.median():g}; "
    )
    outside = ~values.between(1, 5)
    if table.quality == "rating" and 0 < outside.mean() < 0.05:
        span += f"{outside.sum()} of {len(values)} lie outside 1 to 5: leave those rows out if they are errors, "
        span += "then 3 is the usual value; "
    return span + (
        "the lowest one of a true positive" if clean_from is not None else "FILL IN the lowest one of a true positive"
    )


def _params_text(
    split: Split, table: Table, ratings: str, columns: dict[str, str], clean_from: float | None, about_limit: str
) -> str:
    in_epoch = steps_per_epoch(len(split.train), 1, 1024)
    epochs = int(np.clip(round(N_STEPS / in_epoch), 5, 100))
    n_steps = epochs * in_epoch
    n_interactions = len(split.train) + len(split.valid) + len(split.test)
    expected = {"users": split.n_users, "items": split.n_items, "interactions": n_interactions}
    template = Template((Path(__file__).parent / "templates" / "params.yaml").read_text(encoding="utf-8"))
    return template.substitute(
        name=split.name,
        n_rows=f"{table.n_rows:,}",
        ratings=json.dumps(ratings),  # JSON is YAML
        columns=json.dumps(columns),
        read=_read_as(table),
        clean_from=_number(clean_from),
        about_limit=about_limit,
        expected=json.dumps(expected),
        epochs=epochs,
        n_steps=f"{n_steps:,}",
        eval_every=max(1, n_steps // 60),
        top_k=[5, 20] if split.n_items > 20 else [1, min(5, split.n_items)],
        test_curve=json.dumps(split.n_users * split.n_items < 10**7),
        ramp_steps=max(1, n_steps // 2),
        neighbours=[n for n in (1, 3, 5, 10, 20, 50, 100) if n < split.n_users],
    )


def _read_as(table: Table) -> str:
    return ", ".join(f"{role} = {column}" for role, column in table.columns.items())
