"""A dry run says what a run would cost, and leaves nothing behind."""

import re

import pytest

from denoise_lib import train
from replication.app import dry_run
from replication.runs.parameters import resolve
from replication.runs.settings import plan


@pytest.mark.slow
def test_dry_run_of_data_that_are_not_there(home, tiny):
    smaller = dict(
        expected={"users": 50, "items": 40, "train": 2000}, backbones=["GMF"], seeds=[1, 2], epochs=3, batch_size=256,
        n_negatives=1, eval_every=25, top_k=[5, 20], dim=8, device="cpu", jobs=2,
    )  # fmt: skip
    values = resolve("yelp", smaller)
    text = dry_run.describe(values, plan(["CE", "T-CE"], values))
    assert "yelp: 4 runs, 0 finished\n" in text
    assert "missing files: data/yelp/yelp.train.rating, data/yelp/yelp.valid.rating" in text
    assert re.search(r"GMF +4 +48 +729 +\d\.\d GB +\d+\.\d ms", text)  # 3 epochs of 16 steps; (50 + 40) * 8 + 9 weights
    assert "side by side" in text and list(home.iterdir()) == []


def test_as_many_steps_are_timed_on_a_small_table(home, tiny, monkeypatch):
    (run,) = plan(["CE"], tiny)
    n_steps = []

    def fit(model, split, loss_fn, epochs, batch_size, **others):
        n_steps.append(epochs * -(-2 * len(split.train) // batch_size))
        return train.fit(model, split, loss_fn, epochs=epochs, batch_size=batch_size, **others)

    monkeypatch.setattr(dry_run, "fit", fit)
    cost = dry_run._measure(run, {"users": 50, "items": 40, "train": 100, "valid": 10, "test": 10, "test_users": 10})
    assert n_steps == [2, 2, 2, 2 + dry_run.N_TIMED] and cost["step"] > 0
