"""The dose-response study: false positives are made up, so the truth is known."""

from dataclasses import replace
from itertools import product

import pandas as pd

from replication.methods.noise import KINDS
from replication.report.statistics import compare, over_seeds
from replication.report.tables import PAPER_METRICS, values_of
from replication.runs.parameters import Parameters
from replication.runs.settings import Settings, plan
from replication.runs.store import Run
from replication.sources import public

DOSE_BACKBONE = "GMF"  # the fastest


def dose_plan(parameters: Parameters) -> list[tuple[dict, Settings]]:
    """The runs of the dose-response study, each with its labels ``line, noise, dose``.

    At a dose d the share of false positives among the positives is d / (1 + d), and the drop rate that leaves out as
    many is half of it, since it is a share of the batch. *knows the dose* is that rate; at dose 0 it drops nothing and
    is CE. The fixed drop rates are the ends of the grid, the ramp is the shortest. None without flags.
    """
    if not parameters.doses or not public.has_flags(parameters.dataset):
        return []
    rates, ramp_steps = parameters.grids.max_drop_rate, min(parameters.grids.ramp_steps)
    studied = dict(backbones=[DOSE_BACKBONE], seeds=parameters.grid_seeds, own_backbones=[])
    studied = parameters.having(**studied, ramp_steps=ramp_steps, test_curve=False)
    pairs = []
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
    frame = pd.concat(frames)
    frame = frame[frame["metric"].isin(PAPER_METRICS) & (frame["k"] == k)].reset_index(drop=True)
    cell, change = ["noise", "dose", "metric", "k"], ["change", "change_low", "change_high"]
    table = compare(frame, ["line", *cell], cell, frame["line"] == "CE", over_seeds)
    table.loc[table["line"] == "CE", change] = 0.0  # from itself
    table["mean_step"] = over_seeds(frame, ["line", *cell], "step")["mean"]
    return table[["line", *cell, "mean", "low", "high", "mean_step", *change]]


def dose_says(response: pd.DataFrame) -> str:
    """How many changes against CE at each dose have an interval above, below or around 0, by line, as text."""
    lines = ["**Here**, changes against CE (Recall and NDCG, both kinds of noise; intervals uncorrected):\n"]
    for line, rows in response[response["line"] != "CE"].groupby("line", sort=False):
        found = []
        for dose, cells in rows.groupby("dose"):
            above, below = (cells["change_low"] > 0).sum(), (cells["change_high"] < 0).sum()
            found.append(f"{above} above, {below} below, {len(cells) - above - below} around 0 at dose {dose:g}")
        lines.append(f"- {line}: " + "; ".join(found))
    return "\n".join(lines)
