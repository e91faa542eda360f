"""The losses against hand-worked batches, slow definitions and limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from denoise_lib.losses import cross_entropy, drop_rate_at, reweighted_cross_entropy, truncated_cross_entropy

batches = st.lists(st.tuples(st.floats(-20, 20, width=32), st.booleans()), min_size=1, max_size=60).map(
    lambda rows: (torch.tensor([r[0] for r in rows]), torch.tensor([float(r[1]) for r in rows]))
)


def slow_losses(logits, labels):
    """The definition in plain Python, in double precision."""
    p = [1 / (1 + math.exp(-x)) for x in logits.double().tolist()]
    return p, [-math.log(q if y else 1 - q) if 0 < q < 1 else math.inf for q, y in zip(p, labels.tolist())]


def test_cross_entropy_by_hand():
    # p = 1/2 costs log 2 whatever the label; a logit of log 3 is p = 3/4
    logits = torch.tensor([0.0, math.log(3), math.log(3)])
    expected = (math.log(2) - math.log(3 / 4) - math.log(1 / 4)) / 3
    assert cross_entropy(logits, torch.tensor([1.0, 1.0, 0.0])).item() == pytest.approx(expected, abs=1e-7)


def test_truncation_drops_the_worst_positive_and_no_negative():
    logits = torch.tensor([-5.0, 5.0, 6.0, 0.0], requires_grad=True)  # bad +, good +, worse -, plain -
    loss = truncated_cross_entropy(logits, torch.tensor([1.0, 1.0, 0.0, 0.0]), drop_rate=0.25)
    loss.backward()
    assert (logits.grad != 0).tolist() == [False, True, True, True]
    kept = [-math.log(1 / (1 + math.exp(-5))), -math.log(1 - 1 / (1 + math.exp(-6))), math.log(2)]
    assert loss.item() == pytest.approx(sum(kept) / 3, abs=1e-6)  # the mean over the kept, not over the batch


def test_the_drop_rate_is_a_share_of_the_batch():
    logits = torch.arange(10.0).requires_grad_()
    labels = torch.tensor([1.0] * 5 + [0.0] * 5)
    truncated_cross_entropy(logits, labels, drop_rate=0.2).backward()
    assert (logits.grad == 0).sum() == 2  # of 10 rows: 2 of the 5 positives


def test_reweighting_by_hand():
    logits = torch.tensor([math.log(3), math.log(3)], requires_grad=True)  # p = 3/4
    loss = reweighted_cross_entropy(logits, torch.tensor([1.0, 0.0]), beta=0.5)
    weights = [0.75**0.5, 0.25**0.5]
    assert loss.item() == pytest.approx((-weights[0] * math.log(0.75) - weights[1] * math.log(0.25)) / 2, abs=1e-6)
    loss.backward()  # the weight is a constant: the gradient is weight * (p - y) / B
    assert logits.grad.tolist() == pytest.approx([weights[0] * -0.25 / 2, weights[1] * 0.75 / 2], abs=1e-6)


@given(batches)
def test_nothing_dropped_and_no_reweighting_are_cross_entropy(batch):
    assert truncated_cross_entropy(*batch, 0.0).item() == pytest.approx(cross_entropy(*batch).item(), abs=1e-6)
    assert reweighted_cross_entropy(*batch, 0.0).item() == pytest.approx(cross_entropy(*batch).item(), abs=1e-6)


@given(batches, st.floats(0, 0.9))
def test_truncation_is_its_slow_definition(batch, drop_rate):
    logits, labels = batch
    n_kept = int((1 - drop_rate) * len(logits))
    if n_kept == 0:
        return
    _, losses = slow_losses(logits, labels)
    positives = sorted((loss for loss, label in zip(losses, labels) if label), reverse=True)
    n_dropped = len(losses) - n_kept
    if n_dropped > len(positives):
        return  # which of the tied negatives go is not defined
    expected = (sum(losses) - sum(positives[:n_dropped])) / n_kept
    assert truncated_cross_entropy(logits, labels, drop_rate).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(batches, st.floats(0, 2))
def test_reweighting_is_its_slow_definition(batch, beta):
    logits, labels = batch
    p, losses = slow_losses(logits, labels)
    weights = [(q if y else 1 - q) ** beta for q, y in zip(p, labels.tolist())]
    expected = sum(w * loss for w, loss in zip(weights, losses)) / len(losses)
    assert reweighted_cross_entropy(logits, labels, beta).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(batches, st.floats(0, 0.5), st.randoms())
def test_the_order_of_a_batch_does_not_matter(batch, drop_rate, random):
    logits, labels = batch
    order = list(range(len(logits)))
    random.shuffle(order)
    n_dropped = len(logits) - int((1 - drop_rate) * len(logits))
    if n_dropped in (0, len(logits)) or n_dropped > labels.sum():
        return
    expected = truncated_cross_entropy(logits, labels, drop_rate).item()
    assert truncated_cross_entropy(logits[order], labels[order], drop_rate).item() == pytest.approx(
        expected, rel=1e-4, abs=1e-6
    )


def test_the_schedule():
    assert [drop_rate_at(step, 0.2, 5) for step in range(7)] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    assert drop_rate_at(0, 0.2, 1) == drop_rate_at(0, 0.2, 0) == 0.2


@pytest.mark.parametrize("drop_rate", [-0.1, 1.0, 1.5])
def test_a_drop_rate_outside_its_range(drop_rate):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        truncated_cross_entropy(torch.zeros(3), torch.ones(3), drop_rate)


def test_nothing_kept():
    with pytest.raises(ValueError, match="keeps nothing"):
        truncated_cross_entropy(torch.zeros(1), torch.ones(1), 0.5)


def test_a_negative_exponent():
    with pytest.raises(ValueError, match="beta"):
        reweighted_cross_entropy(torch.zeros(1), torch.ones(1), -0.5)


@pytest.mark.parametrize(
    "loss",
    [cross_entropy, lambda x, y: truncated_cross_entropy(x, y, 0.1), lambda x, y: reweighted_cross_entropy(x, y, 0.1)],
)
def test_other_shapes(loss):
    with pytest.raises(ValueError, match="one length"):
        loss(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="one length"):
        loss(torch.zeros(3, 1), torch.zeros(3, 1))
