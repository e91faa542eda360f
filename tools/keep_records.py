"""Copies the finished runs of a data set's parameters to results/<dataset>/records/, to be committed.

    python tools/keep_records.py adressa

A record is a run's settings, environment, history and test means, without weights; `./run_all.sh --use-records` rebuilds
the tables from records.
"""

import argparse

from denoise_lib import params, runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    planned = runs.plan(runs.METHODS, **params.of_runs(params.read(dataset)))
    finished = [run for run in planned if run.folder.exists()]
    for run in finished:
        runs.keep_record(run)
    print(f"{len(finished)} of {len(planned)} runs are finished; their records are kept")


if __name__ == "__main__":
    main()
