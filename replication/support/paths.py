"""Where things lie. ``DENOISE_HOME`` moves data, results and figures out of the project, as the tests do;
``DENOISE_PARAMS`` names another folder of parameter files, as the benchmarks do."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = {text.stem: text for text in sorted((PROJECT / "notebooks").glob("[0-9]*.py"))}  # by name, such as 01_data
PARAMS = Path(os.environ.get("DENOISE_PARAMS") or PROJECT / "params").resolve()


def home() -> Path:
    """The folder that holds ``data/``, ``results/`` and ``figures/``: ``$DENOISE_HOME``, or the project itself."""
    return Path(os.environ.get("DENOISE_HOME") or PROJECT).resolve()


def data(dataset: str) -> Path:
    return home() / "data" / dataset


def results(dataset: str) -> Path:
    return home() / "results" / dataset


def figures(dataset: str) -> Path:
    return home() / "figures" / dataset


def shown(path: Path) -> str:
    """A path as a reader sees it: below :func:`home` without the machine's part."""
    return str(path.relative_to(home()) if path.is_relative_to(home()) else path)
