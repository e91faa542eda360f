"""How long your own table takes: ``--new``, the split and the data doctor, by its number of rows.

    python benchmarks/own_table.py [--rows 1000000 5000000 20000000] [--save]

The table has MovieLens-20M's shape: 150 rows a user, 20,011 items, ratings from 1 to 5, times. Each step is a process of
its own, whose start (about four seconds) counts, and whose peak memory is its own. ``--save`` writes
benchmarks/results/own_table.csv and .png.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
PREPARE = "from replication.runs.parameters import resolve; from replication.sources.own_table import prepare; "
STEPS = {
    "--new": ["-m", "replication", "--new", "big", "big.csv"],
    "split": ["-c", PREPARE + "prepare('big', **resolve('big').table())"],
    "doctor": ["-m", "replication", "doctor", "big.csv"],
}


def write_table(file: Path, n_rows: int) -> None:
    row = np.arange(n_rows)
    user, k = np.divmod(row, 150)
    columns = {"userId": user + 1, "movieId": (user * 7 + k * 13) % 20011 + 1, "rating": 1 + (user + k) % 5}
    pd.DataFrame(columns | {"timestamp": 900_000_000 + row * 37}).to_csv(file, index=False)


def measured(n_rows: int) -> list[dict]:
    """Seconds and peak memory of each step."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder, "big.csv"), n_rows)
        Path(folder, "params").mkdir()
        environment = os.environ | {"DENOISE_HOME": folder, "DENOISE_PARAMS": f"{folder}/params"}
        for step, command in STEPS.items():
            started = time.perf_counter()
            call = dict(cwd=folder, env=environment, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(subprocess.Popen([sys.executable, *command], **call).pid, 0)
            times = {"seconds": time.perf_counter() - started, "CPU seconds": used.ru_utime + used.ru_stime}
            rows.append({"step": step, "rows": n_rows, **times, "peak GB": used.ru_maxrss / 2**20, "status": status})
            print(rows[-1], flush=True)
    return rows


def figure(table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(7, 3), layout="constrained")
    for axis, column in zip(figure.subplots(1, 2), ("CPU seconds", "peak GB")):
        for step, line in table.groupby("step", sort=False):
            axis.plot(line["rows"] / 1e6, line[column], marker="o", label=step)
        axis.set(xlabel="million rows", ylabel=column, ylim=(0, None))
        axis.grid(alpha=0.25)
    axis.legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000])
    options = parser.parse_args()
    table = pd.DataFrame([row for n_rows in options.rows for row in measured(n_rows)]).round(2)
    if options.save:
        table.to_csv(RESULTS / "own_table.csv", index=False)
        figure(table).savefig(RESULTS / "own_table.png", dpi=160, metadata={"Software": None})


if __name__ == "__main__":
    main()
