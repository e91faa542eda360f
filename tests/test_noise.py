"""Made-up false positives: as many as asked for, where they may be, and told from the true ones."""

import numpy as np
import pytest

from denoise_lib.data import Interactions, Split
from replication.methods.noise import clean_part, with_false_positives


def pairs(split: Split, *parts: str) -> set:
    return {pair for part in parts for pair in zip(getattr(split, part).users.tolist(), getattr(split, part).items.tolist())}


def test_clean_part(split):
    clean = clean_part(split)
    assert len(clean.train) == split.train.is_clean.sum() and clean.train.is_clean.all() and clean.valid.is_clean.all()
    assert clean.test is split.test
    with pytest.raises(ValueError, match="small: the train part has no flags"):
        clean_part(Split("small", 40, 30, Interactions(split.train.users, split.train.items), split.valid, split.test))


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_doses(split, kind):
    clean = clean_part(split)
    noisy = with_false_positives(clean, 0.4, kind, seed=1)
    for part in ("train", "valid"):
        before, after = getattr(clean, part), getattr(noisy, part)
        assert len(after) == len(before) + round(0.4 * len(before)) and (~after.is_clean).sum() == round(0.4 * len(before))
        assert (after.users[: len(before)] == before.users).all() and after.is_clean[: len(before)].all()
        added = np.bincount(after.users[len(before) :], minlength=40)
        assert (added <= np.bincount(before.users, minlength=40)).all(), "a dose of at most 1 for every user"
    everything = [pairs(noisy, part) for part in ("train", "valid", "test")]
    assert len(set.union(*everything)) == sum(map(len, everything)) == len(noisy.train) + len(noisy.valid) + len(noisy.test)
    again = with_false_positives(clean, 0.4, kind, seed=1)
    assert (again.train.items == noisy.train.items).all()
    assert (with_false_positives(clean, 0.4, kind, seed=2).train.users != noisy.train.users).any()


def test_kinds_draw_from_their_distributions():
    """One user has 200 items to draw from, of which the first 100 are nine times as popular."""
    popular = np.repeat(np.arange(200), np.where(np.arange(200) < 100, 9, 1))
    train = Interactions(np.arange(1, 1 + len(popular)), popular, np.ones(len(popular), bool))
    many = Interactions(np.zeros(40, int), np.arange(200, 240), np.ones(40, bool))
    train = Interactions(*(np.concatenate([getattr(train, of), getattr(many, of)]) for of in ("users", "items", "is_clean")))
    split = Split("skewed", 1101, 240, train, many[:1], many[:0])
    shares = {"uniform": [], "popularity": []}
    for kind, found in shares.items():
        for seed in range(20):
            added = with_false_positives(split, 1.0, kind, seed).train
            of_user = added.items[~added.is_clean & (added.users == 0)]
            found.append((of_user < 100).mean())
    assert np.mean(shares["uniform"]) == pytest.approx(0.5, abs=0.06)
    assert 0.8 < np.mean(shares["popularity"]) < 0.95


def test_an_item_without_interactions_is_never_popular():
    train = Interactions(np.repeat(np.arange(30), 2), np.arange(60) % 9, np.ones(60, bool))  # item 9 is nobody's
    split = Split("unseen", 30, 10, train, train[:3], train[:0])
    assert not any(9 in with_false_positives(split, 1.0, "popularity", seed).train.items for seed in range(20))
    assert 9 in with_false_positives(split, 1.0, "uniform", 1).train.items


def test_no_dose_and_bad_doses(split):
    clean = clean_part(split)
    assert len(with_false_positives(clean, 0, "uniform", 1).train) == len(clean.train)
    for dose, kind in ((-0.1, "uniform"), (1.1, "uniform"), (0.2, "gaussian")):
        with pytest.raises(ValueError, match="a dose lies in"):
            with_false_positives(clean, dose, kind, 1)
    full = Interactions(np.zeros(3, int), np.arange(3), np.ones(3, bool))
    with pytest.raises(ValueError, match="too few items left"):
        with_false_positives(Split("full", 1, 4, full, full[:1], full[:0]), 1.0, "uniform", 1)
