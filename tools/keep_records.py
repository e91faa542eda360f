"""Copies the finished runs of a data set's parameters, with those of 05_diagnostics, to results/<dataset>/records/.

    python tools/keep_records.py adressa

A record is a run's settings, environment, history and test means, without weights; to be committed: `./run_all.sh
--use-records` rebuilds the tables from records.
"""

import argparse

from replication.runs.map import distinct
from replication.runs.parameters import datasets, resolve
from replication.runs.settings import plan
from replication.runs.store import folder_of, keep_record
from replication.sources import public
from replication.studies import diagnostics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=datasets())
    parameters = resolve(parser.parse_args().dataset)
    planned = distinct(plan(parameters.all_methods(), parameters) + diagnostics.planned(parameters))
    finished = [run for run in planned if public.is_prepared(run.dataset) and folder_of(run).exists()]
    for run in finished:
        keep_record(run)
    print(f"{len(finished)} of {len(planned)} runs are finished; their records are kept")


if __name__ == "__main__":
    main()
