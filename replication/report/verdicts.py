"""What was reproduced: every claim and every published number, from whatever tables exist; ``VERDICTS.md``."""

from collections.abc import Callable
from math import log

import pandas as pd
from IPython.display import HTML

from denoise_lib.files import replacing
from replication.report.publish import publish_table
from replication.report.published import CELL, beside_published, published
from replication.report.tables import PAPER_METRICS, metric_labels
from replication.support import paths

NOT_RUN = "not run here: data not obtainable"
TITLES = {"adressa": "Adressa", "amazon_book": "Amazon-book", "yelp": "Yelp", "ml100k": "MovieLens-100K"}
FROM_MEMORY = {  # what is known of the paper's own numbers
    "clean_training": "from memory: NeuMF on Adressa Recall@20 .4040 clean, .3081 normal, which is not CE's number in its main table"
}
NOT_MEASURED = "not yet measured"
NO_FLAGS = "cannot be checked (the train part at hand has no flags)"
_HEAD = """# What was reproduced

Written by `run_all.sh` from the tables under `results/`; do not edit. What each protocol does and where we depart from
the paper is in [DEVIATIONS.md](DEVIATIONS.md).

## Claims

*reproduced*: better than CE in more than half of the cells (backbone x metric x K) and worse in none; *not*: better in
none; *partly*: anything between. A cell counts as better or worse where a t-test of the differences, paired by
seed, has p below 0.05 after Holm's correction over the table. Three rows have rules of their own: false positives *harder
early* have at CE's selected step a mean loss above that of true ones (the interval of the gap is above 0), and *memorised late*
a mean loss below ln 2 at the last step; T-CE drops *mostly* false ones where the interval of its precision is above one half;
the gain *holds over the grids* where the uncorrected interval of the change is above 0 in every cell. These are reproduced where
it is so on every backbone or in every cell, *not* where in none. Tables lie in `results/<dataset>/tables/`.
MovieLens-100K is not a data set of the paper: a claim that holds or fails there says nothing about the paper's numbers.

"""
_NUMBERS = """
## Numbers

Each of the 108 published numbers is one run. *reproduced*: our mean is within ±4 % of it. *within seed noise*: it is
not, but the published number lies in our 95 % prediction interval for one further run, mean ± t·s·√(1 + 1/n); this
says that our runs scatter that widely, so read the column *one more run* before believing it. A reproduced number can
lie outside that interval, where our runs scatter by less than 4 %: *outside one more run* counts them. *not reproduced
(higher)* or *(lower)*: ours is above or below. Sources are log files of the authors' repository at commit 451779a;
**CDAE's published numbers are from memory**: their verdicts are only as good as that.

"""


def numbers() -> pd.DataFrame:
    """Every published number with its verdict, from whatever ``results/<dataset>/tables/main.csv`` exist: 108 rows."""
    rows = published().rename(columns={"value": "published"})
    ours = [
        table.assign(dataset=name) for name in rows["dataset"].unique() if (table := _table(name, "main")) is not None
    ]
    columns = ["mean", "low", "high", "n_seeds", "difference", "prediction_low", "prediction_high", "verdict", "note"]
    if ours:
        rows = rows.merge(pd.concat(ours)[["dataset", *CELL, *columns]], on=["dataset", *CELL], how="left")
    rows = rows.reindex(columns=["dataset", *CELL, "published", "source", *columns])
    has_table = rows["dataset"].isin({table["dataset"].iloc[0] for table in ours})
    found = rows["verdict"].astype(object).fillna("cannot be checked (not among the runs of this table)")
    return rows.assign(verdict=found.where(has_table, NOT_RUN))


def _table(dataset: str, name: str) -> pd.DataFrame | None:
    file = paths.results(dataset) / "tables" / f"{name}.csv"
    return pd.read_csv(file, keep_default_na=False, na_values=[""]) if file.is_file() else None


def claims() -> pd.DataFrame:
    """The papers' claims, a line each: verdicts on Adressa and MovieLens-100K, computed from the tables there."""
    rows = []

    def claim(text: str, published: str, judge: Callable[[str], str], where: str) -> None:
        rows.append(
            {
                "claim": text,
                "published": published,
                **{TITLES[d]: judge(d) for d in ("adressa", "ml100k")},
                "shown in": where,
            }
        )

    for method in ("T-CE", "R-CE"):
        claim(f"{method} improves on CE", _published_wins(method), lambda d: _improves(d, method), "`main.md`")
    claim(
        "the improvement is the loss's: it remains at the same step [ours: a condition for the two above]",
        "not shown", _remains_at_same_step, "`same_step.md`",
    )  # fmt: skip
    claim("T-CE gains most on NeuMF", _gains(None), _most_on_neumf, "`main.md`")
    claim("T-CE gains more than R-CE [from memory]", _gains(None, "R-CE") + " by R-CE", _more_than_rce, "`main.md`")
    for table, (text, judge) in STUDIES.items():
        published = FROM_MEMORY.get(table, "not shown" if "[ours" in text else "no numbers at hand")
        claim(text, published, _study(table, judge), f"`{table}.md`")
    return pd.DataFrame(rows)


def _study(name: str, judge: Callable[[pd.DataFrame], str]) -> Callable[[str], str]:
    """The judge of a data set whose evidence is a table of 05_diagnostics or 06_extra_feedback, which only ``run_all.sh --full`` writes."""

    def judge_dataset(dataset: str) -> str:
        table = _table(dataset, name)
        if table is not None:
            return judge(table)
        return _unmeasured(dataset, needs_flags=name in ("clean_training", "memorisation", "drops", "extra_feedback"))

    return judge_dataset


def _unmeasured(dataset: str, needs_flags: bool) -> str:
    return NO_FLAGS if dataset == "adressa" and needs_flags else NOT_MEASURED


def _memorised(table: pd.DataFrame) -> str:
    selected, last = (table[table["point"] == point] for point in ("selected", "last"))
    harder, memorised = (selected["gap_low"] > 0), (last["loss_false"] < log(2))
    name = "reproduced" if harder.all() and memorised.all() else "partly" if harder.any() or memorised.any() else "not"
    return (
        f"{name}: harder at CE's selected step on {harder.sum()} of {len(harder)} backbones; "
        f"at the last step a mean loss below ln 2 on {memorised.sum()}"
    )


def _mostly_false(table: pd.DataFrame) -> str:
    rows = table[table["method"] == "T-CE"]
    mostly, above = rows["precision_low"] > 0.5, rows["precision_low"] > rows["at_random"]
    name = "reproduced" if mostly.all() else "partly" if mostly.any() else "not"
    found = ", ".join(
        f"{row.backbone} {row.precision:.3f} (at random {row.at_random:.3f})" for row in rows.itertuples()
    )
    return f"{name}: precision at the end of training {found}; above random on {above.sum()} of {len(rows)} backbones"


def _inactive_gain(table: pd.DataFrame) -> str:
    rows = table[table["method"] == "T-CE"]
    return _counted(rows[rows["group"] == rows["group"].iloc[0]]["against_ce"])


def _stable(table: pd.DataFrame) -> str:
    rows = table[table["method"] != "CE"]
    gains, losses = rows["change_low"] > 0, rows["change_high"] < 0
    name = "reproduced" if gains.all() else "partly" if gains.any() else "not"
    return f"{name}: above CE (uncorrected interval) in {gains.sum()} of {len(gains)} cells, below in {losses.sum()}"


def _feedback_helps(table: pd.DataFrame) -> str:
    is_one = table["strategy"].isin(["fine-tuning", "warm-up", "colliding inference (own-positives)"])
    return _counted(table[is_one & table["metric"].isin(["recall", "ndcg"])]["against_plain"])


STUDIES = {  # table of 05_diagnostics or 06_extra_feedback -> the claim that it bears on, and its judge
    "clean_training": ("clean training beats normal training (Table 1)", lambda table: _counted(table["against_ce"])),
    "memorisation": ("false positives are harder early and memorised late (Fig. 3, 6)", _memorised),
    "drops": ("T-CE drops mostly false positives (Fig. 8)", _mostly_false),
    "tce_against_random": (
        "T-CE gains more than dropping as many positives at random, at the same step [ours: a condition for denoising]",
        lambda table: _counted(table["at_same_step"]),
    ),
    "tce_against_popularity": (
        "T-CE gains more than dropping the rarest items' positives, at the same step [ours]",
        lambda table: _counted(table["at_same_step"]),
    ),
    "activity": ("the least active quarter of the users gains from T-CE (Fig. 7)", _inactive_gain),
    "sensitivity": ("the gain holds over the hyper-parameters' grids (Fig. 9) [NeuMF]", _stable),
    "extra_feedback": (
        "fine-tuning, warm-up and colliding inference help (journal version, abstract)",
        _feedback_helps,
    ),
}


def publish_study(name: str, table: pd.DataFrame, dataset: str, note: str, shown: pd.DataFrame) -> HTML:
    """:func:`replication.report.publish.publish_table`, and below the table what it says of its claim, as on the verdict page."""
    claim, judge = STUDIES[name]
    says = f"<p><b>Here</b>, of the claim that {claim.partition(' [')[0]}: {judge(table)}.</p>"
    return HTML(publish_table(table, dataset, name, note, shown=shown).data + says)


def _published_wins(method: str) -> str:
    wide = published().pivot(index=["dataset", "backbone", "metric", "k"], columns="method", values="value")
    higher = wide[method] > wide["CE"]
    per_dataset = higher.groupby("dataset").agg(["sum", "count"])
    found = ", ".join(f"{TITLES[name]} {row['sum']} of {row['count']}" for name, row in per_dataset.iterrows())
    return f"higher in {higher.sum()} of {len(higher)} cells ({found}); CDAE from memory"


def _improves(dataset: str, method: str) -> str:
    table = _table(dataset, "main")
    if table is None:
        return NOT_RUN
    rows = table[(table["method"] == method) & table["metric"].isin(["recall", "ndcg"])]
    return _counted(rows["against_ce"])


def _counted(outcomes: pd.Series) -> str:
    """``reproduced``: better in more than half of the cells and worse in none; ``not``: better in none; else ``partly``."""
    counts = {outcome: int((outcomes == outcome).sum()) for outcome in ("better", "worse", "unresolved")}
    majority = counts["better"] > len(outcomes) / 2 and not counts["worse"]
    name = "reproduced" if majority else "partly" if counts["better"] else "not"
    return f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def _remains_at_same_step(dataset: str) -> str:
    if _table(dataset, "main") is None:
        return NOT_RUN
    table = _table(dataset, "same_step")
    if table is None or "at_own_steps" not in table:
        return "cannot be checked (no test curve was recorded)"
    gained = table[table["at_own_steps"] == "better"]
    if gained.empty:
        return "not: there is no improvement to explain"
    return _counted(gained["at_same_step"]) + f", of {len(gained)} improved cells"


def _relative_gains(dataset: str | None, method: str = "T-CE") -> pd.Series:
    """Mean over the Recall and NDCG cells of (method / CE - 1), by backbone; ``dataset`` None: published, all data sets."""
    if dataset is None:
        table, index = published().rename(columns={"value": "mean"}), ["dataset", "backbone", "metric", "k"]
    else:
        table, index = _table(dataset, "main"), ["backbone", "metric", "k"]
    table = table[table["metric"].isin(["recall", "ndcg"]) & table["backbone"].notna()]
    wide = table.pivot(index=index, columns="method", values="mean")
    if not {method, "CE"} <= set(wide):
        return pd.Series(dtype=float)
    return (wide[method] / wide["CE"] - 1).groupby("backbone", sort=False).mean().dropna()


def _gains(dataset: str | None, method: str = "T-CE") -> str:
    return ", ".join(f"{backbone} {gain:+.1%}" for backbone, gain in _relative_gains(dataset, method).items())


def _most_on_neumf(dataset: str) -> str:
    if _table(dataset, "main") is None:
        return NOT_RUN
    gains = _relative_gains(dataset)
    if "NeuMF" not in gains or len(gains) < 2:
        return "cannot be checked (backbones not run)"
    holds = gains["NeuMF"] == gains.max() and gains["NeuMF"] > 0
    return f"{'reproduced' if holds else 'not'} (order of means, untested): {_gains(dataset)}"


def _more_than_rce(dataset: str) -> str:
    if _table(dataset, "main") is None:
        return NOT_RUN
    truncated, reweighted = _relative_gains(dataset), _relative_gains(dataset, "R-CE")
    if truncated.empty or reweighted.empty:
        return "cannot be checked (methods not run)"
    larger = truncated > reweighted
    name = "reproduced" if larger.all() else "partly" if larger.any() else "not"
    return f"{name} (order of means, untested): larger on {larger.sum()} of {len(larger)} backbones; R-CE {_gains(dataset, 'R-CE')}"


def at_a_glance(dataset: str) -> list[str]:
    """The noise of the training part, and how the cells of the main table came out for each loss."""
    folder = paths.results(dataset) / "tables"
    noise = pd.read_csv(folder / "parts.csv", index_col="part").loc["train", "false_positives"]
    paper = PAPER_METRICS
    table = pd.read_csv(folder / "main.csv").query("metric in @paper and backbone.notna()")
    lines = [f"false positives in train: {noise}"]
    if noise == "no flags":
        lines.append(
            "the test part holds what was disliked too: whether a loss denoises cannot be told (docs/own_data.md, clean_from)"
        )
    for method, cells in table.query("method != 'CE'").groupby("method", sort=False)["against_ce"]:
        counts = ", ".join(f"{(cells == word).sum()} {word}" for word in ("better", "worse", "unresolved"))
        lines.append(f"{method} against CE, Recall and NDCG: {counts} of {len(cells)} cells")
    return lines


def write() -> None:
    """Writes ``results/verdicts.csv`` (108 rows) and ``VERDICTS.md`` from whatever tables exist."""
    rows = numbers()
    with replacing(paths.home() / "results" / "verdicts.csv") as temporary:
        rows.to_csv(temporary, index=False)
    with replacing(paths.home() / "VERDICTS.md") as temporary:
        temporary.write_text(
            _HEAD
            + _markdown(claims())
            + _NUMBERS
            + _markdown(_tally(rows))
            + "".join(map(_section, *_by_dataset(rows)))
        )


def _by_dataset(rows: pd.DataFrame) -> tuple:
    return tuple(zip(*rows.groupby("dataset", sort=False)))


def _tally(rows: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict was given, by data set and by whether the published number is from a log, and how many of these
    published numbers lie outside our prediction interval."""
    is_outside = ~rows["published"].between(rows["prediction_low"], rows["prediction_high"])
    rows = rows.assign(outside=is_outside.where(rows["prediction_low"].notna()))
    rows = rows.assign(
        dataset=rows["dataset"].map(TITLES), published=rows["source"].map(lambda s: s if s == "from memory" else "logs")
    )
    groups = rows.groupby(["dataset", "published", "verdict"], sort=False)["outside"]
    tally = groups.agg(numbers="size", outside=lambda each: f"{each.sum():.0f}" if each.notna().any() else "–")
    return tally.rename(columns={"outside": "outside one more run"}).reset_index()


def _section(dataset: str, rows: pd.DataFrame) -> str:
    lines = [f"\n### {TITLES[dataset]}\n\n"]
    if rows["verdict"].eq(NOT_RUN).all():
        lines.append(f"All rows: *{NOT_RUN}*. Published:\n\n{_markdown(_compact(rows))}")
        return "".join(lines)
    notes = rows["note"].dropna().unique()
    lines += [f"*{note}*\n\n" for note in notes if note]
    lines.append(_markdown(beside_published(rows).reset_index()))
    baselines = _table(dataset, "main")
    baselines = baselines[baselines["backbone"].isna() & baselines["metric"].isin(["recall", "ndcg"])]
    if len(baselines):
        lines.append("\nBaselines in the same protocol, without a published counterpart:\n\n")
        cells = baselines.assign(column=metric_labels(baselines))
        wide = cells.pivot(index="method", columns="column", values="mean")[cells["column"].unique()]
        lines.append(_markdown(wide.map("{:.4f}".format).reset_index()))
    return "".join(lines)


def _compact(rows: pd.DataFrame) -> pd.DataFrame:
    cells = rows.assign(column=metric_labels(rows))
    wide = cells.pivot(index=["backbone", "method", "source"], columns="column", values="published")
    order = cells[["backbone", "method", "source"]].drop_duplicates().itertuples(index=False, name=None)
    return wide.loc[list(order), list(cells["column"].unique())].map("{:.4f}".format).reset_index()


def _markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True) + "\n"
