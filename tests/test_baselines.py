"""MostPop by hand."""

import numpy as np
import pytest
import torch

from denoise_lib.baselines import MostPop, baselines
from denoise_lib.data import Interactions, Split


def part(*pairs) -> Interactions:
    return Interactions(*np.array(pairs).T, None)


@pytest.fixture
def hand() -> Split:
    """Item 1 is most popular in train, item 3 in validation; user 3 has no training rows."""
    return Split("hand", 4, 4, part((0, 1), (1, 1), (2, 0)), part((0, 3), (1, 3), (2, 3)), part((2, 1), (3, 3)))


def test_counts_rows(hand):
    assert MostPop(4, hand.train).score_items(torch.tensor([0, 3])).tolist() == [[1, 2, 0, 0]] * 2
    assert MostPop(4, hand.train, hand.valid).score_items(torch.tensor([0])).tolist() == [[1, 2, 0, 3]]


def test_means_by_hand(hand):
    """User 2 (warm) has seen 0 and 3, so item 1 comes first: a hit. User 3's item is last in train, first with valid."""
    table = baselines(hand, [1]).query("metric == 'recall'").set_index(["method", "users"])["value"]
    assert table["MostPop"].to_dict() == {"all": 0.5, "warm": 1.0, "cold": 0.0}
    assert table["MostPop (train + valid)"].to_dict() == {"all": 1.0, "warm": 1.0, "cold": 1.0}
