"""``./run_all.sh --new NAME FILE``: the params file of a data set that is made from a table of yours."""

import json
import os
import re
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
import yaml

from denoise_lib.data import FILES, Split
from denoise_lib.files import replacing
from denoise_lib.train import steps_per_epoch
from replication.runs import parameters
from replication.sources import own_table, public
from replication.support import paths

GIVEN = ("columns", "clean_from", "not_rated", "split")  # what a call may say of a table
N_STEPS = 6_000  # of a run on a new data set; ours, between ml100k's 3,140 (NeuMF) and 9,420 (GMF)


def write_params(name: str, sources: str | list[str], changes: dict) -> str:
    """Inspects a table, or a split made elsewhere, and writes ``params/<name>.yaml`` for it, with comments, and with
    what ``changes`` say of it; a limit that is given is not guessed. Returns what a reader should know.

    Args:
        sources: a file, folder or pattern; or three: of train, valid and test.

    Raises:
        ValueError: a name that is taken or is no word, or what :mod:`replication.sources.own_table` refuses.
    """
    file = paths.PARAMS / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise ValueError(f"{name!r} is no name for a data set; take letters, digits and _")
    if file.exists() or name in public.CATALOGUE:
        delete = f" or delete {file}" if file.exists() else ""
        raise ValueError(f"there is a data set {name!r} already; choose another name{delete}")
    sources = [os.path.abspath(one) for one in ([sources] if isinstance(sources, str) else sources)]
    source = sources if len(sources) > 1 else sources[0]
    given = {key: changes[key] for key in GIVEN if key in changes}
    parameters.DataParameters(dataset=name, expected={}, **given)  # refuses what is of no use there
    split, table, limit, why = own_table.read(source, name, **given)
    n_parts = sum(len(getattr(split, part)) for part in FILES)
    n_used, n_read = (len(table.frame), table.n_rows) if table else (n_parts, n_parts)
    wanted = {"dataset": name, "columns": {}, "not_rated": None, "split": "random"} | given | {"clean_from": limit}
    wanted["ratings"] = None if source == str(paths.data(name)) else source
    wanted["expected"] = {"users": split.n_users, "items": split.n_items, "interactions": n_parts}
    read_as = _one_line(table.read_as if table else "a split")
    _write(file, wanted, _sizes(split), read=read_as, why=_one_line(why))
    used = f"{n_used:,} of {n_read:,} rows, {split.n_users:,} users, {split.n_items:,} items; read as {read_as}"
    if n_false := n_used - n_parts:
        used += f"; {n_false:,} false positives leave the test part"
    n_gaps = split.n_items - len(pd.unique(np.concatenate([getattr(split, part).items for part in FILES])))
    gaps = [f"{n_gaps:,} of the item numbers occur nowhere, and take memory all the same"] * (n_gaps > 0)
    told = [used, *(table.told() if table else gaps), f"clean_from: {json.dumps(limit)}, {_one_line(why)}"]
    written = f"wrote {os.path.relpath(file)}: read it, change what you like, then ./run_all.sh {name}"
    return "\n".join([f"{name}: {line}" for line in told] + [written])


def _write(file: Path, wanted: dict, sizes: dict, **comments: str) -> None:
    """Writes the file and reads it back: only one that says what is wanted stays."""
    flow = {"default_flow_style": True, "allow_unicode": True, "width": 10**9, "sort_keys": False}
    as_yaml = {key: yaml.safe_dump([value], **flow).strip()[1:-1] for key, value in (wanted | sizes).items()}
    template = Template((Path(__file__).parent / "templates" / "params.yaml").read_text(encoding="utf-8"))
    with replacing(file) as temporary:
        temporary.write_text(template.substitute(as_yaml, **comments), encoding="utf-8")
    try:
        written = parameters.resolve(file.stem)
        wrong = [f"{key} was lost" for key, value in wanted.items() if getattr(written, key) != value]
    except ValueError as error:
        wrong = [str(error)]
    if wrong:
        file.unlink()
        raise ValueError(f"{file} could not be read back, so it was not kept: {wrong[0]}")


def _sizes(split: Split) -> dict:
    """What a run's length and the sizes of its tables depend on."""
    in_epoch = steps_per_epoch(len(split.train), 1, 1024)
    epochs = int(np.clip(round(N_STEPS / in_epoch), 5, 100))
    return {
        "epochs": epochs,
        "eval_every": max(1, epochs * in_epoch // 60),
        "ramp_steps": max(1, epochs * in_epoch // 2),
        "top_k": [5, 20] if split.n_items > 20 else [1, min(5, split.n_items)],
        "test_curve": split.n_users * split.n_items < 10**7,
        "neighbours": [n for n in (1, 3, 5, 10, 20, 50, 100) if n < split.n_users],
    }


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
