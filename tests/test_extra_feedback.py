import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_split
from scipy.sparse import csr_matrix

from denoise_lib.data import Interactions
from denoise_lib.evaluator import per_user_metrics, rank_items, ranking_task
from denoise_lib.models import CDAE, GMF, NeuMF
from replication.methods import colliding
from replication.methods.colliding import (
    CollidingInference,
    NeighbourMean,
    nearest_users,
    recall_grid,
    stored,
    user_vectors,
)
from replication.methods.known_positives import known_positives, known_weights, weighted_cross_entropy
from replication.runs import recipe
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters, resolve
from replication.runs.recipe import n_steps, passes, split_for, train, training_split
from replication.runs.settings import Settings
from replication.sources import public
from replication.studies import extra_feedback


def pairs(part: Interactions) -> set:
    return set(zip(part.users.tolist(), part.items.tolist()))


def test_known_are_true_positives_of_the_training_part_and_nested(split):
    few, many = (known_positives(split, share, seed=1) for share in (0.1, 0.5))
    assert few.is_clean.all() and len(few) == round(0.1 * split.train.is_clean.sum())
    assert pairs(few) < pairs(many) < pairs(split.train)
    assert pairs(known_positives(split, 0.1, seed=2)) != pairs(few)
    assert len(known_positives(split, 1.0, seed=1)) == split.train.is_clean.sum()


def test_nothing_of_valid_or_test_is_known():
    split = make_split()
    repeated = Interactions(
        np.concatenate([split.train.users, split.valid.users, split.test.users]),
        np.concatenate([split.train.items, split.valid.items, split.test.items]),
        np.ones(len(split.train) + len(split.valid) + len(split.test), bool),
    )
    known = pairs(known_positives(replace(split, train=repeated), 1.0, seed=0))
    assert known == pairs(split.train)
    assert not known & (pairs(split.valid) | pairs(split.test))


def test_known_items_are_never_ranked_nor_a_hit(split):
    known = known_positives(split, 0.5, seed=0)
    task = ranking_task(split, split.test, [split.train, split.valid])
    ranked = rank_items(GMF(split.n_users, split.n_items, 4), task.users, task.seen, 20)
    shown = {(user, item) for user, items in zip(task.users.tolist(), ranked.tolist()) for item in items}
    truth = {(user, item) for user, items in zip(task.users.tolist(), task.ground_truth) for item in items.tolist()}
    assert not pairs(known) & shown and not pairs(known) & truth


def test_refused_feedback(split):
    for share in (0, 1.1, -0.5):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            known_positives(split, share, 0)
    with pytest.raises(ValueError, match="is none"):
        known_positives(split, 0.001, 0)
    unflagged = replace(split, train=Interactions(split.train.users, split.train.items))
    with pytest.raises(ValueError, match="no flags"):
        known_positives(unflagged, 0.5, 0)


def test_weights_of_known_positives_by_hand(split):
    added = known_weights(split, 0.3, seed=0, weight=5.0)
    known = pairs(known_positives(split, 0.3, seed=0))
    rows = zip(split.train.users.tolist(), split.train.items.tolist())
    assert added.tolist() == [4.0 if row in known else 0.0 for row in rows]
    logits, labels = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0])
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    expected = (5 * losses[0] + losses[1] + losses[2]) / 7
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, torch.tensor([4.0, 0.0, 0.0])), expected)


# -------------------------------------------------------------------- two-stage training


@pytest.fixture
def stages(home, tiny) -> Parameters:
    """Parameters of 06 for runs of a fraction of a second."""
    return tiny.having(
        extra_seeds={"GMF": [1], "CDAE": [1]}, known_shares=[0.2], neighbours=[1, 3], lambdas=[0.0, 0.5, 1.0]
    )


def of(values: Parameters, strategy: str, backbone: str = "GMF", method: str = "CE") -> Settings:
    wanted = (strategy, backbone, method)
    return next(r for r in extra_feedback.strategy_plan(values) if (r.strategy, r.backbone, r.method) == wanted)


def weights_of(run: Settings) -> dict:
    (found,) = map_runs([run], 1)
    return found.model().state_dict()


def equal(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("backbone", ["GMF", "CDAE"])
@pytest.mark.parametrize("method", ["CE", "T-CE"])
def test_two_stages_with_an_empty_one_are_one(stages, backbone, method):
    tuned, warm = (of(stages, name, backbone, method) for name in ("fine-tuning", "warm-up"))
    (plain,) = tuned.pretrained
    only = weights_of(plain)
    assert equal(weights_of(replace(tuned, epochs=0)), only)
    (known,) = warm.pretrained
    untrained = replace(known, epochs=0)
    assert equal(weights_of(replace(warm, pretrained=(untrained,))), only)
    assert not equal(weights_of(tuned), only) and not equal(weights_of(warm), only)  # else this shows nothing


def test_stages_on_known_positives(stages):
    known, tuned, warm = (of(stages, name, "CDAE", "CE") for name in ("known-only", "fine-tuning", "warm-up"))
    data = split_for(known)
    assert pairs(training_split(known, data).train) == pairs(known_positives(data, 0.2, known.seed))
    assert pairs(training_split(warm, data).train) == pairs(data.train)
    as_many_as = known.epochs * math.ceil(2 * len(data.train) / known.batch_size)
    a_pass = math.ceil(2 * len(training_split(known, data).train) / known.batch_size)
    assert abs(passes(known, data) * a_pass - as_many_as) <= a_pass / 2 and passes(known, data) > known.epochs
    # A single known row is a step a pass, and no more steps than a plain training takes.
    one = replace(known, known_share=1 / data.train.is_clean.sum())
    assert len(training_split(one, data).train) == 1 and n_steps(one) == as_many_as
    assert tuned.pretrained[0].strategy is None and warm.pretrained == (known,)
    (model,) = (run.model() for run in map_runs([known], 1))
    assert len(model.row_items) == len(data.train)  # CDAE reads everything


def test_negatives_of_a_stage_avoid_all_observed(stages, monkeypatch):
    seen = {}
    monkeypatch.setattr(recipe, "fit", lambda model, split, loss_fn, **options: seen.update(options) or 1 / 0)
    known = of(stages, "known-only")
    data = split_for(known)
    with pytest.raises(ZeroDivisionError):
        train(known, data)
    assert seen["observed"] is not None and len(seen["observed"]) == len(data.train)


# -------------------------------------------------------------------- colliding inference


def slow_scores(model, neighbours, own, n_users):
    scores = model.score_items(torch.arange(n_users)).detach().numpy()
    mixed = scores.copy()
    for user in range(n_users):
        near = [other for other in neighbours[user] if other >= 0]
        if near:
            mixed[user] = own * scores[user] + (1 - own) * np.mean([scores[other] for other in near], axis=0)
    return mixed


@pytest.fixture(params=["own-positives", "learned", "all"])
def space(request):
    return request.param


MODELS = [
    lambda s: GMF(s.n_users, s.n_items, 4),
    lambda s: NeuMF(s.n_users, s.n_items, 4, 2),
    lambda s: CDAE(s.matrix(s.train), 6),
]


@pytest.mark.parametrize("make", MODELS)
@torch.no_grad()
def test_colliding_inference_against_a_slow_loop(split, space, make, monkeypatch):
    torch.manual_seed(0)
    model = make(split).eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights)
    known = known_positives(split, 0.05, 0)
    vectors = user_vectors(space, model, split, known)
    neighbours = nearest_users(vectors, 5)
    dense = vectors.toarray() if space != "learned" else vectors
    norms = np.linalg.norm(dense, axis=1)
    for user in range(split.n_users):
        cosines = np.array(
            [dense[user] @ dense[other] / max(norms[user] * norms[other], 1e-12) for other in range(split.n_users)]
        )
        cosines[user] = -1
        found = neighbours[user][neighbours[user] >= 0]
        assert len(found) == min(5, (cosines > 0).sum()) and user not in found
        np.testing.assert_allclose(cosines[found], np.sort(cosines)[::-1][: len(found)], atol=1e-6)
    everyone = torch.arange(split.n_users)
    for at_once in (colliding.SCORES_AT_ONCE, 200):  # in blocks too
        monkeypatch.setattr(colliding, "SCORES_AT_ONCE", at_once)
        mixed = CollidingInference(model, NeighbourMean(model, neighbours), 0.3).score_items(everyone).numpy()
        np.testing.assert_allclose(mixed, slow_scores(model, neighbours, 0.3, split.n_users), atol=1e-5)
    plain = CollidingInference(model, NeighbourMean(model, neighbours), 1.0).score_items(everyone)
    assert torch.equal(plain, model.score_items(everyone))


@torch.no_grad()
def test_a_user_without_neighbours_keeps_the_own_scores():
    model = GMF(3, 5, 2)
    vectors = csr_matrix(np.array([[1.0, 0], [1, 0], [0, 0]], np.float32))
    neighbours = nearest_users(vectors, 2)
    assert neighbours.tolist() == [[1, -1], [0, -1], [-1, -1]]
    everyone = torch.arange(3)
    mixed = CollidingInference(model, NeighbourMean(model, neighbours), 0.4).score_items(everyone)
    assert torch.equal(mixed[2], model.score_items(everyone)[2])
    assert torch.equal(NeighbourMean(model, neighbours).score_items(everyone)[0], model.score_items(everyone)[1])


def test_the_grid_holds_what_each_point_gives(split):
    model = GMF(split.n_users, split.n_items, 4)
    neighbours = nearest_users(user_vectors("all", model, split, None), 6)
    task = ranking_task(split, split.valid, [split.train])
    with torch.no_grad():
        grid = recall_grid(stored(model, split.n_users, split.n_items), neighbours, task, [2, 6], [1.0, 0.2], 10)
    mixed = CollidingInference(model, NeighbourMean(model, neighbours[:, :2]), 0.2)
    ranked = rank_items(mixed, task.users, task.seen, 10)
    assert grid.shape == (2, 2) and grid[0, 0] == grid[1, 0]
    assert grid[0, 1] == per_user_metrics(ranked, task.ground_truth, [10])["recall"].mean()


def test_too_large_a_matrix_is_not_stored(monkeypatch):
    model = GMF(10, 10, 2)
    for at_once, is_stored in ((100, True), (99, False)):
        monkeypatch.setattr(colliding, "SCORES_AT_ONCE", at_once)
        assert (stored(model, 10, 10) is not model) == is_stored


@pytest.mark.parametrize("n", [0, 40])
def test_numbers_of_neighbours_out_of_range(split, n):
    with pytest.raises(ValueError, match="below the number of users, 40"):
        nearest_users(split.matrix(split.train), n)


# -------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    "change, message",
    [
        ({"known_shares": [0.0, 0.2]}, r"known_shares.0 is 0.0 .*greater than 0"),
        ({"known_shares": [0.2, 1.5]}, r"known_shares.1 is 1.5 .*less than or equal to 1"),
        ({"compared_share": 0.3}, "compared_share must be one of known_shares"),
        ({"neighbours": [0]}, "neighbours.0 is 0 .*greater than or equal to 1"),
        ({"lambdas": [1.1]}, "lambdas.0 is 1.1 .*less than or equal to 1"),
        ({"lambdas": [-0.1]}, "lambdas.0 is -0.1 .*greater than or equal to 0"),
        ({"fine_tuning_lr": 0.0}, "fine_tuning_lr is 0.0 .*greater than 0"),
        ({"known_weight": 0.5}, "known_weight is 0.5 .*greater than or equal to 1"),
        ({"extra_seeds": {"NeuMF-pre": [1]}}, "NeuMF-pre already starts from trained halves"),
    ],
)
def test_refused_parameters(change, message):
    with pytest.raises(ValueError, match=message):
        resolve("toy", change)


def test_more_neighbours_than_users_are_refused_before_any_training(home):
    public.ensure("toy")
    with pytest.raises(ValueError, match="below the number of users, 300, got 300"):
        extra_feedback.planned(resolve("toy", {"neighbours": [300]}))
    assert not list(home.glob("results/*/runs/*"))


@pytest.mark.slow
def test_table_has_every_strategy_with_its_change(stages):
    plain = map_runs(extra_feedback.plain_plan(stages), 1)
    trained = map_runs(extra_feedback.strategy_plan(stages), 1)
    _, chosen, collided = extra_feedback.colliding(plain, stages)
    table = extra_feedback.extra_table(extra_feedback.all_values(plain, trained, collided))
    assert list(table.columns[:10]) == [*extra_feedback.KEYS, "mean", "low", "high", "n_seeds"]
    assert set(table["strategy"]) == {
        "plain", "fine-tuning", "warm-up", "weighted", "known-only", "colliding inference (own-positives)",
        "colliding inference (learned)", "colliding inference (all)",
    }  # fmt: skip
    row = table.query(
        "strategy == 'warm-up' and backbone == 'GMF' and method == 'T-CE' and metric == 'recall' and k == 20"
    )
    of_cell = [run for run in [*plain, *trained] if (run.settings.method, run.settings.backbone) == ("T-CE", "GMF")]
    by_strategy = {run.settings.strategy: run.value("recall", 20) for run in of_cell}
    assert row["change"].item() == pytest.approx(by_strategy["warm-up"] - by_strategy[None])
    keys = ["strategy", "backbone", "method", "seed"]
    unmixed = chosen[chosen["lambda"] == 1][keys].merge(collided.query("metric == 'recall' and k == 20"))
    plain_values = {(run.settings.backbone, run.settings.method): run.value("recall", 20) for run in plain}
    for _, row in unmixed.iterrows():  # the plain model's numbers
        assert row["value"] == plain_values[row["backbone"], row["method"]]
