"""The study of 08_fair_fight: every method is tuned, selected and stopped by one rule, on several splits."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from denoise_lib.data import Split
from replication.methods import FAIR, METHODS
from replication.methods.method import IS_FALSE, POPULARITY, row_values
from replication.report.statistics import changes, compare, decided, interval, over_seeds, sign_flip_p
from replication.report.tables import PAPER_METRICS, families, with_cell
from replication.runs.measure import auc
from replication.runs.parameters import Parameters
from replication.runs.settings import Settings, plan
from replication.runs.store import Run
from replication.sources import public

PATIENCE = 20  # evaluation points without a better one, after which a run stops
LONGEST = 5  # times the epochs of the main table, after which it stops in any case
FAIR_RULE, OWN_RULE, SAME_STEP = "validation Recall", "own loss", "CE's step"
BOUNDS = ("oracle-drop", "clean-only")
TENTHS = range(1, 11)


def planned(parameters: Parameters) -> list[Settings]:
    """All runs of the study with the parameters of a data set.

    Raises:
        ValueError: its file names no options of the study, or its training part has no flags.
    """
    if not parameters.fair.lr:
        how = f"python tools/tune.py {parameters.dataset} --fair chooses them"
        raise ValueError(f"params/{parameters.dataset}.yaml has no lr under fair, so 08_fair_fight has no runs: {how}")
    if not public.has_flags(parameters.dataset):
        raise ValueError(f"08_fair_fight asks about noise, and the training part of {parameters.dataset} has no flags")
    return [run for backbone in parameters.fair.lr for run in of_backbone(parameters, backbone, list(FAIR))]


def of_backbone(parameters: Parameters, backbone: str, methods: list[str], **options) -> list[Settings]:
    """The runs of some methods. ``options`` take the place of those that were chosen, as the tuning asks."""
    fair = parameters.fair
    chosen = {name: values[backbone] for name, values in fair.model_dump(exclude={"splits"}).items() if values}
    longest = {"epochs": LONGEST * parameters.value("epochs", backbone), "own_backbones": []}
    studied = parameters.having(backbones=[backbone], **chosen | options | longest)
    pairs = [(None, seed) for seed in parameters.value("seeds", backbone)]
    return [
        replace(run, split_seed=split, patience=PATIENCE, knows_validation=bool(METHODS[run.method].drop_keys) or None)
        for split, seed in [(seed, seed) for seed in fair.splits] or pairs
        for run in plan(methods, studied.having(seeds=[seed]), diagnostics=True)
    ]


def points(runs: list[Run], k: int) -> pd.DataFrame:
    """Each run at the step that each rule keeps: ``backbone, method, seed, rule, step, recall, ndcg`` at K on test, and
    ``precision``, the share of false positives among all that was left out by then (NaN where nothing was).

    *CE's step* is that which the fair rule keeps of CE with the same backbone and seed; a run that stopped before it is
    read at its last point.
    """
    by_recall = {run: run.history.set_index("step")[f"recall_{k}_valid"].idxmax() for run in runs}
    of_ce = {(r.settings.backbone, r.settings.seed): at for r, at in by_recall.items() if r.settings.method == "CE"}
    frames = []
    for run, step in by_recall.items():
        history = run.history.set_index("step")
        same = min(of_ce[run.settings.backbone, run.settings.seed], history.index[-1])
        steps = {FAIR_RULE: step, OWN_RULE: history["valid_loss"].idxmin(), SAME_STEP: same}
        rows = [
            dict(rule=rule, step=at, precision=_precision(history.loc[:at]))
            | {metric: history.loc[at, f"{metric}_{k}_test"] for metric in PAPER_METRICS}
            for rule, at in steps.items()
        ]
        frames.append(with_cell(run, pd.DataFrame(rows)))
    return pd.concat(frames, ignore_index=True)


def _precision(history: pd.DataFrame) -> float:
    """The share of false positives among what a loss has dropped so far."""
    if "drop_precision" not in history:
        return np.nan
    n_dropped = history[[f"dropped_tenth_{tenth}" for tenth in TENTHS]].sum(axis=1)
    return (history["drop_precision"].fillna(0) * n_dropped).sum() / n_dropped.sum() if n_dropped.any() else np.nan


def against_ce(at: pd.DataFrame, k: int) -> pd.DataFrame:
    """The columns of :func:`~replication.report.tables.main_table`, and ``rule``, of :func:`points`: the change against
    CE under the same rule, paired by split, and what is decided of each rule's primary cells."""
    keys = ["rule", "backbone", "method", "metric"]
    values = at.melt(["rule", "backbone", "method", "seed"], list(PAPER_METRICS), "metric")
    cell = [key for key in keys if key != "method"]
    table = compare(values, keys, cell, values["method"] == "CE", p_signs=sign_flip_p).assign(k=k)
    return decided(table, table["rule"].where(families(table).notna()), table["mean"] - table["change"])


def stops(runs: list[Run]) -> pd.DataFrame:
    """Where each backbone's and method's runs stopped, and how many had turned there; the others met the cap."""
    frames = [
        with_cell(run, pd.DataFrame({"last": [run.info["last_point"]], "after": [_points_after_the_best(run)]}))
        for run in runs
    ]
    frame = pd.concat(frames, ignore_index=True)
    groups = frame.groupby(["backbone", "method"], sort=False)
    table = groups["last"].agg(runs="size", earliest="min", latest="max")
    return table.assign(turned=groups["after"].agg(lambda after: (after >= PATIENCE).sum())).reset_index()


def _points_after_the_best(run: Run) -> int:
    """Points after both best ones; none where the run ended before its drop rate had reached the maximum."""
    recall, loss = run.history[f"recall_{max(run.settings.top_k)}_valid"], run.history["valid_loss"]
    is_whole = run.info["last_point"] >= run.settings.method_options.get("ramp_steps", 0)
    return is_whole * (len(loss) - 1 - max(recall.argmax(), loss.argmin()))


def headroom(at: pd.DataFrame, metric: str = "recall", rule: str = FAIR_RULE) -> pd.DataFrame:
    """What perfect knowledge of the flags gains over CE, and how much of it each method reaches.

    ``backbone, method, change, change_low, change_high, headroom, headroom_low, share, share_low, share_high``. The
    headroom is the larger mean gain of oracle-drop and clean-only. A share is a method's mean gain over it, 0 for none
    and 1 for all; its interval is the 95 % percentile bootstrap over splits. Where the headroom's t-interval reaches 0
    there is no share.
    """
    values = at[at["rule"] == rule].pivot(index=["backbone", "seed"], columns="method", values=metric)
    gains, rows = values.drop(columns="CE").sub(values["CE"], axis=0), []
    for backbone, of_backbone in gains.groupby(level="backbone", sort=False):
        bound = max(of_backbone.columns.intersection(BOUNDS), key=lambda name: of_backbone[name].mean())
        room, low, _ = interval(of_backbone[bound])
        for method, gain in of_backbone.items():
            share = _share(gain.to_numpy(), of_backbone[bound].to_numpy()) if low > 0 else [np.nan] * 3
            rows.append((backbone, method, *interval(gain), bound, room, low, *share))
    names = ["backbone", "method", "change", "change_low", "change_high", "bound", "headroom", "headroom_low"]
    return pd.DataFrame(rows, columns=[*names, "share", "share_low", "share_high"])


def _share(gain: np.ndarray, room: np.ndarray) -> tuple[float, float, float]:
    ratio = lambda one, other, axis=-1: one.mean(axis=axis) / other.mean(axis=axis)  # noqa: E731
    rng = np.random.default_rng(0)
    limits = bootstrap((gain, room), ratio, paired=True, method="percentile", rng=rng).confidence_interval
    return ratio(gain, room), limits.low, limits.high


def gain_and_precision(at: pd.DataFrame, splits: dict[int, Split]) -> pd.DataFrame:
    """``backbone, method, gain, gain_low, gain_high, precision`` at CE's step: Recall's gain over CE against the share
    of false positives among what each method leaves out; ``splits`` by seed tell what removals leave out."""
    same = at[at["rule"] == SAME_STEP].copy()
    noise = {seed: (~split.train.is_clean).mean() for seed, split in splits.items()}
    same.loc[same["method"] == "clean-only", "precision"] = 1.0
    is_random = same["method"] == "random-removal"
    same.loc[is_random, "precision"] = same.loc[is_random, "seed"].map(noise)
    of_ce = same[same["method"] == "CE"].set_index(["backbone", "seed"])["recall"].rename("ce")
    same = same.join(of_ce, on=["backbone", "seed"]).assign(gain=lambda rows: rows["recall"] - rows["ce"])
    keys = ["backbone", "method"]
    table = changes(same[same["method"] != "CE"].dropna(subset="precision"), keys, "gain").drop(columns="p")
    return table.merge(over_seeds(same, keys, "precision")[[*keys, "mean"]].rename(columns={"mean": "precision"}))


def where_it_lies(runs: list[Run], k: int) -> pd.DataFrame:
    """``backbone, method, metric, mean, …, change``: Recall in each tenth of item popularity, the popularity of what is
    ranked and Recall by inverse propensities, with the change against CE."""
    frames = []
    for run in runs:
        rows = run.metrics[(run.metrics["k"] == k) & (run.metrics["part"] == "test") & (run.metrics["users"] == "all")]
        is_here = rows["metric"].str.startswith(("recall_", "popularity"))
        frames.append(with_cell(run, rows.loc[is_here, ["metric", "value"]]))
    values = pd.concat(frames, ignore_index=True)
    keys = ["backbone", "method", "metric"]
    return compare(values, keys, ["backbone", "metric"], values["method"] == "CE", over_seeds)


def dropped_by_tenth(runs: list[Run]) -> pd.DataFrame:
    """``backbone, method, tenth, share``: the shares of a method's drops in each tenth of popularity."""
    frames = []
    for run in runs:
        if "dropped_tenth_1" in run.history:
            counts = run.history[[f"dropped_tenth_{tenth}" for tenth in TENTHS]].sum().to_numpy()
            frames.append(with_cell(run, pd.DataFrame({"tenth": TENTHS, "share": counts / max(1, counts.sum())})))
    return over_seeds(pd.concat(frames, ignore_index=True), ["backbone", "method", "tenth"], "share")


def detector(runs: list[Run], columns: Sequence[str] = ("loss_auc", "loss_false", "valid_loss_false")) -> pd.DataFrame:
    """CE's curves, ``backbone, step, measure, mean, low, high``: the chance that a false positive of train has a larger
    loss than a true one, and the mean losses of false positives in train and held out."""
    of_ce = [with_cell(run, run.history[["step", *columns]]) for run in runs if run.settings.method == "CE"]
    rows = pd.concat(of_ce).melt(["backbone", "method", "seed", "step"], var_name="measure")
    return over_seeds(rows, ["backbone", "step", "measure"])


def rarity_auc(split: Split) -> float:
    """The chance that a false positive's item is rarer in train than a true one's, ties by half."""
    values = row_values(split.train, split)
    return auc(-values[:, POPULARITY], values[:, IS_FALSE] > 0)
