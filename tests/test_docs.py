"""What the README says is what the results say, and its links lead somewhere."""

import re

import pandas as pd
import pytest
from conftest import PROJECT

README = (PROJECT / "README.md").read_text()
TABLES = PROJECT / "results" / "ml100k" / "tables"


@pytest.mark.parametrize("name", ["main", "same_step"])
def test_tables_in_the_readme_are_the_released_ones(name):
    assert (TABLES / f"{name}.md").read_text().strip() in README


def test_counts_in_the_readme():
    table = pd.read_csv(TABLES / "main.csv").query("metric in ['recall', 'ndcg']")
    counts = table.groupby("method")["against_ce"].value_counts()
    assert (counts["T-CE"].get("better"), counts["T-CE"].get("worse")) == (7, 1)
    assert (counts["R-CE"].get("better"), counts["R-CE"].get("worse", 0)) == (2, 0)


def test_the_release_is_whole():
    runs = pd.read_csv(PROJECT / "results" / "ml100k" / "runs.csv")
    assert len(runs) == 45 and runs["id"].is_unique and not runs["commit"].str.contains("dirty|unknown").any()
    main = pd.read_csv(TABLES / "main.csv")
    assert (main["n_seeds"] == 5).all() and main["note"].isna().all()


@pytest.mark.parametrize("file", sorted(PROJECT.glob("*.md")), ids=lambda file: file.name)
def test_links(file):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), target
