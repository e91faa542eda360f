"""Agreement with the authors' code, by vectors computed with it. Skipped where the vectors are not at hand."""

import json

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from denoise_lib.evaluator import per_user_metrics, rank_items
from denoise_lib.losses import cross_entropy, drop_rate_at, reweighted_cross_entropy, truncated_cross_entropy
from denoise_lib.models import GMF, MLP, NeuMF

OUR_NAMES = {
    "embed_user_GMF": "user_gmf", "embed_item_GMF": "item_gmf", "embed_user_MLP": "user_mlp",
    "embed_item_MLP": "item_mlp", "predict_layer": "output",
}  # fmt: skip
BACKBONES = {"gmf": GMF, "mlp": MLP, "neumf": NeuMF}


def test_losses(reference):
    for case in json.loads((reference / "conformance" / "losses.json").read_text()):
        logits = torch.tensor(case["logits"], requires_grad=True)
        loss_fn = {"truncated": truncated_cross_entropy, "reweighted": reweighted_cross_entropy}[case["loss"]]
        loss = loss_fn(logits, torch.tensor(case["labels"], dtype=torch.float32), case["parameter"])
        loss.backward()
        assert loss.item() == pytest.approx(case["expected"], abs=1e-6)
        assert logits.grad.tolist() == pytest.approx(case["expected_grad"], abs=1e-6)


def test_schedule(reference):
    cases = [c for c in json.loads((reference / "conformance" / "schedule.json").read_text()) if c["exponent"] == 1]
    assert cases
    for case in cases:
        got = drop_rate_at(case["iteration"], case["max_drop_rate"], case["num_gradual"])
        assert got == pytest.approx(case["expected"], abs=1e-9)


def test_metrics(reference):
    for case in json.loads((reference / "conformance" / "metrics.json").read_text()):
        got = per_user_metrics(np.array(case["ranked_items"]), list(map(np.array, case["ground_truth"])), case["ks"])
        for metric, values in got.items():
            assert values.mean(axis=0) == pytest.approx(case[metric], abs=1e-9)


@pytest.mark.parametrize("method", ["ce", "truncated", "reweighted"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_forty_training_steps(reference, backbone, method):
    trace = np.load(reference / "conformance" / f"trace_{backbone}_{method}.npz")
    model = BACKBONES[backbone](40, 120, 8, **({} if backbone == "gmf" else {"n_layers": 3}))
    model.load_state_dict(_ours(trace, model), strict=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step, (users, items, labels) in enumerate(zip(trace["users"], trace["items"], trace["labels"])):
        logits = model(torch.tensor(users), torch.tensor(items))
        labels = torch.tensor(labels, dtype=torch.float32)
        loss = {
            "ce": lambda: cross_entropy(logits, labels),
            "truncated": lambda: truncated_cross_entropy(logits, labels, drop_rate_at(step, 0.2, 20)),
            "reweighted": lambda: reweighted_cross_entropy(logits, labels, 0.25),
        }[method]()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.item() == pytest.approx(float(trace["losses"][step]), rel=1e-4)

    scores = model.eval().score_items(torch.arange(40)).detach().numpy()
    np.testing.assert_allclose(scores, trace["scores"], atol=2e-4)
    seen = csr_matrix((np.ones(len(trace["seen_users"])), (trace["seen_users"], trace["seen_items"])), shape=(40, 120))
    users = np.unique(trace["test_users"])
    truth = [trace["test_items"][trace["test_users"] == user] for user in users]
    got = per_user_metrics(rank_items(model, users, seen[users], 20), truth, [5, 20])
    for metric, values in got.items():
        assert values.mean(axis=0) == pytest.approx(trace[metric], abs=2e-3), metric


def _ours(trace, model) -> dict:
    """The authors' initial weights under our names; their GMF and MLP also hold the other half, which is unused."""
    weights = {}
    for key in trace.files:
        if not key.startswith("init."):
            continue
        name = key.removeprefix("init.").replace("MLP_layers.", "hidden.")
        for theirs, ours in OUR_NAMES.items():
            name = name.replace(theirs, ours)
        weights[name] = torch.tensor(trace[key])
    # Their tower may count dropout layers too: number ours by order.
    hidden = sorted({int(name.split(".")[1]) for name in weights if name.startswith("hidden.")})
    place = {old: 2 * new for new, old in enumerate(hidden)}
    renamed = {
        (f"hidden.{place[int(name.split('.')[1])]}.{name.split('.')[2]}" if name.startswith("hidden.") else name): value
        for name, value in weights.items()
    }
    return {name: renamed[name] for name in model.state_dict()}
