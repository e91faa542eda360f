"""Tables from finished runs: frames in, frames out."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import Markdown

from denoise_lib.losses import drop_rate_at
from replication.methods import METHODS, PAPER
from replication.report.statistics import bootstrap_intervals, detectable, family_outcomes, interval, paired_p
from replication.runs.settings import Settings
from replication.runs.store import Run

MARKS = {"better": " ▲", "worse": " ▼", "unresolved": ""}
METRIC_NAMES = {"precision": "Precision", "recall": "Recall", "ndcg": "NDCG", "mrr": "MRR"}
PAPER_METRICS = ("recall", "ndcg")
MAIN_COLUMNS = (
    "backbone method metric k mean low high n_seeds change change_low change_high against_ce published source verdict"
).split()


def values_of(runs: list[Run], part: str = "test", users: str = "all") -> pd.DataFrame:
    """Every mean of every run, tidy: ``backbone, method, seed, metric, k, value``.

    ``users``: all, warm (with training rows) or cold (without).
    """
    frames = []
    for run in runs:
        frame = _means(run.metrics.query("part == @part"), users)
        about = {name: getattr(run.settings, name) for name in ("backbone", "method", "seed")}
        frames.append(frame.assign(**about))
    return pd.concat(frames, ignore_index=True)[["backbone", "method", "seed", "metric", "k", "value"]]


def _means(metrics: pd.DataFrame, users: str) -> pd.DataFrame:
    if users != "cold":
        return metrics.loc[metrics["users"] == users, ["metric", "k", "value"]]
    # A run keeps the means over all and over warm users; the rest of the sum is the cold users'.
    wide = metrics.pivot(index=["metric", "k"], columns="users", values=["value", "n_users"])
    total = wide["value"] * wide["n_users"]
    cold = (total["all"] - total["warm"].fillna(0)) / (wide["n_users"]["all"] - wide["n_users"]["warm"])
    return (
        cold.rename("value")
        .reindex(metrics.loc[metrics["users"] == "all"].set_index(["metric", "k"]).index)
        .reset_index()
    )


def main_table(
    runs: list[Run], note: str = "", part: str = "test", users: str = "all", baselines: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row per backbone x method x metric x K: mean over seeds with its 95 % interval, and the change against CE.

    ``change`` is the mean over seeds of (method - CE) with the same seed, its interval that of the paired differences,
    ``p`` that of their t-test. ``p_holm`` is Holm's correction over the table's Recall and NDCG cells, and apart from
    them over the other metrics' cells; ``against_ce`` is better or worse where it is below 0.05, else unresolved.
    ``detectable`` is the least true change that as many seeds would find four times in five. ``note`` fills the column
    that says how a run differs from the released one. ``baselines`` (of :func:`denoise_lib.baselines.baselines`) come
    last, with an empty backbone.
    """
    rows = []
    values = values_of(runs, part, users)
    for (backbone, metric, k), cell in values.groupby(["backbone", "metric", "k"], sort=False):
        by_seed = cell.pivot(index="seed", columns="method", values="value")
        for method in cell["method"].unique():
            mean, low, high = interval(by_seed[method].dropna())
            row = dict(backbone=backbone, method=method, metric=metric, k=k, mean=mean, low=low, high=high)
            row["n_seeds"] = by_seed[method].count()
            if method != "CE" and "CE" in by_seed:
                differences = (by_seed[method] - by_seed["CE"]).dropna()
                row |= dict(zip(("change", "change_low", "change_high"), interval(differences)))
                row |= dict(p=paired_p(differences), detectable=detectable(differences))
            rows.append(row)
    if baselines is not None:
        cells = baselines[(baselines["users"] == users) & baselines["value"].notna()].rename(columns={"value": "mean"})
        rows += cells.assign(backbone="", n_seeds=1)[["backbone", "method", "metric", "k", "mean", "n_seeds"]].to_dict(
            "records"
        )
    table = pd.DataFrame(rows).reindex(columns=[*MAIN_COLUMNS, "note", "p", "p_holm", "detectable"]).assign(note=note)
    is_tested = table["change"].notna()
    tested = table[is_tested]
    corrected = family_outcomes(tested, "change", "p", families=tested["metric"].isin(PAPER_METRICS))
    return table.assign(p_holm=corrected["p_holm"], against_ce=corrected["outcome"].reindex(table.index))


def with_user_intervals(table: pd.DataFrame, runs: list[Run]) -> pd.DataFrame:
    """The main table with ``user_low, user_high``: the 95 % bootstrap interval of a change over resampled test users,
    each user's difference averaged over seeds. Empty where runs are read from records, which hold no users.

    The interval over seeds says what training again would do to the change, this one what other users would.
    """
    groups = {
        key: group for key, group in _grouped(runs) if all((run.folder / "per_user.npz").exists() for run in group)
    }
    per_user = {key: {run.settings.seed: run.per_user() for run in group} for key, group in groups.items()}
    cells, differences = [], []
    for (backbone, method), by_seed in per_user.items():
        of_ce = per_user.get((backbone, "CE"), {})
        seeds = sorted(set(by_seed) & set(of_ce)) if method != "CE" else []
        for metric in METRIC_NAMES if seeds else ():
            mean = np.mean([by_seed[seed][metric] - of_ce[seed][metric] for seed in seeds], axis=0)  # (U, K)
            cells += [(backbone, method, metric, int(k)) for k in by_seed[seeds[0]]["ks"]]
            differences.append(mean.T)
    if not cells:
        return table.assign(user_low=np.nan, user_high=np.nan)
    low, high = bootstrap_intervals(np.concatenate(differences))
    found = pd.DataFrame(cells, columns=["backbone", "method", "metric", "k"]).assign(user_low=low, user_high=high)
    return table.merge(found, on=["backbone", "method", "metric", "k"], how="left")


def statistics_table(table: pd.DataFrame) -> pd.DataFrame:
    """The changes of Recall and NDCG for readers: intervals over seeds and over users, p, Holm's p, and what the seeds
    could have found."""
    rows = table[table["change"].notna() & table["metric"].isin(PAPER_METRICS)]
    return (
        pd.DataFrame(
            {
                "backbone": rows["backbone"],
                "method": rows["method"],
                "metric": metric_labels(rows),
                "change": rows["change"].map(_signed),
                "over seeds": [_range(low, high) for low, high in zip(rows["change_low"], rows["change_high"])],
                "over users": [_range(low, high) for low, high in zip(rows["user_low"], rows["user_high"])],
                "p": rows["p"].map("{:.4f}".format),
                "p (Holm)": rows["p_holm"].map("{:.4f}".format),
                "detectable": rows["detectable"].map("{:.4f}".format),
                "against CE": rows["against_ce"],
            }
        )
        .replace("nan", "–")
        .set_index(["backbone", "method", "metric"])
    )


def _range(low: float, high: float) -> str:
    return "–" if pd.isna(low) else f"{_signed(low)} to {_signed(high)}"


def readable(
    table: pd.DataFrame,
    metrics: Sequence[str] = PAPER_METRICS,
    keys: Sequence[str] = ("backbone", "method"),
    outcome: str = "against_ce",
) -> pd.DataFrame:
    """The main table as people read it: a row for each value of ``keys``, a column for each metric and K.

    A cell is the mean ± half its interval, then in parentheses the change ± half its interval, marked ▲ better or ▼ worse
    by the column ``outcome``, after Holm's correction.
    """
    rows = table[table["metric"].isin(metrics)]
    cells = [
        f"{row.mean:.4f}{_half(row.mean, row.high)}"
        + ("" if pd.isna(row.change) else f" ({_signed(row.change)}{_half(row.change, row.change_high)})")
        + MARKS.get(getattr(row, outcome), "")
        for row in rows.itertuples()
    ]
    columns = metric_labels(rows)
    wide = rows.assign(column=columns, cell=cells).pivot(index=list(keys), columns="column", values="cell")
    order = rows[list(keys)].drop_duplicates().itertuples(index=False, name=None)
    return wide.loc[list(order), list(dict.fromkeys(columns))].rename_axis(columns=None)


def _signed(change: float) -> str:
    return f"{round(change, 4) + 0.0:+.4f}"  # adding 0 turns -0 into 0


def _half(middle: float, high: float) -> str:
    return "" if pd.isna(high) else f" ± {high - middle:.4f}"


def metric_labels(rows: pd.DataFrame) -> list[str]:
    """``Recall@20`` and the like, from the columns ``metric`` and ``k``."""
    return [f"{METRIC_NAMES[metric]}@{k}" for metric, k in zip(rows["metric"], rows["k"])]


def rounded(table: pd.DataFrame, index: Sequence[str]) -> pd.DataFrame:
    """A table for readers: four digits, and its key columns in front."""
    return table.round(4).fillna("–").set_index(list(index))


def with_metric(points: pd.DataFrame) -> pd.DataFrame:
    """The same with a column ``measured``: ``Recall@20`` and the like."""
    return points.assign(measured=metric_labels(points))


def summary(table: pd.DataFrame) -> Markdown:
    """One sentence per backbone and method on what the main table says: counted, not judged."""
    rows = table[table["change"].notna() & table["metric"].isin(PAPER_METRICS)]
    lines = []
    for (backbone, method), cells in rows.groupby(["backbone", "method"], sort=False):
        counts = cells["against_ce"].value_counts()
        found = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in ("better", "worse", "unresolved"))
        lines.append(f"- {backbone}: {method} against CE in {len(cells)} cells (Recall and NDCG at each K): {found}.")
    return Markdown("\n".join(lines))


def settings_table(settings: list[Settings]) -> pd.DataFrame:
    """What is to be run: for each backbone and method its seeds and the settings that are its own."""
    options = dict.fromkeys(option for name in PAPER for option in METHODS[name].grid)
    rows = {}
    for run in settings:
        row = rows.setdefault(
            (run.backbone, run.method), {"seeds": 0, "epochs": run.epochs, **options, **run.method_options}
        )
        row["seeds"] += 1
    frame = pd.DataFrame(
        rows.values(), index=pd.MultiIndex.from_tuples(rows, names=["backbone", "method"]), dtype=object
    )
    return frame.where(frame.notna(), "")


def selection_table(runs: list[Run]) -> pd.DataFrame:
    """When each method's own validation loss was lowest, over seeds, and how far T-CE's drop rate had come by then."""
    rows = []
    for (backbone, method), group in _grouped(runs):
        steps = [run.selected_step for run in group]
        row = dict(backbone=backbone, method=method, selected_steps=", ".join(map(str, steps)))
        row["last_point"] = group[0].info["last_point"]
        row["at_last_point"] = f"{sum(step == row['last_point'] for step in steps)} of {len(steps)}"
        if method == "T-CE":
            options = group[0].settings.method_options
            rates = [drop_rate_at(step, **options) for step in steps]
            row["drop_rate_then"] = f"{np.mean(rates):.3f} of {options['max_drop_rate']}"
        rows.append(row)
    return pd.DataFrame(rows).set_index(["backbone", "method"]).fillna("")


def same_step_table(runs: list[Run], ks: Sequence[int], base: str = "CE") -> pd.DataFrame:
    """Better loss or longer training? Each method's test metrics beside ``base``'s **at the step that the method selected**.

    ``own_steps`` is the difference when each is at its own selected step, as in the main table; ``same_step`` is what
    remains of it when ``base`` is read from its curve at the method's step. Both are means of differences paired by
    seed, with 95 % intervals ``*_low, *_high``; ``at_own_steps`` and ``at_same_step`` are better, worse or unresolved,
    each corrected by Holm over its column. Needs runs with ``test_curve``.
    """
    curves_of = {(run.settings.backbone, run.settings.method, run.settings.seed): run for run in runs}
    rows = []
    for (backbone, method), group in _grouped(runs):
        if method == base:
            continue
        for metric, k in product(PAPER_METRICS, ks):
            column = f"{metric}_{k}_test"
            differences = {"own_steps": [], "same_step": []}
            for run in group:
                other = curves_of.get((backbone, base, run.settings.seed))
                if other is not None:
                    curve = other.history.set_index("step")[column]
                    differences["own_steps"].append(run.value(metric, k) - curve[other.selected_step])
                    differences["same_step"].append(run.value(metric, k) - curve[run.selected_step])
            row = dict(backbone=backbone, method=method, metric=metric, k=k)
            for name, values in differences.items():
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), interval(values))) | {
                    f"{name}_p": paired_p(values)
                }
            rows.append(row)
    table = pd.DataFrame(rows)
    one_family = pd.Series(0, table.index)
    for name in ("own_steps", "same_step"):
        table[f"at_{name}"] = family_outcomes(table, name, f"{name}_p", one_family)["outcome"]
    return table


def readable_same_step(table: pd.DataFrame) -> pd.DataFrame:
    """The same table as people read it, marked like the main table."""
    cells = {
        name.replace("_", " "): [
            f"{_signed(row[name])}{_half(row[name], row[f'{name}_high'])}{MARKS[row[f'at_{name}']]}"
            for _, row in table.iterrows()
        ]
        for name in ("own_steps", "same_step")
    }
    return (
        table[["backbone", "method"]]
        .assign(metric=metric_labels(table), **cells)
        .set_index(["backbone", "method", "metric"])
    )


def dose_table(response: pd.DataFrame) -> pd.DataFrame:
    """The changes against CE by dose for readers: a row per noise, metric and line, a column per dose."""
    cells = [f"{_signed(row.change)}{_half(row.change, row.change_high)}" for row in response.itertuples()]
    wide = response.assign(cell=cells).pivot(index=["noise", "measured", "line"], columns="dose", values="cell")
    order = response[["noise", "measured", "line"]].drop_duplicates().itertuples(index=False, name=None)
    return wide.loc[sorted(order, key=lambda row: row[:2])].rename_axis(columns="dose")


def runs_table(runs: list[Run]) -> pd.DataFrame:
    """One row per run: settings, selected step, every test and validation mean, time, and where it was computed."""
    rows = []
    for run in runs:
        settings = {key: value for key, value in run.info["settings"].items() if key != "pretrained"}
        means = {
            f"{row.part}_{row.metric}_{row.k}": row.value
            for row in run.metrics.query("users == 'all'").sort_values("part").itertuples()
        }
        rows.append(
            {"id": run.info["id"], **settings, "n_parameters": run.info["n_parameters"]}
            | {"selected_step": run.selected_step, "last_point": run.info["last_point"], **means}
            | {"seconds": round(run.info["seconds"]["total"], 1), "commit": run.info["environment"]["commit"]}
        )
    return pd.DataFrame(rows)


def environment_table(runs: list[Run]) -> pd.DataFrame:
    """What the runs were computed with; a line has several values where runs differ."""
    return pd.DataFrame(
        [
            {"what": key, "value": ", ".join(sorted({run.info["environment"][key] for run in runs}))}
            for key in runs[0].info["environment"]
        ]
    ).set_index("what")


def _grouped(runs: list[Run]) -> list[tuple[tuple[str, str], list[Run]]]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.settings.backbone, run.settings.method), []).append(run)
    return list(groups.items())


def baseline_settings(baselines: pd.DataFrame) -> pd.DataFrame:
    """What each baseline was given: its chosen hyper-parameter, or why it was left out."""
    return baselines[["method", "setting"]].drop_duplicates().set_index("method")
