"""Tables from finished runs: frames in, frames out."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import Markdown

from denoise_lib.losses import drop_rate_at
from replication.methods import METHODS, PAPER
from replication.methods.backbones import BACKBONES
from replication.report.statistics import bootstrap_intervals, changes, compare, corrected, counted
from replication.runs.settings import Settings
from replication.runs.store import Run

MARKS = {"better": " ▲", "worse": " ▼", "unresolved": ""}
METRIC_NAMES = {"precision": "Precision", "recall": "Recall", "ndcg": "NDCG", "mrr": "MRR"}
PAPER_METRICS = ("recall", "ndcg")
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


def main_table(
    runs: list[Run], note: str = "", part: str = "test", users: str = "all", baselines: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row per backbone x method x metric x K: mean over seeds with its 95 % interval, and the change against CE.

    ``change`` is the mean over seeds of (method - CE) with the same seed, its interval that of the paired differences,
    ``p`` that of their t-test. ``p_holm`` is Holm's correction over the table's Recall and NDCG cells; the other
    metrics' cells are corrected apart, and so are those of a user's methods and backbones. ``against_ce`` is better or
    worse where it is below 0.05, else unresolved. ``detectable`` is the least true change that as many seeds would find
    four times in five. ``note`` fills the column that says how a run differs from the released one. ``baselines`` (of
    :func:`denoise_lib.baselines.baselines`) come last, with an empty backbone.
    """
    values, cell = values_of(runs, part, users), ["backbone", "metric", "k"]
    values = values.iloc[values.groupby(cell, sort=False).ngroup().argsort(kind="stable")].reset_index(drop=True)
    table = compare(values, [*cell, "method"], cell, values["method"] == "CE")
    table = corrected(table, "against_ce", [table["metric"].isin(PAPER_METRICS), is_own(table)])
    if baselines is not None:
        cells = baselines[(baselines["users"] == users) & baselines["value"].notna()].rename(columns={"value": "mean"})
        cells = cells[["method", "metric", "k", "mean"]].assign(backbone="", n_seeds=1)
        table = pd.concat([table, cells], ignore_index=True)
    columns = [*CELL, *INTERVALS, "against_ce", *PUBLISHED, "note", "p", "p_holm", "detectable"]
    return table.assign(note=note).reindex(columns=columns)


def with_user_intervals(table: pd.DataFrame, runs: list[Run], base: str = "CE") -> pd.DataFrame:
    """The main table with ``user_low, user_high``: the 95 % bootstrap interval of a change over resampled test users,
    each user's difference averaged over seeds. Empty where runs are read from records, which hold no users.

    The interval over seeds says what training again would do to the change, this one what other users would.
    """
    per_user = {
        key: {run.settings.seed: run.per_user() for run in group}
        for key, group in by_method(runs).items()
        if all((run.folder / "per_user.npz").exists() for run in group)
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


def tested(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with a change of Recall or NDCG."""
    return table[table["change"].notna() & table["metric"].isin(PAPER_METRICS)]


def readable(table: pd.DataFrame, keys: Sequence = ("backbone", "method"), outcome="against_ce") -> pd.DataFrame:
    """Recall and NDCG as people read them: a row for each value of ``keys``, a column for each metric and K.

    A cell is the mean ± half its interval, then in parentheses the change ± half its interval, marked ▲ better or ▼
    worse by the column ``outcome``, after Holm's correction.
    """
    rows = with_metric(table[table["metric"].isin(PAPER_METRICS)])
    gains = (" (" + spread(rows["change"], rows["change_high"], "+") + ")").where(rows["change"].notna(), "")
    marks = rows[outcome].astype(object).map(MARKS).fillna("")
    cells = spread(rows["mean"], rows["high"]) + gains + marks
    return wide(rows.assign(cell=cells), keys, "measured").rename_axis(columns=None)


def wide(rows: pd.DataFrame, keys: Sequence[str], column: str, cell: str = "cell") -> pd.DataFrame:
    """A row for each value of ``keys`` and a column for each of ``column``, both in order of appearance."""
    order = rows.set_index(list(keys)).index.unique()
    return rows.pivot(index=list(keys), columns=column, values=cell).reindex(order, columns=rows[column].unique())


def spread(middle: pd.Series, high: pd.Series | None = None, sign: str = "") -> pd.Series:
    """``0.1000 ± 0.0100``: means and half their intervals, where they have one; ``sign="+"`` for changes."""
    texts = middle.map(f"{{:{sign}.4f}}".format).replace("-0.0000", f"{0:{sign}.4f}")
    return texts if high is None else texts + (high - middle).map(" ± {:.4f}".format).where(high.notna(), "")


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
        f"- {backbone}: {method} against CE in {len(found)} cells (Recall and NDCG at each K): {counted(found)}."
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
    intervals ``*_low, *_high``; ``at_own_steps`` and ``at_same_step`` are better, worse or unresolved, each corrected
    by Holm over its column, a user's rows apart. Needs runs with ``test_curve``.
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
            rows.append((metric, k, value - at[other.selected_step], value - at[run.selected_step]))
        frames.append(with_cell(run, pd.DataFrame(rows, columns=["metric", "k", *names])))
    columns = []
    for name in names:
        found = changes(pd.concat(frames), CELL, name)
        found = corrected(found, f"at_{name}", [is_own(found)], name).rename(columns={"p": f"{name}_p"})
        columns.append(found.set_index(CELL).drop(columns=["p_holm", "detectable"]))
    table, outcomes = pd.concat(columns, axis=1), [f"at_{name}" for name in names]
    return table[[*table.columns.drop(outcomes), *outcomes]].reset_index()


def readable_same_step(table: pd.DataFrame) -> pd.DataFrame:
    """The same table as people read it, marked like the main table."""
    rows, cells = with_metric(table), {}
    for name in ("own_steps", "same_step"):
        marks = rows[f"at_{name}"].map(MARKS)
        cells[name.replace("_", " ")] = spread(rows[name], rows[f"{name}_high"], "+") + marks
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
