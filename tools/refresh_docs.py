"""Makes docs/parameters.md anew from the types and meanings in replication/runs/parameters.py.

python tools/refresh_docs.py
"""

import argparse
import textwrap

from replication.runs import parameters
from replication.support import paths

PAGE = paths.PROJECT / "docs" / "parameters.md"
HEAD = """<!-- Written by tools/refresh_docs.py; a test holds it equal to replication/runs/parameters.py. -->
# Parameters

A data set's parameters stand in `params/<dataset>.yaml`, each with its reason. One that is missing there has its default;
where there is none, the file must name a value. `./run_all.sh --set epochs=3 toy` changes a parameter for one call, and
`changes = {"epochs": 3}` in the first cell of a notebook does the same. A value is YAML; `dict[str, …]` is a map from
backbones to values. A misspelt key or a wrong value is refused with what is valid. What differs from the file is printed
on every table and figure, but for `jobs` and `use_records`, which change no result, and your own methods and backbones,
which add rows beside the others.

"""


def page() -> str:
    """The text of docs/parameters.md."""
    described = {name: about for name, *about in parameters.described()}
    lines = [HEAD + textwrap.fill(f"Types. {parameters.TYPES}", 120)]
    for group in reversed(parameters.Parameters.__bases__):
        lines += ["", "## " + group.__doc__.partition(".")[0], ""]
        lines += ["| name | type | default | meaning |", "|---|---|---|---|"]
        for name in group.model_fields:
            kind, default, meaning = (text.replace("|", r"\|").replace("<", r"\<") for text in described[name])
            lines.append(f"| `{name}` | `{kind}` | {f'`{default}`' if default else 'none'} | {meaning} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
