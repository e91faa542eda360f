"""``./run_all.sh --new NAME FILE``: the params file of a data set that is made from a table of yours."""

import json
import re
from pathlib import Path

import numpy as np

from denoise_lib.data import Split
from denoise_lib.files import replacing
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
    if file.exists() or name in public.SIZES:
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
    read = ", ".join(f"{role} = {column}" for role, column in table.columns.items())
    n_false = len(table.frame) - sum(len(part) for part in (split.train, split.valid, split.test))
    used = f"{len(table.frame):,} of {table.n_rows:,} rows, {split.n_users:,} users, {split.n_items:,} items; read as {read}"
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
        span += f"{outside.sum()} of {len(values)} lie outside 1 to 5: leave those rows out if they are errors, then 3 is the usual value; "
    return span + (
        "the lowest one of a true positive" if clean_from is not None else "FILL IN the lowest one of a true positive"
    )


def _params_text(
    split: Split, table: Table, ratings: str, columns: dict[str, str], clean_from: float | None, about_limit: str
) -> str:
    n_rows = sum(len(part) for part in (split.train, split.valid, split.test))
    steps_per_epoch = -(-2 * len(split.train) // 1024)
    epochs = int(np.clip(round(N_STEPS / steps_per_epoch), 5, 100))
    n_steps = epochs * steps_per_epoch
    eval_every = max(1, n_steps // 60)
    curve = split.n_users * split.n_items < 10**7
    as_yaml = json.dumps  # JSON is YAML
    return f"""# Written by ./run_all.sh --new from a table of {table.n_rows:,} rows. Change what you like: a run is computed again when its
# settings change. docs/own_data.md says what matters.
dataset: {split.name}

ratings: {as_yaml(ratings)}
columns: {as_yaml(columns)}  # role: name of the column, where it is not recognised. Read: {", ".join(f"{role} = {name}" for role, name in table.columns.items())}
clean_from: {_number(clean_from)}  # {about_limit}

# The counts when this file was written; 01_data shows them beside those it finds.
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
