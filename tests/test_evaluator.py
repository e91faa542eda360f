"""Ranking against a slow loop, metrics against hand-worked lists."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from denoise_lib import evaluator
from denoise_lib.evaluator import per_user_metrics, rank_items


class Scores:
    """A model that is its table of scores."""

    def __init__(self, table):
        self.table = torch.as_tensor(table, dtype=torch.float32)

    def score_items(self, users):
        return self.table[users].clone()


def slow_ranking(table, users, seen, k):
    rows = []
    for row, user in enumerate(users):
        free = [item for item in range(table.shape[1]) if not seen[row, item]]
        best = sorted(free, key=lambda item: (-table[user, item], item))[:k]
        rows.append(best + [-1] * (k - len(best)))
    return np.array(rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 15), st.booleans(), st.sampled_from([1, 7, 1 << 22]))
def test_ranking_is_its_slow_definition(seed, n_items, k, with_ties, block):
    rng = np.random.default_rng(seed)
    table = rng.integers(3, size=(5, n_items)).astype(float) if with_ties else rng.normal(size=(5, n_items)).round(4)
    users = rng.integers(5, size=4)
    seen = rng.random((4, n_items)) < 0.4
    original, evaluator.SCORES_PER_BLOCK = evaluator.SCORES_PER_BLOCK, block
    try:
        got = rank_items(Scores(table), users, csr_matrix(seen), k)
    finally:
        evaluator.SCORES_PER_BLOCK = original
    assert got.tolist() == slow_ranking(table, users, seen, k).tolist()


def test_rows_of_seen_belong_to_the_given_users():
    seen = csr_matrix(np.array([[1, 0, 0], [0, 0, 1]]))
    assert rank_items(Scores([[3, 2, 1]] * 9), np.array([8, 2]), seen, 2).tolist() == [[1, 2], [0, 1]]


def test_the_mode_of_a_model_is_restored():
    model = torch.nn.Dropout()
    model.score_items = lambda users: torch.full((len(users), 3), float(model.training))
    model.train()
    rank_items(model, np.arange(2), csr_matrix((2, 3)), 1)
    assert model.training


def test_nan_scores():
    with pytest.raises(ValueError, match="NaN"):
        rank_items(Scores([[1.0, math.nan, 0.0]]), np.array([0]), csr_matrix((1, 3)), 2)


def test_a_nan_is_found_beside_ties_of_another_user():
    table = [[1.0, math.nan, 0.0], [2.0, 1.0, 1.0]]  # in all, as many scores reach the second place as without both
    with pytest.raises(ValueError, match="NaN"):
        rank_items(Scores(table), np.array([0, 1]), csr_matrix((2, 3)), 2)
    seen = csr_matrix(np.array([[0, 1, 0], [0, 0, 0]]))  # what is seen is not ranked, whatever its score
    assert rank_items(Scores(table), np.array([0, 1]), seen, 2).tolist() == [[0, 2], [0, 1]]


@pytest.mark.parametrize("row", [[1.0, 1.0, math.nan], [1.0, 1.0, 1.0, math.nan], [math.nan, -math.inf, -math.inf]])
def test_a_nan_is_found_beside_ties_of_its_own_user(row):
    """As many numbers reach the second place as without it, or more."""
    with pytest.raises(ValueError, match="NaN"):
        rank_items(Scores([row]), np.array([0]), csr_matrix((1, len(row))), 2)


def test_wrong_rows_of_seen():
    with pytest.raises(ValueError, match="one row"):
        rank_items(Scores([[1.0]]), np.array([0]), csr_matrix((2, 1)), 1)


def test_metrics_by_hand():
    # first user: truth {1, 2, 9}, hits at ranks 2 and 3; second: |truth| > K; third: the only hit is beyond K = 2
    ranked = np.array([[5, 1, 2, 7], [4, 3, 2, 1], [0, 8, 6, 5]])
    truth = [np.array([1, 2, 9]), np.array([4, 9, 8, 7, 3]), np.array([6])]
    got = per_user_metrics(ranked, truth, [2, 4])
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    ideal = [1, 1 + second, 1 + second + third, 1 + second + third + 1 / math.log2(5)]
    assert got["precision"].tolist() == [[1 / 2, 2 / 4], [1, 2 / 4], [0, 1 / 4]]
    assert got["recall"] == pytest.approx(np.array([[1 / 3, 2 / 3], [2 / 5, 2 / 5], [0, 1]]))
    assert got["ndcg"] == pytest.approx(
        np.array([[second / ideal[1], (second + third) / ideal[2]], [1, ideal[1] / ideal[3]], [0, third]])
    )
    assert got["mrr"] == pytest.approx(np.array([[1 / 2, 1 / 2], [1, 1], [0, 1 / 3]]))
    assert all(values.dtype == np.float64 for values in got.values())


def test_repeated_truth_counts_in_the_denominator():
    got = per_user_metrics(np.array([[1, 0]]), [np.array([1, 1])], [2])
    assert got["recall"].item() == 0.5
    assert got["ndcg"].item() == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_no_truth_and_no_item():
    got = per_user_metrics(
        np.array([[1, 0], [2, -1], [-1, -1]]), [np.array([], int), np.array([2]), np.array([0])], [2]
    )
    assert got["recall"][:, 0].tolist() == [0, 1, 0]
    assert got["ndcg"][:, 0].tolist() == [0, 1, 0]


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_metrics_grow_and_stay_in_their_range(seed):
    rng = np.random.default_rng(seed)
    ranked = np.array([rng.permutation(20)[:10] for _ in range(6)])
    truth = [rng.choice(20, rng.integers(1, 8), replace=False) for _ in range(6)]
    got = per_user_metrics(ranked, truth, list(range(1, 11)))
    for name, values in got.items():
        assert (values >= 0).all() and (values <= 1).all(), name
    for name in ("recall", "mrr"):
        assert (np.diff(got[name], axis=1) >= 0).all(), name
    brute = [len(set(row[:5]) & set(items)) / len(items) for row, items in zip(ranked, truth)]
    assert got["recall"][:, 4] == pytest.approx(np.array(brute))


@pytest.mark.parametrize("ks", [[0], [3]])
def test_a_k_out_of_range(ks):
    with pytest.raises(ValueError, match="K must lie"):
        per_user_metrics(np.array([[1, 2]]), [np.array([1])], ks)
