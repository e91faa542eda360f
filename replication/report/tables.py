"""Tables from finished runs: frames in, frames out."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import Markdown

from denoise_lib.losses import drop_rate_at
from replication.methods import METHODS, PAPER
from replication.methods.backbones import BACKBONES
from replication.report.statistics import (
    bootstrap_intervals,
    changes,
    compare,
    counted,
    decided,
    intervals,
    sign_flip_p,
)
from replication.runs.settings import Settings
from replication.runs.store import Run

MARKS = {"better": "▲ ", "worse": "▼ ", "no effect": "= "}
METRIC_NAMES = {"precision": "Precision", "recall": "Recall", "ndcg": "NDCG", "mrr": "MRR"}
PAPER_METRICS = ("recall", "ndcg")
PRIMARY = dict(metric=PAPER_METRICS, method=("T-CE", "R-CE"), backbone=("GMF", "NeuMF", "CDAE"))  # at the largest K
CELL = ["backbone", "method", "metric", "k"]
INTERVALS = ["mean", "low", "high", "n_seeds", "change", "change_low", "change_high"]
PUBLISHED = ["published", "source", "verdict"]  # filled by published.with_published


def with_cell(run: Run, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the columns ``backbone, method, seed`` of its run."""
    return frame.assign(**{name: getattr(run.settings, name) for name in ("backbone", "method", "seed")})


def values_of(runs: list[Run], part: str = "test", users: str = "all") -> pd.DataFrame:
    """Every run's means, ``backbone, method, seed, metric, k, value``, of all, warm (trained) or cold users."""
    frames = [with_cell(run, run.metrics[run.metrics["part"] == part]) for run in runs]
    means = pd.concat(frames).set_index(["users", "backbone", "method", "seed", "metric", "k"])
    values, n_users = means["value"], means["n_users"]
    if users != "cold":
        return values[users].reset_index()
    # A run keeps the means over all and over warm users; the rest of the sum is the cold users'.
    sums = values * n_users
    cold = (sums["all"] - sums["warm"].fillna(0)) / (n_users["all"] - n_users["warm"])
    return cold.rename("value").reset_index()


def is_own(table: pd.DataFrame) -> pd.Series:
    """Whether a row's method or backbone is a user's: such rows are tested apart, so the others keep their marks."""
    own = pd.Series(False, table.index)
    for name, known in (("method", METHODS), ("backbone", BACKBONES)):
        own |= ~table[name].isin(known) if name in table else False
    return own


def families(table: pd.DataFrame) -> pd.Series:
    """The family of tests to which a cell belongs: the primary cells of the papers' methods and backbones; those of a
    user's, which so leave the others' marks as they are; NaN for exploratory cells (docs/statistics.md)."""
    own, largest = is_own(table), table["k"] == table["k"].max()
    wanted = [table[name].isin(values) for name, values in PRIMARY.items()]
    primary = largest & wanted[0] & (own | (wanted[1] & wanted[2]))
    return own.map({True: "your own", False: "the papers'"}).where(primary)


def main_table(
    runs: list[Run],
    note: str = "",
    part: str = "test",
    users: str = "all",
    baselines: pd.DataFrame | None = None,
    primary: bool = False,
) -> pd.DataFrame:
    """One row per backbone x method x metric x K: mean over seeds with its 95 % interval, and the change against CE.

    ``change`` is the mean over seeds of (method - CE) with the same seed, its interval that of the paired differences,
    ``p`` and ``p_signs`` those of :mod:`~replication.report.statistics`' tests. With ``primary``,
    which takes the runs of all methods, ``against_ce``, ``p_holm`` and ``detectable`` say what
    :func:`~replication.report.statistics.decided` does of the primary cells. ``note`` fills the column that says how a
    run differs from the released one. ``baselines`` (of :func:`denoise_lib.baselines.baselines`) come last, with an
    empty backbone.
    """
    values, cell = values_of(runs, part, users), ["backbone", "metric", "k"]
    values = values.iloc[values.groupby(cell, sort=False).ngroup().argsort(kind="stable")].reset_index(drop=True)
    tests = {"p_signs": sign_flip_p} if primary else {}
    table = compare(values, [*cell, "method"], cell, values["method"] == "CE", **tests)
    if primary:
        table = decided(table, families(table), table["mean"] - table["change"])
    if baselines is not None:
        cells = baselines[(baselines["users"] == users) & baselines["value"].notna()].rename(columns={"value": "mean"})
        cells = cells[["method", "metric", "k", "mean"]].assign(backbone="", n_seeds=1)
        table = pd.concat([table, cells], ignore_index=True)
    columns = [*CELL, *INTERVALS, "against_ce", *PUBLISHED, "note", "p", "p_signs", "p_holm", "detectable"]
    return table.assign(note=note).reindex(columns=columns)


def with_user_intervals(table: pd.DataFrame, runs: list[Run], base: str = "CE") -> pd.DataFrame:
    """The main table with ``user_low, user_high``: the 95 % bootstrap interval of a change over resampled test users,
    each user's difference averaged over seeds. Empty where runs are records without users.

    The interval over seeds says what training again would do to the change, this one what other users would.
    """
    per_user = {
        key: {run.settings.seed: run.per_user() for run in group}
        for key, group in by_method(runs).items()
        if all(run.has_users for run in group)
    }
    cells, differences = [], []
    for (backbone, method), by_seed in per_user.items():
        at_base = per_user.get((backbone, base), {}) if method != base else {}
        pairs = [(by_seed[seed], at_base[seed]) for seed in sorted(set(by_seed) & set(at_base))]
        for metric in METRIC_NAMES if pairs else ():
            differences.append(np.mean([ours[metric] - theirs[metric] for ours, theirs in pairs], axis=0).T)  # (K, U)
            cells += [(backbone, method, metric, int(k)) for k in pairs[0][0]["ks"]]
    found = pd.DataFrame(cells, columns=CELL).assign(user_low=np.nan, user_high=np.nan)
    for _, rows in found.groupby(is_own(found)):  # apart, so that no row depends on what a user adds
        limits = bootstrap_intervals(np.concatenate(differences)[rows.index])
        found.loc[rows.index, ["user_low", "user_high"]] = np.column_stack(limits)
    return table.merge(found.astype({"k": int}), on=CELL, how="left")


def changed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with a change of Recall or NDCG."""
    return table[table["change"].notna() & table["metric"].isin(PAPER_METRICS)]


def tested(table: pd.DataFrame) -> pd.DataFrame:
    """The primary cells."""
    return table[table["against_ce"].notna()]


def readable(table: pd.DataFrame, keys: Sequence = ("backbone", "method")) -> pd.DataFrame:
    """Recall and NDCG as people read them: a row for each value of ``keys``; for each metric and K a column of means ±
    half their intervals, the best of each backbone in bold, and one of changes (Δ), marked ▲ better, ▼ worse or = no
    effect in the primary cells."""
    rows = with_metric(table[table["metric"].isin(PAPER_METRICS)])
    is_best = rows["mean"] == rows.groupby(["backbone", "measured"], dropna=False)["mean"].transform("max")
    means = spread(rows["mean"], rows["high"], digits=3)
    marks = rows["against_ce"].astype(object).map(MARKS).fillna("") if "against_ce" in rows else ""
    gains = (marks + spread(rows["change"], rows["change_high"], "+")).where(rows["change"].notna(), "")
    columns = {"": means.mask(is_best, "**" + means + "**"), "Δ": gains}
    both = [rows.assign(column=prefix + rows["measured"], cell=cells) for prefix, cells in columns.items()]
    order = [prefix + name for name in rows["measured"].unique() for prefix in columns]
    found = wide(pd.concat(both), keys, "column")[order]
    return found.loc[:, (found != "").any()].rename_axis(columns=None)


def wide(rows: pd.DataFrame, keys: Sequence[str], column: str, cell: str = "cell") -> pd.DataFrame:
    """A row for each value of ``keys`` and a column for each of ``column``, both in order of appearance."""
    order = rows.set_index(list(keys)).index.unique()
    return rows.pivot(index=list(keys), columns=column, values=cell).reindex(order, columns=rows[column].unique())


def spread(middle: pd.Series, high: pd.Series | None = None, sign: str = "", digits: int = 4) -> pd.Series:
    """``.1000 ± .0100``, which does not break: means and half their intervals, where they have one; ``sign="+"`` for
    changes."""
    texts = middle.map(f"{{:{sign}.{digits}f}}".format).str.replace(r"^-(0\.0+)$", sign + r"\1", regex=True)
    if high is not None:
        texts += (
            (high - middle).map(f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{{:.{digits}f}}".format).where(high.notna(), "")
        )
    return texts.str.replace(r"\b0\.", ".", regex=True)


def cell_index(rows: pd.DataFrame) -> list[pd.Series]:
    """The index of a table for readers that has a row for each backbone, method, metric and K."""
    return [rows["backbone"], rows["method"], rows["measured"].rename("metric")]


def with_metric(points: pd.DataFrame) -> pd.DataFrame:
    """The same with a column ``measured``: ``Recall@20`` and the like, from ``metric`` and ``k``."""
    return points.assign(measured=[f"{METRIC_NAMES[metric]}@{k}" for metric, k in zip(points["metric"], points["k"])])


def rounded(table: pd.DataFrame, index: Sequence[str]) -> pd.DataFrame:
    """A table for readers: four digits, and its key columns in front."""
    return table.round(4).fillna("–").set_index(list(index))


def summary(table: pd.DataFrame) -> Markdown:
    """One sentence per backbone and method on what the main table says: counted, not judged."""
    lines = [
        f"- {backbone}: {method} against CE in {len(found)} primary cells: {counted(found)}."
        for (backbone, method), found in tested(table).groupby(["backbone", "method"], sort=False)["against_ce"]
    ]
    return Markdown("\n".join(lines))


def settings_table(settings: list[Settings]) -> pd.DataFrame:
    """What is to be run: for each backbone and method its seeds and the settings that are its own."""
    options, rows = dict.fromkeys((option for name in PAPER for option in METHODS[name].grid), ""), {}
    for run in settings:
        about = {"seeds": 0, "epochs": run.epochs, **options, **run.method_options}
        rows.setdefault((run.backbone, run.method), about)["seeds"] += 1
    return pd.DataFrame(rows.values(), pd.MultiIndex.from_tuples(rows, names=["backbone", "method"]), dtype=object)


def selection_table(runs: list[Run]) -> pd.DataFrame:
    """When each method's own validation loss was lowest, over seeds, and how far T-CE's drop rate had come by then."""
    rows = []
    for (backbone, method), group in by_method(runs).items():
        steps, last = [run.selected_step for run in group], group[0].info["last_point"]
        row = {"backbone": backbone, "method": method, "selected_steps": ", ".join(map(str, steps))}
        row |= {"last_point": last, "at_last_point": f"{steps.count(last)} of {len(steps)}"}
        if method == "T-CE":
            options = group[0].settings.method_options
            then = np.mean([drop_rate_at(step, **options) for step in steps])
            row["drop_rate_then"] = f"{then:.3f} of {options['max_drop_rate']}"
        rows.append(row)
    return pd.DataFrame(rows).set_index(["backbone", "method"]).fillna("")


def same_step_table(runs: list[Run], ks: Sequence[int], base: str = "CE") -> pd.DataFrame:
    """Better loss or longer training? Each method's test metrics beside ``base``'s at the method's own step.

    ``own_steps`` is the difference when each is at its own selected step, as in the main table; ``same_step`` is what
    remains of it when ``base`` is read from its curve at the method's step. Both are means paired by seed, with 95 %
    intervals ``*_low, *_high``. Where the base is CE, ``at_own_steps`` and ``at_same_step`` are the outcomes of the
    primary cells, of the family of each column. Needs runs with ``test_curve``.
    """
    bases = {(run.settings.backbone, run.settings.seed): run for run in runs if run.settings.method == base}
    frames, names = [], ["own_steps", "same_step"]
    for run in runs:
        other = bases.get((run.settings.backbone, run.settings.seed))
        if run.settings.method == base or other is None:
            continue
        curve, rows = other.history.set_index("step"), []
        for metric, k in product(PAPER_METRICS, ks):
            value, at = run.value(metric, k), curve[f"{metric}_{k}_test"]
            theirs = [at[other.selected_step], at[run.selected_step]]
            rows.append((metric, k, *theirs, value - theirs[0], value - theirs[1]))
        frames.append(with_cell(run, pd.DataFrame(rows, columns=["metric", "k", "ce_own", "ce_same", *names])))
    frame, columns = pd.concat(frames), []
    n_seeds = frame.groupby(CELL, sort=False)["seed"].count().to_numpy()
    for name, of_ce in zip(names, ("ce_own", "ce_same")):
        found = changes(frame, CELL, name).assign(n_seeds=n_seeds)
        if base == "CE":
            at_base = intervals(frame, CELL, of_ce)["mean"]
            found = decided(found, families(found), at_base, name, f"at_{name}").drop(columns=["p_holm", "detectable"])
        columns.append(found.rename(columns={"p": f"{name}_p"}).set_index([*CELL, "n_seeds"]))
    return pd.concat(columns, axis=1).reset_index()


def readable_same_step(table: pd.DataFrame) -> pd.DataFrame:
    """The same table as people read it, marked like the main table."""
    rows, cells = with_metric(table), {}
    for name in ("own_steps", "same_step"):
        marks = rows[f"at_{name}"].map(MARKS).fillna("") if f"at_{name}" in rows else ""
        cells[name.replace("_", " ")] = marks + spread(rows[name], rows[f"{name}_high"], "+")
    return pd.DataFrame(cells).set_index(cell_index(rows))


def runs_table(runs: list[Run]) -> pd.DataFrame:
    """One row per run: settings, selected step, every test and validation mean, time, and where it was computed."""
    rows = []
    for run in runs:
        info, means = run.info, run.metrics.query("users == 'all'").sort_values("part").itertuples()
        row = {"id": info["id"], **info["settings"], "n_parameters": info["n_parameters"]}
        row |= {"selected_step": run.selected_step, "last_point": info["last_point"]}
        row |= {f"{mean.part}_{mean.metric}_{mean.k}": mean.value for mean in means}
        rows.append(row | {"seconds": round(info["seconds"]["total"], 1), "commit": info["environment"]["commit"]})
    return pd.DataFrame(rows).drop(columns="pretrained")


def by_method(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    """The runs of each backbone and method."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.settings.backbone, run.settings.method), []).append(run)
    return groups
