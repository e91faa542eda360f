"""The page made of executed notebooks: whole, foldable, linked, and loading nothing."""

import re

import jupytext
import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from nbformat import v4

from replication.app import cli
from replication.report import html
from replication.support import paths

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TABLE = '<table class="dataframe"><tr><td>0.25</td></tr></table>'
FORMULA = r"""$$
\mathcal L(u) = \begin{cases} 0 \\ 1 \end{cases}
$$"""


def save(name: str, *cells) -> None:
    folder = paths.results("toy") / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=cells), folder / f"{name}.ipynb")


@pytest.fixture
def page(home) -> str:
    about = {"image/png": {"alt": 'Loss & "steps"', "width": 400}}
    outputs = [
        v4.new_output("stream", name="stderr", text="GMF:  50%|##### | 1/2"),
        v4.new_output("stream", name="stdout", text="<b>1</b>\n"),
        v4.new_output("execute_result", {"image/png": PNG, "text/plain": "<Image>"}, metadata=about),
        v4.new_output("display_data", {"text/html": TABLE, "text/plain": "a table"}),
        v4.new_output("execute_result", {"text/markdown": "- one *word*", "text/plain": "<Markdown>"}),
    ]
    save(
        "02_tce",
        v4.new_markdown_cell(f"# 02 · T-CE\n\nShare $p = e^{{-1/\\beta}}$ of `$HOME`.\n\n{FORMULA}"),
        v4.new_markdown_cell("## The method"),
        v4.new_code_cell("figure = draw(1 < 2)", outputs=outputs),
        v4.new_markdown_cell("## The method"),
    )
    save(
        "01_data", v4.new_markdown_cell("# 01 · Data"), v4.new_markdown_cell("## The method\n\n### Not in the contents")
    )
    save("03_rce.partial", v4.new_markdown_cell("# half a notebook"))
    return html.write("toy").read_text()


@pytest.fixture
def tree(page) -> BeautifulSoup:
    return BeautifulSoup(page, "html.parser")


def test_contents_lead_to_every_section(tree):
    links = [(link["href"], link.text) for link in tree.nav.find_all("a")]
    assert links == [
        ("#01_data", "01 · Data"), ("#01_data-the-method", "The method"),
        ("#02_tce", "02 · T-CE"), ("#02_tce-the-method", "The method"), ("#02_tce-the-method-2", "The method"),
    ]  # fmt: skip
    ids = [tag["id"] for tag in tree.find_all(id=True)]
    assert len(ids) == len(set(ids)) and {target[1:] for target, _ in links} <= set(ids)
    assert tree.find(id="02_tce-the-method-2").text == "The method"
    assert "half a notebook" not in tree.text


def test_code_is_folded_and_what_it_gave_is_not(tree):
    (code,) = tree.find_all("details")
    assert "open" not in code.attrs and code.summary.text == "code"
    assert code.pre.text.strip() == "figure = draw(1 < 2)" and tree.text.count("draw") == 1
    code.extract()
    assert tree.img and tree.td.text == "0.25" and tree.em.text == "word"
    assert [output.text for output in tree.find_all("pre")] == ["<b>1</b>\n"]


def test_stderr_and_second_forms_of_outputs_are_left_out(tree):
    for text in ("50%", "GMF:", "<Image>", "a table", "<Markdown>"):
        assert text not in tree.text


def test_figures_are_inside_with_their_descriptions(tree):
    (image,) = tree.find_all("img")
    assert image.attrs == {"src": f"data:image/png;base64,{PNG}", "alt": 'Loss & "steps"', "width": "400"}


def test_wide_outputs_scroll_in_their_own_box(tree):
    assert tree.td.find_parent(class_="output") and tree.img.find_parent(class_="output")
    assert re.search(r"\.output[^{]*\{ overflow-x: auto", tree.style.text)


def test_nothing_is_loaded(page, tree):
    assert not tree.find_all(["link", "script", "iframe"])
    assert all(image["src"].startswith("data:") for image in tree.find_all(src=True))
    assert "@import" not in page and "url(" not in page


def test_formulas_are_mathml(page):
    inline, block = re.findall(r"<math.*?</math>", page, re.DOTALL)
    assert 'display="inline"' in inline and "<msup>" in inline
    assert 'display="block"' in block and "ℒ" in block and "<mtable>" in block
    assert "<code>$HOME</code>" in page and "$" not in page.replace("$HOME", "")


@pytest.mark.parametrize("notebook", paths.NOTEBOOKS.values(), ids=paths.NOTEBOOKS)
def test_every_formula_of_the_notebooks_is_understood(notebook):
    render = MarkdownWithMath(html.Renderer(notebook.stem)).render
    text = "".join(render(cell.source) for cell in jupytext.read(notebook).cells if cell.cell_type == "markdown")
    left = [
        formula
        for formula in re.findall(r"<math.*?</math>", text, re.DOTALL)
        if "\\" in formula or "mathvariant" in formula
    ]
    assert not left and "$" not in text


def test_the_page_says_what_it_is_made_of(page):
    assert "<title>toy · Denoising implicit feedback, replicated</title>" in page
    (made,) = re.findall(r"Made on .*?</p>", page, re.DOTALL)
    assert re.search(r"01_data, 02_tce in results/toy/notebooks", made)
    assert html.environment()["commit"] in made


def test_the_command_writes_the_page_and_runs_nothing(home, capsys):
    options = cli._parser().parse_args(["--html", "toy"])
    with pytest.raises(ValueError, match=r"no executed notebooks in results/toy/notebooks.* \./run_all\.sh toy"):
        cli.run(options, [])
    save("03_rce.partial", v4.new_markdown_cell("# half a notebook"))
    with pytest.raises(ValueError, match="no executed notebooks"):
        cli.run(options, [])
    save("01_data", v4.new_markdown_cell("no heading"))
    assert cli.run(options, []) == 0
    assert capsys.readouterr().out.strip().endswith("results/toy/report.html")
    assert sorted(path.name for path in (home / "results" / "toy").iterdir()) == ["notebooks", "report.html"]
    assert '<a href="#01_data">01_data</a>' in (home / "results" / "toy" / "report.html").read_text()
