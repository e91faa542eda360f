"""The studies of 06_extra_feedback: the runs that they need, and their tidy numbers, means over seeds with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from denoise_lib.data import Split
from denoise_lib.evaluator import RankingTask, evaluate, ranking_task, validation_sample
from replication.methods import PAPER
from replication.methods.colliding import (
    SPACES,
    CollidingInference,
    NeighbourMean,
    nearest_users,
    recall_grid,
    stored,
    user_vectors,
)
from replication.methods.known_positives import known_positives
from replication.report import tables
from replication.report.statistics import family_outcomes, interval, paired_p
from replication.report.tables import METRIC_NAMES, PAPER_METRICS
from replication.runs.parameters import Parameters
from replication.runs.recipe import torch_threads
from replication.runs.settings import Options, Settings, plan
from replication.runs.store import Run
from replication.sources import public

COLUMNS = ["strategy", "backbone", "method", "known_share", "metric", "k", "mean", "low", "high", "n_seeds"]


def plain_plan(parameters: Parameters) -> list[Settings]:
    """The runs without extra feedback, which 02 and 03 have computed."""
    studied = parameters.having(backbones=list(parameters.extra_seeds), seeds=parameters.extra_seeds, own_backbones=[])
    return plan(PAPER, studied)


def strategy_plan(parameters: Parameters) -> list[Settings]:
    """The runs of the strategies that train, and of the two baselines. Every share for CE, one for T-CE and R-CE."""
    if not parameters.known_shares or not public.has_flags(parameters.dataset):
        return []
    planned = []
    for run in plain_plan(parameters):
        for share in parameters.known_shares if run.method == "CE" else [parameters.compared_share]:
            ours = replace(run, known_share=share, test_curve=False)
            known = replace(ours, method="CE", strategy="known-only", method_options=Options())
            tuned = replace(
                known,
                method=run.method,
                strategy="fine-tuning",
                epochs=parameters.fine_tuning_epochs,
                lr=parameters.value("fine_tuning_lr", run.backbone),
                eval_every=max(1, run.eval_every // 10),
                pretrained=(run,),
            )
            planned += [known, tuned, replace(ours, strategy="warm-up", pretrained=(known,))]
            if run.method == "CE":
                planned.append(replace(ours, strategy="weighted", known_weight=parameters.known_weight))
    return list(dict.fromkeys(planned))


def planned(parameters: Parameters) -> list[Settings]:
    """All runs of 06_extra_feedback with the parameters of a data set; none where its training part has no flags."""
    of_strategies = strategy_plan(parameters)
    _check_neighbours(parameters)
    return of_strategies + plain_plan(parameters) if of_strategies else []


def _check_neighbours(parameters: Parameters) -> None:
    if not public.is_prepared(parameters.dataset):
        return
    n_users = public.load(parameters.dataset).n_users
    if max(parameters.neighbours) >= n_users:
        raise ValueError(f"neighbours are below the number of users, {n_users}, got {max(parameters.neighbours)}")


@dataclass(frozen=True, eq=False)
class Colliding:
    """What colliding inference gave: ``grid`` (validation Recall for every number of neighbours and λ), ``chosen`` (the best
    point of each grid) and ``values``, the test metrics there, as of :func:`all_values`."""

    grid: pd.DataFrame
    chosen: pd.DataFrame
    values: pd.DataFrame


def colliding(plain: list[Run], split: Split, parameters: Parameters) -> Colliding:
    """Colliding inference on trained runs, in every space. A run's number of neighbours and λ are those with the highest
    Recall at the largest K on (noisy) validation, the larger λ among equals. ``own-positives`` is done for every share with
    CE and for ``compared_share`` with the others; the other two spaces use no extra feedback, so they have no share. As many
    runs as ``jobs`` says are done side by side, in threads."""
    on_valid = ranking_task(split, validation_sample(split), [split.train])
    on_test = ranking_task(split, split.test, [split.train, split.valid])
    with torch_threads(1):  # and a run on each core: twice as fast as all cores on one run
        n_jobs = -1 if parameters.jobs == "auto" else parameters.jobs
        parallel = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator")
        found = parallel(delayed(_collide)(run, split, on_valid, on_test, parameters) for run in plain)
        parts = list(tqdm(found, total=len(plain), desc="06: colliding inference", unit="run"))
    grids, choices, values = ([row for part in parts for row in part[place]] for place in range(3))
    return Colliding(pd.concat(grids, ignore_index=True), pd.DataFrame(choices), pd.DataFrame(values))


def _collide(
    run: Run, split: Split, on_valid: RankingTask, on_test: RankingTask, parameters: Parameters
) -> tuple[list[pd.DataFrame], list[dict], list[dict]]:
    """One run's part of each table of :class:`Colliding`."""
    model, ks, ns = run.model(), parameters.top_k, parameters.neighbours
    lambdas, k = sorted(parameters.lambdas, reverse=True), max(ks)
    scores = stored(model, split.n_users, split.n_items)
    of_run = parameters.known_shares if run.settings.method == "CE" else [parameters.compared_share]
    grids, choices, values = [], [], []
    for space, share in [
        *(("own-positives", share) for share in of_run),
        *((space, None) for space in list(SPACES)[1:]),
    ]:
        known = None if share is None else known_positives(split, share, run.settings.seed)
        neighbours = nearest_users(user_vectors(space, model, split, known), max(ns))
        grid = recall_grid(scores, neighbours, on_valid, ns, lambdas, k)
        best_n, best_lambda = np.unravel_index(grid.argmax(), grid.shape)
        about = dict(
            strategy=f"colliding inference ({space})", backbone=run.settings.backbone, method=run.settings.method,
            seed=run.settings.seed, known_share=share,
        )  # fmt: skip
        cells = pd.DataFrame(grid, index=pd.Index(ns, name="neighbours"), columns=lambdas)
        grids.append(
            cells.melt(var_name="lambda", value_name="value", ignore_index=False).reset_index().assign(**about)
        )
        n, own = ns[best_n], lambdas[best_lambda]
        choices.append({**about, "neighbours": n, "lambda": own, "without": (neighbours[:, 0] < 0).mean()})
        measured = evaluate(CollidingInference(scores, NeighbourMean(scores, neighbours[:, :n]), own), on_test, ks)
        for metric in METRIC_NAMES:
            means = measured[metric].mean(axis=0)
            values += [{**about, "metric": metric, "k": k, "value": mean} for k, mean in zip(ks, means)]
    return grids, choices, values


def readable_choices(chosen: pd.DataFrame) -> pd.DataFrame:
    """What validation chose, seed by seed, and ``without neighbours``, the mean share of users that have none."""
    plain = chosen["lambda"] == 1
    mixed = chosen["neighbours"].astype(str) + " at λ = " + chosen["lambda"].map("{:g}".format)
    keys = ["strategy", "backbone", "method", "known_share"]
    groups = chosen.assign(choice=mixed.where(~plain, "plain")).groupby(keys, sort=False, dropna=False)
    table = groups.agg(**{"neighbours at λ, by seed": ("choice", ", ".join), "without neighbours": ("without", "mean")})
    return (
        table.reset_index().astype({"known_share": object}).fillna({"known_share": ""}).round({"without neighbours": 3})
    )


def all_values(plain: list[Run], trained: list[Run], collided: Colliding) -> pd.DataFrame:
    """Every test metric: ``strategy, backbone, method, seed, known_share, metric, k, value``. The runs without extra feedback
    are the strategy ``plain``, without a share."""
    frames = []
    for run in [*plain, *trained]:
        frame = run.metrics.query("part == 'test' and users == 'all'")[["metric", "k", "value"]]
        about = dict(strategy=run.settings.strategy or "plain", known_share=run.settings.known_share)
        frames.append(
            frame.assign(**about, backbone=run.settings.backbone, method=run.settings.method, seed=run.settings.seed)
        )
    # Shares are floats also in frames that have none.
    return pd.concat([frame.astype({"known_share": float}) for frame in [*frames, collided.values]], ignore_index=True)


def extra_table(values: pd.DataFrame) -> pd.DataFrame:
    """``COLUMNS`` and the change against the same backbone and method without extra feedback, paired by seed:
    ``change, change_low, change_high, p, p_holm, against_plain`` (Holm over Recall and NDCG, and over the other metrics)."""
    keys = ["backbone", "method", "metric", "k"]
    plain = values[values["strategy"] == "plain"].set_index([*keys, "seed"])["value"].rename("plain")
    joined = values.join(plain, on=[*keys, "seed"])
    rows = []
    for group, cell in joined.groupby(
        ["strategy", "backbone", "method", "known_share", "metric", "k"], sort=False, dropna=False
    ):
        mean, low, high = interval(cell["value"])
        row = dict(zip(["strategy", "backbone", "method", "known_share", "metric", "k"], group))
        row |= dict(mean=mean, low=low, high=high, n_seeds=len(cell))
        if row["strategy"] != "plain":
            differences = cell["value"] - cell["plain"]
            row |= dict(zip(("change", "change_low", "change_high"), interval(differences)), p=paired_p(differences))
        rows.append(row)
    table = pd.DataFrame(rows)
    tested = table[table["strategy"] != "plain"]
    corrected = family_outcomes(tested, "change", "p", families=tested["metric"].isin(PAPER_METRICS))
    table = table.assign(p_holm=corrected["p_holm"], against_plain=corrected["outcome"].reindex(table.index))
    return table[[*COLUMNS, "change", "change_low", "change_high", "p", "p_holm", "against_plain"]]


def by_share(table: pd.DataFrame, shares: Sequence[float], k: int) -> pd.DataFrame:
    """CE's changes against plain training at K, as ``mean, low, high`` against the known share, for the figure; what knows
    nothing stands at every share. ``known-only`` is left out: its losses would set the scale."""
    chosen = table[(table["method"] == "CE") & (table["k"] == k) & table["metric"].isin(PAPER_METRICS)]
    chosen = chosen[~chosen["strategy"].isin(["plain", "known-only"])]
    chosen = chosen.assign(mean=chosen["change"], low=chosen["change_low"], high=chosen["change_high"])
    everywhere = chosen[chosen["known_share"].isna()]
    frames = [chosen.dropna(subset="known_share"), *(everywhere.assign(known_share=share) for share in shares)]
    names = {metric: f"change of {METRIC_NAMES[metric]}@{k}" for metric in PAPER_METRICS}
    points = pd.concat(frames, ignore_index=True).sort_values("known_share", kind="stable")
    return points.assign(measured=points["metric"].map(names))


def readable(table: pd.DataFrame, k: int) -> pd.DataFrame:
    """Recall and NDCG at K as :func:`replication.report.tables.readable` writes them, with the change against plain training."""
    order = {value: place for key in ("backbone", "method") for place, value in enumerate(dict.fromkeys(table[key]))}
    chosen = table[table["k"] == k].sort_values(
        ["backbone", "method"], key=lambda column: column.map(order), kind="stable"
    )
    chosen = chosen.assign(known_share=chosen["known_share"].map("{:g}".format, na_action="ignore").fillna(""))
    return tables.readable(chosen, keys=["backbone", "method", "strategy", "known_share"], outcome="against_plain")


def says(table: pd.DataFrame) -> str:
    """How often each strategy is better, worse or neither than plain training with the same loss, as text."""
    tested = table[(table["strategy"] != "plain") & table["metric"].isin(PAPER_METRICS)]
    lines = []
    if (n_seeds := table["n_seeds"].max()) < 5:
        lines.append(
            f"- with at most {n_seeds} seeds few changes can be resolved: *unresolved* is no evidence of no effect"
        )
    for strategy, cells in tested.groupby("strategy", sort=False):
        parts = []
        for method, of_method in cells.groupby("method", sort=False):
            counts = of_method["against_plain"].value_counts()
            found = ", ".join(f"{counts.get(word, 0)} {word}" for word in ("better", "worse", "unresolved"))
            parts.append(f"{method}: {found}")
        lines.append(f"- {strategy}: " + "; ".join(parts))
    return (
        "**Here**, Recall and NDCG cells against plain training with the same loss (Holm over the table):\n\n"
        + "\n".join(lines)
    )
