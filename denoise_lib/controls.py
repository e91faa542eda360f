"""Controls for T-CE: the same schedule and the same number of dropped positives, chosen by something else.

If T-CE works because it drops *false* positives, dropping at random must do less, dropping the flagged ones more.
"""

import numpy as np
import torch
from torch import Tensor

from denoise_lib.data import Interactions
from denoise_lib.losses import cross_entropies

DROPPING = ("T-CE", "random-drop", "popularity-drop", "oracle-drop", "lowest-loss-drop")
CONTROLS = (*DROPPING[1:], "clean-only")


def drop_keys(method: str, logits: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """What a method drops first: the largest keys, which :func:`denoise_lib.losses.dropped_samples` takes.

    - ``T-CE``: the largest loss.
    - ``lowest-loss-drop``: the smallest loss.
    - ``random-drop``: no matter which.
    - ``popularity-drop``: the least popular item, ties at random.
    - ``oracle-drop``: flagged false positives at random, then true ones at random. It uses the flags, which no real
      method has: an upper bound for what dropping can do.

    Args:
        logits, labels: as in :mod:`denoise_lib.losses`.
        values: float ``(B,)``, of :func:`row_values`. They are 0 in validation, where popularity and flag are
            therefore unknown, and these two methods drop at random.

    Returns:
        float ``(B,)``, positive: above the 0 that a negative gets, so no negative goes while a positive is left.
    """
    losses = cross_entropies(logits.detach(), labels)
    at_random = 1 - torch.rand_like(losses)  # in (0, 1]
    match method:
        case "T-CE":
            return losses
        case "lowest-loss-drop":
            return 1 / (1 + losses)
        case "random-drop":
            return at_random
        case "popularity-drop":
            return 1 / (values.abs() + at_random)
        case "oracle-drop":
            return (values < 0) + at_random


def row_values(train: Interactions, n_items: int) -> np.ndarray:
    """One number per training row that carries both what a control may need: the popularity of the row's item, its
    number of training interactions, with a minus sign on a flagged false positive. float ``(n,)``, never 0."""
    popularity = np.bincount(train.items, minlength=n_items)[train.items].astype(np.float64)
    return popularity if train.is_clean is None else np.where(train.is_clean, popularity, -popularity)
