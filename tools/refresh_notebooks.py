"""Makes notebooks/*.ipynb anew from notebooks/*.py, with the outputs of the toy data set.

    python tools/refresh_notebooks.py [01_data …]

The .ipynb are what visitors see and what nbval replays, so they are made in an empty home, as CI does it.
"""

import argparse
import os
import sys
import tempfile

from replication.app.notebooks import execute
from replication.support import paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", nargs="*", choices=[[], *paths.NOTEBOOKS], default=[], help="default: all of them")
    with tempfile.TemporaryDirectory() as home:
        os.environ["DENOISE_HOME"] = home
        for name in parser.parse_args().notebook or paths.NOTEBOOKS:
            print(f"{name} …", file=sys.stderr)
            text = paths.NOTEBOOKS[name]
            execute(text, text.with_suffix(".ipynb"), {})


if __name__ == "__main__":
    main()
