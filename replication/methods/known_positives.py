"""The journal version's strategies: a few true positives are known, and help before, after or beside the training.

Source: Wang et al., arXiv:2112.01160. Only its abstract and figures were at hand: what had to be assumed is in
DEVIATIONS.md, D16 to D18. Fine-tuning and warm-up need no code here: they are two runs, of which the second starts from
the weights of the first (replication/runs/settings.py).
"""

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from denoise_lib.data import Interactions, Split
from denoise_lib.losses import cross_entropies
from replication.methods.method import Style

KNOWN = 3  # purpose of a random stream, beside those of denoise_lib.train


@dataclass(frozen=True)
class Strategy:
    """One use of the extra feedback in training.

    Attributes:
        name: as the tables print it.
        style: its colour, marker and line.
        on_known: whether it trains on the known true positives alone, with CE whatever the method.
    """

    name: str
    style: Style
    on_known: bool = False


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy("known-only", Style("#777777", "<"), on_known=True),
        Strategy("fine-tuning", Style("#0072B2", "p", "--"), on_known=True),
        Strategy("warm-up", Style("#D55E00", "h", "-.")),
        Strategy("weighted", Style("#009E73", ">", ":")),
    )
}


def known_positives(split: Split, share: float, seed: int) -> Interactions:
    """The extra feedback: ``round(share * n)`` of the n true positives of the training part, drawn without replacement.

    The draws of one seed are nested: what a share knows, a larger one knows too. A pair that validation or test hold as
    well is never drawn, so nothing of what is evaluated is given away.

    Raises:
        ValueError: a share outside (0, 1], a training part without flags, or nothing to draw.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of the true positives lies in (0, 1], got {share}")
    if split.train.is_clean is None:
        raise ValueError(f"{split.name}: the training part has no flags, so its true positives are not known")
    key = lambda part: part.users * split.n_items + part.items  # noqa: E731
    evaluated = np.concatenate([key(split.valid), key(split.test)])
    candidates = np.flatnonzero(split.train.is_clean & ~np.isin(key(split.train), evaluated))
    n_known = round(share * len(candidates))
    if n_known == 0:
        raise ValueError(
            f"{split.name}: a share of {share} of {len(candidates)} true positives is none; take a larger one"
        )
    order = np.random.default_rng([seed, 0, 0, KNOWN]).permutation(len(candidates))
    return split.train[np.sort(candidates[order[:n_known]])]


def on_known(split: Split, share: float, seed: int) -> Split:
    """The split whose training part is the extra feedback only."""
    return replace(split, train=known_positives(split, share, seed))


def known_weights(split: Split, share: float, seed: int, weight: float) -> np.ndarray:
    """What is added to the weight 1 of each training row, float ``(n,)``: ``weight - 1`` for a known true positive,
    else 0."""
    known = split.matrix(known_positives(split, share, seed))
    return (weight - 1) * np.asarray(known[split.train.users, split.train.items], dtype=np.float64).ravel()


def weighted_cross_entropy(logits: Tensor, labels: Tensor, added: Tensor) -> Tensor:
    r"""The mean :math:`\sum_j (1 + a_j) \ell_j / \sum_j (1 + a_j)` of a batch; ``added`` ``(B,)`` is of
    :func:`known_weights`."""
    return ((1 + added) * cross_entropies(logits, labels)).sum() / (1 + added).sum()
