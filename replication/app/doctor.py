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
    paths = "a folder with <name>.train.rating and its companions, a table, or three: train, valid, test"
    add("path", nargs="+", help=paths)
    limit = dict(type=lambda text: None if text == "null" else float(text), default=argparse.SUPPRESS)
    add("--clean-from", help="of a table: the lowest rating or dwell time of a true positive, or null", **limit)
    add("--column", action="append", default=[], metavar="role=name", help="of a table: which column is what")
    add("--not-rated", type=float, help="of a table: the rating of rows that are no ratings")
    add("--split", choices=["random", "time"], default="random", help="of a table: how it is split")
    options = vars(parser.parse_args(arguments))
    try:
        split, table, values = _read(options.pop("path"), options.pop("column"), options)
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


def _read(
    sources: list[str], columns: list[str], how: dict
) -> tuple[Split, own_table.Table | None, parameters.Parameters | None]:
    """The split, the table that it was made of, and the parameters of a data set."""
    path = Path(sources[0])
    if path.name in public.CATALOGUE and not path.exists():
        raise ValueError(f"there is nothing at {path} yet; ./run_all.sh {path.name} gets the data")
    pairs = (pair.partition("=")[::2] for pair in columns)
    named = {role: int(name) if name.isdigit() else name for role, name in pairs}
    split, table, *_ = own_table.read(sources if len(sources) > 1 else path, columns=named, **how)
    known = path.is_dir() and split.name in parameters.datasets()
    return split, table, parameters.resolve(split.name) if known else None
