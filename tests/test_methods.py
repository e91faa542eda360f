"""What the methods drop, and what they may know for it."""

import numpy as np
import pytest
import torch

from denoise_lib.data import Interactions, Split
from denoise_lib.losses import cross_entropies, drop_rate_at, dropped_samples, truncated_cross_entropy
from replication.methods import APART, CONTROLS, FAIR, METHODS, PAPER
from replication.methods.method import dropping, row_values

# Four positives (items seen 9, 1, 5 and 3 times, the second and the fourth flagged false), then four negatives. The tenths
# of popularity are made up, so that they tell the methods apart.
VALUES = torch.tensor([[9.0, 0, 2], [1, 1, 1], [5, 0, 1], [3, 1, 2], *[[0, 0, 0]] * 4])
LABELS = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])
LOGITS = torch.tensor([-3.0, 2.0, 1.0, -1.0, 9.0, 9.0, 9.0, 9.0])
DROPPING = [name for name, method in METHODS.items() if method.drop_keys]


def dropped(method: str, drop_rate: float, values: torch.Tensor = VALUES) -> set[int]:
    losses = cross_entropies(LOGITS, LABELS)
    keys = METHODS[method].drop_keys(losses, values, 1 - torch.rand(8))
    return set(dropped_samples(keys, LABELS, drop_rate).tolist())


def test_what_is_compared():
    assert PAPER == ("CE", "T-CE", "R-CE")
    assert DROPPING == ["T-CE", *CONTROLS[:-1], *APART] and CONTROLS[-1] == "clean-only"
    assert set(METHODS) == {*PAPER, *CONTROLS, *FAIR}
    looks = [method.style for method in METHODS.values()]
    for part in ("color", "marker"):
        assert len({getattr(look, part) for look in looks}) == len(looks), (
            "each method has a colour and a marker of its own"
        )


@pytest.mark.parametrize(
    ("method", "one", "two"),
    [
        ("T-CE", {0}, {0, 3}), ("lowest-loss-drop", {1}, {1, 2}), ("popularity-drop", {1}, {1, 3}),
        ("oracle-drop", None, {1, 3}), ("rare-true-drop", {2}, {0, 2}), ("decile-drop", None, {0, 2}),
        ("matched-oracle", {3}, {0, 3}),
    ],
)  # fmt: skip
def test_by_hand(method, one, two):
    assert dropped(method, 0.25) == two and (one is None or dropped(method, 0.125) == one)


@pytest.mark.parametrize("method", DROPPING)
def test_no_negative_goes_while_a_positive_is_left(method):
    for _ in range(50):
        assert dropped(method, 0.5) == {0, 1, 2, 3}


def test_oracle_takes_true_positives_once_the_flagged_are_gone():
    seen = set()
    for _ in range(50):
        gone = dropped("oracle-drop", 0.375)
        assert {1, 3} < gone
        seen |= gone
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("method", ["random-drop", "popularity-drop", "oracle-drop"])
def test_where_nothing_is_known_any_positive_may_go(method):
    found = [dropped(method, 0.125, torch.zeros(8, 3)) for _ in range(100)]
    assert set.union(*found) == {0, 1, 2, 3} and all(len(gone) == 1 for gone in found)


def test_without_keys_it_is_tce():
    keys = METHODS["T-CE"].drop_keys(cross_entropies(LOGITS, LABELS), VALUES, torch.ones(8))
    assert truncated_cross_entropy(LOGITS, LABELS, 0.25, keys) == truncated_cross_entropy(LOGITS, LABELS, 0.25)


@pytest.mark.parametrize("n_rows", [1, 2, 3, 5])
@pytest.mark.parametrize("drop_rate", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("method", METHODS)
def test_a_row_of_the_smallest_batch_is_kept(split, method, drop_rate, n_rows):
    """Whatever a batch holds, each method has a finite loss of at least one row, also where drops are counted."""
    available, options = dict(max_drop_rate=drop_rate, ramp_steps=1, beta=0.5), METHODS[method].grid
    options = {name: available[name] for name in options}
    for on_drop in (None, lambda *batch: None):
        loss_fn, values = METHODS[method].loss_and_values(options, split, on_drop)
        for labels in (torch.ones(n_rows), torch.zeros(n_rows)):
            logits = torch.linspace(-1, 1, n_rows).requires_grad_()
            loss = loss_fn(logits, labels, 7, *[torch.ones(n_rows, 3)] * (values is not None))
            loss.backward()
            n_kept = max(1, int((1 - drop_rate) * n_rows)) if METHODS[method].drop_keys else n_rows
            assert torch.isfinite(loss) and (logits.grad != 0).sum() == n_kept


def test_the_losses_of_methods(split):
    """T-CE whether or not its drops are counted, and a control with the same schedule."""
    options, told = dict(max_drop_rate=0.25, ramp_steps=11), []
    plain, values = METHODS["T-CE"].loss_and_values(options, split)
    counting, counted = METHODS["T-CE"].loss_and_values(options, split, lambda *batch: told.append(batch))
    assert values is None and (counted == row_values(split.train, split)).all()
    lowest = dropping(METHODS["lowest-loss-drop"].drop_keys, **options)
    for step in (0, 5, 10, 99):
        expected = truncated_cross_entropy(LOGITS, LABELS, drop_rate_at(step, 0.25, 11))
        assert plain(LOGITS, LABELS, step) == counting(LOGITS, LABELS, step, VALUES) == expected
    kept = cross_entropies(LOGITS, LABELS)[[0, 3, 4, 5, 6, 7]]
    torch.testing.assert_close(lowest(LOGITS, LABELS, 10, VALUES), kept.mean())
    assert [set(positions.tolist()) for positions, _, _ in told] == [set(), {0}, {0, 3}, {0, 3}]
    assert all(labels is LABELS and values is VALUES for _, labels, values in told)
    with torch.no_grad():
        counting(LOGITS, LABELS, 99, VALUES)
    assert len(told) == 4, "what validation drops is not counted"


def test_row_values():
    train = Interactions(np.array([0, 1, 2]), np.array([4, 4, 2]), np.array([True, False, True]))
    split = Split("x", 3, 6, train, train, train)
    assert row_values(train, split).tolist() == [
        [2, 0, 4],
        [2, 1, 4],
        [1, 0, 1],
    ]  # the rows of item 4 begin after a third
    unflagged, unseen = Interactions(train.users, train.items), Interactions(np.array([0]), np.array([5]))
    assert row_values(unflagged, split)[:, 1].tolist() == [0, 0, 0] and row_values(unseen, split).tolist() == [
        [0, 0, 1]
    ]


def test_random_removal_leaves_as_many_as_clean_only(split):
    clean, left = (METHODS[name].trains_on(split, 1) for name in ("clean-only", "random-removal"))
    again, other = (METHODS["random-removal"].trains_on(split, seed).train for seed in (1, 2))
    for part in ("train", "valid"):
        assert len(getattr(left, part)) == len(getattr(clean, part)) < len(getattr(split, part))
    assert 0 < (~left.train.is_clean).sum() and left.test is split.test
    assert (left.train.items == again.items).all() and (left.train.items != other.items).any()
