"""The site: linked within itself, loading nothing, folded where a notebook says so, and holding every finding."""

import re
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import urlsplit

import jupytext
import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import PROJECT
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from nbformat import v4

from replication.app import cli
from replication.report import site
from replication.support import paths

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TABLE = '<table class="dataframe"><tr><td>0.25</td></tr></table>'
FORMULA = r"""$$
\mathcal L(u) = \begin{cases} 0 \\ 1 \end{cases}
$$"""
TEXTS = {
    "README.md": """# Replicated

Two losses. ![The result](figures/toy/result.png)

## Three findings

1. **One finding holds.** [Where](VERDICTS.md#claims), [drawn](figures/toy/result.png), [more](docs/method.md).

## Read

[02](notebooks/02_tce.ipynb), [losses](denoise_lib/losses.py), 
[gone](results/toy/tables/gone.md), [LICENSE](LICENSE)""",
    "VERDICTS.md": "# Verdicts\n\n## Claims\n\n| claim | status |\n|---|---|\n| T-CE gains | partly |\n\n## Numbers",
    "docs/method.md": f"# The method\n\n[back](../README.md#read), [table](../results/toy/tables/main.md)\n\n{FORMULA}",
    "LICENSE": "MIT",
    "denoise_lib/losses.py": "",
    "results/toy/tables/main.md": "| a |\n|---|\n| 1 |",
    "results/toy/tables/main.csv": "a\n1\n",
}


def cell(source: str, *outputs, folded: bool = False):
    metadata = {"jupyter": {"source_hidden": True}} if folded else {}
    return v4.new_code_cell(source, outputs=[*outputs], metadata=metadata)


def notebook():
    about = {"image/png": {"alt": 'Loss & "steps"', "width": 400}}
    return v4.new_notebook(
        cells=[
            v4.new_markdown_cell(f"# 02 · T-CE\n\nShare $p = e^{{-1/\\beta}}$ of `$HOME`.\n\n{FORMULA}"),
            cell("import torch", folded=True),
            v4.new_markdown_cell("Which data set"),
            cell('dataset = "toy"', v4.new_output("stream", text="<b>1</b>\n"), folded=True),
            v4.new_markdown_cell("## The method"),
            cell(
                "figure = draw(1 < 2)",
                v4.new_output("stream", name="stderr", text="GMF:  50%|##### | 1/2"),
                v4.new_output("execute_result", {"image/png": PNG, "text/plain": "<Image>"}, metadata=about),
                v4.new_output("display_data", {"text/markdown": "**Finding (toy): T-CE loses** by .02."}),
            ),
            v4.new_markdown_cell("## The method"),
            cell("table", v4.new_output("display_data", {"text/html": TABLE, "text/plain": "a table"})),
            cell("said", v4.new_output("display_data", {"text/html": "<p><b>Finding (toy): no table errs.</b></p>"})),
        ]
    )


@pytest.fixture
def written(tmp_path, monkeypatch) -> Path:
    """The site of a tiny project, whose results lie in a home elsewhere."""
    project, home = tmp_path / "project", tmp_path / "home"
    monkeypatch.setattr(paths, "PROJECT", project)
    monkeypatch.setenv("DENOISE_HOME", str(home))
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    for name, text in TEXTS.items():
        file = (home if name.startswith("results") else project) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for folder in (project / "figures/toy", home / "results/toy/notebooks", project / "notebooks"):
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(), folder / "02_tce.ipynb")
    nbformat.write(notebook(), home / "results/toy/notebooks/03_rce.partial.ipynb")
    (project / "figures/toy/result.png").write_bytes(b"")
    return site.write().parent


def trees(folder: Path) -> dict[str, BeautifulSoup]:
    found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.html"))}
    return {name: BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser") for name, file in found.items()}


def check(folder: Path) -> None:
    """Every link within the site leads to a file, and to a heading of it; nothing is loaded from elsewhere."""
    pages = trees(folder)
    for name, tree in pages.items():
        ids = [tag["id"] for tag in tree.find_all(id=True)]
        assert len(ids) == len(set(ids)), name
        assert not tree.find_all(["script", "iframe"])
        used = [tag.get("src") or tag["href"] for tag in tree.find_all(["img", "link"])]
        assert all(not urlsplit(each).scheme for each in used if each != "data:,"), name
        for url in [*used, *(tag["href"] for tag in tree.find_all("a"))]:
            parts = urlsplit(url)
            if parts.scheme:
                continue
            target = normpath(join(dirname(name), parts.path)) if parts.path else name
            assert (folder / target).is_file(), f"{name}: {url}"
            assert not parts.fragment or pages[target].find(id=parts.fragment), f"{name}: {url}"
    style = (folder / "site.css").read_text(encoding="utf-8")
    assert "@import" not in style and "url(" not in style
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 10e6


def test_links_lead_somewhere_and_nothing_is_loaded(written):
    check(written)
    assert set(trees(written)) == {
        "index.html", "README.html", "VERDICTS.html", "docs/method.html", "notebooks/02_tce.html",
        "results/toy/notebooks/02_tce.html", "results/toy/tables/main.html",
    }  # fmt: skip
    copied = {"LICENSE", "figures/toy/result.png", "results/toy/tables/main.csv"}
    assert all((written / name).is_file() for name in copied) and len(list(written.glob("pictures/*.webp"))) == 1


def test_what_is_no_part_of_the_site_is_linked_where_the_address_is_known(written, monkeypatch):
    readme = trees(written)["README.html"].main
    assert "losses" in readme.text and not readme.find("a", string="losses") and not readme.find("a", string="gone")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://forge")
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    site.write()
    readme = trees(written)["README.html"].main
    assert readme.find("a", string="losses")["href"] == "https://forge/a/b/blob/HEAD/denoise_lib/losses.py"
    assert not readme.find("a", string="gone")


def test_the_index_has_every_finding_and_verdict(written):
    index = trees(written)["index.html"]
    text = " ".join(index.main.text.split())
    for said in ("One finding holds.", "T-CE gains partly", "Finding (toy): T-CE loses by .02.", "no table errs."):
        assert said in text
    assert "Numbers" not in text
    drawn, untold = index.find_all("figure")
    assert drawn.img["alt"] == 'Loss & "steps"' and "T-CE loses" in drawn.text and not untold.img
    assert drawn.a["href"] == "results/toy/notebooks/02_tce.html#the-method"
    assert untold.a["href"] == "results/toy/notebooks/02_tce.html#the-method-1"


def test_set_up_is_folded_and_the_rest_is_not(written):
    main = trees(written)["results/toy/notebooks/02_tce.html"].main
    (folded,) = main.find_all("details")
    assert "open" not in folded.attrs and folded.summary.text == "Set-up"
    for said in ("import torch", "Which data set", 'dataset = "toy"', "<b>1</b>"):
        assert said in folded.text
    folded.extract()
    assert "import torch" not in main.text and "draw(1 < 2)" in main.text and main.img and main.td.text == "0.25"
    assert "GMF:" not in main.text and "a table" not in main.text and "<Image>" not in main.text


def test_wide_outputs_scroll_in_their_own_box(written):
    main = trees(written)["results/toy/notebooks/02_tce.html"].main
    assert main.td.find_parent(class_="output") and main.img.find_parent(class_="output")
    assert trees(written)["VERDICTS.html"].td.find_parent(class_="scroll")
    assert re.search(r"\.scroll, \.output[^{]*\{ overflow-x: auto", (written / "site.css").read_text(encoding="utf-8"))


def test_formulas_are_mathml(written):
    page = (written / "notebooks/02_tce.html").read_text(encoding="utf-8")
    inline, block = re.findall(r"<math.*?</math>", page, re.DOTALL)
    assert 'display="inline"' in inline and "<msup>" in inline
    assert 'display="block"' in block and "ℒ" in block and "<mtable>" in block
    assert "<code>$HOME</code>" in page and "$" not in page.replace("$HOME", "")


SOURCES = [*paths.NOTEBOOKS.values(), *sorted(PROJECT.glob("docs/*.md"))]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.stem)
def test_every_formula_is_understood(file):
    texts = [cell.source for cell in jupytext.read(file).cells if cell.cell_type == "markdown"]
    renderer = site.Renderer(site.Site.__new__(site.Site), site.Page(file.name))
    renderer.link = lambda text, url, title=None: text
    renderer.image = renderer.link
    page = "".join(map(MarkdownWithMath(renderer).render, texts))
    formulas = re.findall(r"<math.*?</math>", page, re.DOTALL)
    assert not [formula for formula in formulas if "\\" in formula or "mathvariant" in formula]
    assert "$" not in re.sub(r"<(pre|code)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_the_command_takes_no_data_set(home):
    with pytest.raises(ValueError, match="--site takes no data set"):
        cli.run(cli._parser().parse_args(["--site", "toy"]), [])


@pytest.mark.slow
def test_the_site_of_this_project(home, capsys):
    for name in ("results", "figures"):
        (home / name).symlink_to(PROJECT / name)
    assert cli.run(cli._parser().parse_args(["--site"]), []) == 0
    assert capsys.readouterr().out.strip().endswith("site/index.html")
    check(home / "site")
    index, readme = (
        " ".join(trees(home / "site")["index.html"].text.split()),
        (PROJECT / "README.md").read_text(encoding="utf-8"),
    )
    findings = re.findall(
        r"(?m)^\d\. \*\*(.*?)\*\*", readme.partition("## Three findings")[2].partition("\n## ")[0], re.DOTALL
    )
    assert len(findings) == 3 and all(" ".join(finding.split()) in index for finding in findings)
