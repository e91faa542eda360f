"""The site: an index, and a page for each document, executed notebook and table. It works from a folder and loads
nothing from a network: formulas are MathML, which browsers draw by themselves."""

import os
import re
import shutil
from base64 import b64decode
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from posixpath import dirname, join, normpath, splitext
from urllib.parse import urlsplit

import nbformat
from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from pygments.formatters import HtmlFormatter

from denoise_lib.files import replacing_folder
from replication.report.verdicts import TITLES
from replication.support import paths
from replication.support.environment import environment

TEMPLATES = Path(__file__).parent / "templates"
CODE_STYLES = {"light": "default", "dark": "github-dark"}  # pygments' names
SCRIPT = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "𝒜ℬ𝒞𝒟ℰℱ𝒢ℋℐ𝒥𝒦ℒℳ𝒩𝒪𝒫𝒬ℛ𝒮𝒯𝒰𝒱𝒲𝒳𝒴𝒵")
SOURCES = (  # in the order of the menu
    "README.md VERDICTS.md DEVIATIONS.md *.md results/*/notebooks/*.ipynb notebooks/*.ipynb "
    "docs/*.md benchmarks/results/*.md results/*/README.md results/*/tables/*.md"
)
COPIED = (".csv", ".png", ".cff", "")  # of the files that a page links to; LICENSE has no suffix
GROUPS = {"": "Overview", "docs": "Documents", "notebooks": "Toy data", "benchmarks/results": "Benchmarks"}
FINDING = "Finding ("  # how the notebooks begin one


@dataclass
class Page:
    """A page: its source, a path in the project; its HTML; ``level``, ``slug``, ``id`` and ``html`` of its headings."""

    source: str
    body: str = ""
    headings: list[dict] = field(default_factory=list)

    def __post_init__(self):
        self.path, self.root = splitext(self.source)[0] + ".html", "../" * self.source.count("/")
        parent, dataset, *_ = f"{self.source}//".split("/")
        self.is_result = parent == "results" and self.source.endswith(".ipynb")
        self.group = GROUPS.get(dirname(self.source)) or TITLES.get(dataset, dataset)
        if parent == "results" and not self.is_result:
            self.group = f"Tables of {self.group}"

    @property
    def title(self) -> str:
        return next((heading["html"] for heading in self.headings if heading["level"] == 1), self.source)


class Renderer(IPythonRenderer):
    """Markdown to HTML, with formulas as MathML, and headings and links that lead where they lead on the forge."""

    def __init__(self, site: "Site", page: Page):
        super().__init__(escape=False)
        self.site, self.page = site, page

    def heading(self, text: str, level: int, **attributes) -> str:
        slug = re.sub(r"[^\w -]", "", re.sub(r"<[^>]*>", "", text).lower()).strip().replace(" ", "-")
        earlier = [heading["slug"] for heading in self.page.headings].count(slug)
        name = f"{slug}-{earlier}" if earlier else slug
        self.page.headings.append(dict(level=level, slug=slug, id=name, html=text))
        return f'<h{level} id="{name}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        target = self.site.target(self.page, url)
        return super().link(text, target, title) if target else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return super().image(text, self.site.target(self.page, url) or url, title)

    def table(self, text: str) -> str:
        return f'<div class="scroll"><table>{text}</table></div>\n'

    def table_cell(self, text: str, align: str | None = None, head: bool = False) -> str:
        tag, plain = "th" if head else "td", re.sub(r"<[^>]*>", "", text)
        kind = "short" if len(plain) < 25 or "±" in plain else "long"  # what is short does not break
        return f'<{tag} class="{kind}">{text}</{tag}>\n'

    def block_mermaidjs(self, code: str) -> str:
        """A ``block-beta``, the one kind of diagram in the docs, as a grid."""
        columns, blocks = re.search(r"columns (\d+)", code)[1], re.findall(r'\["(.*?)"\]:(\d+)', code)
        cells = "".join(f'<div style="grid-column: span {span}">{text}</div>' for text, span in blocks)
        return f'<div class="scroll"><div class="blocks" style="--columns: {columns}">{cells}</div></div>\n'

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return f'<span class="formula">{_mathml(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")


class Site:
    """The pages, which know of each other, and the folder that they and what they show are written to."""

    def __init__(self, folder: Path):
        roots = [(paths.home() if some.startswith("results/") else paths.PROJECT, some) for some in SOURCES.split()]
        found = [(root, file) for root, some in roots for file in sorted(root.glob(some))]
        sources = [file.relative_to(root).as_posix() for root, file in found if ".partial" not in file.name]
        self.folder, self.pages = folder, {source: Page(source) for source in sources}
        self.groups = defaultdict(list)
        for page in self.pages.values():
            page.body = self._notebook(page) if page.source.endswith(".ipynb") else self.markdown(page, _markdown(page))
            self.groups[page.group].append(page)

    def markdown(self, page: Page, text: str) -> str:
        return MarkdownWithMath(Renderer(self, page)).render(text)

    def _notebook(self, page: Page) -> str:
        notebook = nbformat.read(_file(page.source), as_version=4)
        hidden = [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in notebook.cells]
        for cell, before, here, after in zip(notebook.cells, [False, *hidden], hidden, [*hidden[1:], False]):
            cell.metadata["folded"] = here or (before and after)  # a text between two cells of set-up is part of it
        filters = dict(markdown2html=partial(self.markdown, page), picture=partial(self.picture, page))
        exporter = HTMLExporter(template_file=str(TEMPLATES / "notebook.html.j2"), filters=filters)
        return exporter.from_notebook_node(notebook)[0]

    def picture(self, page: Page, png: str) -> str:
        """Where a figure lies, as seen from a page; it is written there as WebP, in less than half of PNG's bytes."""
        content = b64decode(png)
        path = f"pictures/{sha256(content).hexdigest()[:16]}.webp"
        if not (file := self.folder / path).exists():
            file.parent.mkdir(exist_ok=True)
            Image.open(BytesIO(content)).save(file, lossless=True)
        return page.root + path

    def target(self, page: Page, url: str) -> str | None:
        """Where a link in a page's source leads: to a page, to a copied file, or else to the repository if the
        environment tells its address, as that of a workflow does. None where there is no such place."""
        parts = urlsplit(url)
        if parts.scheme or not parts.path:
            return url
        source = normpath(join(dirname(page.source), parts.path))
        if source in self.pages:
            path = self.pages[source].path
        elif (file := _file(source)).is_file() and file.suffix in COPIED:
            path, copy = source, self.folder / source
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        else:
            repository = file.exists() and os.environ.get("GITHUB_REPOSITORY")
            return f"{os.environ['GITHUB_SERVER_URL']}/{repository}/blob/HEAD/{source}" if repository else None
        return page.root + path + (f"#{parts.fragment}" if parts.fragment else "")


def write() -> Path:
    """Writes ``site/`` anew, from the project's texts and from what runs have written, and returns its index."""
    options = dict(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = Environment(loader=FileSystemLoader(TEMPLATES), **options).get_template
    target = paths.home() / "site"
    with replacing_folder(target) as folder:
        site, index = Site(folder), Page("index.md")
        parts = [_part("README.md"), _part("README.md", "finding"), _part("VERDICTS.md", "claim")]
        cards = {page.source: _cards(page) for page in site.pages.values() if page.is_result}
        frame = dict(groups=site.groups, commit=environment()["commit"])
        index.body = site.markdown(index, "".join(parts)) + template("index.html.j2").render(frame, cards=cards)
        for page in [index, *site.pages.values()]:
            (folder / page.path).parent.mkdir(parents=True, exist_ok=True)
            text = template("page.html.j2").render(frame, page=page)
            (folder / page.path).write_text(text, encoding="utf-8")
        code = {scheme: HtmlFormatter(style=name).get_style_defs(".highlight") for scheme, name in CODE_STYLES.items()}
        (folder / "site.css").write_text(template("site.css.j2").render(code=code), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
    return target / "index.html"


def _file(source: str) -> Path:
    """The home's, where it has one, else the project's."""
    return file if (file := paths.home() / source).exists() else paths.PROJECT / source


def _markdown(page: Page) -> str:
    text, name = _file(page.source).read_text(encoding="utf-8"), Path(page.source).stem
    return f"# {page.group}: {name}\n\n{text}\n\n[{name}.csv]({name}.csv)" if "/tables/" in page.source else text


def _part(source: str, word: str = "") -> str:
    """The section of a Markdown page whose heading has the word; without a word, what comes before all sections."""
    head, *sections = re.split(r"(?m)^## ", _file(source).read_text(encoding="utf-8"))
    return next("## " + each for each in sections if word in each.partition("\n")[0].lower()) if word else head


def _cards(page: Page) -> list[dict]:
    """A notebook's figures, each with the findings below it up to the next table; and findings that have no figure."""
    cards, place, card = [], "", None
    for tag in BeautifulSoup(page.body, "html.parser").find_all(["h2", "h3", "img", "table", "strong", "b"]):
        is_finding = tag.name in ("strong", "b") and tag.text.startswith(FINDING)
        place = tag.get("id", place)
        if tag.name == "table":
            card = None
        elif tag.name == "img" or (is_finding and card is None):
            image = tag.get("src", "").removeprefix(page.root)
            card = dict(href=f"{page.path}#{place}", image=image, alt=tag.get("alt", ""), findings=[])
            cards.append(card)
        if is_finding:
            for link in tag.parent.find_all("a"):  # it would lead elsewhere from the index
                link.unwrap()
            card["findings"].append(tag.parent.decode_contents())
    return cards


def _mathml(formula: str, display: str) -> str:
    # Browsers ignore mathvariant; the script letters are characters of their own.
    script = r'<mi mathvariant="script">(.*?)</mi>'
    return re.sub(script, lambda found: f"<mi>{found[1].translate(SCRIPT)}</mi>", convert(formula, display=display))
