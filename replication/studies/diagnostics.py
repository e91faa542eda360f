"""The studies of 05_diagnostics: the runs that they need, and their tidy numbers, means over seeds with intervals."""

from dataclasses import replace

import numpy as np
import pandas as pd

from replication.methods import METHODS
from replication.report.statistics import changes, compare, intervals, over_seeds
from replication.report.tables import PAPER_METRICS, main_table, with_cell
from replication.runs.parameters import Parameters
from replication.runs.recipe import split_for
from replication.runs.settings import Settings, plan
from replication.runs.store import Run, found, kept, load_run
from replication.sources import public
from replication.studies.sensitivity import dose_plan, sensitivity_plan


def methods_for(parameters: Parameters) -> list[str]:
    """The methods and controls of a data set; without flags, not those that use them."""
    flags = public.has_flags(parameters.dataset)
    controls = [name for name in parameters.controls if flags or not METHODS[name].uses_flags]
    return list(dict.fromkeys([*parameters.all_methods(), *controls]))


def main_plan(parameters: Parameters) -> list[Settings]:
    """The runs of the methods and controls, each recording what the figures need."""
    if not parameters.study_seeds:
        return []
    studied = parameters.having(backbones=list(parameters.study_seeds), seeds=parameters.study_seeds)
    return plan(methods_for(parameters), studied, diagnostics=True)


def planned(parameters: Parameters) -> list[Settings]:
    """All runs of 05_diagnostics with the parameters of a data set."""
    tried = [settings for _, settings in sensitivity_plan(parameters) + dose_plan(parameters)]
    return list(dict.fromkeys(main_plan(parameters) + tried))


def of_methods(runs: list[Run], *methods: str) -> list[Run]:
    """The runs of some methods."""
    return [run for run in runs if run.settings.method in methods]


def points_of(runs: list[Run], columns: dict[str, str], name: str) -> pd.DataFrame:
    """Columns of the runs' histories at every evaluation point, one below the other and averaged over seeds:
    ``backbone, method, step, <name>, mean, low, high``, where ``columns`` (column -> label) fills ``name``."""
    frames = [
        with_cell(run, run.history.melt("step", [one for one in columns if one in run.history], var_name=name))
        for run in runs
    ]
    points = pd.concat(frames, ignore_index=True)
    return over_seeds(points.assign(**{name: points[name].map(columns)}), ["backbone", "method", "step", name])


def clean_training(runs: list[Run]) -> pd.DataFrame:
    """Training without the flagged false positives beside normal training, same test part: ``clean-only`` of the main
    table, with ``normal``, the mean of CE, and ``relative``, the change as a share of it."""
    table, keys = main_table(of_methods(runs, "CE", "clean-only")), ["backbone", "metric", "k"]
    of_method = dict(list(table[table["metric"].isin(PAPER_METRICS)].set_index(keys).groupby("method")))
    clean = of_method["clean-only"].rename(columns={"mean": "clean"}).assign(normal=of_method["CE"]["mean"])
    clean["relative"] = clean["change"] / clean["normal"]
    columns = ["normal", "clean", "change", "change_low", "change_high", "relative"]
    return clean[columns].reset_index()


def memorisation(runs: list[Run]) -> pd.DataFrame:
    """CE's mean losses of true and false positives at the selected and last step, and their ``gap`` (false - true); at
    the last one ``later``, by how much the false ones' loss has changed since the selected one."""
    rows, keys, means = [], ["backbone", "point"], ["mean_step", "loss_true", "loss_false"]
    for run in of_methods(runs, "CE"):
        for point, step in (("selected", run.selected_step), ("last", run.info["last_point"])):
            losses = run.history.set_index("step").loc[step]
            rows.append(
                (run.settings.backbone, point, step, losses["loss_true"], losses["loss_false"], run.settings.seed)
            )
    frame = pd.DataFrame(rows, columns=[*keys, *means, "seed"])
    frame["gap"] = frame["loss_false"] - frame["loss_true"]
    of_seed = frame.groupby(["backbone", "seed"], sort=False)["loss_false"]
    frame["later"] = (frame["loss_false"] - of_seed.transform("first")).where(frame["point"] == "last")
    columns = [changes(frame, keys, name)[[name, f"{name}_low", f"{name}_high"]] for name in ("gap", "later")]
    return _means(frame, keys, means).join(columns)


def held_out(runs: list[Run], share: float) -> pd.DataFrame:
    """:func:`memorisation` of the validation positives, each with its negatives, which no run trains on. The mean of
    the false ones follows from those of all (``valid_ce``) and of the true ones (``valid_ce_clean``), whose ``share``
    of all :func:`clean_share` gives."""

    def of_validation(run: Run) -> Run:
        of_all, true = run.history["valid_ce"], run.history["valid_ce_clean"]
        return replace(
            run, history=run.history.assign(loss_true=true, loss_false=(of_all - share * true) / (1 - share))
        )

    return memorisation([of_validation(run) for run in of_methods(runs, "CE")])


def clean_share(runs: list[Run], parameters: Parameters) -> float:
    """The share of true positives among the validation rows; NaN where these have no flags."""

    def make() -> dict[str, pd.DataFrame]:
        clean = split_for(runs[0].settings).valid.is_clean
        return {"valid": pd.DataFrame({"true": [np.nan if clean is None else clean.mean()]})}

    return float(kept("clean_share", {}, make, parameters)["valid"]["true"].item())


def _means(frame: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    means = {column: intervals(frame, keys, column)["mean"] for column in columns}
    return frame[keys].drop_duplicates(ignore_index=True).assign(**means)


def drop_points(runs: list[Run]) -> pd.DataFrame:
    """Precision and recall of false positives among what T-CE dropped since the point before, and what as many drops
    at random would give (the shares of false ones and dropped ones): ``backbone, step, measure, dropping, mean, …``."""
    sources = {"precision": ("drop_precision", "false_share"), "recall": ("drop_recall", "drop_share")}
    frames = []
    for name, (own, random) in sources.items():
        points = points_of(of_methods(runs, "T-CE"), {own: "T-CE", random: "at random (expected)"}, "dropping")
        frames.append(points.assign(measure=name))
    return pd.concat(frames, ignore_index=True).dropna(subset="mean")


def drops(runs: list[Run]) -> pd.DataFrame:
    """The same at the last point, for every method that drops: means over seeds with the interval of the precision,
    and ``peak``, the highest point of its mean curve."""
    names = dict(drop_precision="precision", false_share="at_random", drop_recall="recall", drop_share="dropped")
    curves = [with_cell(run, run.history) for run in runs if "drop_precision" in run.history]
    ends = pd.concat([curve.iloc[[-1]] for curve in curves], ignore_index=True)
    means = pd.concat(curves).groupby(["backbone", "method", "step"])["drop_precision"].mean()
    peaks = means.groupby(["backbone", "method"]).max().rename("peak")
    frame, keys = ends.rename(columns=names).join(peaks, on=peaks.index.names), ["backbone", "method", "step"]
    precision = changes(frame, keys, "precision")[[*keys, "precision", "precision_low", "precision_high"]]
    return precision.join(_means(frame, keys, ["peak", "at_random", "recall", "dropped"]).drop(columns=keys))


def training_counts(runs: list[Run], parameters: Parameters) -> pd.Series:
    """Training interactions of each test user, by the user's id."""

    def make() -> dict[str, pd.DataFrame]:
        split = split_for(runs[0].settings)
        users = np.unique(split.test.users)
        counts = np.bincount(split.train.users, minlength=split.n_users)[users]
        return {"users": pd.DataFrame({"user": users, "interactions": counts})}

    return kept("training_counts", {}, make, parameters)["users"].set_index("user")["interactions"]


def activity_groups(counts: pd.Series, n_groups: int = 4) -> pd.Series:
    """Each user's group by training interactions, ``"<least>–<most>"``: quartiles, equal counts kept together."""
    codes = pd.qcut(counts, n_groups, labels=False, duplicates="drop").fillna(0).astype(int)
    spans = counts.groupby(codes).agg(["min", "max"])
    return codes.map((spans["min"].astype(str) + "–" + spans["max"].astype(str)).to_dict())


def with_users(runs: list[Run]) -> list[Run]:
    """The runs of those backbones of which each run's users are at hand, which most records lack. The run that records
    less on its way has the same ones, and stands for a record."""
    plain = [(run.settings, found(replace(run.settings, diagnostics=None), run.is_record)) for run in runs]
    found_runs = [load_run(settings, folder or run.folder) for run, (settings, folder) in zip(runs, plain)]
    lacking = {run.settings.backbone for run in found_runs if not run.has_users}
    return [run for run in found_runs if run.settings.backbone not in lacking]


def activity(runs: list[Run], counts: pd.Series) -> pd.DataFrame:
    """Test metrics by user activity: ``backbone, method, metric, k, group, n_users, mean, low, high`` and the change
    against CE, paired by seed; for runs that have users."""
    frames = []
    for run in runs:
        per_user = run.per_user()
        groups = activity_groups(counts[per_user["users"]])
        for metric in PAPER_METRICS:
            means = pd.DataFrame(per_user[metric], columns=per_user["ks"]).groupby(groups.to_numpy()).mean()
            values = means.melt(ignore_index=False, var_name="k").rename_axis("group").reset_index()
            values = values.assign(metric=metric, n_users=values["group"].map(groups.value_counts()))
            frames.append(with_cell(run, values))
    values = pd.concat(frames, ignore_index=True)
    least = values["group"].str.split("–").str[0].astype(int)
    values = values.iloc[least.argsort(kind="stable")].reset_index(drop=True)
    keys = ["backbone", "method", "metric", "k", "group", "n_users"]
    cell = [key for key in keys if key != "method"]
    return compare(values, keys, cell, values["method"] == "CE", over_seeds).drop(columns=["n_seeds", "p"])


def selection_study(runs: list[Run], k: int) -> pd.DataFrame:
    """Test Recall and NDCG at K at the step that each rule would have selected: ``backbone, method, selector, metric,
    k, mean_step, mean, low, high``. A rule is left out where the data, or a seed of the method, lack what it needs.

    The last two rules are no rules: *T-CE's step* is that of T-CE's run with the same backbone and seed, and *best on
    test* chooses on what it reports, a ceiling.
    """
    by_loss = {"own loss": "valid_loss", "plain CE": "valid_ce", "CE, clean validation": "valid_ce_clean"}
    by_recall = {f"Recall@{k}": f"recall_{k}_valid", f"Recall@{k}, clean validation": f"recall_{k}_valid_clean"}
    of_tce = {(run.settings.backbone, run.settings.seed): run.selected_step for run in of_methods(runs, "T-CE")}
    frames, keys = [], ["backbone", "method", "selector", "metric", "k"]
    for run in runs:
        history = run.history.set_index("step")
        steps = {name: history[column].idxmin() for name, column in by_loss.items() if column in history}
        steps |= {name: history[column].idxmax() for name, column in by_recall.items() if column in history}
        steps["last step"] = run.info["last_point"]
        step = of_tce.get((run.settings.backbone, run.settings.seed))
        if step in history.index:  # clean-only has fewer steps
            steps["T-CE's step"] = step
        steps["best on test (oracle)"] = history[f"recall_{k}_test"].idxmax()
        rows = [
            dict(selector=name, metric=metric, k=k, step=step, value=history[f"{metric}_{k}_test"][step])
            for name, step in steps.items()
            for metric in PAPER_METRICS
        ]
        frames.append(with_cell(run, pd.DataFrame(rows)))
    frame = pd.concat(frames, ignore_index=True)
    seeds = frame.groupby(keys)["value"].transform("count")
    all_seeds = seeds.groupby([frame["backbone"], frame["method"]]).transform("max")
    frame = frame[seeds == all_seeds]  # the same seeds for every rule
    return over_seeds(frame, keys).assign(mean_step=over_seeds(frame, keys, "step")["mean"])
