"""Makes notebooks/*.ipynb anew from notebooks/*.py, with the outputs of the toy data set.

    python tools/refresh_notebooks.py [01_data …]

The .ipynb are what visitors see and what nbval replays, so they are made in an empty home, as CI does it.
"""

import argparse
import os
import sys
import tempfile

from denoise_lib import params
from denoise_lib.notebooks import execute


def main() -> None:
    names = [text.stem for text in params.notebooks()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", nargs="*", choices=[[], *names], default=[], help="default: all of them")
    chosen = parser.parse_args().notebook or names
    with tempfile.TemporaryDirectory() as home:
        os.environ["DENOISE_HOME"] = home
        for text in params.notebooks():
            if text.stem in chosen:
                print(f"{text.name} …", file=sys.stderr)
                execute(text, text.with_suffix(".ipynb"), {})


if __name__ == "__main__":
    main()
