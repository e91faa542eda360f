"""Two losses for noisy labels, for one probability p per pair.

    ./run_all.sh --method examples/robust_losses.py toy

A function with exactly the parameters ``(logits, labels, step)`` joins the comparison under its name: ``logits`` are
float ``(B,)``, whose sigmoid is p; ``labels`` are float ``(B,)``, 1 for an observed pair and 0 for a sampled one;
``step`` counts the optimizer's updates from 0; the result is a scalar. Other functions are not compared.

In the formulas P is the probability that the model gives to the label: p where it is 1, 1 - p where it is 0. The plain
cross-entropy of a pair is -log P. Nothing here was tuned.
"""

import torch

from denoise_lib.losses import cross_entropies

Q = 0.7  # the paper's default [from memory]; towards 0 the loss becomes cross-entropy, at 1 it is the absolute error
WEIGHT = 0.5  # of the reverse cross-entropy; a guess
LOG_OF_ZERO = -4.0  # what stands for log 0 [from memory]


def generalised_cross_entropy(logits, labels, step):
    """The mean of L_q = (1 - P^q) / q, for 0 < q <= 1.

    Its gradient is P^q times that of cross-entropy, which is R-CE's gradient with beta = q.

    Source: Zhang and Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels,
    NeurIPS 2018, arXiv:1805.07836.
    """
    return -torch.expm1(-Q * cross_entropies(logits, labels)).mean() / Q  # P^q = exp(-q (-log P))


def symmetric_cross_entropy(logits, labels, step):
    """The mean of -log P + w R, where the reverse cross-entropy R has prediction and label change places.

    R = -(p log y + (1 - p) log(1 - y)), with a constant A < 0 for log 0: R = -A (1 - P), which is -A |y - p|.

    Source: Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, ICCV 2019, arXiv:1908.06112
    [formula from memory].
    """
    reverse = -LOG_OF_ZERO * (labels - torch.sigmoid(logits)).abs()
    return (cross_entropies(logits, labels) + WEIGHT * reverse).mean()
