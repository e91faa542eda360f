"""The notebooks' form: pairs in step, no injected cells, short cells, imports in one place."""

import ast

import jupytext
import nbformat
import pytest
from conftest import PROJECT

from replication.app.notebooks import NotebookFailed, clean, execute
from replication.support import paths

PAIRS = [(text, text.with_suffix(".ipynb")) for text in paths.NOTEBOOKS.values()]
NAMES = [
    "01_data",
    "02_tce",
    "03_rce",
    "04_tables",
    "05_diagnostics",
    "06_extra_feedback",
    "07_own_loss",
    "08_fair_fight",
]


@pytest.mark.parametrize("text, pair", PAIRS, ids=lambda path: path.name)
class TestPair:
    def test_cells_are_the_same(self, text, pair):
        source, stored = jupytext.read(text).cells, nbformat.read(pair, 4).cells
        for cell in source:
            cell.metadata.setdefault("tags", [])  # as papermill does
        assert [(cell.cell_type, cell.source, cell.metadata) for cell in source] == [
            (cell.cell_type, cell.source, cell.metadata) for cell in stored
        ], "run tools/refresh_notebooks.py"

    def test_set_up_is_folded(self, text, pair):
        """Imports, the choice of the data set, and what only shows its parameters."""
        for cell in jupytext.read(text).cells:
            is_set_up = cell.source.startswith(
                ("# A ModuleNotFoundError here?", "parameters = resolve(dataset, changes)")
            )
            is_set_up |= "parameters" in cell.metadata.get("tags", [])
            assert cell.metadata.get("jupyter", {}).get("source_hidden", False) == is_set_up, cell.source

    def test_stored_outputs_are_whole_and_clean(self, text, pair):
        notebook = nbformat.read(pair, 4)
        nbformat.validate(notebook)
        content = pair.read_text()
        assert "injected-parameters" not in content + text.read_text()
        assert str(PROJECT) not in content and "/tmp/" not in content
        assert notebook.metadata.kernelspec.name == "python3"
        for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
            assert cell.execution_count == number + 1
            assert not [output for output in cell.outputs if output.output_type == "error"]
            assert sum(output.get("name") == "stderr" for output in cell.outputs) <= 1, "a progress bar is one line"

    def test_rhythm(self, text, pair):
        cells = jupytext.read(text).cells
        before = [None, *cells]
        code = [(cell, previous) for cell, previous in zip(cells, before) if cell.cell_type == "code"]
        for number, (cell, previous) in enumerate(code):
            tree = ast.parse(cell.source)
            imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
            assert not imports or number == 0, "imports stand in the first code cell"
            assert len([line for line in cell.source.splitlines() if line.strip()]) <= 25
            assert previous is not None and previous.cell_type == "markdown", cell.source

    def test_definitions(self, text, pair):
        """A function or two of a few lines may show the idea; what has more to say lies in a module."""
        code = [ast.walk(ast.parse(cell.source)) for cell in jupytext.read(text).cells if cell.cell_type == "code"]
        defined = [node for nodes in code for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        assert len(defined) <= 2 and all(isinstance(node, ast.FunctionDef) for node in defined)
        assert all(node.end_lineno - node.lineno < 15 for node in defined)

    def test_some_outputs_are_checked(self, text, pair):
        tags = [tag for cell in jupytext.read(text).cells for tag in cell.metadata.get("tags", [])]
        assert tags.count("parameters") == 1 and tags.count("nbval-check-output") >= 1

    def test_parameters(self, text, pair):
        """Which data set and what is changed of its parameters, opened by hand nothing of toy's; then both are read."""
        code = [cell for cell in jupytext.read(text).cells if cell.cell_type == "code"]
        (place,) = [place for place, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", [])]
        values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(code[place].source).body}
        assert values == {"dataset": "toy", "changes": {}}
        assert "globals(" not in text.read_text()
        assert any("resolve(dataset, " in cell.source and "changes)" in cell.source for cell in code[place + 1 :])


def test_names():
    assert [*paths.NOTEBOOKS] == NAMES


@pytest.mark.slow
def test_a_misspelt_key_is_refused_by_name(home):
    with pytest.raises(
        NotebookFailed, match=r"(?s)02_tce: cell \d+ failed with ValueError.*did you mean epochs\?"
    ) as error:
        execute(paths.NOTEBOOKS["02_tce"], home / "02_tce.ipynb", {"dataset": "toy", "changes": {"epocs": 3}})
    assert "unknown key 'epocs'" in str(error.value) and not list(home.glob("results/*/runs"))


def test_pieces_of_a_progress_bar_become_its_last_line():
    pieces = [nbformat.v4.new_output("stream", name="stderr", text=text) for text in ("\r0/2", "\r1/2", "\r2/2\n")]
    other = nbformat.v4.new_output("stream", name="stdout", text="done\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[*pieces, other])])
    outputs = clean(notebook).cells[0].outputs
    assert [(output.name, output.text) for output in outputs] == [("stderr", "2/2\n"), ("stdout", "done\n")]


def test_the_values_of_a_call_are_folded_like_those_that_they_override():
    injected = nbformat.v4.new_code_cell('dataset = "ml100k"', metadata={"tags": ["injected-parameters"]})
    notebook = clean(nbformat.v4.new_notebook(cells=[injected, nbformat.v4.new_code_cell("1")]))
    assert [cell.metadata.get("jupyter") for cell in notebook.cells] == [{"source_hidden": True}, None]
