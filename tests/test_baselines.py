"""MostPop by hand, ItemKNN and EASE against dense computations."""

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from denoise_lib.baselines import REGULARISATION, ItemToItem, MostPop, baselines, cosine_weights, ease_weights
from denoise_lib.data import Interactions, Split
from denoise_lib.evaluator import evaluate, ranking_task


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


@pytest.fixture
def small() -> csr_matrix:
    return csr_matrix(np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]], dtype=np.int8))


def test_cosine_against_a_dense_computation(small):
    dense = small.toarray().astype(float)
    cosine = dense.T @ dense / np.outer(*[np.linalg.norm(dense, axis=0)] * 2)
    np.fill_diagonal(cosine, 0)
    assert np.allclose(cosine_weights(small, 3).toarray(), cosine)
    (strongest,) = [column for column in np.argmax(cosine, axis=0)[None]]
    kept = cosine_weights(small, 1).toarray()
    assert (kept != 0).sum(axis=0).tolist() == [1] * 4 and kept[strongest, range(4)] == pytest.approx(
        cosine.max(axis=0)
    )
    star = csr_matrix(
        np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]])
    )  # items 1 and 2 are both nearest to 0, which is nearest to 1
    assert (cosine_weights(star, 1).toarray() != 0).tolist() == [[False, True, True], [True, False, False], [False] * 3]
    model = ItemToItem(small, cosine_weights(small, 3))
    assert np.allclose(model.score_items(torch.tensor([3, 0, 4])), (dense @ cosine)[[3, 0, 4]])


def test_ease_against_a_dense_computation(small):
    """Each column is a ridge regression of the item on the other items."""
    dense, weights = small.toarray().astype(float), ease_weights(small, 0.7)
    for item in range(4):
        others = [i for i in range(4) if i != item]
        x = dense[:, others]
        solution = np.linalg.solve(x.T @ x + 0.7 * np.eye(3), x.T @ dense[:, item])
        assert np.allclose(weights[others, item], solution) and weights[item, item] == 0
    assert np.allclose(ItemToItem(small, weights).score_items(torch.tensor([1])), dense[[1]] @ weights)


def test_hyper_parameters_are_chosen_and_said(split):
    table = baselines(split, [1, 5])
    settings = table.groupby("method")["setting"].first()
    task = ranking_task(split, split.valid, [split.train])
    x = split.matrix(split.train)
    recalls = {
        value: evaluate(ItemToItem(x, ease_weights(x, value)), task, [1, 5])["recall"][:, 1].mean()
        for value in REGULARISATION
    }
    assert (
        settings["EASE"] == f"λ = {max(recalls, key=recalls.get)}, of {REGULARISATION}"
        and len(set(recalls.values())) > 1
    )
    assert (
        settings["MostPop"] == ""
        and "neighbours, of (10, 20" in settings["ItemKNN"]
        and settings["EASE"].startswith("λ = ")
    )
    assert set(table["method"]) == {"MostPop", "MostPop (train + valid)", "ItemKNN", "EASE"}


def test_ease_is_left_out_by_size_and_not_silently(split, monkeypatch):
    monkeypatch.setattr("denoise_lib.baselines.EASE_ITEMS", 29)
    table = baselines(split, [5])
    assert table.set_index("method").loc["EASE", "setting"].startswith("left out: it inverts a dense 30 x 30 matrix")
    assert table.loc[table["method"] == "EASE", "value"].isna().all()


def test_equally_similar_items_are_taken_by_id():
    """Cosines that are equal by other counts, 1 of 1 x 4 and 2 of 4 x 4 users, in every order of the items."""
    columns = [
        [0, 1, 2, 3],
        [0],
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [1],
        [8],
    ]  # users of an item; 1 to 4 are equally similar to 0
    for order in itertools.permutations(range(6)):
        x = np.zeros((9, 6), np.int8)
        for place, item in enumerate(order):
            x[columns[item], place] = 1
        kept = cosine_weights(csr_matrix(x), 2)[:, [order.index(0)]].toarray().ravel()
        equal = sorted(order.index(item) for item in (1, 2, 3, 4))
        assert np.flatnonzero(kept).tolist() == equal[:2] and kept[equal[:2]].tolist() == [0.5, 0.5]


def test_popular_items_overflow_no_count():
    """The product of two counts of 50,000 is beyond 32 bits."""
    weights = cosine_weights(csr_matrix(np.ones((50_000, 2), np.int8)), 1).toarray()
    np.testing.assert_allclose(weights, [[0, 1], [1, 0]])
