"""Tables and figures from finished runs. Frames in, a frame or a ``Figure`` out; ``publish*`` write them to disk."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import HTML, Image, Markdown
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from denoise_lib import paths
from denoise_lib.data import FILES, Split
from denoise_lib.files import replacing
from denoise_lib.losses import drop_rate_at
from denoise_lib.runs import Run, Settings, n_steps
from denoise_lib.statistics import bootstrap_intervals, detectable, family_outcomes, interval, paired_p

# Okabe and Ito's colours, told apart by colour-blind readers; the line styles and markers do it in grey.
STYLES = {
    "CE": dict(color="#000000", linestyle="-"),
    "T-CE": dict(color="#0072B2", linestyle="--"),
    "R-CE": dict(color="#D55E00", linestyle="-."),
    "random-drop": dict(color="#009E73", linestyle=":"),
    "popularity-drop": dict(color="#CC79A7", linestyle=(0, (1, 1))),
    "oracle-drop": dict(color="#56B4E9", linestyle=(0, (5, 1))),
    "lowest-loss-drop": dict(color="#E69F00", linestyle=(0, (3, 1, 1, 1))),
    "clean-only": dict(color="#777777", linestyle="-"),
    "true positives": dict(color="#0072B2", linestyle="-"),
    "false positives": dict(color="#D55E00", linestyle="--"),
    "at random (expected)": dict(color="#777777", linestyle=":"),
    "plain": dict(color="#000000", linestyle="-"),
    "known-only": dict(color="#777777", linestyle="-"),
    "fine-tuning": dict(color="#0072B2", linestyle="--"),
    "warm-up": dict(color="#D55E00", linestyle="-."),
    "weighted": dict(color="#009E73", linestyle=":"),
    "colliding inference (own-positives)": dict(color="#CC79A7", linestyle=(0, (1, 1))),
    "colliding inference (learned)": dict(color="#56B4E9", linestyle=(0, (5, 1))),
    "colliding inference (all)": dict(color="#E69F00", linestyle=(0, (3, 1, 1, 1))),
}
MARKERS = ("s", "o", "^", "D", "v", "P", "X", "*")
MARKS = {"better": " ▲", "worse": " ▼", "unresolved": ""}
METRIC_NAMES = {"precision": "Precision", "recall": "Recall", "ndcg": "NDCG", "mrr": "MRR"}
PAPER_METRICS = ("recall", "ndcg")
MAIN_COLUMNS = (
    "backbone method metric k mean low high n_seeds change change_low change_high against_ce published source verdict"
).split()


# ------------------------------------------------------------------------------------------------------------ tables


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
    return cold.rename("value").reindex(metrics.loc[metrics["users"] == "all"].set_index(["metric", "k"]).index).reset_index()


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
        rows += cells.assign(backbone="", n_seeds=1)[["backbone", "method", "metric", "k", "mean", "n_seeds"]].to_dict("records")
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
    groups = {key: group for key, group in _grouped(runs) if all((run.folder / "per_user.npz").exists() for run in group)}
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
    return pd.DataFrame(
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
    ).replace("nan", "–").set_index(["backbone", "method", "metric"])


def _range(low: float, high: float) -> str:
    return "–" if pd.isna(low) else f"{_signed(low)} to {_signed(high)}"


def readable(
    table: pd.DataFrame, metrics: Sequence[str] = PAPER_METRICS, keys: Sequence[str] = ("backbone", "method"), outcome: str = "against_ce"
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
    own = ("epochs", "max_drop_rate", "ramp_steps", "beta")
    rows = {}
    for run in settings:
        row = rows.setdefault((run.backbone, run.method), {"seeds": 0, **{name: getattr(run, name) for name in own}})
        row["seeds"] += 1
    frame = pd.DataFrame(rows.values(), index=pd.MultiIndex.from_tuples(rows, names=["backbone", "method"]), dtype=object)
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
            settings = group[0].settings
            rates = [drop_rate_at(step, settings.max_drop_rate, settings.ramp_steps) for step in steps]
            row["drop_rate_then"] = f"{np.mean(rates):.3f} of {settings.max_drop_rate}"
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
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), interval(values))) | {f"{name}_p": paired_p(values)}
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
            f"{_signed(row[name])}{_half(row[name], row[f'{name}_high'])}{MARKS[row[f'at_{name}']]}" for _, row in table.iterrows()
        ]
        for name in ("own_steps", "same_step")
    }
    return table[["backbone", "method"]].assign(metric=metric_labels(table), **cells).set_index(["backbone", "method", "metric"])


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


def counts_table(split: Split) -> pd.DataFrame:
    """Rows, users, items and the share of false positives of each part."""
    rows = []
    for part in FILES:
        interactions = getattr(split, part)
        noise = "no flags" if interactions.is_clean is None else f"{1 - interactions.is_clean.mean():.2%}"
        users, items = (len(np.unique(ids)) for ids in (interactions.users, interactions.items))
        rows.append(dict(part=part, interactions=len(interactions), users=users, items=items, false_positives=noise))
    return pd.DataFrame(rows).set_index("part")


def reach_table(split: Split) -> pd.DataFrame:
    """What the test part lets any model reach, for users with and without training rows.

    ``masked``: rows whose pair is in train or valid, which the ranking leaves out. ``item not in train``: rows whose item
    no training row has, so that it was only ever seen as a negative. The ceilings are mean Recall over users if every
    row that is left were ranked first: without the masked ones, and without those items too.
    """
    test = split.test
    masked = np.asarray(split.matrix(split.train, split.valid)[test.users, test.items]).ravel() > 0
    unseen = ~np.isin(test.items, split.train.items)
    in_train, in_valid = (np.isin(test.users, part.users) for part in (split.train, split.valid))
    groups = {
        "all": np.ones(len(test), bool),
        "with training rows": in_train,
        "without training rows": ~in_train,
        "without training and validation rows": ~in_train & ~in_valid,
    }
    rows = []
    for name, group in groups.items():
        ceilings = [_mean_share(test.users[group], left[group]) for left in (~masked, ~masked & ~unseen)]
        rows.append(
            {"test users": name, "users": len(np.unique(test.users[group])), "rows": group.sum()}
            | {"masked": (masked & group).sum(), "item not in train": (unseen & group).sum()}
            | {"Recall ceiling": ceilings[0], "ceiling over items of train": ceilings[1]}
        )
    return pd.DataFrame(rows).set_index("test users").query("users > 0").round(4)


def _mean_share(users: np.ndarray, left: np.ndarray) -> float:
    return float(pd.Series(left).groupby(users).mean().mean()) if len(users) else np.nan


def expected_table(found: dict[str, int], expected: dict[str, int], declared_differences: dict[str, int]) -> pd.DataFrame:
    """Counts of a data set beside the expected ones; the verdict is ``equal``, ``declared`` or ``DIFFERS``."""
    rows = []
    for name, count in found.items():
        accepted = {expected.get(name, count): "equal", declared_differences.get(name): "declared"}
        row = dict(count=name, found=count, expected=expected.get(name, "not known"))
        rows.append(row | dict(verdict=accepted.get(count, "DIFFERS") if name in expected else ""))
    return pd.DataFrame(rows).set_index("count")


def checksum_table(checksums: dict[str, str]) -> pd.DataFrame:
    """File and SHA-256."""
    return pd.DataFrame({"file": checksums.keys(), "SHA-256": checksums.values()}).set_index("file")


def _grouped(runs: list[Run]) -> list[tuple[tuple[str, str], list[Run]]]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.settings.backbone, run.settings.method), []).append(run)
    return list(groups.items())


# ----------------------------------------------------------------------------------------------------------- figures


def histories(runs: list[Run]) -> pd.DataFrame:
    """The evaluation points of all runs: ``backbone, method, seed, selected`` and the columns of ``history.csv``."""
    return pd.concat(
        [
            run.history.assign(
                backbone=run.settings.backbone,
                method=run.settings.method,
                seed=run.settings.seed,
                selected=run.history["step"] == run.selected_step,
            )
            for run in runs
        ],
        ignore_index=True,
    )


def curves(points: pd.DataFrame, rows: dict[str, str]) -> Figure:
    """Columns of ``histories`` against steps: one panel per column (``rows``: column -> label) and backbone.

    A thin line is a seed, the thick one their mean, a dot the step whose weights the seed's run kept.
    """
    backbones = points["backbone"].unique()
    figure = Figure(figsize=(1 + 3.1 * len(backbones), 0.6 + 2.3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(backbones), squeeze=False, sharex="col")
    for (column, label), line in zip(rows.items(), axes):
        line[0].set_ylabel(label)
        for backbone, axis in zip(backbones, line):
            panel = points[points["backbone"] == backbone]
            for method, group in panel.groupby("method", sort=False):
                style = STYLES[method]
                for _, seed in group.groupby("seed"):
                    axis.plot(seed["step"], seed[column], color=style["color"], linewidth=0.5, alpha=0.35)
                    kept = seed[seed["selected"]]
                    axis.plot(kept["step"], kept[column], "o", color=style["color"], markersize=3.5, zorder=3)
                mean = group.groupby("step")[column].mean()
                axis.plot(mean.index, mean, label=method, linewidth=1.6, **style)
            axis.grid(alpha=0.25)
    for backbone, top, bottom in zip(backbones, axes[0], axes[-1]):
        top.set_title(backbone, fontsize=10)
        bottom.set_xlabel("optimizer step")
    axes[0, -1].legend(frameon=False)
    return figure


def panels(
    points: pd.DataFrame, *, x: str, line: str, column: str, row: str, xlabel: str, named: bool = False, ordered: bool = True,
    zero: float | None = None,
) -> Figure:  # fmt: skip
    """Means with their intervals ``mean, low, high`` against ``x``: a line per value of ``line``, a panel per value of
    ``column`` and ``row``. The vertical axes of a row are shared, and ``row``'s values label them.

    Args:
        x: a column of numbers with bands around the lines, or with ``named`` of names at equal distances with error bars.
        ordered: False for names without an order, which no line joins; they are written upright.
        zero: height of a thin horizontal line.
    """
    rows, columns, lines = (list(dict.fromkeys(points[of])) for of in (row, column, line))
    figure = Figure(figsize=(1.2 + 3.1 * len(columns), 0.7 + 2.3 * len(rows)), layout="constrained")
    styles = dict(zip(lines, _line_styles(lines)))
    spread = min(0.5, 0.12 * (len(lines) - 1))  # lines side by side at each name
    for axes, in_row in zip(figure.subplots(len(rows), len(columns), squeeze=False, sharey="row"), rows):
        axes[0].set_ylabel(in_row)
        for axis, in_column in zip(axes, columns):
            panel = points[(points[row] == in_row) & (points[column] == in_column)]
            names = list(dict.fromkeys(panel[x]))
            for place, (name, style) in enumerate(styles.items()):
                drawn = panel[panel[line] == name]
                if named:
                    at = [names.index(value) + spread * (place / max(1, len(lines) - 1) - 0.5) for value in drawn[x]]
                    errors = [drawn["mean"] - drawn["low"], drawn["high"] - drawn["mean"]]
                    drawn_as = style if ordered else style | {"linestyle": "none"}
                    marker = MARKERS[place % len(MARKERS)]
                    axis.errorbar(at, drawn["mean"], errors, marker=marker, markersize=4, linewidth=1, capsize=2, label=name, **drawn_as)
                else:
                    axis.plot(drawn[x], drawn["mean"], label=name, linewidth=1.5, **style)
                    axis.fill_between(drawn[x], drawn["low"], drawn["high"], color=style["color"], alpha=0.15, linewidth=0)
            if named:
                labels = [name if isinstance(name, str) else f"{name:g}" for name in names]
                axis.set_xticks(range(len(names)), labels, fontsize=8)
                if not ordered:
                    axis.tick_params("x", labelrotation=90, labelbottom=in_row == rows[-1])
                axis.set_xlim(-0.5, len(names) - 0.5)
            if zero is not None:
                axis.axhline(zero, color="#999999", linewidth=0.8)
            axis.grid(alpha=0.25)
            axis.set_title(in_column if in_row == rows[0] else "", fontsize=10)
            axis.set_xlabel(xlabel if in_row == rows[-1] else "")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _line_styles(lines: list[str]) -> list[dict]:
    """Each line's own style: by its name, or by the part before a comma, or one of those that no other line has."""
    own = {name: name if name in STYLES else name.split(",")[0] for name in lines}
    free = iter(style for name, style in STYLES.items() if name not in {*own.values(), "CE"} and " " not in name)
    taken, styles = set(), []
    for name in lines:
        is_free = own[name] in STYLES and own[name] not in taken
        styles.append(STYLES[own[name]] if is_free else next(free))
        taken.add(own[name])
    return styles


def rounded(table: pd.DataFrame, index: Sequence[str]) -> pd.DataFrame:
    """A table for readers: four digits, and its key columns in front."""
    return table.round(4).fillna("–").set_index(list(index))


def with_metric(points: pd.DataFrame) -> pd.DataFrame:
    """The same with a column ``measured``: ``Recall@20`` and the like."""
    return points.assign(measured=metric_labels(points))


def with_published_points(points: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Our evaluation points and the published ones of the same backbones and methods, told apart by the column ``of``.
    The published selected step is that of the least validation loss."""
    theirs = published.merge(points[["backbone", "method"]].drop_duplicates())
    least = theirs.groupby(["backbone", "method"])["valid_loss"].transform("min")
    theirs = theirs.assign(selected=theirs["valid_loss"] == least, of="published")
    return pd.concat([points.assign(of="ours"), theirs], ignore_index=True)


def published_figure(points: pd.DataFrame, column: str, label: str) -> Figure:
    """Our curves of one column over the published ones, one panel per published backbone and method.

    Args:
        points: of :func:`with_published_points`.
        column: ``train_loss`` or ``valid_loss``.
        label: of the vertical axis.

    A thin line is a seed of ours, the black one their mean; dots are selected steps, theirs the least published loss.
    """
    ours_of, theirs_of = (dict(list(points[points["of"] == of].groupby(["backbone", "method"], sort=False))) for of in ("ours", "published"))
    n_rows = len({backbone for backbone, _ in theirs_of})
    n_columns = -(-len(theirs_of) // n_rows)
    figure = Figure(figsize=(1 + 3 * n_columns, 0.5 + 2.4 * n_rows), layout="constrained")
    for axis, ((backbone, method), theirs) in zip(figure.subplots(n_rows, n_columns, squeeze=False).flat, theirs_of.items()):
        ours = ours_of[backbone, method]
        for _, seed in ours.groupby("seed"):
            axis.plot(seed["step"], seed[column], color="#666666", linewidth=0.4, alpha=0.5)
            kept = seed[seed["selected"]]
            axis.plot(kept["step"], kept[column], "o", color="black", markersize=3)
        mean = ours.groupby("step")[column].mean()
        axis.plot(mean.index, mean, color="black", linewidth=1.3, label="ours")
        axis.plot(theirs["step"], theirs[column], color="#D55E00", linewidth=1.3, linestyle="--", label="published")
        kept = theirs[theirs["selected"]]
        axis.plot(kept["step"], kept[column], "D", color="#D55E00", markersize=5)
        axis.set_title(f"{backbone} {method}", fontsize=10)
        axis.set_xlabel("optimizer step")
        axis.grid(alpha=0.25)
    figure.supylabel(label, fontsize=10)
    figure.axes[0].legend(frameon=False)
    return figure


def schedule_points(settings: list[Settings]) -> pd.DataFrame:
    """T-CE's drop rate against steps, ``backbone, step, drop_rate, reached``; each ramp is drawn to a third past its
    end or to the end of training, whichever is later."""
    frames = []
    for backbone, run in {run.backbone: run for run in settings if run.method == "T-CE"}.items():
        end = n_steps(run)
        last = max(end, int(run.ramp_steps * 4 / 3))
        steps = np.unique(np.linspace(0, last, 200).astype(int))
        rates = [drop_rate_at(step, run.max_drop_rate, run.ramp_steps) for step in steps]
        frames.append(pd.DataFrame(dict(backbone=backbone, step=steps, drop_rate=rates, reached=steps < end)))
    return pd.concat(frames, ignore_index=True)


def schedule_figure(points: pd.DataFrame) -> Figure:
    """Drop rate against steps, one panel per backbone: solid where training goes, dotted beyond its end."""
    backbones = points["backbone"].unique()
    figure = Figure(figsize=(1 + 3.1 * len(backbones), 2.7), layout="constrained")
    for backbone, axis in zip(backbones, figure.subplots(1, len(backbones), squeeze=False, sharey=True)[0]):
        panel = points[points["backbone"] == backbone]
        reached = panel[panel["reached"]]
        axis.plot(panel["step"], panel["drop_rate"], color="#999999", linestyle=":", label="nominal")
        axis.plot(reached["step"], reached["drop_rate"], color=STYLES["T-CE"]["color"], linewidth=2, label="reached")
        axis.set_title(f"{backbone}: reaches {reached['drop_rate'].max():.3g} of {panel['drop_rate'].max():.3g}", fontsize=10)
        axis.set_xlabel("optimizer step")
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylim(bottom=0)  # after the last line: a limit that is set ends the fitting of the shared axis
    figure.axes[0].set_ylabel("drop rate (share of the batch)")
    figure.axes[0].legend(frameon=False, loc="upper left")
    return figure


def weight_points(betas: Sequence[float]) -> pd.DataFrame:
    """R-CE's weight and weighted loss of a positive against its predicted probability: ``beta, p, weight, loss``."""
    p = np.linspace(0.001, 1, 500)
    return pd.concat(
        [pd.DataFrame(dict(beta=beta, p=p, weight=p**beta, loss=-(p**beta) * np.log(p))) for beta in betas],
        ignore_index=True,
    )


def weight_figure(points: pd.DataFrame) -> Figure:
    """R-CE's weight of a positive (left) and its weighted loss (right) against the predicted probability."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    greys = np.linspace(0.75, 0, points["beta"].nunique())
    for grey, (beta, line) in zip(greys, points.groupby("beta")):
        left.plot(line["p"], line["weight"], color=str(grey), label=f"β = {beta:g}" + (" (CE)" if beta == 0 else ""))
        right.plot(line["p"], line["loss"], color=str(grey))
        if beta > 0:
            right.plot(np.exp(-1 / beta), np.exp(-1) / beta, "o", color=str(grey), markersize=4)  # its peak
    left.set_ylabel("weight of a positive, $p^β$")
    right.set_ylabel("weighted loss, $-p^β\\,\\log p$")
    right.set_ylim(0, 4)
    for axis in (left, right):
        axis.set_xlabel("predicted probability p")
        axis.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=8)
    return figure


def frequency_points(split: Split) -> pd.DataFrame:
    """Training interactions of items and of users, most first: ``of, rank, interactions``. Of a run of equal counts only
    its two ends are kept: the same line with a few hundred points, however many users there are."""
    frames = []
    for of, ids, size in (("item", split.train.items, split.n_items), ("user", split.train.users, split.n_users)):
        counts = np.sort(np.bincount(ids, minlength=size))[::-1]
        is_end = np.diff(counts, prepend=-1, append=-1) != 0
        ends = np.flatnonzero(is_end[:-1] | is_end[1:])
        frames.append(pd.DataFrame(dict(of=of, rank=ends + 1, interactions=counts[ends])))
    return pd.concat(frames, ignore_index=True)


def frequency_figure(points: pd.DataFrame, of: str) -> Figure:
    """Interactions against rank on logarithmic axes, of items or of users."""
    line = points[(points["of"] == of) & (points["interactions"] > 0)]
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axis = figure.subplots()
    axis.loglog(line["rank"], line["interactions"], color=STYLES["T-CE"]["color"])
    axis.set_xlabel(f"rank of the {of}")
    axis.set_ylabel("training interactions")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25, which="both")
    return figure


def noise_by_popularity(split: Split, n_groups: int = 10) -> pd.DataFrame:
    """Share of false positives among training interactions, by tenth of the interactions ordered by item popularity."""
    popularity = np.bincount(split.train.items, minlength=split.n_items)[split.train.items]
    tenth = np.argsort(np.argsort(popularity, kind="stable")) * n_groups // len(popularity)
    frame = pd.DataFrame(dict(tenth=tenth + 1, popularity=popularity, false_positive=~split.train.is_clean))
    return frame.groupby("tenth").agg(
        least_popular=("popularity", "min"), most_popular=("popularity", "max"), false_positives=("false_positive", "mean")
    )


def noise_figure(table: pd.DataFrame) -> Figure:
    """False positives against popularity."""
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axis = figure.subplots()
    axis.bar(table.index, 100 * table["false_positives"], color=STYLES["T-CE"]["color"])
    axis.axhline(100 * table["false_positives"].mean(), color="black", linestyle="--", linewidth=1)
    axis.set_xticks(table.index)
    axis.set_xlabel("tenth of the training interactions, by item popularity\n(1: least popular items; dashed: all)")
    axis.set_ylabel("false positives (%)")
    return figure


def change_figure(table: pd.DataFrame) -> Figure:
    """The change against CE with its 95 % interval: a panel per metric and K, a line per backbone and method."""
    rows = table[table["change"].notna() & table["metric"].isin(PAPER_METRICS)]
    panels = list(rows.groupby(["metric", "k"], sort=False))
    figure = Figure(figsize=(1.6 + 2.6 * len(panels), 0.9 + 0.32 * len(panels[0][1])), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, ((metric, k), panel) in zip(axes, panels):
        for place, row in enumerate(panel.itertuples()):
            half = 0 if pd.isna(row.change_high) else row.change_high - row.change
            marker = MARKERS[list(STYLES).index(row.method) - 1]
            axis.errorbar(row.change, -place, xerr=half, fmt=marker, color=STYLES[row.method]["color"], capsize=3)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_ylim(0.5 - len(panel), 0.5)
        axis.set_title(f"{METRIC_NAMES[metric]}@{k}", fontsize=10)
        axis.set_xlabel("method − CE")
        axis.grid(alpha=0.25, axis="x")
        axis.locator_params(axis="x", nbins=4)
    axes[0].set_yticks([-place for place in range(len(panels[0][1]))], panels[0][1]["backbone"] + " " + panels[0][1]["method"])
    return figure


# -------------------------------------------------------------------------------------------------------- publishing


def publish_figure(figure: Figure, drawn: pd.DataFrame, dataset: str, name: str, alt: str, note: str = "") -> Image:
    """Writes ``figures/<dataset>/<name>.png``, ``.pdf`` and ``.csv`` (the drawn numbers) and returns the picture.

    The files hold no time stamp: the same numbers give the same bytes. ``note`` is printed on the figure.
    """
    if note:
        figure.supxlabel(note, fontsize=7, color="#D55E00", wrap=True)
    folder = paths.figures(dataset)
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        with replacing(folder / f"{name}{suffix}") as temporary:
            figure.savefig(temporary, dpi=160, metadata=metadata)
    with replacing(folder / f"{name}.csv") as temporary:
        drawn.assign(**{"note": note} if note else {}).to_csv(temporary, index=drawn.index.name is not None)
    return Image(filename=folder / f"{name}.png", width=int(figure.get_figwidth() * 96), alt=alt)


def publish_table(table: pd.DataFrame, dataset: str, name: str, note: str = "", shown: pd.DataFrame | None = None) -> HTML:
    """Writes ``results/<dataset>/tables/<name>.csv`` and ``.md`` and returns the table to look at.

    Args:
        table: what the CSV holds.
        shown: what the Markdown file and the returned HTML hold; None takes ``table``.
        note: printed above them; how the run differs from the released one.
    """
    folder = paths.results(dataset) / "tables"
    shown = table if shown is None else shown
    with replacing(folder / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=any(table.index.names))
    with replacing(folder / f"{name}.md") as temporary:
        flat = shown.reset_index() if any(shown.index.names) else shown
        temporary.write_text((f"*{note}*\n\n" if note else "") + flat.to_markdown(index=False, disable_numparse=True) + "\n")
    with pd.option_context("display.max_colwidth", None):  # no text is cut off
        html = shown.to_html(notebook=True)
    if not shown.map(lambda cell: len(str(cell)) > 40).any(axis=None):  # wide tables scroll; a number stays on its line
        html = f'<div style="white-space: nowrap">{html}</div>'
    return HTML((f"<p><em>{note}</em></p>" if note else "") + html)


def publish_runs(table: pd.DataFrame, dataset: str) -> None:
    """Writes ``results/<dataset>/runs.csv``, one row per run."""
    with replacing(paths.results(dataset) / "runs.csv") as temporary:
        table.to_csv(temporary, index=False)
