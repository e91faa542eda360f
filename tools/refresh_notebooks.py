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
    texts = {text.stem: text for text in paths.NOTEBOOKS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", nargs="*", choices=[[], *texts], default=[], help="default: all of them")
    with tempfile.TemporaryDirectory() as home:
        os.environ["DENOISE_HOME"] = home
        for name in parser.parse_args().notebook or texts:
            print(f"{name} …", file=sys.stderr)
            execute(texts[name], texts[name].with_suffix(".ipynb"), {})


if __name__ == "__main__":
    main()
