"""Chooses T-CE's and R-CE's hyper-parameters for a data set, and says what it chose and why.

    python tools/tune.py ml100k

Candidates are the papers' grids, less the ramps of which a run would not reach half. Each is trained with two seeds
that no table reports, and judged by the mean validation Recall at the larger K, at the step that the method's own
validation loss selects: noisy validation interactions, training items masked. Test data play no part. Writes every
candidate to results/<dataset>/tuning.csv and prints the lines for params/<dataset>.yaml. Finished runs are kept.
"""

import argparse
import sys
from itertools import product

import pandas as pd

from denoise_lib import params, paths, runs

DROP_RATES = (0.05, 0.1, 0.2)
RAMPS = (1_000, 5_000, 10_000, 20_000, 30_000)
BETAS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0)
SEEDS = [1, 2]


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


def judged(run: runs.Run, k: int) -> dict:
    """One row of tuning.csv."""
    settings = run.settings
    return {
        "backbone": settings.backbone,
        "method": settings.method,
        "max_drop_rate": settings.max_drop_rate,
        "ramp_steps": settings.ramp_steps,
        "beta": settings.beta,
        "seed": settings.seed,
        "selected_step": run.selected_step,
        "last_point": run.info["last_point"],
        f"valid_recall_{k}": run.value("recall", k, part="valid"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--jobs", type=int, default=None, help="runs side by side (default: as many as fit)")
    arguments = parser.parse_args()
    values = params.read(arguments.dataset)
    options = params.of_runs(values)
    k = max(options["top_k"])

    finished = [
        run
        for backbone in options["backbones"]
        for run in runs.map_runs(candidates(options, backbone), arguments.jobs or values["jobs"], label=f"tuning {backbone}")
    ]
    table = pd.DataFrame([judged(run, k) for run in finished])
    setting = ["backbone", "method", "max_drop_rate", "ramp_steps", "beta"]
    mean = table.groupby(setting, dropna=False, sort=False)[f"valid_recall_{k}"].mean()
    best = mean.loc[mean.groupby(["backbone", "method"], sort=False).idxmax()]
    table["chosen"] = pd.MultiIndex.from_frame(table[setting]).isin(best.index)

    target = paths.results(arguments.dataset) / "tuning.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(target, index=False)
    print(mean.round(4).to_string(), f"\n\nChosen, by mean validation Recall@{k} of {len(SEEDS)} seeds:")
    print(best.round(4).to_string())
    print(f"\nEvery candidate is in {paths.shown(target)}.", file=sys.stderr)


if __name__ == "__main__":
    main()
