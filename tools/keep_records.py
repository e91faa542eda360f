"""Keeps what the tables of a data set are made of in results/<dataset>/records/, to be committed.

    python tools/keep_records.py ml100k

A record of a finished run is its settings, environment, history and means, and the values of each user where it is of
the main table; never its weights. What notebooks made of data or weights besides (results/<dataset>/measured/) is
copied, so run it after them. `python -m replication recompute ml100k` then makes the tables from records alone.
"""

import argparse
import json
import shutil

import agreement
import protocols

from denoise_lib.files import replacing
from replication.methods import PAPER
from replication.runs.parameters import datasets, resolve
from replication.runs.settings import Settings, plan
from replication.runs.store import found, keep_record, records_in
from replication.sources import public
from replication.studies import diagnostics, extra_feedback, fair
from replication.support import paths


def planned(dataset: str) -> tuple[list[Settings], list[Settings]]:
    """The runs of the main table, and all others that a table needs."""
    if dataset == agreement.DATASET:
        return [], plan(PAPER, agreement.OURS)
    parameters = resolve(dataset)
    studies = (diagnostics, extra_feedback, *([fair] if parameters.fair.lr else []))
    others = [run for study in studies for run in study.planned(parameters)]
    return plan(PAPER, parameters), others + sum(protocols.planned(parameters).values(), [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=[*datasets(), agreement.DATASET])
    dataset = parser.parse_args().dataset
    public.ensure(dataset)
    records, (main_runs, others) = records_in(dataset), planned(dataset)
    asked = dict.fromkeys([*main_runs, *others])
    finished = {folder: run for run in reversed(asked) if (folder := found(run))}  # of the main table, where of both
    for run in finished.values():
        keep_record(run, with_users=run in main_runs)
    for folder in (paths.results(dataset) / "measured").glob("[!.]*"):
        shutil.copytree(folder, records / folder.name, dirs_exist_ok=True)
    with replacing(records / "card.json") as file:
        card = public.card(dataset) | {"flags": public.has_flags(dataset)}
        file.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    n_missing = sum(not found(run, use_records=True) for run in asked)
    size = sum(file.stat().st_size for file in records.rglob("*") if file.is_file())
    print(f"{len(finished)} runs are kept, {n_missing} more have no record; all records together: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
