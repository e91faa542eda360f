"""The sampler against its slow definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.sparse import csr_matrix

from denoise_lib.sampling import sample_negatives


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 15), st.floats(0, 0.9), st.integers(1, 3))
def test_never_an_observed_item(seed, n_items, density, n_negatives):
    rng = np.random.default_rng(seed)
    observed = rng.random((6, n_items)) < density
    observed[np.arange(6), rng.integers(n_items, size=6)] = False  # at least one free item each
    users = rng.integers(6, size=50)
    negatives = sample_negatives(users, csr_matrix(observed), n_negatives, rng)
    assert negatives.shape == (50, n_negatives)
    assert negatives.min() >= 0 and negatives.max() < n_items
    assert not observed[users[:, None], negatives].any()


def test_uniform_over_the_free_items():
    observed = np.zeros((3, 10), dtype=bool)
    observed[1, [0, 3, 4, 9]] = True
    free = np.flatnonzero(~observed[1])
    negatives = sample_negatives(np.full(6000, 1), csr_matrix(observed), 1, np.random.default_rng(0))[:, 0]
    counts = [(negatives == item).sum() for item in free]
    assert sum(counts) == 6000
    assert stats.chisquare(counts).pvalue > 0.001


def test_one_free_item():
    observed = np.ones((2, 1000), dtype=bool)
    observed[0, 777] = observed[1, 0] = False
    negatives = sample_negatives(np.array([0, 1, 0]), csr_matrix(observed), 2, np.random.default_rng(0))
    assert negatives.tolist() == [[777, 777], [0, 0], [777, 777]]


def test_no_free_item_names_the_user():
    observed = np.array([[1, 0, 1], [1, 1, 1]])
    with pytest.raises(ValueError, match="user 1 has interacted with all 3 items"):
        sample_negatives(np.array([0, 1]), csr_matrix(observed), 1, np.random.default_rng(0))
    sample_negatives(np.array([0]), csr_matrix(observed), 1, np.random.default_rng(0))  # only users that are asked for


def test_the_seed_decides():
    observed = csr_matrix(np.eye(50))
    draws = [sample_negatives(np.arange(50), observed, 4, np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()
