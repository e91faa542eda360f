"""The loop: evaluation points, selection, determinism, continuation, and what reaches the loss."""

import numpy as np
import pytest
import torch
from conftest import make_split
from torch import nn

from denoise_lib import checkpoint, optimizer, train
from denoise_lib.losses import cross_entropy, truncated_cross_entropy
from denoise_lib.models import CDAE, GMF, NeuMF
from denoise_lib.sampling import sample_negatives
from denoise_lib.train import fit
from replication.methods import METHODS


def ce(logits, labels, step):
    return cross_entropy(logits, labels)


def gmf(split, seed=0):
    return GMF(split.n_users, split.n_items, 4, torch.Generator().manual_seed(seed))


def cdae(split, seed=0):
    return CDAE(split.matrix(split.train), 6, 0.5, torch.Generator().manual_seed(seed))


SMALL = dict(epochs=3, seed=5, batch_size=64, lr=0.01, eval_every=4)  # 9 steps an epoch


def weights(model) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(first, second):
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluation_points(split):
    history = fit(gmf(split), split, ce, **SMALL)
    assert len(split.train) == 288  # 576 rows, 9 batches
    assert history.frame["step"].tolist() == [4, 8, 12, 16, 20, 24]
    assert history.frame["epoch"].tolist() == [0, 0, 1, 1, 2, 2]
    assert history.selected_step == history.frame.set_index("step")["valid_loss"].idxmin()


def test_a_run_shorter_than_an_interval_is_evaluated_at_its_end(split):
    history = fit(gmf(split), split, ce, **SMALL | {"eval_every": 1000})
    assert history.frame["step"].tolist() == [26] == [history.selected_step]


@pytest.mark.parametrize(
    "batch_size, sizes", [(576, [576]), (575, [576]), (574, [574, 2]), (115, [115] * 4 + [116]), (1, [1] * 576)]
)
def test_a_last_batch_of_one_row_joins_the_one_before(split, batch_size, sizes):
    """2n rows leave one where the batch size is a divisor of 2n - 1, here of 575."""
    seen = []

    def recording(logits, labels, step):
        seen.append((len(logits), logits.requires_grad, labels.sum().item()))
        return cross_entropy(logits, labels)

    fit(gmf(split), split, recording, **SMALL | dict(epochs=1, batch_size=batch_size, eval_every=10**9))
    assert [size for size, in_training, _ in seen if in_training] == sizes
    assert sum(positives for _, in_training, positives in seen if in_training) == len(split.train)
    assert train.steps_per_epoch(288, 1, batch_size) == len(sizes)


@pytest.mark.parametrize("protocol", train.PROTOCOLS)
@pytest.mark.parametrize("method", ["T-CE", "random-drop", "oracle-drop", "R-CE"])
def test_small_last_batches_end_no_run(split, method, protocol):
    """575 and 115 leave a single row in training, 191 in validation."""
    method, options = METHODS[method], dict(max_drop_rate=0.3, ramp_steps=2, beta=0.5)
    loss_fn, values = method.loss_and_values({name: options[name] for name in method.grid}, split)
    assert 2 * len(split.valid) % 191 == 1 == 2 * len(split.train) % 115
    for batch_size in (575, 115, 191):
        frame = fit(
            gmf(split),
            split,
            loss_fn,
            row_values=values,
            protocol=protocol,
            **SMALL | dict(batch_size=batch_size, eval_every=1),
        ).frame
        assert np.isfinite(frame[["train_loss", "valid_loss"]]).all(axis=None)


def test_train_loss_is_the_mean_since_the_point_before(split):
    seen = []

    def recording(logits, labels, step):
        loss = cross_entropy(logits, labels)
        if loss.requires_grad:
            seen.append(loss.item())
        return loss

    history = fit(gmf(split), split, recording, **SMALL)
    assert history.frame["train_loss"].tolist()[:2] == pytest.approx([np.mean(seen[:5]), np.mean(seen[5:9])], abs=1e-6)


def test_training_learns(split):
    frame = fit(gmf(split), split, ce, **SMALL | {"epochs": 40}).frame
    assert frame["train_loss"].iloc[-1] < 0.5 < frame["train_loss"].iloc[0]


@pytest.mark.parametrize("make", [gmf, cdae])
def test_same_seed_same_bits_and_the_global_state_is_left_alone(split, make):
    first, second, other = make(split), make(split), make(split)
    torch.manual_seed(1)
    a = fit(first, split, ce, **SMALL)
    torch.manual_seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    b = fit(second, split, ce, **SMALL)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()
    fit(other, split, ce, **SMALL | {"seed": 6})
    assert_same(weights(first), weights(second))
    assert a.frame.equals(b.frame)
    assert not torch.equal(first.state_dict()["output.bias" if make is gmf else "hidden_bias"],
                           other.state_dict()["output.bias" if make is gmf else "hidden_bias"])  # fmt: skip


def test_the_model_holds_the_selected_weights(split):
    kept = {}
    model = gmf(split)
    history = fit(model, split, ce, probes={"copy": lambda m, step: kept.setdefault(step, weights(m)) and 0.0}, **SMALL)
    assert_same(weights(model), kept[history.selected_step])
    assert not model.training


def test_selection_by_a_probe(split):
    values = {4: 0.1, 8: 0.7, 12: 0.2, 16: 0.7, 20: 0.05, 24: 0.3}
    highest = fit(gmf(split), split, ce, probes={"recall_5": lambda m, s: values[s]}, select_by="recall_5", **SMALL)
    lowest = fit(gmf(split), split, ce, probes={"clean_loss": lambda m, s: values[s]}, select_by="clean_loss", **SMALL)
    assert (highest.selected_step, lowest.selected_step) == (8, 20)


def test_probes_see_evaluation_mode(split):
    modes = []
    fit(cdae(split), split, ce, probes={"mode": lambda m, s: modes.append(m.training) or 0}, **SMALL)
    assert modes and not any(modes)


def ce_that_falls(logits, labels, step):
    """Cross-entropy in training, and in validation a loss that falls with the steps."""
    return ce(logits, labels, step) if torch.is_grad_enabled() else torch.tensor(100.0 - step)


def test_the_least_validation_loss_selects(split):
    history = fit(gmf(split), split, ce_that_falls, **SMALL)
    assert history.frame["valid_loss"].tolist() == [96, 92, 88, 84, 80, 76] and history.selected_step == 24


def test_corrected_validation_by_hand(split):
    """Fixed negatives that avoid train and valid; the loss over all rows at once."""
    model = gmf(split)
    history = fit(model, split, ce, **SMALL)
    avoid = split.matrix(split.train, split.valid)
    rng = np.random.default_rng([SMALL["seed"], 0, 0, train.VALIDATION])
    negatives = sample_negatives(split.valid.users, avoid, 1, rng)[:, 0]
    users = torch.tensor(np.concatenate([split.valid.users] * 2))
    items = torch.tensor(np.concatenate([split.valid.items, negatives]))
    labels = torch.cat([torch.ones(len(negatives)), torch.zeros(len(negatives))])
    expected = cross_entropy(model(users, items), labels).item()
    assert history.frame.set_index("step").loc[history.selected_step, "valid_loss"] == pytest.approx(expected, abs=1e-6)


def test_authors_validation_is_a_sum_of_batch_means(split):
    sizes = []

    def constant(logits, labels, step):
        if not logits.requires_grad:
            sizes.append((len(logits), int(labels.sum())))
        return cross_entropy(logits, labels) * 0 + 1

    history = fit(gmf(split), split, constant, protocol="authors", **SMALL)
    n_rows = 2 * len(split.valid)
    n_batches = -(-n_rows // 64)
    assert history.frame["valid_loss"].tolist() == [n_batches] * 6
    assert sum(size for size, _ in sizes[:n_batches]) == n_rows
    assert len({positives for _, positives in sizes[:n_batches]}) > 1  # shuffled, not positives first


def test_authors_redraw_validation_negatives_and_corrected_does_not(split):
    def model_free_loss(redrawn):
        frozen = gmf(split)
        for parameter in frozen.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
        protocol = "authors" if redrawn else "corrected"
        return fit(frozen, split, ce, protocol=protocol, **SMALL | {"lr": 1e-30}).frame["valid_loss"].nunique()

    assert model_free_loss(redrawn=True) > 1 == model_free_loss(redrawn=False)


def test_negatives_avoid_observed(split):
    seen = set()

    class Spy(GMF):
        def forward(self, users, items):
            if self.training:
                seen.update(zip(users.tolist(), items.tolist()))
            return super().forward(users, items)

    everything = type(split.train)(
        *(np.concatenate([getattr(split.train, f), getattr(split.valid, f)]) for f in ("users", "items"))
    )
    fit(Spy(split.n_users, split.n_items, 4), split, ce, observed=everything, **SMALL)
    valid = set(zip(split.valid.users.tolist(), split.valid.items.tolist()))
    assert seen and not seen & valid


def test_row_values_travel_with_their_rows(split):
    values = split.train.users * 1000 + split.train.items + 0.5
    rows = []

    class Spy(GMF):
        def forward(self, users, items):
            self.last = (users * 1000 + items).float() + 0.5
            return super().forward(users, items)

    model = Spy(split.n_users, split.n_items, 4)

    def loss(logits, labels, step, values):
        if logits.requires_grad:
            assert torch.equal(values, torch.where(labels == 1, model.last, 0))
            rows.append(int(labels.sum()))
        else:
            assert not values.any()
        return cross_entropy(logits, labels)

    fit(model, split, loss, row_values=values, **SMALL)
    assert sum(rows) == 3 * len(split.train)


LARGE = dict(epochs=2, seed=1, batch_size=64, lr=0.01, eval_every=60)  # 158 steps an epoch
LOOKUPS = nn.Embedding | nn.EmbeddingBag


@pytest.fixture(scope="module")
def large():
    """A split whose tables of users and items are large beside a batch of 64."""
    return make_split(n_users=700, n_items=600)


@pytest.mark.parametrize("make_optimizer", [None, torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("make", [gmf, cdae])
def test_large_tables_get_the_same_training(large, monkeypatch, make, make_optimizer):
    """Sparse gradients, and rows that move when they are read, give what dense ones give, up to rounding."""
    lazy, dense = make(large), make(large)
    scores = {"scores": lambda model, step: model.score_items(torch.tensor([0])).std()}
    options = LARGE | dict(optimizer=make_optimizer, probes=scores)
    found = fit(lazy, large, ce, **options)
    assert not any(table.sparse for table in lazy.modules() if isinstance(table, LOOKUPS))
    monkeypatch.setattr(optimizer, "LARGE", 10**9)
    expected = fit(dense, large, ce, **options)
    np.testing.assert_allclose(found.frame, expected.frame, rtol=1e-4)
    for name, value in dense.state_dict().items():
        torch.testing.assert_close(lazy.state_dict()[name], value, atol=2e-6, rtol=1e-4)


def test_large_tables_are_lazy_and_small_ones_are_not(large):
    """And a table that was sparse before is sparse after."""
    seen = []
    model = gmf(large)
    model.user_gmf.sparse = True
    for batch_size, is_lazy in (64, True), (80, False):
        options = LARGE | dict(epochs=1, batch_size=batch_size)
        fit(model, large, lambda *batch: seen.append(model.item_gmf.sparse) or ce(*batch), **options)
        assert set(seen[-100:]) == {is_lazy}
        assert (model.user_gmf.sparse, model.item_gmf.sparse) == (True, False)
        assert not model.item_gmf._forward_pre_hooks


@pytest.mark.parametrize("stop_at", [4, 8, 12, 20])
@pytest.mark.parametrize("make", [gmf, cdae])
def test_a_stopped_run_continues_to_the_same_bits(split, tmp_path, monkeypatch, make, stop_at):
    assert_continues(split, tmp_path / "checkpoint.pt", monkeypatch, make, stop_at, SMALL)


@pytest.mark.parametrize("stop_at", [120, 240])
@pytest.mark.parametrize("make", [gmf, cdae])
def test_a_stopped_run_of_large_tables_continues_to_the_same_bits(large, tmp_path, monkeypatch, make, stop_at):
    assert_continues(large, tmp_path / "checkpoint.pt", monkeypatch, make, stop_at, LARGE)


def assert_continues(split, file, monkeypatch, make, stop_at, options) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    whole = make(split)
    expected = fit(whole, split, ce, **options)

    class Killed(Exception):
        pass

    def kill(step, n_steps, valid_loss):
        if step == stop_at:
            raise Killed

    with pytest.raises(Killed):
        fit(make(split), split, ce, checkpoint=file, progress=kill, **options)
    assert file.exists()
    continued, steps = make(split, seed=9), []
    history = fit(continued, split, ce, checkpoint=file, progress=lambda step, *_: steps.append(step), **options)
    assert steps[0] == stop_at + options["eval_every"]  # nothing is done twice
    assert history.frame.equals(expected.frame) and history.selected_step == expected.selected_step
    assert_same(weights(whole), weights(continued))


PATIENT = dict(epochs=9, seed=1, batch_size=64, eval_every=4, lr=0.05)


def points_until_turned(frame, patience: int, least_steps: int = 0) -> int:
    """By the definition, point by point."""
    for n in range(1, len(frame) + 1):
        best = frame["valid_loss"][:n].idxmin()
        if frame["step"][n - 1] >= least_steps and n - 1 - best >= patience:
            return n
    return len(frame)


@pytest.mark.parametrize("patience, least_steps", [(1, 0), (3, 0), (1, 60), (99, 0)])
def test_training_stops_once_it_has_turned(split, patience, least_steps):
    expected = fit(gmf(split), split, ce, **PATIENT).frame
    n = points_until_turned(expected, patience, least_steps)
    assert (n < len(expected)) == (patience < 99) and (n >= 15) == (least_steps > 0 or patience == 99)
    history = fit(gmf(split), split, ce, patience=patience, least_steps=least_steps, **PATIENT)
    assert history.frame.equals(expected[:n])


def test_what_selects_must_have_turned_too(split):
    """A probe that is best at the end holds on, though the validation loss has turned long before."""
    rises = {"recall_5_valid": lambda model, step: step}
    history = fit(gmf(split), split, ce, patience=1, select_by="recall_5_valid", probes=rises, **PATIENT)
    assert len(history.frame) == len(fit(gmf(split), split, ce, **PATIENT).frame)
    assert history.selected_step == history.frame["step"].iloc[-1]


def test_a_patient_run_that_was_stopped_ends_at_the_same_point(split, tmp_path, monkeypatch):
    for stop_at in (8, 12):
        assert_continues(split, tmp_path / f"{stop_at}.pt", monkeypatch, gmf, stop_at, PATIENT | {"patience": 2})


@pytest.mark.parametrize("protocol", ["corrected", "authors"])
def test_validation_values_follow_their_rows(split, protocol):
    """Each validation positive carries its item's id + 1, each negative 0."""
    seen = []

    def loss(logits, labels, step, values):
        if not torch.is_grad_enabled():
            seen.append((labels, values))
        return ce(logits, labels, step)

    values = np.ones(len(split.train)), split.valid.items + 1.0
    fit(gmf(split), split, loss, row_values=values[0], valid_values=values[1], protocol=protocol, **SMALL)
    for labels, of_rows in seen:
        assert ((labels > 0) == (of_rows > 0)).all()
    of_point = torch.cat([of_rows for _, of_rows in seen])[: 2 * len(split.valid)]
    assert sorted(of_point[of_point > 0].tolist()) == sorted(values[1])


def test_a_checkpoint_cut_short_starts_over(split, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    file = tmp_path / "checkpoint.pt"
    expected = fit(gmf(split), split, ce, checkpoint=file, **SMALL)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="starts anew"):
        history = fit(gmf(split), split, ce, checkpoint=file, **SMALL)
    assert history.frame.equals(expected.frame)


def test_a_checkpoint_of_another_run_is_refused(split, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    fit(gmf(split), split, ce, checkpoint=tmp_path / "c.pt", **SMALL)
    with pytest.raises(ValueError, match="other settings"):
        fit(gmf(split), split, ce, checkpoint=tmp_path / "c.pt", **SMALL | {"lr": 0.5})


def test_divergence_is_an_error(split):
    with pytest.raises(FloatingPointError, match="diverged"):
        fit(gmf(split), split, lambda logits, labels, step: (logits * torch.nan).mean(), **SMALL)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"epochs": -1}, "epochs"),
        ({"eval_every": 0}, "eval_every"),
        ({"seed": -1}, "seed"),
        ({"protocol": "faithful"}, "protocol"),
        ({"select_by": "recall_5"}, "select_by"),
        ({"row_values": np.ones(3)}, "row_values"),
    ],
)
def test_arguments_out_of_range(split, change, message):
    with pytest.raises(ValueError, match=message):
        fit(gmf(split), split, ce, **SMALL | change)


def test_a_user_without_a_free_item(split):
    full = make_split(n_items=12, per_user=12)
    everything = type(full.train)(np.repeat(np.arange(40), 12), np.tile(np.arange(12), 40))
    with pytest.raises(ValueError, match="user 0 has interacted with all 12 items"):
        fit(gmf(full), full, ce, observed=everything, **SMALL)


def test_truncation_leaves_the_planted_noise_unlearned():
    """Users like the items of their own parity; a fifth of the positives are flagged noise. After training, T-CE
    fits the noisy positives worse, relative to the clean ones, than CE does."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(64):
        liked, other = np.arange(user % 2, 48, 2), np.arange(1 - user % 2, 48, 2)
        rows += [(user, item, 1) for item in rng.choice(liked, 12, replace=False)]
        rows += [(user, item, 0) for item in rng.choice(other, 3, replace=False)]
    users, items, flags = np.array(rows).T
    part = type(make_split().train)(users, items, flags == 1)
    board = type(make_split())("board", 64, 48, part, part, part)

    def gap(loss_fn):
        model = NeuMF(64, 48, 8, 2, torch.Generator().manual_seed(0))
        until_the_end = lambda *batch: loss_fn(*batch) if torch.is_grad_enabled() else torch.tensor(-batch[2])  # noqa: E731
        fit(model, board, until_the_end, epochs=30, seed=0, batch_size=128, lr=0.01)
        with torch.no_grad():
            losses = nn.functional.softplus(-model(torch.tensor(users), torch.tensor(items)))
        return (losses[flags == 0].mean() / losses[flags == 1].mean()).item()

    def truncated(logits, labels, step):
        return truncated_cross_entropy(logits, labels, min(0.1, 0.1 * step / 100))

    assert gap(truncated) > 1.5 * gap(ce) > 1.5
