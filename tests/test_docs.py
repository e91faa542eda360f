"""What the pages say is what is there: tables and findings, links and paths, parameters and rooms."""

import importlib.util
import re

import pandas as pd
import pytest
from conftest import PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])
README = (PROJECT / "README.md").read_text()
RESULTS = PROJECT / "results"


def table(dataset: str, name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / dataset / "tables" / f"{name}.csv").query("metric in ['recall', 'ndcg']")


@pytest.mark.parametrize("name", ["main", "same_step"])
def test_tables_in_the_readme_are_the_released_ones(name):
    assert (RESULTS / "ml100k" / "tables" / f"{name}.md").read_text().strip() in README


def test_adressa_in_the_readme():
    assert (RESULTS / "adressa" / "tables" / "main.md").read_text().strip().partition("\n\n")[2] in README


def test_the_findings_of_the_readme_are_those_of_the_tables():
    adressa, movielens, extra = table("adressa", "main"), table("ml100k", "main"), table("ml100k", "extra_feedback")
    published = adressa[adressa["source"].notna() & (adressa["source"] != "from memory")]["verdict"]
    on_adressa = adressa["against_ce"].dropna()
    by_loss = {name: movielens[movielens["method"] == name]["against_ce"] for name in ("T-CE", "R-CE")}
    strategies = extra[extra["strategy"].str.match("fine-tuning|warm-up|colliding")]["against_plain"]

    def n(outcomes: pd.Series, wanted: str) -> int | str:
        return outcomes.eq(wanted).sum() or "none"

    said = " ".join(README.partition("## In short")[2].partition("\n## ")[0].split())
    for finding in (
        f"of {len(published)} published numbers in the authors' logs {n(published, 'reproduced')} are reproduced",
        f"{n(published, 'within seed noise')} lie within our seed noise, {n(published, 'not reproduced (lower)')} are lower",
        f"better than plain cross-entropy (CE) in {n(on_adressa, 'better')} of {len(on_adressa)} cells",
        f"T-CE is better than CE in {n(by_loss['T-CE'], 'better')} of {len(by_loss['T-CE'])} cells "
        f"and R-CE in {n(by_loss['R-CE'], 'better')}",
        f"in {n(strategies, 'better')} of {len(strategies)} cells there and worse in {n(strategies, 'worse')}",
    ):
        assert finding in said


def test_the_release_is_whole():
    runs, main = pd.read_csv(RESULTS / "ml100k" / "runs.csv"), table("ml100k", "main")
    assert len(runs) == 45 and runs["id"].is_unique and not runs["commit"].str.contains("dirty|unknown").any()
    assert (main.loc[main["backbone"].notna(), "n_seeds"] == 5).all() and main["note"].isna().all()


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_links_and_paths_lead_somewhere(file):
    text = file.read_text()
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", text):
        page = file.parent / target if target else file
        assert page.exists(), target
        if heading:
            headings = "\n".join(re.findall(r"(?m)^#+ (.*)$", page.read_text())).lower()
            assert heading[1:] in re.sub(r"[^\w\n #-]", "", headings).replace(" ", "-").splitlines(), heading
    for path in re.findall(r"`((?:denoise_lib|replication|tools|benchmarks|tests|examples)/[\w./]+)`", text):
        assert (PROJECT / path).exists(), path


def test_the_parameters_page_is_made_from_the_parameters():
    spec = importlib.util.spec_from_file_location("refresh_docs", PROJECT / "tools" / "refresh_docs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text() == tool.page(), "run tools/refresh_docs.py"


def test_the_architecture_page_names_every_room_and_counts_those_of_its_walks():
    page = (PROJECT / "docs" / "architecture.md").read_text()
    rooms = {file.stem for package in ("denoise_lib", "replication") for file in (PROJECT / package).rglob("[!_]*.py")}
    named = set(re.findall(r"`(\w+)`", page))
    assert rooms - named == set()
    walks = re.findall(r": (\d+) rooms\.\*\*\n(.*?)(?=\n\*\*|\Z)", page, re.DOTALL)
    assert len(walks) == 3
    for n_rooms, walk in walks:
        assert len(set(re.findall(r"`(\w+)`", walk)) & (rooms | {"methods"})) == int(n_rooms), walk
