"""The sensitivity study: one hyper-parameter at a time over its grid."""

import pandas as pd

from replication.methods import METHODS, PAPER
from replication.report.statistics import compare, over_seeds
from replication.report.tables import PAPER_METRICS, values_of
from replication.runs.parameters import Parameters
from replication.runs.settings import Settings, plan
from replication.runs.store import Run

GRID_BACKBONE = "NeuMF"  # the paper's Fig. 9


def sensitivity_plan(parameters: Parameters) -> list[tuple[str, Settings]]:
    """The runs of one option of T-CE or R-CE at a time over its grid, the others as released: ``(option,
    settings)``."""
    if not any(values for _, values in parameters.grids):
        return []
    studied = _studied(parameters).having(test_curve=False)
    return [
        (option, settings)
        for method in PAPER
        for option in METHODS[method].grid
        for value in getattr(parameters.grids, option)
        for settings in plan([method], studied.having(**{option: value}))
    ]


def sensitivity_ce_plan(parameters: Parameters) -> list[Settings]:
    """CE with the same backbone and seeds; none where there is no grid."""
    return plan(["CE"], _studied(parameters)) if any(values for _, values in parameters.grids) else []


def _studied(parameters: Parameters) -> Parameters:
    return parameters.having(backbones=[GRID_BACKBONE], seeds=parameters.grid_seeds, own_backbones=[])


def sensitivity(names: list[str], runs: list[Run], ce_runs: list[Run], k: int) -> pd.DataFrame:
    """``parameter, value, method, metric, k, mean, low, high`` over the grid, CE repeated at every value, and the
    change against CE of the same seeds with its interval."""
    ce_of = {run.settings.seed: run for run in ce_runs}
    frames = [
        values_of([run, ce_of[run.settings.seed]]).assign(parameter=name, x=run.settings.method_options[name])
        for name, run in zip(names, runs)
    ]
    keys, cell = ["parameter", "x", "method", "metric", "k"], ["parameter", "x", "metric", "k"]
    values = pd.concat(frames)
    values = values[values["metric"].isin(PAPER_METRICS) & (values["k"] == k)].drop_duplicates(ignore_index=True)
    table = compare(values, keys, cell, values["method"] == "CE", over_seeds)
    table = table.sort_values(["parameter", "x", "metric"], ascending=[True, True, False])  # Recall first
    return table.rename(columns={"x": "value"}).drop(columns=["n_seeds", "p", "detectable"])
