"""Copies the finished runs of a data set's parameters, those of 05_diagnostics among them, to results/<dataset>/records/, to be committed.

    python tools/keep_records.py adressa

A record is a run's settings, environment, history and test means, without weights; `./run_all.sh --use-records` rebuilds
the tables from records.
"""

import argparse

from denoise_lib import params, runs, studies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    values = params.read(dataset)
    planned = list(dict.fromkeys(runs.plan(runs.METHODS, **params.of_runs(values)) + studies.planned(values)))
    finished = [run for run in planned if run.folder.exists()]
    for run in finished:
        runs.keep_record(run)
    print(f"{len(finished)} of {len(planned)} runs are finished; their records are kept")


if __name__ == "__main__":
    main()
