"""The studies of 05_diagnostics: the runs that they need, and their tidy numbers, means over seeds with intervals."""

from dataclasses import replace

import numpy as np
import pandas as pd

from denoise_lib.data import Split
from replication.methods import METHODS
from replication.report.statistics import family_outcomes, interval, over_seeds, paired_p
from replication.report.tables import PAPER_METRICS, main_table
from replication.runs.parameters import Parameters
from replication.runs.settings import Settings, plan
from replication.runs.store import Run, found, load_run
from replication.sources import public
from replication.studies.dose import dose_plan
from replication.studies.selection import of_methods
from replication.studies.sensitivity import sensitivity_ce_plan, sensitivity_plan


def methods_for(parameters: Parameters) -> list[str]:
    """The methods and controls of a data set; without flags, not those that use them."""
    flags = public.has_flags(parameters.dataset)
    controls = [name for name in parameters.controls if flags or not METHODS[name].uses_flags]
    return [*parameters.all_methods(), *controls]


def main_plan(parameters: Parameters) -> list[Settings]:
    """The runs of the methods and controls, each recording what the figures need."""
    if not parameters.study_seeds:
        return []
    studied = parameters.having(backbones=list(parameters.study_seeds), seeds=parameters.study_seeds)
    return plan(methods_for(parameters), studied, diagnostics=True)


def planned(parameters: Parameters) -> list[Settings]:
    """All runs of 05_diagnostics with the parameters of a data set."""
    of_grids = [settings for _, settings in sensitivity_plan(parameters)]
    of_doses = [settings for _, settings in dose_plan(parameters)]
    beside = sensitivity_ce_plan(parameters)
    return list(dict.fromkeys(main_plan(parameters) + of_grids + of_doses + beside))


def points_of(runs: list[Run], columns: dict[str, str], name: str) -> pd.DataFrame:
    """Columns of the runs' histories at every evaluation point, one below the other and averaged over seeds:
    ``backbone, method, step, <name>, mean, low, high``, where ``columns`` (column -> label) fills ``name``."""
    frames = []
    for run in runs:
        points = run.history.melt("step", [column for column in columns if column in run.history], var_name=name)
        frames.append(points.assign(backbone=run.settings.backbone, method=run.settings.method))
    points = pd.concat(frames, ignore_index=True)
    return over_seeds(points.assign(**{name: points[name].map(columns)}), ["backbone", "method", "step", name])


def _at(run: Run, step: int, column: str) -> float:
    return float(run.history.set_index("step")[column][step])


def _by_backbone(runs: list[Run]) -> dict[str, list[Run]]:
    return {
        name: [run for run in runs if run.settings.backbone == name]
        for name in dict.fromkeys(r.settings.backbone for r in runs)
    }


def clean_training(runs: list[Run]) -> pd.DataFrame:
    """Training without the flagged false positives beside normal training, same test part: the rows ``clean-only`` of
    :func:`replication.report.tables.main_table` with ``normal``, the mean of CE, and ``relative``, the change as a share of it."""
    table = main_table(of_methods(runs, "CE", "clean-only"))
    keys = ["backbone", "metric", "k"]
    normal = table[table["method"] == "CE"].set_index(keys)["mean"].rename("normal")
    clean = table[(table["method"] == "clean-only") & table["metric"].isin(PAPER_METRICS)].join(normal, on=keys)
    columns = [*keys, "normal", "mean", "change", "change_low", "change_high", "p_holm", "against_ce"]
    return (
        clean[columns]
        .rename(columns={"mean": "clean"})
        .assign(relative=clean["change"] / clean["normal"])
        .reset_index(drop=True)
    )


def loss_points(runs: list[Run]) -> pd.DataFrame:
    """Mean cross-entropy of true and of false positives of the training part: ``backbone, method, step, positives, mean, …``."""
    return points_of(runs, {"loss_true": "true positives", "loss_false": "false positives"}, "positives")


def whole_and_first(points: pd.DataFrame, share: float = 0.2) -> pd.DataFrame:
    """The points twice, told apart by ``span``: the whole process, and the first fifth of each backbone's steps."""
    last = points.groupby("backbone")["step"].transform("max")
    first = points[points["step"] <= share * last]
    return pd.concat(
        [points.assign(span="loss, whole process"), first.assign(span="loss, first fifth")], ignore_index=True
    )


def memorisation(runs: list[Run]) -> pd.DataFrame:
    """How far CE had learned the false positives at the selected and at the last step: mean losses over seeds, and the
    ``gap`` (false - true) with its interval."""
    rows = []
    for backbone, group in _by_backbone(of_methods(runs, "CE")).items():
        for when, step_of in (
            ("selected", lambda run: run.selected_step),
            ("last", lambda run: run.info["last_point"]),
        ):
            losses = np.array(
                [[_at(run, step_of(run), column) for column in ("loss_true", "loss_false")] for run in group]
            )
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
    for measure, own, random in (
        ("precision", "drop_precision", "false_share"),
        ("recall", "drop_recall", "drop_share"),
    ):
        frames.append(
            points_of(chosen, {own: "T-CE", random: "at random (expected)"}, "dropping").assign(measure=measure)
        )
    return pd.concat(frames, ignore_index=True).dropna(subset="mean")


def drops(runs: list[Run]) -> pd.DataFrame:
    """The same at the last point, for every method that drops: means over seeds with the interval of the precision."""
    rows = []
    for backbone, group in _by_backbone([run for run in runs if "drop_precision" in run.history]).items():
        for method in dict.fromkeys(run.settings.method for run in group):
            ends = pd.DataFrame([run.history.iloc[-1] for run in of_methods(group, method)])
            row = dict(backbone=backbone, method=method, step=int(ends["step"].iloc[0]))
            row |= dict(zip(("precision", "precision_low", "precision_high"), interval(ends["drop_precision"])))
            rows.append(
                row
                | dict(
                    at_random=ends["false_share"].mean(),
                    recall=ends["drop_recall"].mean(),
                    dropped=ends["drop_share"].mean(),
                )
            )
    return pd.DataFrame(rows)


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
    changes = over_seeds(paired, ["method", *keys]).rename(
        columns=dict(mean="change", low="change_low", high="change_high")
    )
    p = (
        paired.groupby(["method", *keys])["value"]
        .agg(lambda values: paired_p(values.to_numpy()))
        .rename("p")
        .reset_index()
    )
    tested = changes.merge(p, on=["method", *keys])
    corrected = family_outcomes(tested, "change", "p", tested["metric"] + tested["k"].astype(str))
    return table.merge(
        tested.assign(p_holm=corrected["p_holm"], against_ce=corrected["outcome"]), on=["method", *keys], how="left"
    )
