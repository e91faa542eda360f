"""Chooses T-CE's and R-CE's hyper-parameters for a data set, and says what it chose and why.

    python tools/tune.py ml100k
    python tools/tune.py ml100k --fine-tuning
    python tools/tune.py ml100k --fair

Candidates are the papers' grids, less the ramps of which a run would not reach half. Each is trained with two seeds
that no table reports, and judged by the mean validation Recall at the larger K, at the step that the method's own
validation loss selects: noisy validation interactions, training items masked. Test data play no part. Writes every
candidate to results/<dataset>/tuning.csv and prints the best ones for params/<dataset>.yaml. Finished runs are kept.

``--fair`` chooses for 08_fair_fight: CE's learning rate first, then T-CE's and R-CE's options at that rate, with as
many trials for each loss; on two further splits (seeds, where the data come split); by the validation Recall at the
step that this very Recall selects, each run trained until it turns. It writes tuning_fair.csv.

``--fine-tuning`` chooses fine_tuning_lr in the same way, for CE with the share of 06_extra_feedback that all losses
share, and writes tuning_fine_tuning.csv. How long it trains needs no choice: each run keeps its best step on
validation.
"""

import argparse
from itertools import product

import numpy as np
import pandas as pd

from denoise_lib.files import replacing
from replication.methods import METHODS
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters, datasets, resolve
from replication.runs.recipe import n_steps
from replication.runs.settings import Settings, plan
from replication.runs.store import Run
from replication.studies import extra_feedback, fair
from replication.support import paths

RATES = (1e-5, 1e-4, 1e-3)  # Adam's of fine-tuning; in the first stage it is 1e-3
SEEDS = [1, 2]
FAIR_SEEDS = [101, 102]  # of splits, or of runs where the data come split
SETTING = ["backbone", "method", "max_drop_rate", "ramp_steps", "beta", "lr"]


def candidates(parameters: Parameters, backbone: str) -> list[Settings]:
    """Every candidate of a backbone, T-CE's and R-CE's."""
    of_backbone = parameters.having(backbones=[backbone], own_backbones=[], seeds=SEEDS, test_curve=False)
    longest = 2 * n_steps(plan(["CE"], of_backbone)[0])
    chosen = []
    for method in ("T-CE", "R-CE"):
        for values in product(*METHODS[method].grid.values()):
            options = dict(zip(METHODS[method].grid, values))
            if options.get("ramp_steps", 0) <= longest:
                chosen += plan([method], of_backbone.having(**options))
    return chosen


def fine_tuning_candidates(parameters: Parameters) -> list[Settings]:
    """Fine-tuning at every rate, and what it starts from."""
    seeds = dict.fromkeys(parameters.extra_seeds, SEEDS)
    studied = parameters.having(extra_seeds=seeds, known_shares=[parameters.compared_share])
    planned = [run for rate in RATES for run in extra_feedback.strategy_plan(studied.having(fine_tuning_lr=rate))]
    return [run for run in planned if run.strategy == "fine-tuning" and run.pretrained[0].method == "CE"]


def fair_trials(parameters: Parameters, backbone: str) -> dict[str, list[dict]]:
    """As many trials for each loss as T-CE has drop rates and ramps that a run completes: CE's learning rates and
    R-CE's exponents, at equal ratios."""
    longest = fair.LONGEST * n_steps(plan(["CE"], parameters.having(backbones=[backbone]))[0])
    rates, ramps = METHODS["T-CE"].grid.values()
    completed = [ramp for ramp in ramps if ramp < longest]
    slow = completed[1:] or completed  # the shortest goes: of longer ones more is to be learnt
    truncated = [dict(max_drop_rate=rate, ramp_steps=ramp) for rate, ramp in product(rates, slow)]
    spaced = {
        name: [{name: float(f"{value:.2g}")} for value in np.geomspace(*ends, len(truncated))]
        for name, ends in {"lr": (2e-4, 1e-2), "beta": (0.02, 1.0)}.items()
    }
    return {"CE": spaced["lr"], "T-CE": truncated, "R-CE": spaced["beta"]}


def fair_runs(parameters: Parameters, jobs) -> list[Run]:
    """All trials of the fair study, CE's of each backbone before those that take its learning rate."""
    splits = FAIR_SEEDS if parameters.fair.splits else []
    studied = parameters.having(seeds=FAIR_SEEDS, fair={"splits": splits})
    k, rates, finished = max(parameters.top_k), {}, []
    for losses in (["CE"], ["T-CE", "R-CE"]):
        trials = [
            run
            for backbone, method in product(parameters.backbones, losses)
            for options in fair_trials(parameters, backbone)[method]
            for run in fair.of_backbone(studied, backbone, [method], **({"lr": rates.get(backbone)} | options))
        ]
        finished += map_runs(trials, jobs, f"tuning {' and '.join(losses)}", parameters.use_records)
        rates = best_of(pd.DataFrame([judged(run, k) for run in finished]), k).reset_index().set_index("backbone")["lr"]
    return finished


def best_of(table: pd.DataFrame, k: int) -> pd.Series:
    """The best candidate of each backbone and method, by the mean over seeds."""
    mean = table.groupby(SETTING, dropna=False, sort=False)[f"valid_recall_{k}"].mean()
    return mean.loc[mean.groupby(["backbone", "method"], sort=False).idxmax()]


def judged(run: Run, k: int) -> dict:
    """One row of tuning.csv."""
    settings = run.settings.flat()
    return {
        **{name: settings[name] for name in [*SETTING, "seed"]},
        "selected_step": run.selected_step,
        "last_point": run.info["last_point"],
        f"valid_recall_{k}": run.value("recall", k, part="valid"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=datasets())
    parser.add_argument("--fine-tuning", action="store_true", help="chooses fine_tuning_lr instead")
    parser.add_argument("--fair", action="store_true", help="chooses what 08_fair_fight trains with instead")
    parser.add_argument("--jobs", type=int, help="runs side by side (default: as the params file says)")
    asked = parser.parse_args()
    parameters = resolve(asked.dataset)
    k = max(parameters.top_k)

    jobs = asked.jobs or parameters.jobs
    if asked.fair:
        name, runs = "tuning_fair", fair_runs(parameters, jobs)
    elif asked.fine_tuning:
        name, runs = (
            "tuning_fine_tuning",
            map_runs(fine_tuning_candidates(parameters), jobs, "tuning", parameters.use_records),
        )
    else:
        planned = [run for backbone in parameters.backbones for run in candidates(parameters, backbone)]
        name, runs = "tuning", map_runs(planned, jobs, "tuning", parameters.use_records)
    table = pd.DataFrame([judged(run, k) for run in runs])
    best = best_of(table, k)
    table["chosen"] = pd.MultiIndex.from_frame(table[SETTING]).isin(best.index)

    target = paths.results(asked.dataset) / f"{name}.csv"
    with replacing(target) as temporary:
        table.to_csv(temporary, index=False)
    print(f"Chosen, by mean validation Recall@{k} of two seeds:")
    print(best.round(4).to_string())
    print(f"\nEvery candidate is in {paths.shown(target)}.")


if __name__ == "__main__":
    main()
