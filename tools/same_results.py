"""Compares the CSV files that two homes hold under results/ and figures/, such as those of two versions of the code.

    DENOISE_HOME=/tmp/before ./run_all.sh toy        # with one version
    DENOISE_HOME=/tmp/after ./run_all.sh toy         # with the other
    python tools/same_results.py /tmp/before /tmp/after

Values are compared as text, to the last digit; the columns id, commit and seconds may differ. Exit status 1 where
anything else does.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

FREE = ["id", "commit", "seconds"]  # may differ between two runs of the same settings
RUNS = "runs"  # folders of single runs, whose names are ids


def files_of(home: Path) -> dict[str, Path]:
    """Path below the home -> CSV file; of single runs only their number is compared, since tables hold their values."""
    found = {str(file.relative_to(home)): file for of in ("results", "figures") for file in (home / of).rglob("*.csv")}
    return {name: file for name, file in found.items() if f"/{RUNS}/" not in name}


def difference(before: Path, after: Path) -> str:
    """What differs between two files; empty where nothing does."""
    old, new = (pd.read_csv(file, dtype=str, keep_default_na=False) for file in (before, after))
    if list(old.columns) != list(new.columns) or len(old) != len(new):
        return f"{old.shape[0]} rows of {list(old.columns)} against {new.shape[0]} rows of {list(new.columns)}"
    differs = (old != new).drop(columns=FREE, errors="ignore")
    columns = differs.columns[differs.any()]
    if columns.empty:
        return ""
    row = differs.any(axis=1).idxmax()
    first = ", ".join(f"{name} {old.at[row, name]} / {new.at[row, name]}" for name in columns if differs.at[row, name])
    return f"{differs.any(axis=1).sum()} of {len(old)} rows in {', '.join(columns)}; first in row {row + 2}: {first}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    homes = parser.parse_args()
    before, after = files_of(homes.before), files_of(homes.after)
    lines = [f"only in {homes.before}: {name}" for name in sorted(set(before) - set(after))]
    lines += [f"only in {homes.after}: {name}" for name in sorted(set(after) - set(before))]
    common = sorted(set(before) & set(after))
    lines += [f"{name}: {told}" for name in common if (told := difference(before[name], after[name]))]
    print("\n".join([*lines, f"{len(common)} CSV files are in both, {len(lines)} differences"]))
    return int(bool(lines) or not common)


if __name__ == "__main__":
    sys.exit(main())
