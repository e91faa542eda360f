"""What the pages say is what is there: results, links and paths, imports and commands, parameters and rooms."""

import importlib
import re
import runpy

import pandas as pd
import pytest
from conftest import PROJECT
from importlinter.cli import lint_imports

from replication.app import cli
from replication.runs.parameters import resolve

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])
README = (PROJECT / "README.md").read_text()
RESULTS = PROJECT / "results"
TOOL = runpy.run_path(str(PROJECT / "tools" / "refresh_docs.py"))


def table(dataset: str, name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / dataset / "tables" / f"{name}.csv").query("metric in ['recall', 'ndcg']")


def block(page: str, kind: str) -> str:
    return "\n".join(re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL))


@pytest.mark.parametrize("name", TOOL["PAGES"])
def test_a_page_is_what_its_template_says_of_the_tables(name):
    assert TOOL["PAGES"][name].read_text() == TOOL["page"](name), "run tools/refresh_docs.py"


def test_no_result_is_typed_into_a_template():
    """Digits after a point are results, but for the sample output, a constant and bounds that the text explains."""
    constants = {
        "2006.04153",
        "2112.01160",
        "3.11",
        "2.13",
        "23.89%",
        "0.2",
        "0.4",
        "0.05",
        ".69",
        "90 %",
        "95 %",
        "3 %",
        "4 %",
        "1 %",
        "5 %",
        "15 %",
    }
    for file in (PROJECT / "replication" / "report" / "templates").glob("*.md.j2"):
        prose = re.sub(r"{[{%].*?[%}]}", "", file.read_text())
        typed = set(re.findall(r"(?<![\w.])\d*\.\d+%?|\d+ %", prose))
        assert not typed - constants, f"{file.name}: {typed - constants}"


def test_the_findings_of_the_readme_are_those_of_the_tables():
    """Counted here again, without the template."""
    adressa, movielens, same = table("adressa", "main"), table("ml100k", "main"), table("ml100k", "same_step")
    published = adressa[adressa["source"].notna() & (adressa["source"] != "from memory")]["verdict"].value_counts()
    on_adressa = adressa["against_ce"].value_counts()
    own, at_same = [
        {name: rows.value_counts().get("better", 0) for name, rows in frame.groupby("method")[column]}
        for frame, column in ((movielens, "against_ce"), (same, "at_same_step"))
    ]
    curves = table("ml100k", "selectors").query(
        "backbone == 'GMF' and metric == 'recall' and selector == \"T-CE's step\""
    )
    at = curves.set_index("method")["mean"] - curves.set_index("method")["mean"]["CE"]
    said = " ".join(README.partition("## Three findings")[2].partition("\n## ")[0].split())
    for finding in (
        f"Of {published.sum()} numbers in the authors' logs we reproduce {published['reproduced']} within 4 %",
        f"better than CE in {on_adressa.get('better', 0)} of {on_adressa.sum()} comparisons",
        f"comparisons and worse in {on_adressa['worse']}; {on_adressa['no effect']} show no effect, the others cannot",
        f"T-CE is better than CE in {own['T-CE']} of 6 comparisons",
        f"With CE at the same step T-CE is better in {at_same['T-CE']}, both on GMF",
        f"T-CE gains {at['T-CE']:.3f} of Recall@20 over CE".replace("0.", "."),
        f"false positives first gains {at['oracle-drop']:.3f}, one".replace("0.", "."),
        f"as many positives at random {at['random-drop']:.3f}: so".replace("0.", "."),
        f"rarest items first gains {at['popularity-drop']:.3f}.".replace("0.", "."),
    ):
        assert finding in said, finding


def test_what_the_readme_concludes():
    """Its words hold for these tables; where one fails, the sentence must be changed."""
    adressa, own = table("adressa", "main"), table("ml100k", "main").query("against_ce == 'better'")
    assert set(own["backbone"]) == {"GMF", "CDAE"} and set(own["method"]) == {"T-CE"}
    assert set(table("ml100k", "same_step").query("at_same_step == 'better'")["backbone"]) == {"GMF"}
    lower = adressa[adressa["verdict"] == "not reproduced (lower)"]
    assert set(lower["backbone"]) == {"NeuMF"} and set(lower["metric"]) == {"ndcg"}
    recall = (
        table("ml100k", "selectors").query("metric == 'recall'").set_index(["backbone", "method", "selector"])["mean"]
    )
    meets = [recall[name, "CE", "Recall@20"] > recall[name, "T-CE", "own loss"] for name in ("GMF", "NeuMF", "CDAE")]
    assert meets == [False, True, True]
    at = {name: recall["GMF", name, "T-CE's step"] for name in ("CE", "random-drop", "oracle-drop", "T-CE")}
    assert at["CE"] < at["random-drop"] < at["oracle-drop"] < at["T-CE"]
    precision = pd.read_csv(RESULTS / "ml100k" / "tables" / "drops.csv").pivot(columns="method", index="backbone")[
        "precision"
    ]
    assert (precision["popularity-drop"] > precision["T-CE"]).all()


def test_what_the_page_on_adressa_concludes_of_early_steps():
    early = pd.read_csv(RESULTS / "adressa" / "tables" / "early_steps.csv").set_index(["step", "measured"])
    assert (early["T-CE to CE"][100] < 0.5 * early["two seeds"][100]).all()
    for column, step in (("R-CE to CE", 100), ("T-CE to CE", 200)):
        assert early[column][step, "Recall@3"] > 0.5 * early["two seeds"][step, "Recall@3"]


def test_the_figure_of_the_readme_is_drawn_from_the_tables():
    drawn = runpy.run_path(str(PROJECT / "tools" / "main_result.py"))
    released = pd.read_csv(drawn["IMAGE"].with_suffix(".csv"))
    pd.testing.assert_frame_equal(drawn["points"](), released, check_dtype=False)
    assert drawn["IMAGE"].relative_to(PROJECT).as_posix() in README


def test_the_readme_is_two_screens():
    assert len(README.encode()) < 7000 and "./run_tests.sh" in README


@pytest.mark.slow
def test_the_sample_output_of_the_readme(release, monkeypatch):
    monkeypatch.setenv("DENOISE_HOME", str(release))
    monkeypatch.chdir(release)
    assert cli._summary(resolve("toy")) == block(README, "text").strip()


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


def test_every_page_is_reached_from_the_readme():
    linked = set(re.findall(r"\]\(docs/(\w+\.md)", README))
    assert {file.name for file in (PROJECT / "docs").glob("*.md")} == linked


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_imports_and_modules_that_a_page_shows_are_there(file):
    text = file.read_text()
    for module, names in re.findall(
        r"(?m)^from ((?:denoise_lib|replication)[\w.]*) import (.+)$", block(text, "python")
    ):
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
    for module in re.findall(r"python -m (denoise_lib|replication)\b", block(text, "bash")):
        assert (PROJECT / module / "__main__.py").exists(), module


def test_the_architecture_page_names_every_room_and_counts_those_of_its_walks():
    page = (PROJECT / "docs" / "architecture.md").read_text()
    rooms = {file.stem for package in ("denoise_lib", "replication") for file in (PROJECT / package).rglob("[!_]*.py")}
    named = set(re.findall(r"`(\w+)`", page))
    assert rooms - named == set()
    walks = re.findall(r": (\d+) rooms\.\*\*\n(.*?)(?=\n\*\*|\Z)", page, re.DOTALL)
    assert len(walks) == 3
    for n_rooms, walk in walks:
        assert len(set(re.findall(r"`(\w+)`", walk)) & (rooms | {"methods"})) == int(n_rooms), walk


def test_imports_keep_to_the_rule_of_layers(capsys):
    assert lint_imports(config_filename=str(PROJECT / "pyproject.toml"), no_cache=True) == 0, capsys.readouterr().out
