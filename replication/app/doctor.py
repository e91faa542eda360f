"""``python -m replication doctor``: examines a split or a table of interactions.

python -m replication doctor data/toy
python -m replication doctor ratings.csv --clean-from 4
"""

import argparse
import sys
from pathlib import Path

from jinja2 import Template

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
    parts = {part: getattr(split, part) for part in FILES}
    rates = effective_drop_rates(values, len(split.train)) if values else None
    findings = examine(split, values, table)
    text = (Path(__file__).parent / "templates" / "doctor.txt.j2").read_text(encoding="utf-8")
    told = dict(split=split, parts=parts, n_rows=sum(map(len, parts.values())), table=table)
    print(Template(text, trim_blocks=True).render(told, rates=rates, findings=findings), end="")
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
