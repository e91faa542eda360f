"""Executing a notebook with papermill so that what is written is clean: same bytes for the same outputs."""

import logging
import os
import re
import sys
from pathlib import Path
from textwrap import indent

import jupytext
import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from papermill.exceptions import PapermillExecutionError

from replication.support import paths


class NotebookFailed(Exception):
    """A cell raised; the message shows which cell and what, and where the notebook lies as far as it came."""


def execute(source: Path, target: Path, values: dict) -> None:
    """Runs a notebook's text with some parameters and writes ``target``, which appears only when every cell has run.

    What cells print to stderr, progress bars above all, passes on to this process's stderr while they run.

    Raises:
        NotebookFailed: a cell raised. The notebook as far as it came stays beside ``target`` as ``.partial.ipynb``.
    """
    partial = target.with_suffix(".partial.ipynb")
    partial.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            jupytext.read(source), partial, values, kernel_name="python3", cwd=str(paths.PROJECT),
            progress_bar=False, stderr_file=sys.stderr, extra_arguments=["--log-level=50"],
        )  # fmt: skip
        nbformat.write(clean(nbformat.read(partial, as_version=4)), partial)
        partial.replace(target)
    except PapermillExecutionError as error:
        code = indent("\n".join(error.source.rstrip().splitlines()[-8:]), "    ", lambda line: True)
        message = "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).splitlines()[:12])
        raise NotebookFailed(
            f"{target.stem}: cell {error.cell_index} failed with {error.ename}\n\n{code}\n\n"
            f"{error.ename}: {message}\n\nThe notebook as far as it came: {os.path.relpath(partial)}"
        ) from None
    except DeadKernelError:
        why = "its kernel died, killed by hand or for want of memory; fewer --jobs need less. Finished runs are kept"
        raise NotebookFailed(f"{target.stem}: {why}") from None
    except OSError as error:  # a full disk, above all
        why = f"{error.strerror}: {os.path.relpath(partial)}. Make room, or set DENOISE_HOME to another disk"
        raise NotebookFailed(f"{target.stem}: cannot be written, {why}. Finished runs are kept") from None


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drops what differs between two equal executions: times, paths, random cell ids, progress on its way."""
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    notebook.metadata.get("jupytext", {}).pop("text_representation", None)  # so does JupyterLab when it saves the pair
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):  # folded, as the cell whose values it overrides
            cell.metadata["jupyter"] = {"source_hidden": True}
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, number)  # joins pieces of one stream
    return notebook
