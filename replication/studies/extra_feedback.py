"""The studies of 06_extra_feedback: the runs that they need, and their tidy numbers, means over seeds."""

from dataclasses import replace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from denoise_lib.data import Split
from denoise_lib.evaluator import RankingTask, evaluate, ranking_task, sample_of_users
from replication.methods import PAPER
from replication.methods import colliding as neighbourhood
from replication.methods.colliding import SPACES, CollidingInference, NeighbourMean
from replication.methods.known_positives import known_positives
from replication.report.statistics import compare
from replication.report.tables import METRIC_NAMES, values_of
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters
from replication.runs.recipe import split_for, torch_threads
from replication.runs.settings import Settings, plan
from replication.runs.store import Run, kept
from replication.sources import public

KEYS = ["strategy", "backbone", "method", "known_share", "metric", "k"]


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
        tuning = dict(epochs=parameters.fine_tuning_epochs, lr=parameters.value("fine_tuning_lr", run.backbone))
        tuning |= dict(eval_every=max(1, run.eval_every // 10), pretrained=(run,), method=run.method)
        for share in parameters.known_shares if run.method == "CE" else [parameters.compared_share]:
            ours = replace(run, known_share=share, test_curve=False)
            known = replace(ours, method="CE", strategy="known-only", method_options={})
            planned += [known, replace(known, strategy="fine-tuning", **tuning)]
            planned.append(replace(ours, strategy="warm-up", pretrained=(known,)))
            if run.method == "CE":
                planned.append(replace(ours, strategy="weighted", known_weight=parameters.known_weight))
    return list(dict.fromkeys(planned))


def planned(parameters: Parameters) -> list[Settings]:
    """All runs of 06_extra_feedback with the parameters of a data set; none where its training part has no flags.

    Raises:
        ValueError: more neighbours are asked for than there are other users.
    """
    of_strategies, most = strategy_plan(parameters), max(parameters.neighbours)
    if public.is_prepared(parameters.dataset) and most >= (n_users := public.load(parameters.dataset).n_users):
        raise ValueError(f"neighbours are below the number of users, {n_users}, got {most}")
    return of_strategies + plain_plan(parameters) if of_strategies else []


def colliding(plain: list[Run], parameters: Parameters) -> list[pd.DataFrame]:
    """Colliding inference on trained runs, in every space. A run's number of neighbours and λ are those with the
    highest Recall at the largest K on (noisy) validation, the larger λ among equals. ``own-positives`` is done for
    every share with CE and for ``compared_share`` with the others; the other two spaces use no extra feedback, so they
    have no share. As many runs as ``jobs`` says are done side by side, in threads.

    Returns:
        Validation Recall for every number of neighbours and λ, and each grid's best point with its test metrics.
    """
    names = ["metrics_grid", "chosen", "metrics"]
    of = {
        name: getattr(parameters, name) for name in ("top_k", "neighbours", "lambdas", "known_shares", "compared_share")
    }
    of["runs"] = [run.info["id"] for run in plain]
    found = kept("colliding", of, lambda: dict(zip(names, _on_each(plain, parameters))), parameters)
    return [found[name] for name in names]


def _on_each(plain: list[Run], parameters: Parameters) -> list[pd.DataFrame]:
    plain = map_runs([run.settings for run in plain], parameters.jobs)  # with the weights, which records lack
    split = split_for(plain[0].settings)
    on_valid = ranking_task(split, sample_of_users(split.valid), [split.train])
    on_test = ranking_task(split, split.test, [split.train, split.valid])
    with torch_threads(1):  # and a run on each core: twice as fast as all cores on one run
        n_jobs = -1 if parameters.jobs == "auto" else parameters.jobs
        parallel = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator")
        found = parallel(delayed(_collide)(run, split, on_valid, on_test, parameters) for run in plain)
        parts = list(tqdm(found, total=len(plain), desc="06: colliding inference", unit="run"))
    return [pd.concat(sum(frames, []), ignore_index=True) for frames in zip(*parts)]


def _collide(run: Run, split: Split, on_valid: RankingTask, on_test: RankingTask, parameters: Parameters) -> tuple:
    """One run's part of each table of :func:`colliding`, as lists of frames."""
    model, ks, ns = run.model(), parameters.top_k, parameters.neighbours
    scores = neighbourhood.stored(model, split.n_users, split.n_items)
    lambdas = sorted(parameters.lambdas, reverse=True)
    shares = parameters.known_shares if run.settings.method == "CE" else [parameters.compared_share]
    of_run = {name: getattr(run.settings, name) for name in ("backbone", "method", "seed")}
    own, *others = SPACES
    grids, choices, values = [], [], []
    for space, share in [*((own, share) for share in shares), *((space, None) for space in others)]:
        about = {"strategy": f"colliding inference ({space})", **of_run, "known_share": share}
        known = None if share is None else known_positives(split, share, run.settings.seed)
        neighbours = neighbourhood.nearest_users(neighbourhood.user_vectors(space, model, split, known), max(ns))
        grid = neighbourhood.recall_grid(scores, neighbours, on_valid, ns, lambdas, max(ks))
        best_n, best_lambda = np.unravel_index(grid.argmax(), grid.shape)
        n, weight = ns[best_n], lambdas[best_lambda]
        grids.append(_tidy(pd.DataFrame(grid, pd.Index(ns, name="neighbours"), lambdas), "lambda", about))
        chosen = about | {"neighbours": n, "lambda": weight, "without": (neighbours[:, 0] < 0).mean()}
        choices.append(pd.DataFrame([chosen]))
        measured = evaluate(CollidingInference(scores, NeighbourMean(scores, neighbours[:, :n]), weight), on_test, ks)
        means = {metric: measured[metric].mean(axis=0) for metric in METRIC_NAMES}
        values.append(_tidy(pd.DataFrame(means, pd.Index(ks, name="k")), "metric", about))
    return grids, choices, values


def _tidy(cells: pd.DataFrame, columns: str, about: dict) -> pd.DataFrame:
    """``about`` beside each cell's row, column and ``value``."""
    return cells.melt(var_name=columns, value_name="value", ignore_index=False).reset_index().assign(**about)


def all_values(plain: list[Run], trained: list[Run], collided: pd.DataFrame) -> pd.DataFrame:
    """Every test metric: ``strategy, backbone, method, seed, known_share, metric, k, value``. The runs without extra
    feedback are the strategy ``plain``, without a share."""
    frames = [
        values_of([run]).assign(strategy=run.settings.strategy or "plain", known_share=run.settings.known_share)
        for run in [*plain, *trained]
    ]
    # Shares are floats also in frames that have none.
    return pd.concat([frame.astype({"known_share": float}) for frame in [*frames, collided]], ignore_index=True)


def extra_table(values: pd.DataFrame) -> pd.DataFrame:
    """``KEYS``, ``mean, low, high, n_seeds`` and the change against the same without extra feedback, paired by seed:
    ``change, change_low, change_high, p``. All of it is exploratory."""
    return compare(values, KEYS, ["backbone", "method", "metric", "k"], values["strategy"] == "plain")
