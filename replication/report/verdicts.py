"""What was reproduced: every claim and every published number, from whatever tables exist; ``VERDICTS.md``."""

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from math import log

import pandas as pd
from IPython.display import HTML
from jinja2 import Template

from denoise_lib.files import replacing
from replication.methods.backbones import BACKBONES
from replication.report.publish import publish_table
from replication.report.published import CELL, Verdict, beside_published, published
from replication.report.statistics import counted
from replication.report.tables import PAPER_METRICS, is_own, tested, wide, with_metric
from replication.support import paths

TITLES = {"adressa": "Adressa", "amazon_book": "Amazon-book", "yelp": "Yelp", "ml100k": "MovieLens-100K"}
NOT_RUN = Verdict("not run here", reasons=("data not obtainable",))
NOT_MEASURED = Verdict("not yet measured")
NO_CURVE = Verdict("cannot be checked", "no test curve was recorded")
NO_FLAGS = Verdict("cannot be checked", "the train part at hand has no flags")
UNFLAGGED = "no flags"  # in the table of the parts
ABSENT = "cannot be checked (not among the runs of this table)"


def _table(dataset: str, name: str) -> pd.DataFrame | None:
    file = paths.results(dataset) / "tables" / f"{name}.csv"
    return pd.read_csv(file, keep_default_na=False, na_values=[""]) if file.is_file() else None


def numbers() -> pd.DataFrame:
    """Every published number with its verdict as text, from whatever ``results/<dataset>/tables/main.csv`` exist: 108 rows."""
    rows = published()
    tables = {name: table for name in rows["dataset"].unique() if (table := _table(name, "main")) is not None}
    columns = ["mean", "low", "high", "n_seeds", "difference", "prediction_low", "prediction_high", "verdict", "note"]
    ours = [table.assign(dataset=name)[["dataset", *CELL, *columns]] for name, table in tables.items()]
    rows = rows.merge(pd.concat(ours), how="left") if ours else rows
    rows = rows.reindex(columns=["dataset", *CELL, "published", "source", *columns])
    found = rows["verdict"].astype(object).fillna(ABSENT)
    return rows.assign(verdict=found.where(rows["dataset"].isin(tables), str(NOT_RUN)))


def _claims() -> pd.DataFrame:
    return pd.read_csv(files("replication.report") / "claims.csv", keep_default_na=False)


def claims() -> pd.DataFrame:
    """The papers' claims, a line each: verdicts on Adressa and MovieLens-100K, computed from the tables there."""
    rows = _claims()
    found = {TITLES[name]: [_verdict(name, claim) for claim in rows.itertuples()] for name in ("adressa", "ml100k")}
    return rows[["claim", "published"]].assign(**found, **{"shown in": "`" + rows["table"] + ".md`"})


def _verdict(dataset: str, claim) -> Verdict:
    """Of a line of ``claims.csv``. Studies are written by ``run_all.sh --full`` only, and where the data have what they need."""
    table, parts = _table(dataset, claim.table), _table(dataset, "parts")
    if table is not None:
        return judge(claim.judge, table)
    if claim.table in ("main", "same_step"):
        return NOT_RUN if _table(dataset, "main") is None else NO_CURVE
    has_no_flags = parts is not None and (parts.set_index("part").loc["train", "false_positives"] == UNFLAGGED)
    return NO_FLAGS if claim.flags and has_no_flags else NOT_MEASURED


def judge(name: str, table: pd.DataFrame) -> Verdict:
    """What a table says of a claim by one of :data:`JUDGES`; claims are about the papers' methods, not about a user's."""
    return JUDGES[name](table[~is_own(table)])


def _status(holds: pd.Series) -> str:
    return "reproduced" if holds.all() else "partly" if holds.any() else "not"


def _counted(outcomes: pd.Series, *more: str) -> Verdict:
    """``reproduced``: better in more than half of the cells and worse in none; ``not``: better in none; else ``partly``."""
    better = outcomes == "better"
    most = better.mean() > 0.5 and not (outcomes == "worse").any()
    return Verdict("reproduced" if most else "partly" if better.any() else "not", reasons=(counted(outcomes), *more))


def _improves(method: str, table: pd.DataFrame) -> Verdict:
    return _counted(table[(table["method"] == method) & table["metric"].isin(PAPER_METRICS)]["against_ce"])


def _remains(table: pd.DataFrame) -> Verdict:
    gained = table[table["at_own_steps"] == "better"]
    if gained.empty:
        return Verdict("not", reasons=("there is no improvement to explain",))
    return _counted(gained["at_same_step"], f"of {len(gained)} improved cells")


def _relative_gains(table: pd.DataFrame, method: str) -> pd.Series:
    """Mean over the Recall and NDCG cells of (method / CE - 1), by backbone."""
    cells = table[table["metric"].isin(PAPER_METRICS)].pivot(index=CELL[:1] + CELL[2:], columns="method", values="mean")
    if not {method, "CE"} <= set(cells):
        return pd.Series(dtype=float)
    return (cells[method] / cells["CE"] - 1).groupby("backbone", sort=False).mean().dropna()


def gains_told(gains: pd.Series) -> str:
    """``GMF +7.1%, NeuMF -0.2%``."""
    return ", ".join(f"{backbone} {gain:+.1%}" for backbone, gain in gains.items())


BY_MEANS = "order of means, untested"


def _most_on_neumf(table: pd.DataFrame) -> Verdict:
    gains = _relative_gains(table, "T-CE")
    if "NeuMF" not in gains or len(gains) < 2:
        return Verdict("cannot be checked", "backbones not run")
    holds = gains["NeuMF"] == gains.max() and gains["NeuMF"] > 0
    return Verdict("reproduced" if holds else "not", BY_MEANS, (gains_told(gains),))


def _more_than_reweighted(table: pd.DataFrame) -> Verdict:
    truncated, reweighted = (_relative_gains(table, method) for method in ("T-CE", "R-CE"))
    if truncated.empty or reweighted.empty:
        return Verdict("cannot be checked", "methods not run")
    larger = truncated > reweighted
    reason = f"larger on {larger.sum()} of {len(larger)} backbones; R-CE {gains_told(reweighted)}"
    return Verdict(_status(larger), BY_MEANS, (reason,))


def _memorised(table: pd.DataFrame) -> Verdict:
    selected, last = (table[table["point"] == point] for point in ("selected", "last"))
    harder, memorised = selected["gap_low"] > 0, last["loss_false"] < log(2)
    early = f"harder at CE's selected step on {harder.sum()} of {len(harder)} backbones"
    late = f"at the last step a mean loss below ln 2 on {memorised.sum()}"
    return Verdict(_status(pd.concat([harder, memorised])), reasons=(f"{early}; {late}",))


def _mostly_false(table: pd.DataFrame) -> Verdict:
    rows = table[table["method"] == "T-CE"]
    above = rows["precision_low"] > rows["at_random"]
    found = [f"{row.backbone} {row.precision:.3f} (at random {row.at_random:.3f})" for row in rows.itertuples()]
    told = (
        f"precision at the end of training {', '.join(found)}; above random on {above.sum()} of {len(rows)} backbones"
    )
    return Verdict(_status(rows["precision_low"] > 0.5), reasons=(told,))


def _least_active(table: pd.DataFrame) -> Verdict:
    rows = table[table["method"] == "T-CE"]
    return _counted(rows[rows["group"] == rows["group"].iloc[0]]["against_ce"])


def _over_grids(table: pd.DataFrame) -> Verdict:
    rows = table[table["method"] != "CE"]
    gains, losses = rows["change_low"] > 0, rows["change_high"] < 0
    told = f"above CE (uncorrected interval) in {gains.sum()} of {len(gains)} cells", f"below in {losses.sum()}"
    return Verdict(_status(gains), reasons=told)


def _feedback_helps(table: pd.DataFrame) -> Verdict:
    is_one = table["strategy"].isin(["fine-tuning", "warm-up", "colliding inference (own-positives)"])
    return _counted(table[is_one & table["metric"].isin(PAPER_METRICS)]["against_plain"])


JUDGES: dict[str, Callable[[pd.DataFrame], Verdict]] = {  # column of claims.csv -> what a table says of the claim
    "truncated_improves": partial(_improves, "T-CE"),
    "reweighted_improves": partial(_improves, "R-CE"),
    "remains": _remains,
    "most_on_neumf": _most_on_neumf,
    "more_than_reweighted": _more_than_reweighted,
    "against_ce": lambda table: _counted(table["against_ce"]),
    "at_same_step": lambda table: _counted(table["at_same_step"]),
    "memorised": _memorised,
    "mostly_false": _mostly_false,
    "least_active": _least_active,
    "over_grids": _over_grids,
    "feedback_helps": _feedback_helps,
}


def publish_study(name: str, table: pd.DataFrame, dataset: str, note: str, shown: pd.DataFrame) -> HTML:
    """:func:`replication.report.publish.publish_table`, and below the table what it says of its claim, as on the verdict page."""
    (claim,) = _claims().query("table == @name").itertuples()
    says = f"<p><b>Here</b>, of the claim that {claim.claim.partition(' [')[0]}: {judge(claim.judge, table)}.</p>"
    return HTML(publish_table(table, dataset, name, note, shown=shown).data + says)


def at_a_glance(dataset: str) -> list[str]:
    """The noise of the training part, and how the cells of the main table came out for each loss; on a user's backbones apart."""
    noise, table = _table(dataset, "parts").set_index("part").loc["train", "false_positives"], _table(dataset, "main")
    lines = [f"false positives in train: {noise}"]
    if noise == UNFLAGGED:
        lines.append(
            "the test part holds what was disliked too: whether a loss denoises cannot be told (docs/own_data.md, clean_from)"
        )
    rows = tested(table)
    where = rows["backbone"].map(lambda name: "" if name in BACKBONES else f" on {name}")
    for (method, on), cells in rows.groupby(["method", where], sort=False)["against_ce"]:
        lines.append(f"{method} against CE{on}, Recall and NDCG: {counted(cells)} of {len(cells)} cells")
    return lines


def write() -> None:
    """Writes ``results/verdicts.csv`` (108 rows) and ``VERDICTS.md`` from whatever tables exist."""
    rows = numbers()
    with replacing(paths.home() / "results" / "verdicts.csv") as temporary:
        rows.to_csv(temporary, index=False)
    template = Template((files("replication.report") / "templates" / "verdicts.md.j2").read_text(encoding="utf-8"))
    sections = [_section(name, of_data) for name, of_data in rows.groupby("dataset", sort=False)]
    page = template.render(
        claims=_markdown(claims()), tally=_markdown(_tally(rows)), sections=sections, not_run=NOT_RUN
    )
    with replacing(paths.home() / "VERDICTS.md") as temporary:
        temporary.write_text(page.rstrip() + "\n", encoding="utf-8")


def _tally(rows: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict was given, by data set and by whether the published number is from a log, and how many of these
    published numbers lie outside our prediction interval."""
    is_outside = ~rows["published"].between(rows["prediction_low"], rows["prediction_high"])
    rows = rows.assign(
        dataset=rows["dataset"].map(TITLES),
        published=rows["source"].where(rows["source"] == "from memory", "logs"),
        outside=is_outside.where(rows["prediction_low"].notna()),
    )
    groups = rows.groupby(["dataset", "published", "verdict"], sort=False)["outside"]
    tally = groups.agg(numbers="size", outside=lambda each: f"{each.sum():.0f}" if each.notna().any() else "–")
    return tally.rename(columns={"outside": "outside one more run"}).reset_index()


def _section(dataset: str, rows: pd.DataFrame) -> dict:
    """What the template says of a data set's numbers."""
    section = {"title": TITLES[dataset], "notes": rows["note"].dropna().unique(), "baselines": None}
    if (table := _table(dataset, "main")) is None:
        return section | {"published": _cells(rows, ["backbone", "method", "source"], "published")}
    section["beside"] = _markdown(beside_published(rows).reset_index())
    baselines = table[table["backbone"].isna() & table["metric"].isin(PAPER_METRICS)].sort_values(
        "method", kind="stable"
    )
    return section | ({"baselines": _cells(baselines, ["method"], "mean")} if len(baselines) else {})


def _cells(rows: pd.DataFrame, keys: list[str], value: str) -> str:
    return _markdown(wide(with_metric(rows), keys, "measured", value).map("{:.4f}".format).reset_index())


def _markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)
