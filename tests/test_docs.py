"""What the README says is what the results say, and its links lead somewhere."""

import re

import numpy as np
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
    assert (counts.get("better", 0), counts["worse"]) == (0, 1)
    logs = rows[rows["source"].notna() & (rows["source"] != "from memory")]["verdict"].value_counts()
    assert logs.to_dict() == {"reproduced": 16, "within seed noise": 5, "not reproduced (lower)": 3}
    published = rows[rows["source"].notna() & (rows["source"] != "from memory")]
    assert published[published["verdict"] == "reproduced"]["backbone"].value_counts().to_dict() == {"GMF": 12, "NeuMF": 4}


def test_counts_in_the_readme():
    table = pd.read_csv(TABLES / "main.csv").query("metric in ['recall', 'ndcg']")
    counts = table.groupby("method")["against_ce"].value_counts()
    assert (counts["T-CE"].get("better"), counts["T-CE"].get("worse", 0)) == (5, 0)
    assert (counts["R-CE"].get("better", 0), counts["R-CE"].get("worse", 0)) == (0, 0)


def test_the_release_is_whole():
    runs = pd.read_csv(PROJECT / "results" / "ml100k" / "runs.csv")
    assert len(runs) == 45 and runs["id"].is_unique and not runs["commit"].str.contains("dirty|unknown").any()
    main = pd.read_csv(TABLES / "main.csv")
    assert (main.loc[main["backbone"].notna(), "n_seeds"] == 5).all() and main["note"].isna().all()


@pytest.mark.parametrize("file", sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]), ids=lambda file: file.name)
def test_links(file):
    text = file.read_text()
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", text):
        page = file.parent / target if target else file
        assert page.exists(), target
        if heading:
            anchors = re.sub(r"[^\w\n #-]", "", "\n".join(re.findall(r"(?m)^#+ (.*)$", page.read_text())).lower()).replace(" ", "-")
            assert heading[1:] in anchors.splitlines(), heading


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


def test_what_the_readme_says_of_adressa():
    folder = PROJECT / "results" / "adressa"
    steps = pd.read_csv(folder / "runs.csv").groupby(["backbone", "method"])["selected_step"].agg(["min", "max"])
    neumf, cdae = steps.loc["NeuMF"], steps.loc["CDAE"]
    assert (neumf["min"].min(), neumf["max"].max()) == (100, 1200)
    assert (cdae.loc[["CE", "T-CE"], "min"].min(), cdae.loc[["CE", "T-CE"], "max"].max()) == (100, 300)
    assert cdae.loc["R-CE"].tolist() == [6600, 8100]

    main = pd.read_csv(folder / "tables" / "main.csv").query("metric == 'recall'").set_index(["method", "k"])
    popular, gmf = main[main["backbone"].isna()]["mean"].round(3), main[main["backbone"] == "GMF"]["mean"].round(3)
    assert popular["MostPop"].tolist() == [0.139, 0.313] and gmf["CE"].tolist() == [0.089, 0.218]
    assert popular["MostPop (train + valid)", 20] == 0.546
    reach = pd.read_csv(folder / "tables" / "reach.csv", index_col=0)
    assert reach.loc["without training rows", "users"] == 4818 and reach.loc["all", ["users", "rows"]].tolist() == [10380, 18632]
    assert reach.loc["all", "item not in train"] == 4228 and reach.loc["all", "ceiling over items of train"].round(3) == 0.743


def test_what_the_readme_says_of_the_agreement():
    folder = PROJECT / "results" / "ml100k_sgdl" / "tables"
    metrics, selection = (pd.read_csv(folder / f"{name}.csv") for name in ("agreement", "agreement_selection"))
    assert len(metrics) == 24 and not metrics["differs"].any() and (metrics["n"] == 12).all() and (metrics["n_theirs"] == 3).all()
    largest = metrics.loc[metrics["difference"].abs().idxmax()]
    assert largest[["backbone", "method", "metric", "k"]].tolist() == ["NeuMF", "T-CE", "ndcg", 5]
    assert largest["difference"].round(3) == 0.045 and (metrics["p_holm"] == 1).all()
    assert selection["largest_curve_difference"].max().round(3) == 0.023
    beyond = selection[selection["difference"].abs() > 0.15]
    by_cell = selection.set_index(["backbone", "method"]).round(4)
    assert by_cell.loc[("NeuMF", "R-CE"), ["sd", "p"]].round(2).tolist() == [376.59, 0.12]
    assert by_cell.loc[("NeuMF", "T-CE"), ["ours", "theirs", "p"]].round(4).tolist() == [2025, 2266.6667, 0.0015]
    assert beyond[["backbone", "method", "ours", "theirs"]].to_numpy().tolist() == [["NeuMF", "R-CE", 2200, 1700]]


def test_what_deviations_says_of_the_protocols():
    table = pd.read_csv(TABLES / "protocols.csv").query("metric in ['recall', 'ndcg']")
    assert len(table) == 36 and not ((table["low"] > 0) | (table["high"] < 0)).any()
    widest = table.loc[table["difference"].abs().idxmax()]
    assert widest[["backbone", "method", "metric", "k"]].tolist() == ["CDAE", "CE", "recall", 20]
    assert (round(widest["difference"], 4), round(widest["high"] - widest["difference"], 4)) == (0.0096, 0.0101)


def test_what_the_readme_says_of_the_diagnostics():
    def table(name):
        return pd.read_csv(TABLES / f"{name}.csv")

    def counts(column):
        found = column.value_counts()
        return found.get("better", 0), found.get("worse", 0)

    clean = table("clean_training")
    assert len(clean) == 12 and counts(clean["against_ce"]) == (0, 2)
    controls = table("controls").query("metric in ['recall', 'ndcg']")
    assert counts(controls.query("method == 'oracle-drop'")["against_ce"])[0] == 0

    drops = table("drops").set_index(["method", "backbone"])["precision"].round(2)
    assert drops["T-CE"].to_dict() == {"GMF": 0.23, "NeuMF": 0.26, "CDAE": 0.3}
    assert drops["popularity-drop"].to_dict() == {"GMF": 0.25, "NeuMF": 0.29, "CDAE": 0.36}
    assert table("drops")["at_random"].round(3).unique().tolist() == [0.175]

    random, popular = table("tce_against_random"), table("tce_against_popularity")
    assert [counts(rows["at_same_step"]) for _, rows in random.groupby("backbone", sort=False)] == [(3, 0), (0, 0), (0, 1)]
    assert len(popular) == 12 and counts(popular["at_same_step"]) == (0, 5) and counts(popular["at_own_steps"]) == (12, 0)
    assert counts(controls.query("method == 'T-CE'")["against_ce"]) == (3, 0)

    recall = table("selectors").query("metric == 'recall'").pivot(index=["backbone", "selector"], columns="method", values="mean")
    gain = (recall["T-CE"] - recall["CE"]).round(3)
    assert (gain["GMF", "own loss"], gain["GMF", "plain CE"]) == (0.030, -0.061)
    assert (gain["CDAE", "own loss"], gain["CDAE", "plain CE"], gain["CDAE", "last step"]) == (0.018, -0.032, -0.003)
    by_recall = recall.xs("Recall@20", level="selector")
    assert (by_recall["T-CE"] - by_recall["CE"]).round(3)[["GMF", "NeuMF", "CDAE"]].tolist() == [0.019, 0.009, -0.004]
    without_noise = by_recall[["clean-only", "oracle-drop"]].sub(by_recall["CE"], axis=0).round(3)
    assert without_noise.loc[["GMF", "NeuMF", "CDAE"], "clean-only"].tolist() == [0.009, 0.011, -0.005]
    assert without_noise.loc[["GMF", "NeuMF", "CDAE"], "oracle-drop"].tolist() == [0.013, 0.009, 0.003]
    selectors = table("selectors").query("metric == 'recall' and selector == 'own loss'")
    steps = selectors.pivot(index="backbone", columns="method", values="mean_step")
    assert (steps["popularity-drop"] < steps["T-CE"] / 2).all()

    memorised = table("memorisation").set_index(["backbone", "point"])
    assert memorised.loc[("GMF", "selected"), ["loss_false", "loss_true"]].round(2).tolist() == [0.40, 0.26]
    assert (memorised["gap_low"] > 0).all() and (memorised.xs("last", level="point")["loss_false"] < 0.69).all()

    main = table("main").query("metric in ['recall', 'ndcg']").assign(cell=lambda t: t["metric"] + t["k"].astype(str))
    trained = main[main["backbone"].notna()].groupby("cell")["mean"].max()
    ease, knn = (main[main["method"] == name].set_index("cell")["mean"] for name in ("EASE", "ItemKNN"))
    assert (ease > trained.reindex(ease.index)).all()
    for backbone in ("GMF", "NeuMF"):
        assert (knn > main[(main["backbone"] == backbone) & (main["method"] == "CE")].set_index("cell")["mean"].reindex(knn.index)).all()

    dose = table("dose_response").query("dose > 0")
    above = (dose["change_low"] > 0).groupby([dose["line"], dose["dose"]]).sum()
    assert above["T-CE, knows the dose"].tolist() == [3, 3] and above["random-drop, knows the dose"].tolist() == [1, 1]
    uniform = dose.query("line == 'oracle-drop, knows the dose' and noise == 'uniform'")
    assert (uniform["change_high"] < 0).all()
    steps = dose.query("noise == 'uniform' and metric == 'recall'").set_index(["line", "dose"])["mean_step"].round()
    assert steps["oracle-drop, knows the dose"].tolist() == [1533, 867] and steps["CE"].tolist() == [3367, 2767]
    assert (dose.set_index("line").loc["T-CE, knows the dose", "mean_step"].to_numpy() > dose.set_index("line").loc["CE", "mean_step"].to_numpy()).all()
    grid = table("sensitivity").query("method != 'CE'")
    assert ((grid["change_low"] > 0).sum(), len(grid)) == (2, 28)
    assert grid.query("value == 1.0 and metric == 'recall'")["change"].round(2).tolist() == [-0.25]


def test_what_the_readme_says_of_the_extra_feedback():
    table = pd.read_csv(TABLES / "extra_feedback.csv").query("metric in ['recall', 'ndcg']")

    def counts(*strategies):
        found = table[table["strategy"].isin(strategies)]["against_plain"]
        return len(found), (found == "better").sum(), (found == "worse").sum()

    assert counts("fine-tuning", "warm-up", "colliding inference (own-positives)") == (216, 0, 6)
    assert counts("warm-up")[2] == 6 and counts("weighted") == (48, 0, 0) and counts("known-only") == (48, 0, 24)
    assert counts("colliding inference (all)")[:2] == (36, 1) and counts("colliding inference (learned)")[:2] == (36, 0)
    every = ("fine-tuning", "warm-up", *(f"colliding inference ({space})" for space in ("own-positives", "learned", "all")))
    assert counts(*every) == (288, 1, 6)
    unmoved = table[(table["strategy"] != "plain") & (table["change"] == 0) & (table["change_low"] == 0)]
    assert len(unmoved) == 12 and set(unmoved["backbone"]) == {"CDAE"} and unmoved["strategy"].str.startswith("colliding").all()
    recall = table.query("metric == 'recall' and k == 20")
    assert (recall[recall["strategy"] == "known-only"]["change"] < 0).all()
    tuned = recall.query("strategy == 'fine-tuning' and known_share == 0.2").set_index(["method", "backbone"])["change"]
    assert (tuned["CE"].abs() < 0.001).all()
    assert tuned["T-CE"].round(3).to_dict() == {"GMF": -0.003, "NeuMF": 0.002, "CDAE": 0.002}
    worse = table[table["against_plain"] == "worse"].groupby("strategy")["backbone"].unique().map(set)
    assert worse.to_dict() == {"known-only": {"GMF", "NeuMF"}, "warm-up": {"GMF"}}
    tuning = pd.read_csv(PROJECT / "results" / "ml100k" / "tuning_fine_tuning.csv")
    by_rate = tuning.groupby(["backbone", "lr"])["valid_recall_20"].mean().unstack()
    assert (by_rate.idxmin(axis=1) == 1e-3).all()
    spread = (by_rate.max(axis=1) - by_rate.min(axis=1)).round(4)
    assert spread.to_dict() == {"GMF": 0.0017, "NeuMF": 0.0028, "CDAE": 0.0082}  # DEVIATIONS, D17
    assert table.groupby("backbone")["n_seeds"].unique().map(list).to_dict() == {"GMF": [5], "NeuMF": [5], "CDAE": [3]}


def test_what_the_readme_says_of_adressa_s_selection():
    table = pd.read_csv(PROJECT / "results" / "adressa" / "tables" / "selectors.csv").query("metric == 'recall' and k == 20")
    table = table[table["method"].isin(["CE", "T-CE", "R-CE"])]
    recall = table.pivot(index=["backbone", "selector"], columns="method", values="mean")[["CE", "T-CE", "R-CE"]]
    last = recall.xs("last step", level="selector").round(3)
    assert last.loc["GMF"].tolist() == [0.177, 0.185, 0.192] and last.loc["CDAE"].tolist() == [0.306, 0.314, 0.310]
    others = recall.drop(index="last step", level="selector")
    assert (others.max(axis=1) - others.min(axis=1)).max() < 0.003
    random = pd.read_csv(PROJECT / "results" / "adressa" / "tables" / "tce_against_random.csv")
    assert len(random) == 8 and (random["at_same_step"] == "unresolved").all()


def test_what_the_readme_says_of_speed_and_memory():
    folder = PROJECT / "benchmarks" / "results"

    def faster(file, size):
        text = (folder / file).read_text().partition(f"## {size}")[2].partition("## ")[0]
        return {what: float(times) for what, times in re.findall(r"(?m)^\| ([\w ,]+) \| ([\d.]+) \|", text)}

    small, large = faster("amd-epyc.md", "ml100k"), faster("amd-epyc.md", "yelp")
    assert [small[f"{name} epoch"] for name in ("GMF", "NeuMF", "CDAE")] == [4.2, 2.1, 1.3]
    assert [large[f"{name} epoch"] for name in ("GMF", "NeuMF", "CDAE")] == [3.6, 3.3, 3.4]
    assert [large[f"{name} ranking of 45,098 users"] for name in ("GMF", "NeuMF")] == [112.2, 5.4]
    assert re.findall(r"step \| .*\| ([\d.]+) \|", (folder / "amd-epyc.md").read_text().partition("## yelp")[2]) == ["1.1", "0.9", "1.0"]
    gpu = faster("nvidia-h200.md", "yelp")
    assert (round(gpu["NeuMF epoch"]), round(gpu["CDAE epoch"])) == (13, 25)
    memory = re.findall(r"(?m)^\| (\w+):.*\|\s*([\d.]+)\s*\|$", (folder / "memory.md").read_text())
    assert {name: round(float(value), 1) for name, value in memory} == {"adressa": 1.4, "amazon_book": 1.8, "ml100k": 0.5, "toy": 0.4, "yelp": 1.3}
    assert re.findall(r"(?m)^- (.*): (\d+) minutes", (folder / "full-ml100k.md").read_text()) == [("main table", "15"), ("05", "50"), ("06", "45")]
    growth = pd.read_csv(folder / "growth-gmf.csv")
    slopes = {}
    for varied, rows in growth.groupby("varied"):
        upper = np.log(rows.iloc[len(rows) // 2 :][["size", "epoch", "ranking"]])
        slopes[varied] = [round(np.polyfit(upper["size"], upper[name], 1)[0], 2) for name in ("epoch", "ranking")]
    assert slopes["interactions"][0] == 1.15 and [slopes[of][1] for of in ("users", "items")] == [0.91, 0.96]


def test_what_the_readme_says_of_warm_users():
    table = pd.read_csv(PROJECT / "results" / "adressa" / "tables" / "main_warm_users.csv").query("metric in ['recall', 'ndcg']")
    resolved = table[table["against_ce"].isin(["better", "worse"])].set_index(["backbone", "method", "metric", "k"])
    found = {key: (row["against_ce"], round(row["change"], 4)) for key, row in resolved.iterrows()}
    assert found == {("GMF", "R-CE", "recall", 3): ("better", 0.0035), ("GMF", "R-CE", "recall", 20): ("worse", -0.0034)}


def test_what_the_readme_says_of_the_reruns():
    table = pd.read_csv(PROJECT / "results" / "adressa" / "tables" / "reruns.csv")
    largest = table["largest difference"].abs().groupby(table["run"].str.split().str[0]).agg(["max", "size"])
    assert largest["size"].to_dict() == {"CDAE": 9, "GMF": 9, "NeuMF": 3}
    assert largest.loc["NeuMF", "max"] == 0 and largest.loc["GMF", "max"] < 5e-6 and 0.004 < largest.loc["CDAE", "max"] < 0.005
