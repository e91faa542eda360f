"""Chooses T-CE's and R-CE's hyper-parameters for a data set, and says what it chose and why.

    python tools/tune.py ml100k
    python tools/tune.py ml100k --fine-tuning

Candidates are the papers' grids, less the ramps of which a run would not reach half. Each is trained with two seeds
that no table reports, and judged by the mean validation Recall at the larger K, at the step that the method's own
validation loss selects: noisy validation interactions, training items masked. Test data play no part. Writes every
candidate to results/<dataset>/tuning.csv and prints the best ones for params/<dataset>.yaml. Finished runs are kept.

``--fine-tuning`` chooses fine_tuning_lr in the same way, for CE with the share of 06_extra_feedback that all losses share,
and writes tuning_fine_tuning.csv. How long it trains needs no choice: each run keeps its best step on validation.
"""

import argparse
from itertools import product

import pandas as pd

from denoise_lib import extra_studies, params, paths, runs

DROP_RATES = (0.05, 0.1, 0.2)
RAMPS = (1_000, 5_000, 10_000, 20_000, 30_000)
BETAS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0)
RATES = (1e-5, 1e-4, 1e-3)  # Adam's in the first stage is 1e-3
SEEDS = [1, 2]
SETTING = ["backbone", "method", "max_drop_rate", "ramp_steps", "beta", "lr"]


def candidates(options: dict, backbone: str) -> list[runs.Settings]:
    """Every candidate of a backbone, T-CE's and R-CE's."""
    (probe,) = runs.plan(["CE"], **options | {"backbones": [backbone], "seeds": [1]})
    ramps = [ramp for ramp in RAMPS if runs.n_steps(probe) >= ramp / 2]
    options = options | {"backbones": [backbone], "seeds": SEEDS, "test_curve": False}
    truncated = [
        run
        for rate, ramp in product(DROP_RATES, ramps)
        for run in runs.plan(["T-CE"], **options | {"max_drop_rate": rate, "ramp_steps": ramp})
    ]
    return truncated + [run for beta in BETAS for run in runs.plan(["R-CE"], **options | {"beta": beta})]


def fine_tuning_candidates(values: dict) -> list[runs.Settings]:
    """Fine-tuning at every rate, and what it starts from."""
    seeds = dict.fromkeys(values["extra_seeds"], SEEDS)
    values = values | {"extra_seeds": seeds, "known_shares": [values["compared_share"]]}
    planned = [run for rate in RATES for run in extra_studies.strategy_plan(values | {"fine_tuning_lr": rate})]
    return [run for run in planned if run.strategy == "fine-tuning" and run.pretrained[0].method == "CE"]


def judged(run: runs.Run, k: int) -> dict:
    """One row of tuning.csv."""
    settings = run.settings
    return {
        "backbone": settings.backbone,
        "method": settings.method,
        "max_drop_rate": settings.max_drop_rate,
        "ramp_steps": settings.ramp_steps,
        "beta": settings.beta,
        "lr": settings.lr,
        "seed": settings.seed,
        "selected_step": run.selected_step,
        "last_point": run.info["last_point"],
        f"valid_recall_{k}": run.value("recall", k, part="valid"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--fine-tuning", action="store_true", help="chooses fine_tuning_lr instead")
    parser.add_argument("--jobs", type=int, default=None, help="runs side by side (default: as many as fit)")
    arguments = parser.parse_args()
    values = params.read(arguments.dataset)
    options = params.of_runs(values)
    k = max(options["top_k"])

    if arguments.fine_tuning:
        planned, name = {"fine-tuning": fine_tuning_candidates(values)}, "tuning_fine_tuning"
    else:
        planned, name = {backbone: candidates(options, backbone) for backbone in options["backbones"]}, "tuning"
    jobs = arguments.jobs or values["jobs"]
    finished = [run for what, some in planned.items() for run in runs.map_runs(some, jobs, label=f"tuning {what}")]
    table = pd.DataFrame([judged(run, k) for run in finished])
    mean = table.groupby(SETTING, dropna=False, sort=False)[f"valid_recall_{k}"].mean()
    best = mean.loc[mean.groupby(["backbone", "method"], sort=False).idxmax()]
    table["chosen"] = pd.MultiIndex.from_frame(table[SETTING]).isin(best.index)

    target = paths.results(arguments.dataset) / f"{name}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(target, index=False)
    print(mean.round(4).to_string(), f"\n\nChosen, by mean validation Recall@{k} of {len(SEEDS)} seeds:")
    print(best.round(4).to_string())
    print(f"\nEvery candidate is in {paths.shown(target)}.")


if __name__ == "__main__":
    main()
