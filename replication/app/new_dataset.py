"""``./run_all.sh --new NAME FILE``: the params file of a data set that is made from a table of yours."""

import json
import os
import re
from pathlib import Path
from string import Template

import numpy as np

from denoise_lib.files import replacing
from denoise_lib.train import steps_per_epoch
from replication.sources import public
from replication.sources.own_table import Table, guessed_limit, make_split, read_table
from replication.support import paths

N_STEPS = 6_000  # of a run on a new data set; ours, between ml100k's 3,140 (NeuMF) and 9,420 (GMF)


def write_params(name: str, ratings: str, changes: dict) -> str:
    """Inspects a table and writes ``params/<name>.yaml`` for it, with comments, and with the ``columns`` and
    ``clean_from`` of ``changes``. Returns what a reader should know of the table and of the file.

    Raises:
        ValueError: a name that is taken or is no word, or what :func:`read_table` refuses.
    """
    file = paths.PARAMS / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise ValueError(f"{name!r} is no name for a data set; take letters, digits and _")
    if file.exists() or name in public.CATALOGUE:
        delete = f" or delete {file}" if file.exists() else ""
        raise ValueError(f"there is a data set {name!r} already; choose another name{delete}")
    columns, limit = changes.get("columns") or {}, changes.get("clean_from")
    table = read_table(ratings, columns)
    limit = guessed_limit(table) if limit is None else limit
    split, _, _ = make_split(table, name, limit)
    n_interactions = len(split.train) + len(split.valid) + len(split.test)
    in_epoch = steps_per_epoch(len(split.train), 1, 1024)
    epochs = int(np.clip(round(N_STEPS / in_epoch), 5, 100))
    n_steps = epochs * in_epoch
    template = Template((Path(__file__).parent / "templates" / "params.yaml").read_text(encoding="utf-8"))
    values = dict(
        name=name,
        n_rows=f"{table.n_rows:,}",
        ratings=json.dumps(os.path.abspath(ratings)),  # JSON is YAML
        columns=json.dumps(columns),
        read=table.read_as,
        clean_from=json.dumps(limit if limit is None or limit % 1 else int(limit)),
        about_limit=_about_limit(table, limit),
        expected=json.dumps({"users": split.n_users, "items": split.n_items, "interactions": n_interactions}),
        epochs=epochs,
        n_steps=f"{n_steps:,}",
        eval_every=max(1, n_steps // 60),
        top_k=[5, 20] if split.n_items > 20 else [1, min(5, split.n_items)],
        test_curve=json.dumps(split.n_users * split.n_items < 10**7),
        ramp_steps=max(1, n_steps // 2),
        neighbours=[n for n in (1, 3, 5, 10, 20, 50, 100) if n < split.n_users],
    )
    with replacing(file) as temporary:
        temporary.write_text(template.substitute(values))
    used = f"{len(table.frame):,} of {table.n_rows:,} rows, {split.n_users:,} users, {split.n_items:,} items"
    used += f"; read as {table.read_as}"
    if n_false := len(table.frame) - n_interactions:
        used += f"; {n_false:,} false positives leave the test part"
    told = [used, *table.told(), "clean_from: {clean_from}, {about_limit}".format(**values)]
    written = f"wrote {os.path.relpath(file)}: read it, change what you like, then ./run_all.sh {name}"
    return "\n".join([f"{name}: {line}" for line in told] + [written])


def _about_limit(table: Table, clean_from: float | None) -> str:
    if table.quality == "flag":
        return f"not needed: {table.columns['flag']} says it"
    if not table.quality:
        return "the table has no rating, dwell time or flag: what needs flags is left out"
    values, column = table.frame["value"], table.columns[table.quality]
    about = f"{column} runs from {values.min():g} to {values.max():g}, median {values.median():g}; "
    outside = ~values.between(1, 5)
    if table.quality == "rating" and 0 < outside.mean() < 0.05:
        about += f"{outside.sum()} of {len(values)} lie outside 1 to 5: leave those rows out if they are errors, "
        about += "then 3 is the usual value; "
    return about + ("FILL IN " if clean_from is None else "") + "the lowest one of a true positive"
