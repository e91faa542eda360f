"""What the controls drop."""

import numpy as np
import pytest
import torch

from denoise_lib.controls import DROPPING, drop_keys, row_values
from denoise_lib.data import Interactions
from denoise_lib.diagnostics import DropCounter
from denoise_lib.losses import dropped_samples, truncated_cross_entropy

# Four positives (items seen 9, 1, 5 and 3 times, the second and the fourth flagged false), then four negatives.
VALUES = torch.tensor([9.0, -1.0, 5.0, -3.0, 0, 0, 0, 0])
LABELS = (VALUES != 0).float()
LOGITS = torch.tensor([-3.0, 2.0, 1.0, -1.0, 9.0, 9.0, 9.0, 9.0])


@pytest.mark.parametrize(
    ("method", "expected"),
    [("T-CE", {0, 3}), ("lowest-loss-drop", {1, 2}), ("popularity-drop", {1, 3}), ("oracle-drop", {1, 3})],
)
def test_by_hand(method, expected):
    keys = drop_keys(method, LOGITS, LABELS, VALUES)
    assert set(dropped_samples(keys, LABELS, 0.25).tolist()) == expected


@pytest.mark.parametrize("method", DROPPING)
def test_no_negative_goes_while_a_positive_is_left(method):
    for _ in range(50):
        keys = drop_keys(method, LOGITS, LABELS, VALUES)
        assert set(dropped_samples(keys, LABELS, 0.5).tolist()) == {0, 1, 2, 3}


def test_oracle_takes_true_positives_once_the_flagged_are_gone():
    seen = set()
    for _ in range(50):
        dropped = set(dropped_samples(drop_keys("oracle-drop", LOGITS, LABELS, VALUES), LABELS, 0.375).tolist())
        assert {1, 3} < dropped
        seen |= dropped
    assert seen == {0, 1, 2, 3}


def test_without_keys_it_is_tce():
    keys = drop_keys("T-CE", LOGITS, LABELS, VALUES)
    assert truncated_cross_entropy(LOGITS, LABELS, 0.25, keys) == truncated_cross_entropy(LOGITS, LABELS, 0.25)


def test_row_values():
    train = Interactions(np.array([0, 1, 2]), np.array([4, 4, 2]), np.array([True, False, True]))
    assert row_values(train, 6).tolist() == [2, -2, 1]
    assert row_values(Interactions(train.users, train.items), 6).tolist() == [2, 2, 1]


class TestDropCounter:
    def test_by_hand(self):
        """Two batches of four positives, of which two are false: positions 1 and 2 dropped, then only 3."""
        drops = DropCounter()
        drops.add(torch.tensor([1, 2, 6]), VALUES)  # position 6 is a negative and no positive
        drops.add(torch.tensor([3]), VALUES)
        drops.add(torch.tensor([0, 1]), torch.zeros(8))  # a validation batch
        expected = dict(drop_precision=2 / 3, drop_recall=2 / 4, drop_share=3 / 8, false_share=4 / 8)
        assert drops.read() == pytest.approx(expected)
        assert all(np.isnan(value) for value in drops.read().values()), "reading starts anew"

    def test_random_drop_lies_in_its_binomial_band(self):
        rng, drops = np.random.default_rng(0), DropCounter()
        n_batches, n_positives = 200, 512
        for _ in range(n_batches):
            values = torch.zeros(1024)
            values[:n_positives] = torch.from_numpy(np.where(rng.random(n_positives) < 0.2, -1.0, 1.0))
            keys = drop_keys("random-drop", torch.zeros(1024), (values != 0).float(), values)
            drops.add(dropped_samples(keys, (values != 0).float(), 0.1), values)
        found = drops.read()
        n_dropped = n_batches * n_positives * found["drop_share"]
        band = 4 * (0.2 * 0.8 / n_dropped) ** 0.5
        assert abs(found["drop_precision"] - found["false_share"]) < band < 0.02
        assert found["drop_recall"] == pytest.approx(found["drop_share"], abs=4 * (0.2 * 0.8 / (n_batches * n_positives * 0.2)) ** 0.5)
