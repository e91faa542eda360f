"""The executed notebooks of a data set as one HTML page that holds figures, formulas and style, and loads nothing."""

import re
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from denoise_lib.files import replacing
from replication.support import paths
from replication.support.environment import environment

TEMPLATES = Path(__file__).parent / "templates"
CODE_STYLES = {"light": "default", "dark": "github-dark"}  # pygments' names
SCRIPT = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "𝒜ℬ𝒞𝒟ℰℱ𝒢ℋℐ𝒥𝒦ℒℳ𝒩𝒪𝒫𝒬ℛ𝒮𝒯𝒰𝒱𝒲𝒳𝒴𝒵")


class Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, which browsers draw by themselves, and headings that can be linked.

    ``headings`` collects for each heading its ``level`` in the notebook, its ``id`` in the page and its text as
    ``html``. They go down by a level: the page's own title is above those of the notebooks.
    """

    def __init__(self, notebook: str):
        super().__init__(escape=False)
        self.notebook = notebook
        self.headings: list[dict] = []

    def heading(self, text: str, level: int, **attributes) -> str:
        # Notebooks share section names ("The method"), and one may use a name twice.
        slug = f"{self.notebook}-" + re.sub(r"\W+", "-", re.sub(r"<[^>]*>", "", text).lower()).strip("-")
        earlier = sum(re.fullmatch(rf"{slug}(-\d+)?", heading["id"]) is not None for heading in self.headings)
        slug += f"-{earlier + 1}" if earlier else ""
        self.headings.append(dict(level=level, id=slug, html=text))
        return f'<h{level + 1} id="{slug}">{text}</h{level + 1}>\n'

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return f'<span class="formula">{_mathml(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")


def write(dataset: str) -> Path:
    """Writes ``results/<dataset>/report.html`` from the executed notebooks that are there, and returns its path.

    Raises:
        ValueError: none of the notebooks has been executed on this data set.
    """
    folder = paths.results(dataset) / "notebooks"
    executed = [file for name in paths.NOTEBOOKS if (file := folder / f"{name}.ipynb").exists()]
    if not executed:
        none = f"{dataset}: no executed notebooks in {paths.shown(folder)}, so there is nothing to report"
        raise ValueError(f"{none}; make them first with: ./run_all.sh {dataset}")
    options = dict(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = Environment(loader=FileSystemLoader(TEMPLATES), **options).get_template("report.html.j2")
    text = page.render(
        dataset=dataset,
        chapters=[_chapter(file) for file in executed],
        folder=paths.shown(folder),
        made=datetime.now(UTC),
        commit=environment()["commit"],
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        code_style={scheme: HtmlFormatter(style=name).get_style_defs() for scheme, name in CODE_STYLES.items()},
    )
    with replacing(paths.results(dataset) / "report.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return paths.results(dataset) / "report.html"


def _chapter(file: Path) -> dict:
    """An executed notebook in the page: its name and title, its ``##`` sections, and all its cells as HTML."""
    renderer = Renderer(file.stem)
    filters = {"markdown2html": MarkdownWithMath(renderer).render}
    exporter = HTMLExporter(template_file=str(TEMPLATES / "chapter.html.j2"), filters=filters)
    body, _ = exporter.from_notebook_node(nbformat.read(file, as_version=4))
    title = next((heading["html"] for heading in renderer.headings if heading["level"] == 1), file.stem)
    sections = [heading for heading in renderer.headings if heading["level"] == 2]
    return dict(name=file.stem, title=title, sections=sections, body=body)


def _mathml(formula: str, display: str) -> str:
    # Browsers ignore mathvariant; the script letters are characters of their own.
    script = r'<mi mathvariant="script">(.*?)</mi>'
    return re.sub(script, lambda found: f"<mi>{found[1].translate(SCRIPT)}</mi>", convert(formula, display=display))
