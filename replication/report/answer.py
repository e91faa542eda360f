"""The answer for your own table: is it noisy, do T-CE and R-CE help, does dropping at random do as well, is a simple
baseline ahead, and what to do next."""

from importlib.resources import files

import pandas as pd
from jinja2 import Template

from denoise_lib.baselines import KNOWS_VALIDATION
from denoise_lib.files import replacing
from replication.methods import CONTROLS, PAPER
from replication.report.statistics import SMALL, compare
from replication.report.tables import CELL, PAPER_METRICS, values_of, with_metric, with_user_intervals
from replication.report.verdicts import UNFLAGGED
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters
from replication.runs.settings import plan
from replication.runs.store import Run, note
from replication.support import paths

LIMITS = ["change_low", "change_high", "user_low", "user_high"]
SHOWN = ["against", "backbone", "method", "measured", "mean", "change", *LIMITS, "n_seeds", "outcome"]


def outcome(row: pd.Series) -> str:
    """``better`` or ``worse`` where the 95 % intervals over seeds and over users both leave out 0, ``no effect`` where
    both lie inside 1 % of the base, else ``unresolved``. Seeds that differ by nothing show no scatter, so nothing
    better or worse. Not corrected for the number of cells."""
    if row["n_seeds"] < 2:
        return "unknown with one seed"
    lows, highs = row[LIMITS[::2]].dropna(), row[LIMITS[1::2]].dropna()
    if row["change_low"] < row["change_high"] and (lows.min() > 0 or highs.max() < 0):
        return "better" if lows.min() > 0 else "worse"
    margin = SMALL * abs(row["mean"] - row["change"])
    return "no effect" if -margin < lows.min() and highs.max() < margin else "unresolved"


def answer_table(main: pd.DataFrame, runs: list[Run], k: int) -> pd.DataFrame:
    """The change of Recall@k and NDCG@k of each method against CE, of the main table, and of T-CE against random-drop:
    ``against``, the main table's columns, ``measured`` and ``outcome``."""
    pair = [run for run in runs if run.settings.method in ("T-CE", "random-drop")]
    values, cell = values_of(pair), [name for name in CELL if name != "method"]
    of_random = compare(values, CELL, cell, values["method"] == "random-drop")
    of_random = with_user_intervals(of_random, pair, "random-drop")
    table = pd.concat([main.assign(against="CE"), of_random.assign(against="random-drop")], ignore_index=True)
    table = with_metric(table[table["change"].notna() & (table["k"] == k) & table["metric"].isin(PAPER_METRICS)])
    return table.assign(outcome=table.apply(outcome, axis=1))


def page(name: str, k: int, noise: str | None, main: pd.DataFrame, table: pd.DataFrame, remarks: str = "") -> str:
    """The answer as Markdown.

    Args:
        noise: the share of false positives in train, as text; None without flags.
        main: the main table, whose rows without a backbone are the untrained baselines.
        table: of :func:`answer_table`.
        remarks: what a reader must know of the runs.
    """
    recall = table[table["metric"] == "recall"]
    of_ce, of_random = (recall[recall["against"] == base] for base in ("CE", "random-drop"))
    means = main[(main["metric"] == "recall") & (main["k"] == k) & (main["method"] != KNOWS_VALIDATION)]
    is_simple = means["backbone"].isna()
    is_trained = ~is_simple & ~means["method"].isin(CONTROLS)
    trained, simple = (means.loc[means[group]["mean"].idxmax()] for group in (is_trained, is_simple))
    gains = of_ce[(of_ce["method"] == "T-CE") & (of_ce["outcome"] == "better")]["backbone"]
    beats_random = of_random.set_index("backbone")["outcome"].reindex(gains) == "better"
    template = (files("replication.report") / "templates" / "answer.md.j2").read_text(encoding="utf-8")
    return Template(template, trim_blocks=True, lstrip_blocks=True).render(
        name=name, k=k, noise=noise, remarks=remarks, no_effect=SMALL, trained=trained, simple=simple,
        of_ce=list(of_ce.groupby("method", sort=False)), of_random=of_random, n_seeds=int(of_ce["n_seeds"].min()),
        outcomes={*of_ce[of_ce["method"].isin(PAPER)]["outcome"]}, gains_alone=not beats_random.all(),
        table=table[SHOWN].round(4).to_markdown(index=False),
    )  # fmt: skip


def write(parameters: Parameters) -> str:
    """Writes ``results/<dataset>/answer.md``, from finished runs and the tables of 01 and 04; returns its words."""
    name, k = parameters.dataset, 20 if 20 in parameters.top_k else max(parameters.top_k)
    runs = map_runs(plan(parameters.all_methods(), parameters), use_records=parameters.use_records)
    main, parts = (pd.read_csv(paths.results(name) / "tables" / f"{table}.csv") for table in ("main", "parts"))
    noise = parts.set_index("part").loc["train", "false_positives"]
    text = page(name, k, None if noise == UNFLAGGED else noise, main, answer_table(main, runs, k), note(parameters))
    with replacing(paths.results(name) / "answer.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return text.partition("\n![")[0].removeprefix("# ").rstrip()
