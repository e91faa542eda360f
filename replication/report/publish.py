"""Writing tables and figures so that a reader finds them, and returning them to look at."""

import re
from html import escape

import pandas as pd
from IPython.display import HTML, Image
from matplotlib.figure import Figure

from denoise_lib.files import replacing
from replication.runs.parameters import Parameters
from replication.support import paths


def publish_figure(figure: Figure, drawn: pd.DataFrame, dataset: str, name: str, alt: str, note: str = "") -> Image:
    """Writes ``figures/<dataset>/<name>.png``, ``.pdf`` and ``.csv`` (the drawn numbers) and returns the picture.

    The files hold no time stamp: the same numbers give the same bytes. ``note`` is printed on the figure.
    """
    if note:
        figure.supxlabel(note, fontsize=7, color="#D55E00", wrap=True)
    folder = paths.figures(dataset)
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        with replacing(folder / f"{name}{suffix}") as temporary:
            figure.savefig(temporary, dpi=160, metadata=metadata)
    with replacing(folder / f"{name}.csv") as temporary:
        drawn.assign(**{"note": note} if note else {}).to_csv(temporary, index=drawn.index.name is not None)
    return Image(filename=folder / f"{name}.png", width=int(figure.get_figwidth() * 96), alt=alt)


def publish_table(table: pd.DataFrame, dataset: str, name: str, note="", shown: pd.DataFrame | None = None) -> HTML:
    """Writes ``results/<dataset>/tables/<name>.csv`` and ``.md`` and returns the table to look at.

    ``shown`` is what the Markdown file and the returned HTML hold, None for the same as the CSV; ``note``, printed
    above them, says how the run differs from the released one.
    """
    folder, shown = paths.results(dataset) / "tables", table if shown is None else shown
    flat = shown.reset_index() if any(shown.index.names) else shown
    text = flat.to_markdown(index=False, disable_numparse=True)
    with replacing(folder / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=any(table.index.names))
    with replacing(folder / f"{name}.md") as temporary:
        temporary.write_text((f"*{note}*\n\n" if note else "") + text + "\n", encoding="utf-8")
    html = _html(shown)
    if not shown.map(lambda cell: len(str(cell)) > 40).any(axis=None):  # wide tables scroll; a number stays on its line
        html = f'<div style="white-space: nowrap">{html}</div>'
    return HTML((f"<p><em>{note}</em></p>" if note else "") + html)


def _html(table: pd.DataFrame) -> str:
    with pd.option_context("display.max_colwidth", None):  # no text is cut off
        return re.sub(r"\*\*(.*?)\*\*", r"<b>\1</b>", table.to_html(notebook=True))


def show_parameters(parameters: Parameters, *parts: type) -> HTML:
    """Parameters to look at: what each is, its value, what it was changed from; and below, folded, the data set's file,
    whose comments say why a value is what it is."""
    changes = parameters.changes()
    rows = [
        (name, getattr(parameters, name), changes[name][1] if name in changes else "", field.description)
        for part in parts
        for name, field in part.model_fields.items()
    ]
    table = pd.DataFrame(rows, columns=["parameter", "value", "instead of", "meaning"]).set_index("parameter")
    file = paths.PARAMS / f"{parameters.dataset}.yaml"
    text = escape(file.read_text(encoding="utf-8"))
    return HTML(f"{_html(table)}<details><summary>{file.name}, with the reasons</summary><pre>{text}</pre></details>")
