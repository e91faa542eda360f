"""``python -m replication doctor``: examines a split or a table of interactions.

python -m replication doctor data/toy
python -m replication doctor ratings.csv --clean-from 4
"""

import argparse
import sys
from pathlib import Path

from denoise_lib.data import FILES, Split
from replication.report.doctor import effective_drop_rates, examine
from replication.runs import parameters
from replication.sources import own_table, public


def main(arguments: list[str]) -> int:
    """0, or 1 where a finding makes results invalid, or 2 where nothing could be read."""
    parser = argparse.ArgumentParser(
        prog="python -m replication doctor",
        description="Examines a split or a table of interactions: what was found, how many, what it does to the "
        "metrics, what to do. Exit status 1 if a finding makes results invalid, 2 if the data cannot be read.",
    )
    add = parser.add_argument
    add("path", type=Path, help="a folder with <name>.train.rating and its companions, or a CSV or TSV file")
    add("--clean-from", type=float, help="of a table: the lowest rating or dwell time of a true positive")
    add("--column", action="append", default=[], metavar="role=name", help="of a table: which column is what")
    options = parser.parse_args(arguments)
    try:
        split, table = _read(options)
        known = options.path.is_dir() and split.name in parameters.datasets()
        values = parameters.resolve(split.name) if known else None
    except (ValueError, FileNotFoundError) as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    print(_summary(split, table))
    if values:
        print(f"\nT-CE's drop rate with params/{split.name}.yaml, as shares of the batch:\n")
        print(effective_drop_rates(values, len(split.train)).to_string())
    findings = examine(split, values, table)
    counted = f"{len(findings)} findings, {findings['invalid'].sum()} of which make results invalid:"
    print("\nNothing was found." if findings.empty else f"\n{counted}")
    for row in findings.itertuples():
        print(f"\n{'INVALID ' if row.invalid else ''}{row.part}: {row.count:,} {row.finding}")
        print(f"  so:  {row.consequence}\n  do:  {row.remedy}")
    return int(findings["invalid"].any())


def _read(options: argparse.Namespace) -> tuple[Split, own_table.Table | None]:
    path: Path = options.path
    if path.is_dir():
        names = sorted(file.name.removesuffix(".train.rating") for file in path.glob("*.train.rating"))
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise ValueError(f"{path} must hold one <name>.train.rating and its companions; found {found}")
        return public.read(path, names[0]), None
    if path.name in public.CATALOGUE and not path.exists():
        raise ValueError(f"there is nothing at {path} yet; ./run_all.sh {path.name} gets the data")
    table = own_table.read_table(path, dict(pair.partition("=")[::2] for pair in options.column))
    limit = own_table.guessed_limit(table) if options.clean_from is None else options.clean_from
    return own_table.make_split(table, path.stem, limit)[0], table


def _summary(split: Split, table: own_table.Table | None) -> str:
    parts = {part: getattr(split, part) for part in FILES}
    n_rows = sum(map(len, parts.values()))
    lines = [
        f"{split.name}: {split.n_users:,} users, {split.n_items:,} items, {n_rows:,} interactions",
        f"  density {n_rows / split.n_users / split.n_items:.3%}, {n_rows / split.n_users:.1f} interactions a user",
    ]
    for part, rows in parts.items():
        noise = "no flags" if rows.is_clean is None else f"{1 - rows.is_clean.mean():.1%} false positives"
        lines.append(f"  {part:5}  {len(rows):,} rows, {noise}")
    if table is None:
        return "\n".join([*lines, "  no times in these files: leakage in time cannot be looked at"])
    return "\n  ".join(["\n".join(lines), f"read as {table.read_as}", *table.remarks])
