"""Which checkpoint? Each method at the step that each rule of selection would have chosen."""

import pandas as pd

from replication.report.statistics import over_seeds
from replication.report.tables import PAPER_METRICS, spread, wide, with_cell, with_metric
from replication.runs.store import Run


def of_methods(runs: list[Run], *methods: str) -> list[Run]:
    """The runs of some methods."""
    return [run for run in runs if run.settings.method in methods]


def selection_study(runs: list[Run], k: int) -> pd.DataFrame:
    """Test Recall and NDCG at K at the step that each rule would have selected: ``backbone, method, selector, metric,
    k, mean_step, mean, low, high``. A rule that needs what the data lack is left out, and so is, for a method, one that
    some of its seeds lack.

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


def readable_selection(table: pd.DataFrame, metric: str = "recall") -> pd.DataFrame:
    """One row per backbone and method, one column per rule: mean ± half the interval, and the mean step."""
    rows = table[table["metric"] == metric]
    cells = spread(rows["mean"], rows["high"]) + rows["mean_step"].map(" @ {:,.0f}".format)
    shown = wide(rows.assign(cell=cells), ["backbone", "method"], "selector").fillna("–")
    return shown.rename_axis(columns=with_metric(rows)["measured"].iloc[0])
