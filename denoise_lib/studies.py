"""The studies of 05_diagnostics: the runs that each needs, and its tidy numbers. All are means over seeds with intervals."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from denoise_lib import datasets, params
from denoise_lib.data import Split
from denoise_lib.noise import KINDS
from denoise_lib.report import PAPER_METRICS, main_table, metric_labels, same_step_table
from denoise_lib.runs import METHODS, Run, Settings, found, load_run, plan
from denoise_lib.statistics import LEVEL, family_outcomes, interval, paired_p

GRID_BACKBONE, DOSE_BACKBONE = "NeuMF", "GMF"  # the paper's Fig. 9, and the fastest
GRIDS = ("max_drop_rate", "ramp_steps", "beta")


def has_flags(dataset: str) -> bool:
    """Whether the training part of a data set tells true from false positives. True for data that are not there yet."""
    return not datasets.is_prepared(dataset) or datasets.load(dataset).train.is_clean is not None


def methods_for(dataset: str, methods: list[str]) -> list[str]:
    """The methods that a data set allows: without flags, not those that use them."""
    return [method for method in methods if has_flags(dataset) or method not in ("oracle-drop", "clean-only")]


def planned(values: dict) -> list[Settings]:
    """All runs of 05_diagnostics with the parameters of a data set."""
    options = params.of_runs(values) | {"backbones": list(values["study_seeds"]), "seeds": values["study_seeds"]}
    runs = plan(methods_for(values["dataset"], [*METHODS, *values["controls"]]), **options, diagnostics=True)
    runs += [settings for _, settings in sensitivity_plan(values["grids"], values["grid_seeds"], options)]
    if values["doses"] and has_flags(values["dataset"]):
        runs += [settings for _, settings in dose_plan(values["doses"], values["grids"], values["grid_seeds"], options)]
    return list(dict.fromkeys(runs))


def over_seeds(frame: pd.DataFrame, keys: Sequence[str], value: str = "value") -> pd.DataFrame:
    """``mean, low, high`` of a column in each group, in order of appearance: the mean and its 95 % t-interval."""
    groups = frame.groupby(list(keys), sort=False, dropna=False)[value].agg(["mean", "sem", "count"]).reset_index()
    half = stats.t.ppf(1 - LEVEL / 2, np.maximum(groups["count"] - 1, 1)) * groups["sem"]
    return groups.assign(low=groups["mean"] - half, high=groups["mean"] + half).drop(columns=["sem", "count"])


def points_of(runs: list[Run], columns: dict[str, str], name: str) -> pd.DataFrame:
    """Columns of the runs' histories at every evaluation point, one below the other and averaged over seeds:
    ``backbone, method, step, <name>, mean, low, high``, where ``columns`` (column -> label) fills ``name``."""
    frames = []
    for run in runs:
        points = run.history.melt("step", [column for column in columns if column in run.history], var_name=name)
        frames.append(points.assign(backbone=run.settings.backbone, method=run.settings.method))
    points = pd.concat(frames, ignore_index=True)
    return over_seeds(points.assign(**{name: points[name].map(columns)}), ["backbone", "method", "step", name])


def of_methods(runs: list[Run], *methods: str) -> list[Run]:
    """The runs of some methods."""
    return [run for run in runs if run.settings.method in methods]


def _at(run: Run, step: int, column: str) -> float:
    return float(run.history.set_index("step")[column][step])


def _by_backbone(runs: list[Run]) -> dict[str, list[Run]]:
    return {name: [run for run in runs if run.settings.backbone == name] for name in dict.fromkeys(r.settings.backbone for r in runs)}


# ------------------------------------------------------------------------------------------------ true and false positives


def clean_training(runs: list[Run]) -> pd.DataFrame:
    """Training without the flagged false positives beside normal training, same test part: the rows ``clean-only`` of
    :func:`denoise_lib.report.main_table` with ``normal``, the mean of CE, and ``relative``, the change as a share of it."""
    table = main_table(of_methods(runs, "CE", "clean-only"))
    keys = ["backbone", "metric", "k"]
    normal = table[table["method"] == "CE"].set_index(keys)["mean"].rename("normal")
    clean = table[(table["method"] == "clean-only") & table["metric"].isin(PAPER_METRICS)].join(normal, on=keys)
    columns = [*keys, "normal", "mean", "change", "change_low", "change_high", "p_holm", "against_ce"]
    return clean[columns].rename(columns={"mean": "clean"}).assign(relative=clean["change"] / clean["normal"]).reset_index(drop=True)


def loss_points(runs: list[Run]) -> pd.DataFrame:
    """Mean cross-entropy of true and of false positives of the training part: ``backbone, method, step, positives, mean, …``."""
    return points_of(runs, {"loss_true": "true positives", "loss_false": "false positives"}, "positives")


def whole_and_first(points: pd.DataFrame, share: float = 0.2) -> pd.DataFrame:
    """The points twice, told apart by ``span``: the whole process, and the first fifth of each backbone's steps."""
    last = points.groupby("backbone")["step"].transform("max")
    first = points[points["step"] <= share * last]
    return pd.concat([points.assign(span="loss, whole process"), first.assign(span="loss, first fifth")], ignore_index=True)


def memorisation(runs: list[Run]) -> pd.DataFrame:
    """How far CE had learned the false positives at the selected and at the last step: mean losses over seeds, and the
    ``gap`` (false - true) with its interval."""
    rows = []
    for backbone, group in _by_backbone(of_methods(runs, "CE")).items():
        for when, step_of in (("selected", lambda run: run.selected_step), ("last", lambda run: run.info["last_point"])):
            losses = np.array([[_at(run, step_of(run), column) for column in ("loss_true", "loss_false")] for run in group])
            row = dict(backbone=backbone, point=when, mean_step=np.mean([step_of(run) for run in group]))
            row |= dict(zip(("loss_true", "loss_false"), losses.mean(axis=0)))
            rows.append(row | dict(zip(("gap", "gap_low", "gap_high"), interval(losses[:, 1] - losses[:, 0]))))
    return pd.DataFrame(rows)


def drop_points(runs: list[Run]) -> pd.DataFrame:
    """Precision and recall of false positives among what was dropped since the point before, and what dropping as many
    at random would give (the share of false positives, the share dropped): ``backbone, step, measure, dropping, mean, …``.

    For ``T-CE`` what it dropped, for each backbone.
    """
    chosen = of_methods(runs, "T-CE")
    frames = []
    for measure, own, random in (("precision", "drop_precision", "false_share"), ("recall", "drop_recall", "drop_share")):
        frames.append(points_of(chosen, {own: "T-CE", random: "at random (expected)"}, "dropping").assign(measure=measure))
    return pd.concat(frames, ignore_index=True).dropna(subset="mean")


def drops(runs: list[Run]) -> pd.DataFrame:
    """The same at the last point, for every method that drops: means over seeds with the interval of the precision."""
    rows = []
    for backbone, group in _by_backbone([run for run in runs if "drop_precision" in run.history]).items():
        for method in dict.fromkeys(run.settings.method for run in group):
            ends = pd.DataFrame([run.history.iloc[-1] for run in of_methods(group, method)])
            row = dict(backbone=backbone, method=method, step=int(ends["step"].iloc[0]))
            row |= dict(zip(("precision", "precision_low", "precision_high"), interval(ends["drop_precision"])))
            rows.append(row | dict(at_random=ends["false_share"].mean(), recall=ends["drop_recall"].mean(), dropped=ends["drop_share"].mean()))
    return pd.DataFrame(rows)


# ----------------------------------------------------------------------------------------------------------- who gains


def activity_groups(split: Split, users: np.ndarray, n_groups: int = 4) -> pd.Series:
    """Each user's group by training interactions, ``"<least>–<most>"``: quartiles of the users, equal counts kept together."""
    counts = pd.Series(np.bincount(split.train.users, minlength=split.n_users)[users], index=users)
    codes = pd.qcut(counts, n_groups, labels=False, duplicates="drop").fillna(0).astype(int)
    spans = counts.groupby(codes).agg(["min", "max"])
    return codes.map((spans["min"].astype(str) + "–" + spans["max"].astype(str)).to_dict())


def with_users(runs: list[Run]) -> list[Run]:
    """The runs of those backbones of which each run's users are at hand, which records lack. The run that records less on its
    way has the same ones, and stands for a record."""
    found_runs = [load_run(run.settings, found(replace(run.settings, diagnostics=None)) or run.folder) for run in runs]
    lacking = {run.settings.backbone for run in found_runs if run.is_record}
    return [run for run in found_runs if run.settings.backbone not in lacking]


def activity(runs: list[Run], split: Split) -> pd.DataFrame:
    """Test metrics by user activity: ``backbone, method, metric, k, group, n_users, mean, low, high`` and the change
    against CE, paired by seed. Needs runs with per-user values, which records lack."""
    frames = []
    for run in runs:
        per_user = run.per_user()
        groups = activity_groups(split, per_user["users"])
        about = dict(backbone=run.settings.backbone, method=run.settings.method, seed=run.settings.seed)
        for metric in PAPER_METRICS:
            means = pd.DataFrame(per_user[metric], columns=per_user["ks"]).groupby(groups.to_numpy()).mean()
            values = means.melt(ignore_index=False, var_name="k").rename_axis("group").reset_index()
            frames.append(values.assign(metric=metric, n_users=values["group"].map(groups.value_counts()), **about))
    values = pd.concat(frames, ignore_index=True)
    values = values.sort_values("group", key=lambda spans: spans.str.split("–").str[0].astype(int), kind="stable")
    keys = ["backbone", "metric", "k", "group"]
    table = over_seeds(values, ["backbone", "method", "metric", "k", "group", "n_users"])
    base = values[values["method"] == "CE"].set_index([*keys, "seed"])["value"].rename("ce")
    paired = values[values["method"] != "CE"].join(base, on=[*keys, "seed"])
    paired = paired.assign(value=paired["value"] - paired["ce"])
    changes = over_seeds(paired, ["method", *keys]).rename(columns=dict(mean="change", low="change_low", high="change_high"))
    p = paired.groupby(["method", *keys])["value"].agg(lambda values: paired_p(values.to_numpy())).rename("p").reset_index()
    tested = changes.merge(p, on=["method", *keys])
    corrected = family_outcomes(tested, "change", "p", tested["metric"] + tested["k"].astype(str))
    return table.merge(tested.assign(p_holm=corrected["p_holm"], against_ce=corrected["outcome"]), on=["method", *keys], how="left")


def tce_against(control: str, runs: list[Run], ks: Sequence[int]) -> pd.DataFrame:
    """T-CE minus a control with the same schedule: :func:`denoise_lib.report.same_step_table` with the control as base."""
    return same_step_table(of_methods(runs, "T-CE", control), ks, base=control)


# ---------------------------------------------------------------------------------------------------- which checkpoint?


def selection_study(runs: list[Run], k: int) -> pd.DataFrame:
    """Test Recall and NDCG at K at the step that each rule would have selected: ``backbone, method, selector, metric, k,
    mean_step, mean, low, high``. A rule that needs what the data lack is left out, and so is, for a method, one that some of
    its seeds lack.

    The last two rules are no rules: *T-CE's step* is that of T-CE's run with the same backbone and seed, and *best on test*
    chooses on what it reports, a ceiling.
    """
    by_loss = {"own loss": "valid_loss", "plain CE": "valid_ce", "CE, clean validation": "valid_ce_clean"}
    by_recall = {f"Recall@{k}": f"recall_{k}_valid", f"Recall@{k}, clean validation": f"recall_{k}_valid_clean"}
    of_tce = {(run.settings.backbone, run.settings.seed): run.selected_step for run in of_methods(runs, "T-CE")}
    rows = []
    for run in runs:
        history = run.history.set_index("step")
        steps = {name: history[column].idxmin() for name, column in by_loss.items() if column in history}
        steps |= {name: history[column].idxmax() for name, column in by_recall.items() if column in history}
        steps["last step"] = run.info["last_point"]
        step = of_tce.get((run.settings.backbone, run.settings.seed))
        if step in history.index:  # clean-only has fewer steps
            steps["T-CE's step"] = step
        steps["best on test (oracle)"] = history[f"recall_{k}_test"].idxmax()
        about = dict(backbone=run.settings.backbone, method=run.settings.method)
        for name, step in steps.items():
            rows += [about | dict(selector=name, metric=m, k=k, step=step, value=history[f"{m}_{k}_test"][step]) for m in PAPER_METRICS]
    frame, keys = pd.DataFrame(rows), ["backbone", "method", "selector", "metric", "k"]
    seeds = frame.groupby(keys)["value"].transform("count")
    frame = frame[seeds == seeds.groupby([frame["backbone"], frame["method"]]).transform("max")]  # the same seeds for every rule
    steps = over_seeds(frame, keys, "step")["mean"]
    return over_seeds(frame, keys).assign(mean_step=steps)


def readable_selection(table: pd.DataFrame, metric: str = "recall") -> pd.DataFrame:
    """One row per backbone and method, one column per rule: mean ± half the interval, and the mean step."""
    rows = table[table["metric"] == metric]
    half = (rows["high"] - rows["mean"]).map(" ± {:.4f}".format).where(rows["high"].notna(), "")
    cells = rows["mean"].map("{:.4f}".format) + half + rows["mean_step"].map(" @ {:,.0f}".format)
    wide = rows.assign(cell=cells).pivot(index=["backbone", "method"], columns="selector", values="cell")
    order = rows[["backbone", "method"]].drop_duplicates().itertuples(index=False, name=None)
    return wide.loc[list(order), list(dict.fromkeys(rows["selector"]))].fillna("–").rename_axis(columns=metric_labels(rows.head(1))[0])


def selection_says(table: pd.DataFrame) -> str:
    """T-CE, and the two controls that use the flags, minus CE in Recall under each rule, as text: means only, untested."""
    wide = table[table["metric"] == "recall"].pivot(index=["backbone", "method"], columns="selector", values="mean")
    lines = []
    for method in ("T-CE", "oracle-drop", "clean-only"):
        for backbone in table.loc[table["method"] == method, "backbone"].unique():
            gains = (wide.loc[(backbone, method)] - wide.loc[(backbone, "CE")])[table["selector"].unique()].dropna()
            lines.append(f"- {method}, {backbone}: " + ", ".join(f"{gain:+.4f} by {rule}" for rule, gain in gains.items()))
    return "**Here**, methods minus CE in Recall under each rule (means, untested):\n\n" + "\n".join(lines)


# --------------------------------------------------------------------------------------------------------- sensitivity


def sensitivity_plan(grids: dict[str, list[float]], seeds: list[int], options: dict) -> list[tuple[str, Settings]]:
    """The runs of one parameter at a time over its grid, the others as released: ``(parameter, settings)``.

    Raises:
        ValueError: a grid of something else, or a value out of range.
    """
    for name in grids:
        if name not in GRIDS:
            raise ValueError(f"grids: {name!r} is not one of {', '.join(GRIDS)}")
    pairs = []
    for name, values in grids.items():
        method = "R-CE" if name == "beta" else "T-CE"
        for value in values:
            value = int(value) if name == "ramp_steps" else value
            given = options | {"backbones": [GRID_BACKBONE], "seeds": seeds, "test_curve": False, name: value}
            pairs += [(name, settings) for settings in plan([method], **given)]
    return pairs


def sensitivity(names: list[str], runs: list[Run], ce_runs: list[Run], k: int) -> pd.DataFrame:
    """``parameter, value, method, metric, k, mean, low, high`` over the grid, CE repeated at every value, and the change
    against CE of the same seeds with its interval."""
    ce_of = {run.settings.seed: run for run in ce_runs}
    rows = []
    for name, run in zip(names, runs):
        row = dict(parameter=name, x=getattr(run.settings, name), method=run.settings.method, seed=run.settings.seed)
        for metric in PAPER_METRICS:
            value, ce = run.value(metric, k), ce_of[row["seed"]].value(metric, k)
            rows.append(row | dict(metric=metric, k=k, value=value, difference=value - ce))
            rows.append(row | dict(method="CE", metric=metric, k=k, value=ce, difference=np.nan))
    frame, keys = pd.DataFrame(rows).drop_duplicates(), ["parameter", "x", "method", "metric", "k"]
    changes = over_seeds(frame, keys, "difference").rename(columns=dict(mean="change", low="change_low", high="change_high"))
    return over_seeds(frame, keys).merge(changes, on=keys).sort_values(["parameter", "x"], kind="stable").rename(columns={"x": "value"})


# ------------------------------------------------------------------------------------------------------- dose-response


def dose_plan(doses: list[float], grids: dict[str, list[float]], seeds: list[int], options: dict) -> list[tuple[dict, Settings]]:
    """The runs of the dose-response study, each with its labels ``line, noise, dose``.

    At a dose d the share of false positives among the positives is d / (1 + d), and the drop rate that leaves out as many
    is half of it, since it is a share of the batch. *knows the dose* is that rate; at dose 0 it drops nothing and is CE.
    The fixed drop rates are the ends of the grid, the ramp is the shortest.

    Raises:
        ValueError: a dose outside [0, 1], or no grids to take these from.
    """
    if not all(0 <= dose <= 1 for dose in doses):
        raise ValueError(f"doses are false positives per true one, in [0, 1], got {doses}")
    if not {"max_drop_rate", "ramp_steps"} <= set(grids):
        raise ValueError("doses takes its drop rates and its ramp from grids, which lacks max_drop_rate or ramp_steps")
    drop_rates = [min(grids["max_drop_rate"]), max(grids["max_drop_rate"])]
    ramp_steps = int(min(grids["ramp_steps"]))
    common = options | {"backbones": [DOSE_BACKBONE], "seeds": seeds, "ramp_steps": ramp_steps, "test_curve": False}
    pairs = []
    for kind in KINDS:
        for dose in doses:
            right_rate = dose / (1 + dose) / 2
            lines = [("CE", "CE", 0.0), ("R-CE", "R-CE", 0.0)]
            lines += [(f"T-CE, drop rate {rate:g}", "T-CE", rate) for rate in drop_rates]
            for method in ("T-CE", "random-drop", "oracle-drop"):
                lines.append((f"{method}, knows the dose", method if dose else "CE", right_rate))
            for line, method, rate in lines:
                for settings in plan([method], **common | {"max_drop_rate": rate}):
                    made_up = replace(settings, noise=kind if dose else KINDS[0], dose=float(dose))
                    pairs.append((dict(line=line, noise=kind, dose=dose), made_up))
    return pairs


def dose_response(labels: list[dict], runs: list[Run], k: int) -> pd.DataFrame:
    """``line, noise, dose, metric, k, mean, low, high, mean_step``, the last one of the selected steps, and the change against
    CE at the same dose, paired by seed."""
    rows = [
        label | dict(seed=run.settings.seed, metric=metric, k=k, value=run.value(metric, k), step=run.selected_step)
        for label, run in zip(labels, runs) for metric in PAPER_METRICS
    ]  # fmt: skip
    frame, cell = pd.DataFrame(rows), ["noise", "dose", "metric", "k"]
    ce = frame[frame["line"] == "CE"].set_index([*cell, "seed"])["value"].rename("ce")
    frame = frame.join(ce, on=[*cell, "seed"])
    changes = over_seeds(frame.assign(value=frame["value"] - frame["ce"]), ["line", *cell])
    means = over_seeds(frame, ["line", *cell]).assign(mean_step=over_seeds(frame, ["line", *cell], "step")["mean"])
    return means.merge(
        changes.rename(columns=dict(mean="change", low="change_low", high="change_high")), on=["line", *cell]
    )


def dose_says(response: pd.DataFrame) -> str:
    """How many changes against CE at each dose have an interval above, below or around 0, by line, as text."""
    counted = response[response["line"] != "CE"]
    lines = []
    for line, rows in counted.groupby("line", sort=False):
        found = []
        for dose, cells in rows.groupby("dose"):
            above, below = (cells["change_low"] > 0).sum(), (cells["change_high"] < 0).sum()
            found.append(f"{above} above, {below} below, {len(cells) - above - below} around 0 at dose {dose:g}")
        lines.append(f"- {line}: " + "; ".join(found))
    return "**Here**, changes against CE (Recall and NDCG, both kinds of noise; intervals uncorrected):\n\n" + "\n".join(lines)
