"""On a GPU: the same numbers as on the CPU up to rounding, and no step that waits for the device. Skipped without one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from denoise_lib.evaluator import rank_items
from denoise_lib.losses import cross_entropy, drop_rate_at, reweighted_cross_entropy, truncated_cross_entropy
from denoise_lib.models import CDAE, GMF, NeuMF
from denoise_lib.train import fit
from replication.runs.map import map_runs
from replication.runs.settings import plan
from replication.runs.store import folder_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LOSSES = {
    "CE": lambda logits, labels, step: cross_entropy(logits, labels),
    "T-CE": lambda logits, labels, step: truncated_cross_entropy(logits, labels, drop_rate_at(step, 0.2, 5)),
    "R-CE": lambda logits, labels, step: reweighted_cross_entropy(logits, labels, 0.25),
}


def models(split, device: str) -> dict:
    """Each backbone with the same initial weights on any device; without corruption, whose draws are the device's own."""
    seeded = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    made = {
        "GMF": GMF(split.n_users, split.n_items, 8, seeded()),
        "NeuMF": NeuMF(split.n_users, split.n_items, 8, 2, seeded()),
        "CDAE": CDAE(split.matrix(split.train), 16, 0.0, seeded()),
    }
    return {name: model.to(device) for name, model in made.items()}


@pytest.mark.parametrize("method", LOSSES)
@pytest.mark.parametrize("backbone", ["GMF", "NeuMF", "CDAE"])
def test_training_and_ranking_follow_the_cpu(split, backbone, method):
    users = np.arange(split.n_users)
    found = {}
    for device in ("cpu", "cuda"):
        model = models(split, device)[backbone]
        history = fit(model, split, LOSSES[method], epochs=4, seed=1, batch_size=64, eval_every=5)
        scores = model.score_items(torch.as_tensor(users, device=device)).detach().cpu()
        found[device] = history, scores, rank_items(model, users, split.matrix(split.train), 5)
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(*(history.frame[name] for history, _, _ in found.values()), rtol=1e-4)
    scores = found["cpu"][1]
    torch.testing.assert_close(scores, found["cuda"][1], rtol=1e-3, atol=1e-4)
    # Where two items' scores differ by rounding only, they may change places; their scores may not differ by more.
    ranked = [scores.numpy()[users[:, None], ranking] for _, _, ranking in found.values()]
    np.testing.assert_allclose(*ranked, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", LOSSES)
@pytest.mark.parametrize("backbone", ["GMF", "NeuMF"])
def test_no_step_waits_for_the_device(split, backbone, method):
    model = models(split, "cuda")[backbone]
    batch_size = 4  # few enough rows for the tables to count as large ones
    n_steps = -(-2 * len(split.train) // batch_size)

    def loss_fn(logits, labels, step):  # from the loss of step 1 to that of the last step, any waiting raises
        torch.cuda.set_sync_debug_mode("error" if 1 <= step < n_steps - 1 else "default")
        return LOSSES[method](logits, labels, step)

    try:
        fit(model, split, loss_fn, epochs=1, seed=1, batch_size=batch_size, eval_every=10**9)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_equal_scores_are_ranked_by_item_id(split):
    class Flat(GMF):
        def score_items(self, users):
            return torch.zeros(len(users), split.n_items, device=users.device)

    seen = split.matrix(split.train)
    ranked = rank_items(Flat(split.n_users, split.n_items).to("cuda"), np.arange(split.n_users), seen, 5)
    free = [np.setdiff1d(np.arange(split.n_items), row.indices)[:5] for row in seen]
    np.testing.assert_array_equal(ranked, free)


@pytest.mark.parametrize("backbone", ["GMF", "NeuMF", "CDAE"])
def test_a_run_is_a_run(home, tiny, backbone):
    on_cpu = plan(["T-CE"], tiny.having(backbones=[backbone]))
    on_gpu = [replace(run, device="cuda") for run in on_cpu]
    values = [run.value("recall", 20) for run in map_runs(on_cpu + on_gpu, jobs=1)]
    assert values[0] == pytest.approx(values[1], abs=0.05)
    assert not folder_of(on_gpu[0]).samefile(folder_of(on_cpu[0]))
