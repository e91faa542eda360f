"""What one compared method is, and the loss of those that drop positives."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from denoise_lib.data import Interactions, Split
from denoise_lib.losses import cross_entropies, drop_rate_at, dropped_samples, truncated_cross_entropy

POPULARITY, IS_FALSE, TENTH = range(3)  # the columns of row_values


@dataclass(frozen=True)
class Style:
    """How a meaning looks in every figure: a colour, a marker and a line style that no other meaning has together."""

    color: str
    marker: str
    linestyle: str | tuple = "-"


@dataclass(frozen=True)
class Method:
    """One way to train on noisy positives, as every table, figure and run knows it.

    Attributes:
        name: as the tables print it.
        about: what it does, for readers.
        style: its colour, marker and line; None: figures choose one.
        loss: ``(**options) -> (logits, labels, step) -> scalar``; None: :func:`dropping` by its ``drop_keys``.
        grid: option, which ``params/<dataset>.yaml`` sets -> the values from which ``tools/tune.py`` chooses.
        drop_keys: ``(losses, values, at_random) -> keys``: the method drops the positives with the largest keys first.
            All are float ``(B,)`` but ``values`` ``(B, 3)``, of :func:`row_values`; keys are positive, above the 0 of a
            negative, so no negative goes while a positive is left. Validation knows no values, they are 0 there, except
            in a run that ``knows_validation``.
        uses_flags: whether it needs to know which interactions are false, as no real method does.
        trains_on: ``(split, seed)`` -> the split that it sees, in training and in validation.
    """

    name: str
    about: str
    style: Style | None = None
    loss: Callable[..., Callable] | None = None
    grid: dict[str, tuple] = field(default_factory=dict)
    drop_keys: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    uses_flags: bool = False
    trains_on: Callable[[Split, int], Split] = lambda split, seed: split

    def loss_and_values(self, options: dict, split: Split, on_drop: Callable | None = None) -> tuple:
        """The loss with some options, and the :func:`row_values` of the training part where it takes them as a fourth
        argument: both as :func:`denoise_lib.train.fit` takes them. A method that drops calls ``on_drop`` in training,
        with (dropped positions, labels, values) of each batch."""
        if self.drop_keys is not None and (self.loss is None or on_drop is not None):
            return dropping(self.drop_keys, **options, on_drop=on_drop), row_values(split.train, split)
        return self.loss(**options), None


def dropping(keys: Callable, max_drop_rate: float, ramp_steps: int, on_drop: Callable | None = None) -> Callable:
    """T-CE's loss and schedule with another choice of what to drop: ``(logits, labels, step, values) -> scalar``."""

    def loss(logits: Tensor, labels: Tensor, step: int, values: Tensor) -> Tensor:
        drop_rate = rate_in_batch(drop_rate_at(step, max_drop_rate, ramp_steps), len(labels))
        losses = cross_entropies(logits.detach(), labels)
        of_batch = keys(losses, values, 1 - torch.rand_like(losses))  # random numbers in (0, 1]
        if on_drop is not None and torch.is_grad_enabled():  # validation is no training
            on_drop(dropped_samples(of_batch, labels, drop_rate), labels, values)
        return truncated_cross_entropy(logits, labels, drop_rate, of_batch)

    return loss


def largest_of_each_tenth(losses: Tensor, values: Tensor, at_random: Tensor) -> Tensor:
    """Keys that drop the largest losses of each tenth of popularity, the same share of each."""
    tenths, order = values[:, TENTH].long(), _by_tenth(losses, values)
    sizes, keys = tenths.bincount(), torch.empty_like(losses)
    place = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[tenths[order]]
    keys[order] = 1 - place / sizes[tenths[order]]
    return keys


def false_ones_in_the_tenths_of_losses(losses: Tensor, values: Tensor, at_random: Tensor) -> Tensor:
    """Keys that drop as many of each tenth of popularity as T-CE does, flagged ones first: within its tenth, the row
    that comes first gets the largest loss for a key, and so on."""
    keys = torch.empty_like(losses)
    keys[_by_tenth(values[:, IS_FALSE] + at_random, values)] = losses[_by_tenth(losses, values)]
    return keys


def _by_tenth(keys: Tensor, values: Tensor) -> Tensor:
    """The rows by tenth, and in a tenth by falling keys. Negatives are apart: their tenth is 0."""
    order = keys.argsort(descending=True, stable=True)
    return order[values[order, TENTH].argsort(stable=True)]


def rate_in_batch(drop_rate: float, n_rows: int) -> float:
    """The drop rate, or where it would keep nothing of so small a batch, one that keeps a single row."""
    return min(drop_rate, max(0.0, 1 - 1.5 / n_rows))  # 1.5 rows, rounded down


def row_values(part: Interactions, split: Split) -> np.ndarray:
    """What a control may need to know of each row of train or valid, float ``(n, 3)``: the popularity of its item,
    which is the item's number of training interactions; 1 where it is flagged as a false positive; and the tenth of the
    training interactions, from 1 to 10 by rising popularity, in which it lies."""
    counts = np.bincount(split.train.items, minlength=split.n_items)
    of_train, popularity = np.sort(counts[split.train.items]), counts[part.items]
    is_false = np.zeros(len(part)) if part.is_clean is None else ~part.is_clean
    tenth = np.minimum(10 * np.searchsorted(of_train, popularity) // len(of_train), 9) + 1
    return np.column_stack([popularity, is_false, tenth]).astype(np.float64)
