"""What is compared: the paper's three losses, the controls beside them, and the methods that a user adds."""

import torch

from denoise_lib.losses import cross_entropy, drop_rate_at, reweighted_cross_entropy, truncated_cross_entropy
from replication.methods.method import IS_FALSE, POPULARITY, Method, Style, false_ones_in_the_tenths_of_losses
from replication.methods.method import largest_of_each_tenth, rate_in_batch
from replication.methods.noise import clean_part, random_part

DROP_GRID = {"max_drop_rate": (0.05, 0.1, 0.2), "ramp_steps": (1_000, 5_000, 10_000, 20_000, 30_000)}  # the papers'


def _plain():
    return lambda logits, labels, step: cross_entropy(logits, labels)


def _truncated(max_drop_rate: float, ramp_steps: int):
    return lambda logits, labels, step: truncated_cross_entropy(
        logits, labels, rate_in_batch(drop_rate_at(step, max_drop_rate, ramp_steps), len(labels))
    )


def _reweighted(beta: float):
    return lambda logits, labels, step: reweighted_cross_entropy(logits, labels, beta)


# Controls for T-CE have its schedule and drop as many positives, chosen by something else. If T-CE works because it
# drops *false* positives, dropping at random must do less, and dropping the flagged ones more. Each method is judged by
# its own loss on noisy validation, where popularity and flags are not known: popularity-drop and oracle-drop leave out
# random positives there. Only clean-only is judged on clean validation.
_ALL = (
    Method("CE", "plain cross-entropy, the normal training", Style("#000000", "s"), _plain),
    Method(
        "T-CE",
        "drops the positives with the largest loss",
        Style("#0072B2", "o", "--"),
        _truncated,
        DROP_GRID,
        drop_keys=lambda losses, values, at_random: losses,
    ),
    Method(
        "R-CE",
        "weights each sample by a power of the probability that the model gives to its label",
        Style("#D55E00", "^", "-."),
        _reweighted,
        {"beta": (0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0)},
    ),
    Method(
        "random-drop",
        "drops any positives",
        Style("#009E73", "D", ":"),
        grid=DROP_GRID,
        drop_keys=lambda losses, values, at_random: at_random,
    ),
    Method(
        "popularity-drop",
        "drops the positives of the least popular items, ties at random",
        Style("#CC79A7", "v", (0, (1, 1))),
        grid=DROP_GRID,
        drop_keys=lambda losses, values, at_random: 1 / (values[:, POPULARITY] + at_random),
    ),
    Method(
        "oracle-drop",
        "drops flagged false positives at random, then true ones; an upper bound, since it uses the flags",
        Style("#56B4E9", "P", (0, (5, 1))),
        grid=DROP_GRID,
        drop_keys=lambda losses, values, at_random: values[:, IS_FALSE] + at_random,
        uses_flags=True,
    ),
    Method(
        "lowest-loss-drop",
        "drops the positives with the smallest loss",
        Style("#E69F00", "X", (0, (3, 1, 1, 1))),
        grid=DROP_GRID,
        drop_keys=lambda losses, values, at_random: 1 / (1 + losses),
    ),
    Method(
        "clean-only",
        "plain cross-entropy without the flagged false positives; a bound, since it uses the flags",
        Style("#777777", "*"),
        _plain,
        uses_flags=True,
        trains_on=clean_part,
    ),
    Method(
        "random-removal",
        "plain cross-entropy without as many interactions as clean-only leaves out, any of them",
        Style("#999933", "p"),
        _plain,
        uses_flags=True,
        trains_on=random_part,
    ),
    Method(
        "rare-true-drop",
        "drops the true positives of the least popular items; of false ones none, so it cannot denoise",
        Style("#882255", "<", (0, (2, 1))),
        grid=DROP_GRID,
        drop_keys=lambda losses, values, at_random: torch.where(
            values[:, IS_FALSE] > 0, 1e-9 * at_random, 1 / (values[:, POPULARITY] + at_random)
        ),
        uses_flags=True,
    ),
    Method(
        "decile-drop",
        "drops the positives with the largest loss in each tenth of item popularity, the same share of each",
        Style("#117733", ">", (0, (4, 1, 1, 1))),
        grid=DROP_GRID,
        drop_keys=largest_of_each_tenth,
    ),
    Method(
        "matched-oracle",
        "drops as many positives of each tenth of item popularity as T-CE would, flagged ones first",
        Style("#332288", "h", (0, (6, 1, 1, 1))),
        grid=DROP_GRID,
        drop_keys=false_ones_in_the_tenths_of_losses,
        uses_flags=True,
    ),
)
METHODS = {method.name: method for method in _ALL}
PAPER = ("CE", "T-CE", "R-CE")
CONTROLS = ("random-drop", "popularity-drop", "oracle-drop", "lowest-loss-drop", "clean-only")  # of 05_diagnostics
APART = ("rare-true-drop", "decile-drop", "matched-oracle")  # which tell noise from popularity
FAIR = (
    *PAPER,
    "random-drop",
    "popularity-drop",
    "oracle-drop",
    "clean-only",
    "random-removal",
    *APART,
)  # of 08_fair_fight
