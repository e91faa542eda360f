"""The journal version's strategies: a few true positives are known, and help before, after or beside the training.

Source: Wang et al., arXiv:2112.01160. Only its abstract and figures were at hand: what had to be assumed is in
DEVIATIONS.md, D16 to D18. Fine-tuning and warm-up need no code here: they are two runs, of which the second starts from
the weights of the first (replication/runs/settings.py).
"""

import numpy as np
from torch import Tensor

from denoise_lib.data import Interactions, Split
from denoise_lib.losses import cross_entropies
from replication.methods.method import Style

KNOWN = 3  # purpose of a random stream, beside those of denoise_lib.train
STRATEGIES = {  # the uses of the extra feedback in training
    "known-only": Style("#777777", "<"),
    "fine-tuning": Style("#0072B2", "p", "--"),
    "warm-up": Style("#D55E00", "h", "-."),
    "weighted": Style("#009E73", ">", ":"),
}
ON_KNOWN = ("known-only", "fine-tuning")  # train on the known true positives alone, with CE whatever the method


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
    candidates = np.flatnonzero(split.train.is_clean & (_held(split, split.valid, split.test) == 0))
    n_known = round(share * len(candidates))
    if n_known == 0:
        of_them = f"a share of {share} of {len(candidates)} true positives"
        raise ValueError(f"{split.name}: {of_them} is none; take a larger one")
    order = np.random.default_rng([seed, 0, 0, KNOWN]).permutation(len(candidates))
    return split.train[np.sort(candidates[order[:n_known]])]


def known_weights(split: Split, share: float, seed: int, weight: float) -> np.ndarray:
    """What each training row weighs beyond 1, float ``(n,)``: ``weight - 1`` for a known true positive, else 0."""
    return (weight - 1) * _held(split, known_positives(split, share, seed)).astype(np.float64)


def _held(split: Split, *parts: Interactions) -> np.ndarray:
    """1 for each training row whose pair the parts hold, else 0: int8 ``(n,)``."""
    return np.asarray(split.matrix(*parts)[split.train.users, split.train.items]).ravel()


def weighted_cross_entropy(logits: Tensor, labels: Tensor, added: Tensor) -> Tensor:
    r"""The mean :math:`\sum_j (1 + a_j) \ell_j / \sum_j (1 + a_j)`; ``added`` ``(B,)`` is of :func:`known_weights`."""
    return ((1 + added) * cross_entropies(logits, labels)).sum() / (1 + added).sum()
