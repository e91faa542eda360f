"""Executing a notebook with papermill so that what is written is clean: same bytes for the same outputs."""

import logging
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
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
    except PapermillExecutionError as error:
        code = "\n".join(error.source.rstrip().splitlines()[-8:])
        message = "\n".join(_plain(str(error.evalue)).splitlines()[:12])
        raise NotebookFailed(
            f"{target.stem}: cell {error.cell_index} failed with {error.ename}\n\n    "
            + code.replace("\n", "\n    ")
            + f"\n\n{error.ename}: {message}\n\nThe notebook as far as it came: {_relative(partial)}"
        ) from None
    except DeadKernelError:
        why = "its kernel died, killed by hand or for want of memory; fewer --jobs need less. Finished runs are kept"
        raise NotebookFailed(f"{target.stem}: {why}") from None
    nbformat.write(clean(nbformat.read(partial, as_version=4)), partial)
    partial.replace(target)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drops what differs between two equal executions: times, paths, random cell ids, all but the end of a progress
    bar."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("jupytext", {}).pop("text_representation", None)  # so does JupyterLab when it saves the pair
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = _joined(cell.outputs)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = re.sub(r"[^\n]*\r(?=[^\n])", "", output.text)
    return notebook


def _joined(outputs: list) -> list:
    """Pieces of one stream, as they came in one after another, as one output."""
    joined = []
    for output in outputs:
        if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _relative(path: Path) -> str:
    return os.path.relpath(path)
