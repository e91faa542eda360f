"""What was reproduced: every claim and every published number, from whatever tables exist; ``VERDICTS.md``."""

from dataclasses import dataclass, replace
from importlib.resources import files

import pandas as pd
from IPython.display import HTML
from jinja2 import Template

from denoise_lib.files import replacing
from replication.methods.backbones import BACKBONES
from replication.report.publish import publish_table
from replication.report.published import beside_published, published, published_curves
from replication.report.statistics import by_interval, counted
from replication.report.tables import CELL, INTERVALS, PAPER_METRICS, is_own, tested, wide, with_metric
from replication.support import paths

TITLES = {"adressa": "Adressa", "amazon_book": "Amazon-book", "yelp": "Yelp", "ml100k": "MovieLens-100K"}
UNFLAGGED = "no flags"  # as the table of the parts says it
BY_MEANS = "order of means, untested"
EXPLORATORY = "exploratory: intervals without correction"
CLAIMS = pd.read_csv(files("replication.report") / "claims.csv", keep_default_na=False)


@dataclass(frozen=True)
class Verdict:
    """What our runs say of a claim or a published number: a ``status`` (of a claim: supported, contradicted, no effect,
    mixed, unresolved or cannot be checked; of a number: reproduced and the like);
    ``limits``, what it holds for or why there is no better one; and ``reasons``, what was counted or measured."""

    status: str
    limits: str = ""
    reasons: str = ""

    def __str__(self) -> str:
        limits, reasons = f" ({self.limits})" if self.limits else "", f": {self.reasons}" if self.reasons else ""
        return self.status + limits + reasons


NOT_RUN = Verdict("not run here", reasons="data not obtainable")
NOT_MEASURED = Verdict("not yet measured")
NO_CURVE = Verdict("cannot be checked", "no test curve was recorded")
NO_FLAGS = Verdict("cannot be checked", "the train part at hand has no flags")
NOT_AMONG = Verdict("cannot be checked", "not among the runs of this table")


def _table(dataset: str, name: str) -> pd.DataFrame | None:
    file = paths.results(dataset) / "tables" / f"{name}.csv"
    return pd.read_csv(file, keep_default_na=False, na_values=[""]) if file.is_file() else None


def _noise(dataset: str) -> str | None:
    parts = _table(dataset, "parts")
    return None if parts is None else parts.set_index("part").loc["train", "false_positives"]


def numbers() -> pd.DataFrame:
    """The 108 published numbers, each with its verdict as text, from whatever main tables exist."""
    rows, columns = published(), [*INTERVALS[:4], "difference", "prediction_low", "prediction_high", "verdict", "note"]
    tables = {name: table for name in TITLES if (table := _table(name, "main")) is not None}
    if tables:
        ours = pd.concat(tables, names=["dataset"]).reset_index("dataset")
        rows = rows.merge(ours[["dataset", *CELL, *columns]], how="left")
    rows = rows.reindex(columns=["dataset", *CELL, "published", "source", *columns])
    found = rows["verdict"].astype(object).fillna(str(NOT_AMONG))
    return rows.assign(verdict=found.where(rows["dataset"].isin(tables), str(NOT_RUN)))


def claims() -> pd.DataFrame:
    """The papers' claims, a line each: verdicts on Adressa and MovieLens-100K, computed from the tables there."""
    found = {TITLES[name]: [_verdict(name, claim) for claim in CLAIMS.itertuples()] for name in ("adressa", "ml100k")}
    table = CLAIMS[["claim", "published"]].assign(**found, **{"shown in": "`" + CLAIMS["table"] + ".md`"})
    return table.set_axis(range(1, len(table) + 1))


def _verdict(dataset: str, claim) -> Verdict:
    if (table := _table(dataset, claim.table)) is not None:
        return _where_measured(judge(claim, table), table, _table(dataset, "main"))
    if claim.table in ("main", "same_step"):
        return NOT_RUN if _table(dataset, "main") is None else NO_CURVE
    return NO_FLAGS if claim.needs == "flags" and _noise(dataset) == UNFLAGGED else NOT_MEASURED


def _where_measured(verdict: Verdict, table: pd.DataFrame, main: pd.DataFrame | None) -> Verdict:
    """The verdict, and the backbones of the main table that another table lacks."""
    if main is None or "backbone" not in table:
        return verdict
    lacking = [name for name in main["backbone"].dropna().unique() if name not in set(table["backbone"])]
    remark = f"{', '.join(lacking)} cannot be checked: no run recorded it" if lacking else ""
    return replace(verdict, limits="; ".join(filter(None, [verdict.limits, remark])))


def judge(claim, table: pd.DataFrame) -> Verdict:
    """What a table says of a line of ``claims.csv``: by the function that it names, by the ``outcome`` of the primary
    cells, or, where the table is exploratory, by the uncorrected intervals of the column ``change``. A claim is about
    the papers' methods and backbones, so a user's own do not count."""
    table = table[~is_own(table)]
    if claim.judge:
        return JUDGES[claim.judge](table)
    least = table["group"].iloc[0] if "group" in table else None  # active of all users  # noqa: F841
    rows = table.query(claim.rows) if claim.rows else table
    if claim.outcome:
        return _counted(rows[claim.outcome].dropna())
    return _by_intervals(rows[f"{claim.change}_low"], rows[f"{claim.change}_high"])


def _status(n_for: int, n_against: int, n: int, n_no_effect: int = 0) -> str:
    """Of a claim, by the cells that speak for it and against it."""
    if n_for > n / 2 and not n_against:
        return "supported"
    if n_against > n / 2 and not n_for:
        return "contradicted"
    if 0 < n_no_effect == n:
        return "no effect"
    return "mixed" if n_for or n_against else "unresolved"


def _counted(outcomes: pd.Series, more: str = "") -> Verdict:
    n_for, n_against, n_no_effect = ((outcomes == name).sum() for name in ("better", "worse", "no effect"))
    return Verdict(_status(n_for, n_against, len(outcomes), n_no_effect), reasons=counted(outcomes) + more)


def _by_intervals(low: pd.Series, high: pd.Series) -> Verdict:
    found = by_interval(low, high)
    above, below = (found == "above 0").sum(), (found == "below 0").sum()
    told = f"intervals above 0 in {above} of {len(found)} cells, below in {below}"
    return Verdict(_status(above, below, len(found)), EXPLORATORY, told)


def remains(table: pd.DataFrame) -> Verdict:
    gained = table[table["at_own_steps"] == "better"]
    if gained.empty:
        return Verdict("cannot be checked", "there is no improvement to explain")
    return _counted(gained["at_same_step"], f", of {len(gained)} improved cells")


def _relative_gains(table: pd.DataFrame, method: str) -> pd.Series:
    """Mean over the Recall and NDCG cells of (method / CE - 1), by backbone."""
    rows = table[table["metric"].isin(PAPER_METRICS)]
    means = rows.pivot(index=["backbone", "metric", "k"], columns="method", values="mean")
    means = means.reindex(columns=[method, "CE"])
    return (means[method] / means["CE"] - 1).groupby("backbone").mean().dropna()


def gains_told(gains: pd.Series) -> str:
    """``GMF +7.1%, NeuMF -0.2%``."""
    return ", ".join(f"{backbone} {gain:+.1%}" for backbone, gain in gains.items())


def most_on_neumf(table: pd.DataFrame) -> Verdict:
    gains = _relative_gains(table, "T-CE")
    if "NeuMF" not in gains or len(gains) < 2:
        return Verdict("cannot be checked", "backbones not run")
    return Verdict("unresolved", BY_MEANS, gains_told(gains))


def more_than_reweighted(table: pd.DataFrame) -> Verdict:
    truncated, reweighted = (_relative_gains(table, method) for method in ("T-CE", "R-CE"))
    if truncated.empty or reweighted.empty:
        return Verdict("cannot be checked", "methods not run")
    larger = truncated > reweighted
    told = f"larger on {larger.sum()} of {len(larger)} backbones; R-CE {gains_told(reweighted)}"
    return Verdict("unresolved", BY_MEANS, told)


def memorised(table: pd.DataFrame) -> Verdict:
    selected, last = (table[table["point"] == point].set_index("backbone") for point in ("selected", "last"))
    harder, falls = selected["gap_low"] > 0, last["later_high"] < 0
    n_against = (selected["gap_high"] < 0).sum() + (last["later_low"] > 0).sum()
    early = f"harder at CE's selected step on {harder.sum()} of {len(harder)} backbones"
    late = f"their mean loss falls after it on {falls.sum()}"
    return Verdict(_status(harder.sum() + falls.sum(), n_against, 2 * len(harder)), reasons=f"{early}; {late}")


def harder(table: pd.DataFrame) -> Verdict:
    selected = table[table["point"] == "selected"]
    gaps = [
        f"{row.backbone} {row.gap:+.3f} ({row.gap_low:+.3f} to {row.gap_high:+.3f})" for row in selected.itertuples()
    ]
    told = f"false minus true loss at CE's selected step {', '.join(gaps)}"
    found = (selected["gap_low"] > 0).sum(), (selected["gap_high"] < 0).sum()
    return Verdict(_status(*found, len(selected)), reasons=told)


def mostly_false(table: pd.DataFrame) -> Verdict:
    rows = table[table["method"] == "T-CE"]
    of_each = [
        f"{row.backbone} {row.peak:.3f} and {row.precision:.3f} ({row.at_random:.3f})" for row in rows.itertuples()
    ]
    told = f"precision at its highest point and at the end (at random) {', '.join(of_each)}"
    found = (rows["precision_low"] > 0.5).sum(), (rows["precision_high"] < 0.5).sum()
    return Verdict(_status(*found, len(rows)), reasons=told)


def over_grids(table: pd.DataFrame) -> Verdict:
    limits = ["change_low", "change_high"]
    rows = table[table["method"] != "CE"].drop_duplicates(["method", *limits])  # a setting of two grids counts once
    return _by_intervals(*(rows[limit] for limit in limits))


_RULES = (remains, most_on_neumf, more_than_reweighted, memorised, harder, mostly_false, over_grids)
JUDGES = {rule.__name__: rule for rule in _RULES}


def publish_study(name: str, table: pd.DataFrame, dataset: str, note: str, shown: pd.DataFrame) -> HTML:
    """:func:`~replication.report.publish.publish_table`, and below it what VERDICTS.md says of the table's claims."""
    where = f"Finding ({TITLES.get(dataset, dataset)})"
    said = [
        (claim.claim.partition(" [")[0], judge(claim, table)) for claim in CLAIMS.query("table == @name").itertuples()
    ]
    findings = [f"<p><b>{where}: {found.status}</b>, that {claim}. <i>{found}.</i></p>" for claim, found in said]
    return HTML(publish_table(table, dataset, name, note, shown=shown).data + "".join(findings))


def at_a_glance(dataset: str) -> list[str]:
    """The noise of the training part, and how the main table's cells came out; those on a user's backbones apart."""
    noise, main = _noise(dataset), _table(dataset, "main")
    lines = [f"false positives in train: {noise}"]
    if noise == UNFLAGGED:
        cannot = "whether a loss denoises cannot be told (docs/own_data.md, clean_from)"
        lines.append(f"the test part holds what was disliked too: {cannot}")
    if main is None:  # a study was run alone
        return lines
    rows = tested(main)
    where = rows["backbone"].map(lambda name: "" if name in BACKBONES else f" on {name}")
    for (method, on), cells in rows.groupby(["method", where], sort=False)["against_ce"]:
        lines.append(f"{method} against CE{on}, Recall@K and NDCG@K: {counted(cells)} of {len(cells)} cells")
    return lines


def write() -> None:
    """Writes ``results/verdicts.csv`` (108 rows) and ``VERDICTS.md`` from whatever tables exist."""
    rows = numbers()
    template = Template((files("replication.report") / "templates" / "verdicts.md.j2").read_text(encoding="utf-8"))
    sections = [_section(name, of_data) for name, of_data in rows.groupby("dataset", sort=False)]
    judged = claims().rename_axis("no.").reset_index()
    verdict = judged.columns[3:5]
    reasons = judged.melt(["no.", "shown in"], verdict, "data set", "why").sort_values("no.", kind="stable")
    statuses = judged.drop(columns="shown in").assign(**judged[verdict].map(lambda found: f"**{found.status}**"))
    tables = {"claims": _markdown(statuses), "reasons": _markdown(reasons[["no.", "data set", "why", "shown in"]])}
    tables["tally"] = _markdown(_tally(rows))
    kept = published_curves("adressa").query("selected and backbone == 'NeuMF'")["step"]
    page = template.render(tables, sections=sections, not_run=NOT_RUN, kept=kept)
    with replacing(paths.home() / "results" / "verdicts.csv") as temporary:
        rows.to_csv(temporary, index=False)
    with replacing(paths.home() / "VERDICTS.md") as temporary:
        temporary.write_text(page.rstrip() + "\n", encoding="utf-8")


def _tally(rows: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict was given, by data set and by whether the published number is from a log, and how many of
    these published numbers lie outside our prediction interval."""
    is_outside = ~rows["published"].between(rows["prediction_low"], rows["prediction_high"])
    source = rows["source"].where(rows["source"] == "from memory", "logs").rename("published")
    keys = [rows["dataset"].map(TITLES), source, rows["verdict"]]
    groups = is_outside.where(rows["prediction_low"].notna()).groupby(keys, sort=False)
    tally = groups.agg(numbers="size", outside=lambda each: f"{each.sum():.0f}" if each.notna().any() else "–")
    return tally.rename(columns={"outside": "outside one more run"}).reset_index()


def _section(dataset: str, rows: pd.DataFrame) -> dict:
    """What the template says of a data set's numbers."""
    section = {"title": TITLES[dataset], "notes": rows["note"].dropna().unique()}
    if (table := _table(dataset, "main")) is None:
        return section | {"published": _cells(rows, ["backbone", "method", "source"], "published")}
    baselines = table[table["backbone"].isna() & table["metric"].isin(PAPER_METRICS)]
    section |= {"baselines": _cells(baselines.sort_values("method", kind="stable"), ["method"], "mean")}
    return section | {"beside": _markdown(beside_published(rows).reset_index())}


def _cells(rows: pd.DataFrame, keys: list[str], value: str) -> str:
    return _markdown(wide(with_metric(rows), keys, "measured", value).map("{:.4f}".format).reset_index())


def _markdown(table: pd.DataFrame) -> str:
    return "" if table.empty else table.to_markdown(index=False, disable_numparse=True)
