"""Makes notebooks/*.ipynb anew from notebooks/*.py, with the outputs of the toy data set.

    python tools/refresh_notebooks.py

The .ipynb are what visitors see and what nbval replays, so they are made in an empty home, as CI does it.
"""

import os
import sys
import tempfile

from denoise_lib import params
from denoise_lib.notebooks import execute


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["DENOISE_HOME"] = home
        for text in params.notebooks():
            print(f"{text.name} …", file=sys.stderr)
            execute(text, text.with_suffix(".ipynb"), {})


if __name__ == "__main__":
    main()
