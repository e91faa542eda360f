"""``python -m replication recompute``: makes a data set's released tables anew from its records.

python -m replication recompute ml100k
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from itertools import zip_longest
from pathlib import Path
from textwrap import shorten
from unittest import mock

import jupytext
import numpy as np
import pandas as pd

from replication.runs.parameters import datasets
from replication.runs.settings import Settings
from replication.runs.store import Run, changed_records, found, load_run, record_of, records_in
from replication.support import paths

NOTEBOOKS = [name for name in paths.NOTEBOOKS if name not in ("01_data", "07_own_loss")]
TOOLS = {  # scripts that make the table of their name, with their arguments
    "protocols": ["{dataset}", "--records-only"],
    "agreement": ["{records}/authors", "--records-only"],
    "reruns": ["{dataset}"],
    "early_steps": ["--records-only"],
}
OF_DATA = ("checks", "drop_rates", "parts", "reach")  # tables of 01_data, which no record can give
CLOSE = dict(rtol=1e-9, atol=1e-12)  # another machine may add up in another order
AS_RELEASED = 1e-6  # a metric of a run; one hit more changes a mean by more than this


def main(arguments: list[str]) -> int:
    """0, or 1 where a table or a record is not as released, or a table could not be made; 2 without records."""
    parser = argparse.ArgumentParser(
        prog="python -m replication recompute",
        description="Makes the tables of results/<dataset>/ anew from its records, in a temporary folder, and names "
        "what differs: numbers to nine digits, text exactly. Needs no data files and trains nothing.",
    )
    parser.add_argument("dataset", nargs="+", help="data sets that have records in results/<dataset>/records")
    names = parser.parse_args(arguments).dataset
    if lacking := [name for name in names if not records_in(name).is_dir()]:
        parser.error(f"there are no records of {', '.join(lacking)} in {paths.home() / 'results'}")
    return int(not all([_recompute(name) for name in names]))


def _recompute(dataset: str) -> bool:
    """Prints what is not as released; whether all is."""
    results = paths.results(dataset)
    released = [file for file in [*sorted(results.glob("tables/*")), results / "runs.csv"] if file.is_file()]
    told = [f"record {paths.shown(file)} is changed or missing" for file in changed_records(dataset)]
    with tempfile.TemporaryDirectory() as home:
        failures = _make(dataset, Path(home))
        pairs = {file: Path(home) / "results" / dataset / file.relative_to(results) for file in released}
        of_data, lacking = [], []
        for file, made in pairs.items():
            if made.is_file():
                told += differences(file, made)
            else:
                (of_data if file.stem in OF_DATA else lacking).append(file.name)
    told += [f"not made: {', '.join(lacking)}", *failures] if lacking else []
    is_as_released = not told
    n_made, n_records = len(released) - len(of_data) - len(lacking), len([*records_in(dataset).glob("*/run.json")])
    told.append(f"{n_made} files made anew from {n_records} records: {'' if is_as_released else 'NOT '}as released")
    told += [f"not made anew, of the data files alone: {', '.join(of_data)}"] if of_data else []
    print("\n".join(f"{dataset}: {line}" for line in told), flush=True)
    return is_as_released


def _make(dataset: str, home: Path) -> list[str]:
    """Makes all tables, and no figure, in an empty home that has the records alone. Returns what failed."""
    results, records = home / "results" / dataset, records_in(dataset).resolve()
    results.mkdir(parents=True)
    for folder in filter(Path.is_dir, (records, records.with_name("reruns"))):
        (results / folder.name).symlink_to(folder)
    if (records / "card.json").is_file():  # what is known of the data
        (home / "data" / dataset).mkdir(parents=True)
        shutil.copy(records / "card.json", home / "data" / dataset)
    steps = {name: partial(_run_notebook, name, dataset) for name in NOTEBOOKS if dataset in datasets()}
    released = [name for name in TOOLS if (paths.results(dataset) / "tables" / f"{name}.csv").is_file()]
    steps |= {name: partial(_run_tool, name, dataset=dataset, records=records) for name in released}
    without_figures = mock.patch("replication.report.publish.publish_figure", lambda *_: None)
    with without_figures, mock.patch.dict(os.environ, DENOISE_HOME=str(home)):
        return [told for name, make in steps.items() if (told := _failure(name, make))]


def _failure(name: str, make: Callable[[], None]) -> str:
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            make()
    except Exception as error:  # whatever it is, the other tables are made
        return shorten(f"{name} stopped: {type(error).__name__}: {error}", 300)
    return ""


def _run_notebook(name: str, dataset: str) -> None:
    """Runs a notebook's cells but those that need data files or weights, which have the tag ``data``."""
    values = {"__name__": name}
    for cell in jupytext.read(paths.NOTEBOOKS[name]).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "data" not in tags:
            exec(compile(cell.source, name, "exec"), values)
        if "parameters" in tags:
            values |= {"dataset": dataset, "changes": {"use_records": "only"}}


def _run_tool(name: str, **values) -> None:
    arguments = [argument.format(**values) for argument in TOOLS[name]]
    command = [sys.executable, str(paths.PROJECT / "tools" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.stderr and done.returncode:  # agreement ends with 1, and says nothing there, where it finds a difference
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def differences(released: Path, made: Path) -> list[str]:
    """What differs between two tables: the first cell of a CSV file that does, the first line of another file."""
    name = paths.shown(released)
    if released.suffix != ".csv":
        lines = (file.read_text(encoding="utf-8").splitlines() for file in (released, made))
        pairs = enumerate(zip_longest(*lines, fillvalue=""), start=1)
        unlike = [(number, pair) for number, pair in pairs if pair[0] != pair[1]]
        if not unlike:
            return []
        number, pair = unlike[0]
        start = max(0, len(os.path.commonprefix(pair)) - 20)
        old, new = (line[start : start + 60] for line in pair)
        return [f"{name}, line {number}: released …{old}…, made …{new}…; {len(unlike)} lines differ"]
    old, new = (pd.read_csv(file, dtype=str, keep_default_na=False) for file in (released, made))
    if list(old) != list(new) or len(old) != len(new):
        apart = ", ".join(old.columns.symmetric_difference(new.columns, sort=False))
        return [f"{name}: released {len(old)} rows, made {len(new)}; columns of one alone: {apart or 'none'}"]
    numbers = (frame.apply(pd.to_numeric, errors="coerce") for frame in (old, new))
    rows, columns = np.nonzero(~((old == new).to_numpy() | np.isclose(*numbers, **CLOSE)))
    if not len(rows):
        return []
    row, column = rows[0], old.columns[columns[0]]
    place = f"row {row + 2} ({', '.join(old.loc[row].iloc[:4])}), column {column}"
    values = f"released {old.at[row, column]}, made {new.at[row, column]}"
    return [f"{name}, {place}: {values}; {len(rows)} cells differ"]


def as_released(planned: Sequence[Settings]) -> str:
    """What tells the runs on disk from the records of the release; empty where it has none of them."""
    pairs = [
        (load_run(run, folder), load_run(run, record))
        for run in planned
        if (folder := found(run)) and (record := record_of(run, paths.PROJECT / "results" / run.dataset / "records"))
    ]
    if not pairs:
        return ""
    at_other_steps = [run.settings.name for run, record in pairs if run.selected_step != record.selected_step]
    steps = "selected steps equal"
    if at_other_steps:
        steps = f"selected steps of {len(at_other_steps)} differ ({', '.join(at_other_steps[:3])})"
    off, where = max((_largest_difference(run, record), run.settings.name) for run, record in pairs)
    largest = f"largest difference of a metric {off:.1g}".replace("e-0", "e-")
    place = f" ({where})" if off > AS_RELEASED else ""
    told = f"as released: {len(pairs)} of {len(planned)} runs, {steps}, {largest}{place}"
    return ("not " if at_other_steps or place else "") + told


def _largest_difference(run: Run, record: Run) -> float:
    cell = ["part", "users", "metric", "k"]
    means = run.metrics.merge(record.metrics, "outer", cell, suffixes=("", "_released"))
    return float((means["value"] - means["value_released"]).abs().fillna(np.inf).max())
