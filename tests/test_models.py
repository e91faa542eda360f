"""Shapes, names, initial weights, and two ways to compute the same scores."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix, random_array

from denoise_lib import models
from denoise_lib.models import CDAE, GMF, MLP, NeuMF

N_USERS, N_ITEMS = 13, 37


def interactions(density=0.3) -> csr_matrix:
    return csr_matrix(random_array((N_USERS, N_ITEMS), density=density, rng=np.random.default_rng(0)))


def every_model() -> list:
    def seeded():
        return torch.Generator().manual_seed(3)

    return [
        GMF(N_USERS, N_ITEMS, 8, seeded()),
        MLP(N_USERS, N_ITEMS, 8, 2, seeded()),
        NeuMF(N_USERS, N_ITEMS, 8, 3, seeded()),
        CDAE(interactions(), 11, 0.5, seeded()),
    ]


def spread(model) -> torch.nn.Module:
    """The same model with weights large enough that scores differ."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0, 0.5)
    return model


@pytest.mark.parametrize("pairs_per_block", [1 << 14, 100, 10])  # all at once, by users, by users and items
@pytest.mark.parametrize("model", every_model(), ids=lambda model: type(model).__name__)
def test_score_items_is_forward_on_every_pair(model, pairs_per_block, monkeypatch):
    monkeypatch.setattr(models, "PAIRS_PER_BLOCK", pairs_per_block)
    model = spread(model).eval()
    users = torch.tensor([5, 0, 12, 5])
    pairs = model(users.repeat_interleave(N_ITEMS), torch.arange(N_ITEMS).repeat(len(users)))
    scores = model.score_items(users)
    assert scores.shape == (4, N_ITEMS) and pairs.shape == (4 * N_ITEMS,)
    torch.testing.assert_close(scores, pairs.view(4, N_ITEMS), atol=1e-5, rtol=1e-5)
    assert pairs.std() > 0.1


def test_parameter_names():
    assert list(GMF(2, 2).state_dict()) == ["user_gmf.weight", "item_gmf.weight", "output.weight", "output.bias"]
    names = [f"hidden.{2 * layer}.{kind}" for layer in range(3) for kind in ("weight", "bias")]
    assert list(NeuMF(2, 2).state_dict()) == [
        "user_gmf.weight", "item_gmf.weight", "user_mlp.weight", "item_mlp.weight", *names,
        "output.weight", "output.bias",
    ]  # fmt: skip


def test_sizes_of_neumf():
    model = NeuMF(5, 7, dim=32, n_layers=3)
    assert model.user_mlp.weight.shape == (5, 128)
    assert [tuple(model.hidden[k].weight.shape) for k in (0, 2, 4)] == [(128, 256), (64, 128), (32, 64)]
    assert model.output.weight.shape == (1, 64)


def test_initial_weights():
    model = NeuMF(500, 400, 32, 3, torch.Generator().manual_seed(0))
    for table in (model.user_gmf, model.item_gmf, model.user_mlp, model.item_mlp):
        assert table.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert abs(table.weight.mean().item()) < 0.0005
    assert _bound(model.hidden[0].weight) == pytest.approx((6 / (256 + 128)) ** 0.5, rel=0.01)
    assert _bound(model.output.weight) == pytest.approx((3 / 64) ** 0.5, rel=0.1)
    assert model.output.bias.item() == 0 and not model.hidden[2].bias.any()


def _bound(weight) -> float:
    return weight.abs().max().item()


def test_the_generator_decides_and_the_global_state_does_not():
    first = NeuMF(5, 7, generator=torch.Generator().manual_seed(1)).state_dict()
    torch.manual_seed(99)
    second = NeuMF(5, 7, generator=torch.Generator().manual_seed(1)).state_dict()
    other = NeuMF(5, 7, generator=torch.Generator().manual_seed(2)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_neumf_from_its_halves():
    gmf, mlp = spread(GMF(5, 7, 8)), spread(MLP(5, 7, 8, 2))
    model = NeuMF.from_pretrained(gmf, mlp)
    users, items = torch.tensor([0, 4, 2]), torch.tensor([6, 1, 1])
    expected = (gmf(users, items) + mlp(users, items)) / 2
    torch.testing.assert_close(model(users, items), expected)


def test_halves_of_other_sizes():
    with pytest.raises(ValueError, match="differ"):
        NeuMF.from_pretrained(GMF(5, 7, 8), MLP(5, 8, 8, 2))


def test_cdae_is_its_definition():
    model, x = spread(CDAE(interactions(), 11, 0.5)).eval(), torch.tensor(interactions().toarray() > 0).float()
    hidden = torch.sigmoid(x @ model.item_in.weight + model.user_in.weight + model.hidden_bias)
    expected = hidden @ model.item_out.weight.T + model.output_bias
    torch.testing.assert_close(model.score_items(torch.arange(N_USERS)), expected)


def test_gradients_of_tables_are_torchs_own():
    """To the last bit: they are summed in torch's order, in less time."""
    ids, gradient = torch.randint(40, (1024,)), torch.randn(1024, 32)
    table, plain = models._embedding(40, 32, None), torch.nn.Embedding(40, 32)
    for one in (table, plain):
        one(ids).backward(gradient)
    assert torch.equal(table.weight.grad, plain.weight.grad)
    group, summed = torch.randint(60, (5000,)).sort().values, models._SummedRows(400, 32)
    ids, gradient = torch.randint(400, (5000,)), torch.randn(61, 32)
    out = summed(ids, group, 61)
    out.backward(gradient)
    weight = summed.weight.detach().clone().requires_grad_()
    starts = torch.searchsorted(group, torch.arange(61))
    torchs = torch.nn.functional.embedding_bag(ids, weight, starts, mode="sum")
    torchs.backward(gradient)
    assert torch.equal(out, torchs) and torch.equal(summed.weight.grad, weight.grad) and not out[60].any()


def test_cdae_of_a_user_without_interactions():
    empty = csr_matrix((3, 4))
    model = spread(CDAE(empty, 5))
    expected = torch.sigmoid(model.user_in.weight + model.hidden_bias)
    torch.testing.assert_close(model.eval().encode(torch.arange(3)), expected)
    torch.testing.assert_close(model.train().encode(torch.arange(3)), expected)


def test_corruption_drops_its_share_keeps_the_mean_and_only_in_training():
    n_items = 4000
    model = CDAE(csr_matrix(np.ones((1, n_items))), hidden_dim=1, corruption=0.3)
    with torch.no_grad():  # the hidden unit is sigmoid(sum of kept entries / n_items)
        model.item_in.weight.fill_(1 / n_items)
        model.user_in.weight.zero_()
    inputs = torch.logit(torch.cat([model.train().encode(torch.tensor([0])) for _ in range(200)]))
    assert inputs.mean().item() == pytest.approx(1, abs=0.005)  # kept entries are scaled by 1 / (1 - q)
    assert inputs.std().item() == pytest.approx((0.3 / 0.7 / n_items) ** 0.5, rel=0.2)
    torch.manual_seed(1)
    evaluated = [model.eval().encode(torch.tensor([0])).item() for _ in range(2)]
    assert evaluated[0] == evaluated[1] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)


def test_corruption_outside_its_range():
    with pytest.raises(ValueError, match="corruption"):
        CDAE(interactions(), corruption=1.0)
