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


def test_adressa_in_the_readme():
    folder = PROJECT / "results" / "adressa" / "tables"
    assert (folder / "main.md").read_text().strip().partition("\n\n")[2] in README
    rows = pd.read_csv(folder / "main.csv").query("metric in ['recall', 'ndcg']")
    counts = rows["against_ce"].value_counts()
    assert (counts.get("better", 0), counts["worse"]) == (0, 5)
    logs = rows[rows["source"].notna() & (rows["source"] != "from memory")]["verdict"].value_counts()
    assert logs.to_dict() == {"reproduced": 16, "within seed noise": 5, "not reproduced (lower)": 3}


def test_counts_in_the_readme():
    table = pd.read_csv(TABLES / "main.csv").query("metric in ['recall', 'ndcg']")
    counts = table.groupby("method")["against_ce"].value_counts()
    assert (counts["T-CE"].get("better"), counts["T-CE"].get("worse")) == (7, 1)
    assert (counts["R-CE"].get("better"), counts["R-CE"].get("worse", 0)) == (2, 1)


def test_the_release_is_whole():
    runs = pd.read_csv(PROJECT / "results" / "ml100k" / "runs.csv")
    assert len(runs) == 45 and runs["id"].is_unique and not runs["commit"].str.contains("dirty|unknown").any()
    main = pd.read_csv(TABLES / "main.csv")
    assert (main.loc[main["backbone"].notna(), "n_seeds"] == 5).all() and main["note"].isna().all()


@pytest.mark.parametrize("file", sorted(PROJECT.glob("*.md")), ids=lambda file: file.name)
def test_links(file):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), target


def test_what_the_readme_says_of_the_curves():
    runs = pd.read_csv(PROJECT / "results" / "ml100k" / "runs.csv").query("method == 'T-CE'")
    assert (runs["selected_step"] == runs["last_point"]).sum() == 13 and len(runs) == 15
    steps_per_epoch = 157  # 2 x 80,000 rows in batches of 1,024
    reached = (runs["epochs"] * steps_per_epoch - 1) / (runs["ramp_steps"] - 1)
    assert reached.round(2).unique().tolist() == [0.94, 0.63, 0.78]

    points = pd.read_csv(PROJECT / "figures" / "ml100k" / "test_curves.csv").query("backbone == 'GMF'")
    for metric in ("recall_20_test", "ndcg_20_test"):
        peak_of_ce = points.query("method == 'CE'").groupby("step")[metric].mean().max()
        assert points.query("method == 'T-CE' and selected")[metric].mean() > peak_of_ce
