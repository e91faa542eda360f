"""What a run records on its way: measured once for each model and step, and drops counted by what they are."""

import numpy as np
import pytest
import torch

from denoise_lib.losses import dropped_samples
from replication.methods import METHODS
from replication.runs.measure import DropCounter, probes

LABELS = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])
IS_FALSE = torch.tensor([0.0, 1, 0, 1, 0, 0, 0, 0])
TENTHS = torch.tensor([1.0, 3, 3, 10, 0, 0, 0, 0])
VALUES = torch.stack([torch.ones(8), IS_FALSE, TENTHS], dim=1)


def test_probes_share_one_measurement_of_a_model_at_a_step():
    measured = []

    def measure(model) -> dict[str, float]:
        measured.append(model)
        return {"bias": model.bias.item(), "twice": 2 * model.bias.item()}

    one, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.constant_(one.bias, 1.0)
    torch.nn.init.constant_(other.bias, 5.0)
    probe = probes(measure, ["bias", "twice"])
    assert (probe["bias"](one, 10), probe["twice"](one, 10)) == (1, 2) and measured == [one]
    assert (probe["twice"](other, 10), probe["bias"](other, 10)) == (10, 5), "a second model at the same step"
    torch.nn.init.constant_(other.bias, 7.0)
    assert probe["bias"](other, 20) == 7, "the same model at a later step"
    assert measured == [one, other, other]


def test_a_new_model_in_the_place_of_one_that_is_gone():
    probe = probes(lambda model: {"bias": model.bias.item()}, ["bias"])["bias"]
    for value in (1.0, 2.0, 3.0):  # each may lie where the one before lay in memory
        model = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(model.bias, value)
        assert probe(model, 10) == value
        del model


class TestDropCounter:
    def test_by_hand(self):
        """Two batches of four positives, of which two are false: positions 1 and 2 dropped, then only 3."""
        drops = DropCounter()
        drops.add(torch.tensor([1, 2, 6]), LABELS, VALUES)  # position 6 is a negative and no positive
        drops.add(torch.tensor([3]), LABELS, VALUES)
        expected = dict(drop_precision=2 / 3, drop_recall=2 / 4, drop_share=3 / 8, false_share=4 / 8)
        of_tenths = {f"dropped_tenth_{tenth}": {3: 2, 10: 1}.get(tenth, 0) for tenth in range(1, 11)}
        assert drops.read() == pytest.approx(expected | of_tenths)
        again = drops.read()
        assert np.isnan([again[name] for name in expected]).all() and not any(again[name] for name in of_tenths)

    def test_random_drop_lies_in_its_binomial_band(self):
        rng, drops = np.random.default_rng(0), DropCounter()
        n_batches, n_positives = 200, 512
        labels = (torch.arange(1024) < n_positives).float()
        for _ in range(n_batches):
            values = torch.zeros(1024, 3)
            values[:n_positives, 1] = torch.from_numpy(rng.random(n_positives) < 0.2)
            keys = METHODS["random-drop"].drop_keys(torch.zeros(1024), values, 1 - torch.rand(1024))
            drops.add(dropped_samples(keys, labels, 0.1), labels, values)
        found = drops.read()
        n_dropped = n_batches * n_positives * found["drop_share"]
        band = 4 * (0.2 * 0.8 / n_dropped) ** 0.5
        assert abs(found["drop_precision"] - found["false_share"]) < band < 0.02
        band = 4 * (0.2 * 0.8 / (n_batches * n_positives * 0.2)) ** 0.5
        assert found["drop_recall"] == pytest.approx(found["drop_share"], abs=band)
