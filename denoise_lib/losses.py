"""The paper's idea: three ways to average the cross-entropy of one batch.

A batch holds observed interactions (label 1) and sampled negatives (label 0). Some observed interactions are false
positives, and early in training they are the ones with a large loss. *Truncated* cross-entropy (T-CE) leaves the
largest losses out; *reweighted* cross-entropy (R-CE) makes them count less. Both see nothing but the loss.

Wang et al., Denoising Implicit Feedback for Recommendation, WSDM 2021, arXiv:2006.04153, and the authors' ``loss.py``
at 451779a. Everywhere: ``logits`` are float ``(B,)`` scores before the sigmoid, whose sigmoid is :math:`p`; ``labels``
are float ``(B,)``, 1 or 0; the result is a scalar tensor; other shapes raise ``ValueError``.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    r"""CE, the normal training: the mean of :math:`\ell_j = -y_j \log p_j - (1 - y_j) \log(1 - p_j)`."""
    return cross_entropies(logits, labels).mean()


def truncated_cross_entropy(logits: Tensor, labels: Tensor, drop_rate: float, keys: Tensor | None = None) -> Tensor:
    r"""T-CE: the mean over the batch without its hardest positives.

    .. math:: L = \frac{1}{|K|} \sum_{j \in K} \ell_j, \qquad |K| = \lfloor (1 - \epsilon) B \rfloor

    :math:`K` leaves out the samples with the largest :math:`y_j \ell_j`. That key is 0 for a negative, so no negative
    goes while a positive is left; a dropped sample has no gradient.

    Args:
        drop_rate: :math:`\epsilon` in [0, 1), a share of the **batch**: with one negative per positive, about
            :math:`2 \epsilon` of the positives are dropped (DEVIATIONS.md, D1).
        keys: float ``(B,)``, what takes the place of :math:`\ell_j` in the choice of the dropped (controls.py).

    Raises:
        ValueError: a drop rate outside [0, 1), or a batch of which nothing is kept.
    """
    losses = cross_entropies(logits, labels)
    dropped = dropped_samples(losses.detach() if keys is None else keys, labels, drop_rate)
    kept = torch.ones_like(losses).index_fill_(0, dropped, 0)
    return (losses * kept).sum() / (len(losses) - len(dropped))


def dropped_samples(keys: Tensor, labels: Tensor, drop_rate: float) -> Tensor:
    """The positions in the batch, int64, that a drop rate leaves out: those with the largest ``keys * labels``."""
    if not 0 <= drop_rate < 1:
        raise ValueError(f"drop_rate is a share of the batch in [0, 1), got {drop_rate}")
    n_kept = int((1 - drop_rate) * len(keys))
    if n_kept == 0:
        raise ValueError(f"a drop rate of {drop_rate} keeps nothing of a batch of {len(keys)}")
    return torch.topk(keys * labels, len(keys) - n_kept, sorted=False).indices


def reweighted_cross_entropy(logits: Tensor, labels: Tensor, beta: float) -> Tensor:
    r"""R-CE: the mean of :math:`\omega_j \ell_j`, where :math:`\omega_j` is :math:`p_j^\beta` for a positive and
    :math:`(1 - p_j)^\beta` for a negative: the model's own doubt in a label lowers that label's weight.

    :math:`\omega` is a constant for the gradient, and the weights are not normalised.

    Args:
        beta: exponent, at least 0 (else ``ValueError``); 0 is plain cross-entropy. The authors' flag ``--alpha``.
    """
    if beta < 0:
        raise ValueError(f"beta is an exponent of at least 0, got {beta}")
    losses = cross_entropies(logits, labels)
    weights = torch.exp(-beta * losses.detach())  # exp(-loss) is the probability given to the true label
    return (weights * losses).mean()


def drop_rate_at(step: int, max_drop_rate: float, ramp_steps: int) -> float:
    """T-CE's drop rate at an optimizer step: a straight line from 0 at step 0 to the maximum at ``ramp_steps - 1``.

    Args:
        step: optimizer step, counted from 0.
        max_drop_rate: share of the batch dropped after the ramp.
        ramp_steps: length of the ramp in steps, not epochs; 1 or less is the maximum from the first step on.
    """
    if step >= ramp_steps - 1:
        return max_drop_rate
    return max_drop_rate * step / (ramp_steps - 1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Each sample's cross-entropy, ``(B,)``."""
    if logits.shape != labels.shape or logits.dim() != 1:
        shapes = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"logits and labels are vectors of one length, got {shapes}")
    return binary_cross_entropy_with_logits(logits, labels, reduction="none")
