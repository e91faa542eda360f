"""Chooses T-CE's and R-CE's hyper-parameters for a data set, and says what it chose and why.

    python tools/tune.py ml100k
    python tools/tune.py ml100k --fine-tuning

Candidates are the papers' grids, less the ramps of which a run would not reach half. Each is trained with two seeds
that no table reports, and judged by the mean validation Recall at the larger K, at the step that the method's own
validation loss selects: noisy validation interactions, training items masked. Test data play no part. Writes every
candidate to results/<dataset>/tuning.csv and prints the best ones for params/<dataset>.yaml. Finished runs are kept.

``--fine-tuning`` chooses fine_tuning_lr in the same way, for CE with the share of 06_extra_feedback that all losses
share, and writes tuning_fine_tuning.csv. How long it trains needs no choice: each run keeps its best step on
validation.
"""

import argparse
from itertools import product

import pandas as pd

from denoise_lib.files import replacing
from replication.methods import METHODS
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters, datasets, resolve
from replication.runs.recipe import n_steps
from replication.runs.settings import Settings, plan
from replication.runs.store import Run
from replication.studies import extra_feedback
from replication.support import paths

RATES = (1e-5, 1e-4, 1e-3)  # Adam's of fine-tuning; in the first stage it is 1e-3
SEEDS = [1, 2]
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
    parser.add_argument("--jobs", type=int, help="runs side by side (default: as the params file says)")
    asked = parser.parse_args()
    parameters = resolve(asked.dataset)
    k = max(parameters.top_k)

    if asked.fine_tuning:
        name, planned = "tuning_fine_tuning", fine_tuning_candidates(parameters)
    else:
        name, planned = "tuning", [run for backbone in parameters.backbones for run in candidates(parameters, backbone)]
    table = pd.DataFrame([judged(run, k) for run in map_runs(planned, asked.jobs or parameters.jobs, label="tuning")])
    mean = table.groupby(SETTING, dropna=False, sort=False)[f"valid_recall_{k}"].mean()
    best = mean.loc[mean.groupby(["backbone", "method"], sort=False).idxmax()]
    table["chosen"] = pd.MultiIndex.from_frame(table[SETTING]).isin(best.index)

    target = paths.results(asked.dataset) / f"{name}.csv"
    with replacing(target) as temporary:
        table.to_csv(temporary, index=False)
    print(mean.round(4).to_string(), f"\n\nChosen, by mean validation Recall@{k} of {len(SEEDS)} seeds:")
    print(best.round(4).to_string())
    print(f"\nEvery candidate is in {paths.shown(target)}.")


if __name__ == "__main__":
    main()
