"""Two studies that vary one thing: a hyper-parameter over its grid, and the dose of made-up false positives."""

from dataclasses import replace
from itertools import product

import pandas as pd

from replication.methods import METHODS, PAPER
from replication.methods.noise import KINDS
from replication.report.statistics import compare, over_seeds
from replication.report.tables import PAPER_METRICS, values_of
from replication.runs.parameters import Parameters
from replication.runs.settings import Settings, plan
from replication.runs.store import Run
from replication.sources import public

GRID_BACKBONE = "NeuMF"  # the paper's Fig. 9
DOSE_BACKBONE = "GMF"  # the fastest


def sensitivity_plan(parameters: Parameters) -> list[tuple[str, Settings]]:
    """The runs of one option of T-CE or R-CE at a time over its grid, the others as released, and of CE with the same
    backbone and seeds: ``(option, settings)``, where CE's option is ``""``. None where there is no grid."""
    if not any(values for _, values in parameters.grids):
        return []
    studied = _studied(parameters, GRID_BACKBONE, test_curve=False)
    tried = [
        (option, settings)
        for method in PAPER
        for option in METHODS[method].grid
        for value in getattr(parameters.grids, option)
        for settings in plan([method], studied.having(**{option: value}))
    ]
    return tried + [("", settings) for settings in plan(["CE"], _studied(parameters, GRID_BACKBONE))]


def _studied(parameters: Parameters, backbone: str, **values) -> Parameters:
    return parameters.having(backbones=[backbone], seeds=parameters.grid_seeds, own_backbones=[], **values)


def sensitivity(options: list[str], runs: list[Run], k: int) -> pd.DataFrame:
    """``parameter, value, method, metric, k, mean, low, high`` over the grid, CE repeated at every value, and the
    change against CE of the same seeds with its interval. ``options`` are the runs', of :func:`sensitivity_plan`."""
    ce_of = {run.settings.seed: run for option, run in zip(options, runs) if not option}
    frames = [
        values_of([run, ce_of[run.settings.seed]]).assign(parameter=option, x=run.settings.method_options[option])
        for option, run in zip(options, runs)
        if option
    ]
    keys, cell = ["parameter", "x", "method", "metric", "k"], ["parameter", "x", "metric", "k"]
    values = _at_k(frames, k).drop_duplicates(ignore_index=True)
    table = compare(values, keys, cell, values["method"] == "CE", over_seeds)
    table = table.sort_values(["parameter", "x", "metric"], ascending=[True, True, False])  # Recall first
    return table.rename(columns={"x": "value"}).drop(columns=["n_seeds", "p"])


def dose_plan(parameters: Parameters) -> list[tuple[dict, Settings]]:
    """The runs of the dose-response study, each with its labels ``line, noise, dose``.

    At a dose d the share of false positives among the positives is d / (1 + d), and the drop rate that leaves out as
    many is half of it, since it is a share of the batch. *knows the dose* is that rate; at dose 0 it drops nothing and
    is CE. The fixed drop rates are the ends of the grid, the ramp is the shortest. None without flags.
    """
    if not parameters.doses or not public.has_flags(parameters.dataset):
        return []
    rates, ramp_steps, pairs = parameters.grids.max_drop_rate, min(parameters.grids.ramp_steps), []
    studied = _studied(parameters, DOSE_BACKBONE, ramp_steps=ramp_steps, test_curve=False)
    for kind, dose in product(KINDS, parameters.doses):
        right_rate = dose / (1 + dose) / 2
        lines = [("CE", "CE", 0.0), ("R-CE", "R-CE", 0.0)]
        lines += [(f"T-CE, drop rate {rate:g}", "T-CE", rate) for rate in (min(rates), max(rates))]
        knowing = ("T-CE", "random-drop", "oracle-drop")
        lines += [(f"{method}, knows the dose", method if dose else "CE", right_rate) for method in knowing]
        made_up = dict(noise=kind if dose else KINDS[0], dose=float(dose))
        pairs += [
            (dict(line=line, noise=kind, dose=dose), replace(run, **made_up))
            for line, method, rate in lines
            for run in plan([method], studied.having(max_drop_rate=rate))
        ]
    return pairs


def dose_response(labels: list[dict], runs: list[Run], k: int) -> pd.DataFrame:
    """``line, noise, dose, metric, k, mean, low, high, mean_step``, the last one of the selected steps, and the change
    against CE at the same dose, paired by seed."""
    frames = [values_of([run]).assign(**label, step=run.selected_step) for label, run in zip(labels, runs)]
    frame = _at_k(frames, k)
    cell, change = ["noise", "dose", "metric", "k"], ["change", "change_low", "change_high"]
    table = compare(frame, ["line", *cell], cell, frame["line"] == "CE", over_seeds)
    table.loc[table["line"] == "CE", change] = 0.0  # from itself
    table["mean_step"] = over_seeds(frame, ["line", *cell], "step")["mean"]
    return table[["line", *cell, "mean", "low", "high", "mean_step", *change]]


def _at_k(frames: list[pd.DataFrame], k: int) -> pd.DataFrame:
    """The rows of Recall and NDCG at K, of all frames."""
    values = pd.concat(frames)
    return values[values["metric"].isin(PAPER_METRICS) & (values["k"] == k)].reset_index(drop=True)
