"""LazyAdam against dense Adam in double precision, and what makes it safe to use: reads, state dicts, refusals."""

import copy
import io
import sys
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import denoise_lib
from denoise_lib import optimizer
from denoise_lib.optimizer import LazyAdam, _quadrature

FORMS = [form for form in ("operations", "loops") if form == "operations" or optimizer._loops()]
BATCH = 8


@pytest.fixture(params=FORMS)
def form(request, monkeypatch) -> str:
    """Each test once with torch's operations and, where numba is installed, once with the compiled loops."""
    if request.param == "operations":
        monkeypatch.setattr(optimizer, "_loops", lambda: None)
    return request.param


@pytest.fixture(autouse=True)
def flushed_denormals():
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


def table_of(n_rows: int, dim: int, sparse: bool = True) -> nn.Embedding:
    weight = torch.randn(n_rows, dim, generator=torch.Generator().manual_seed(0)) / 100
    return nn.Embedding(n_rows, dim, sparse=sparse, _weight=weight)


class Gradients:
    """The sparse gradients of a training: ``rows (n_steps, n)``, some repeated, and ``values (n_steps, n, dim)``.

    For each of ``idles`` there are as many rows as wait for so many steps on average when each step draws ``BATCH`` of
    them; for each of ``scales`` there are two columns. A row's gradient lies within four decades below the scale.
    """

    def __init__(self, idles: tuple, scales: tuple, n_steps: int):
        rng = np.random.default_rng(0)
        self.groups = np.repeat(np.arange(len(idles)), np.multiply(idles, BATCH))  # of the rows
        starts = np.cumsum([0, *idles]) * BATCH
        self.rows = np.concatenate([rng.integers(*ends, (n_steps, BATCH)) for ends in zip(starts, starts[1:])], axis=1)
        self.scales = np.repeat(scales, 2)  # of the columns
        decades = 10 ** -rng.uniform(0, 4, (*self.rows.shape, 1))
        values = rng.standard_normal((*self.rows.shape, len(self.scales))) * decades * self.scales
        self.values = values.astype(np.float32)

    def table(self) -> nn.Embedding:
        return table_of(len(self.groups), len(self.scales))


def exact(gradients, rates=None, betas=(0.9, 0.999), eps=1e-8) -> np.ndarray:
    """Dense Adam as it is defined, in double precision; ``rates`` are the learning rates of the steps."""
    p = gradients.table().weight.detach().double().numpy()
    m, v = np.zeros_like(p), np.zeros_like(p)
    for step, (rows, values) in enumerate(zip(gradients.rows, gradients.values.astype(np.float64)), start=1):
        g = np.zeros_like(p)
        np.add.at(g, rows, values)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        rate = 0.001 if rates is None else rates[step - 1]
        p -= rate * m / (1 - betas[0] ** step) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
    return p


def lazy(gradients, before=lambda adam, step: None, **options) -> np.ndarray:
    """The weights after a training with LazyAdam. Each step reads its rows and gets their gradient."""
    table = gradients.table()
    adam = LazyAdam(table, **options)
    for step, (rows, values) in enumerate(zip(torch.from_numpy(gradients.rows), torch.from_numpy(gradients.values))):
        before(adam, step)
        with torch.no_grad():
            table(rows)
        table.weight.grad = torch.sparse_coo_tensor(rows[None], values, table.weight.shape, check_invariants=False)
        adam.step()
    adam.catch_up()
    return table.weight.detach().numpy()


def dense(gradients, **options) -> np.ndarray:
    """The weights after a training with torch's fused dense Adam."""
    weight = nn.Parameter(gradients.table().weight.detach())
    adam = torch.optim.Adam([weight], fused=True, **options)
    weight.grad = torch.zeros_like(weight)
    for rows, values in zip(torch.from_numpy(gradients.rows), torch.from_numpy(gradients.values)):
        weight.grad.zero_().index_add_(0, rows, values)
        adam.step()
    return weight.detach().numpy()


@cache
def truth_and_dense(idles: tuple, scales: tuple, n_steps: int, **options) -> tuple[Gradients, np.ndarray, np.ndarray]:
    gradients = Gradients(idles, scales, n_steps)
    truth = exact(gradients, **options)
    return gradients, truth, np.abs(dense(gradients, **options) - truth)


def assert_no_worse_than_torch(idles: tuple, scales: tuple, n_steps: int, **options) -> None:
    """In each regime the largest and the mean error of LazyAdam are at most those of torch's fused dense Adam."""
    gradients, truth, of_dense = truth_and_dense(idles, scales, n_steps, **options)
    of_lazy = np.abs(lazy(gradients, **options) - truth)
    for group, scale, summary in product(range(len(idles)), scales, (np.max, np.mean)):
        regime = np.ix_(gradients.groups == group, gradients.scales == scale)
        found, allowed = summary(of_lazy[regime]), summary(of_dense[regime])
        assert found <= allowed, (idles[group], scale, summary.__name__)


def test_nearer_to_the_trajectory_than_torch_is(form):
    """Nine regimes: rows idle for 5, 50 and 500 steps on average, gradients of three sizes about epsilon."""
    assert_no_worse_than_torch((5, 50, 500), (1e-3, 1e-6, 1e-8), 3000)


@pytest.mark.slow
def test_nearer_over_twenty_thousand_steps():
    assert_no_worse_than_torch((20,), (1e-4, 1e-7), 20_000)


@pytest.mark.parametrize("eps", [1e-3, 1e-12])
def test_any_epsilon(form, eps):
    assert_no_worse_than_torch((20,), (1e-3, 1e-6), 800, eps=eps)


@pytest.mark.parametrize("betas", [(0.0, 0.999), (0.5, 0.999), (0.95, 0.999)])
def test_other_betas(form, betas):
    assert_no_worse_than_torch((20,), (1e-3, 1e-6), 800, betas=betas)


def test_betas_that_need_more_nodes(form):
    gradients = Gradients((30,), (1e-3, 1e-6), 600)
    np.testing.assert_allclose(lazy(gradients, betas=(0.9, 0.9)), exact(gradients, betas=(0.9, 0.9)), rtol=0, atol=1e-7)


def test_rows_never_touched_touched_once_and_at_every_step(form):
    gradients = Gradients((20,), (1e-3,), 400)
    gradients.rows %= 150
    gradients.rows += 10
    gradients.rows[:, :2] = 2  # at every step, and twice
    gradients.rows[50, 3] = 3
    gradients.rows[300, 4] = 4
    weight, initial = lazy(gradients), gradients.table().weight.detach().numpy()
    assert (weight[:2] == initial[:2]).all() and (weight[2:5] != initial[2:5]).all()
    np.testing.assert_allclose(weight, exact(gradients), rtol=0, atol=1e-7)


def test_without_numba_torch_operations_are_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "denoise_lib.optimizer_loops", raising=False)
    monkeypatch.delattr(denoise_lib, "optimizer_loops", raising=False)
    assert optimizer._loops.__wrapped__() is None


def test_quadrature():
    nodes, weights, start = _quadrature(0.9, 0.999)
    np.testing.assert_allclose(nodes, [6.07427842, 32.92572158], atol=1e-8)
    np.testing.assert_allclose(weights, [7.68418639, 1.31581361], atol=1e-8)
    assert start == 197 and 0.9**start <= 1e-9 < 0.9 ** (start - 1)
    i = np.arange(1, 2000)
    for power in range(4):  # two nodes are exact for cubics
        assert weights @ nodes**power == pytest.approx((0.9**i * i**power).sum())
    assert len(_quadrature(0.9, 0.9)[0]) > 2 and len(_quadrature(0.0, 0.999)[0]) == 1


# ----------------------------------------------------------------------------------------------------- reads and writes


class Reader(nn.Module):
    """A table read as an embedding, one read in bags, and a plain layer."""

    def __init__(self, n_rows: int = 300, dim: int = 4):
        super().__init__()
        self.table = table_of(n_rows, dim)
        weight = table_of(n_rows, dim).weight.detach() * 2
        self.bags = nn.EmbeddingBag(n_rows, dim, mode="sum", sparse=True, _weight=weight)
        self.layer = nn.Linear(dim, 1)
        with torch.no_grad():
            self.layer.weight.fill_(0.5)
            self.layer.bias.zero_()

    def forward(self, rows, others):
        return self.layer(self.table(rows) + self.bags(others, torch.arange(0, len(others), 2))).squeeze(-1)


def steps_of(model, adam, steps, before=lambda step: None, n_rows: int = 300) -> None:
    """Steps on a loss that depends on the weights, so that every read matters."""
    for step in steps:
        before(step)
        rng = np.random.default_rng(step)
        rows, others = (torch.from_numpy(rng.integers(0, n_rows, n)) for n in (BATCH, 2 * BATCH))
        adam.zero_grad()
        ((model(rows, others) - torch.from_numpy(rng.standard_normal(BATCH)).float()) ** 2).mean().backward()
        adam.step()


def reader_and_adam() -> tuple[Reader, LazyAdam]:
    model = Reader()
    return model, LazyAdam(model)


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


STEPS = range(1, 251)


def dense_and_adam() -> tuple[Reader, torch.optim.Adam]:
    model = Reader()
    model.table.sparse = model.bags.sparse = False
    return model, torch.optim.Adam(model.parameters(), fused=True)


def assert_close(first: dict, second: dict, atol: float = 2e-6) -> None:
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=atol)


@cache
def weights_of_dense() -> dict:
    model, adam = dense_and_adam()
    steps_of(model, adam, STEPS)
    return model.state_dict()


def test_a_model_is_trained_as_by_dense_adam(form):
    model, adam = reader_and_adam()
    steps_of(model, adam, STEPS)
    assert_close(model.state_dict(), weights_of_dense())


def test_plain_parameters_and_dense_tables_are_adams_to_the_bit():
    found = []
    for make in (LazyAdam, lambda model: torch.optim.Adam(model.parameters(), fused=True)):
        model = Reader()
        model.table.sparse = model.bags.sparse = False
        steps_of(model, make(model), range(50))
        found.append(model.state_dict())
    assert_same(*found)


def test_reading_in_between_changes_rounding_only(form):
    model, adam = reader_and_adam()

    def read(step):
        if step % 7 == 0:
            adam.catch_up()
        if step % 5 == 0:
            model.eval()(torch.arange(step % 150), torch.arange(2 * (step % 150)))
            model.train()
        if step % 11 == 0:
            model.state_dict()

    steps_of(model, adam, STEPS, before=read)
    assert_close(model.state_dict(), weights_of_dense())


@pytest.mark.parametrize("optimizer_first", [False, True])
@pytest.mark.parametrize("stop_at", [30, 220])  # within the first 197 steps and after
def test_going_on_from_state_dicts_gives_the_same_bits(form, stop_at, optimizer_first):
    model, adam = reader_and_adam()
    steps_of(model, adam, STEPS[:stop_at])
    parts = [("adam", adam), ("model", model)] if optimizer_first else [("model", model), ("adam", adam)]
    saved = {name: copy.deepcopy(part.state_dict()) for name, part in parts}
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    steps_of(model, adam, STEPS[stop_at:])

    continued, its_adam = reader_and_adam()
    steps_of(continued, its_adam, range(500, 710))  # whatever it was before
    for name, part in [("adam", its_adam), ("model", continued)][:: 1 if optimizer_first else -1]:
        part.load_state_dict(saved[name])
    steps_of(continued, its_adam, STEPS[stop_at:])
    assert_same(continued.state_dict(), model.state_dict())


@pytest.mark.parametrize("first, second", [(reader_and_adam, dense_and_adam), (dense_and_adam, reader_and_adam)])
def test_either_goes_on_from_the_state_dicts_of_the_other(form, first, second):
    model, adam = first()
    steps_of(model, adam, STEPS[:220])
    continued, its_adam = second()
    continued.load_state_dict(model.state_dict())
    its_adam.load_state_dict(copy.deepcopy(adam.state_dict()))
    steps_of(continued, its_adam, STEPS[220:])
    assert_close(continued.state_dict(), weights_of_dense())


def test_every_read_is_current(form):
    model, adam = reader_and_adam()
    steps_of(model, adam, STEPS)
    read, reference = copy.deepcopy(model), copy.deepcopy(model)  # with a copy of the optimizer each
    expected = reference.state_dict()
    stale = model.table.weight != expected["table.weight"]
    assert stale.any(1).sum() > 200  # most rows are behind
    rows = torch.arange(0, 300, 3)
    assert torch.equal(read.table(rows), expected["table.weight"][rows])
    assert torch.equal(read.eval().table(input=rows[:, None] + 1)[:, 0], expected["table.weight"][rows + 1])
    bags = read.bags(rows, torch.arange(len(rows)))
    assert torch.equal(bags, expected["bags.weight"][rows])
    assert torch.equal(model.table.weight != expected["table.weight"], stale)  # the copies are copies
    adam.catch_up()
    assert torch.equal(model.table.weight, expected["table.weight"])


def test_a_read_past_the_module_is_noticed(form):
    table = table_of(50, 4)
    adam = LazyAdam(table)
    for rows in torch.arange(30).split(10) * 70:  # beyond the first steps, in which all rows are moved
        table(rows).sum().backward()
        adam.step()
        adam.zero_grad()
    nn.functional.embedding(torch.arange(50), table.weight, sparse=True).sum().backward()
    with pytest.raises(RuntimeError, match="catch_up"):
        adam.step()
    adam.zero_grad()
    adam.catch_up()
    (table.weight**2).sum().backward()  # a dense gradient
    before = table.weight.detach().clone()
    adam.step()
    assert (table.weight != before).all()


def test_what_others_write_is_kept(form):
    """Weights of 70 steps ago are loaded, or rows are written: both as with dense Adam."""
    found = []
    for sparse in (True, False):
        model = Reader()
        model.table.sparse = model.bags.sparse = sparse
        adam = LazyAdam(model)
        kept = {}

        def write(step):
            if step == 150:
                kept.update({name: value.clone() for name, value in model.state_dict().items()})
            if step == 220:
                model.load_state_dict(kept)
            if step == 230:
                adam.catch_up()
                with torch.no_grad():
                    model.table.weight[:10] = 0.25

        steps_of(model, adam, STEPS, before=write)
        found.append(model.state_dict())
    assert_close(*found)


def test_a_second_optimizer_takes_over(form):
    """As in a second phase of a training; the model's copy, with hooks of its own, trains on as the model does."""
    found = []
    for sparse in (True, False):
        model = Reader()
        model.table.sparse = model.bags.sparse = sparse
        steps_of(model, LazyAdam(model), STEPS[:100])
        copied = copy.deepcopy(model)
        for trained in (model, copied):
            steps_of(trained, LazyAdam(trained, lr=0.0005), STEPS[100:])
            found.append(trained.state_dict())
    assert_same(found[0], found[1])
    assert_close(found[0], found[2])


def test_a_row_outside_of_its_table(form):
    table = table_of(50, 4)
    LazyAdam(table)
    for row in (50, -1):
        with pytest.raises(IndexError):
            table(torch.tensor([row]))


def test_closed(form):
    model, adam = reader_and_adam()
    steps_of(model, adam, STEPS[:20])
    expected = copy.deepcopy(model).state_dict()
    adam.close()
    assert_same(dict(model.named_parameters()), expected)
    assert not model.table._forward_pre_hooks and not model.table._state_dict_pre_hooks


# -------------------------------------------------------------------------------------------- settings and torch's ways


def test_a_changed_learning_rate(form):
    """As a schedule changes it: idle rows move by the rate of each step."""
    gradients = Gradients((50,), (1e-3,), 400)
    rates = [0.001] * 300 + [0.0002] * 100

    def schedule(adam, step):
        adam.param_groups[0]["lr"] = rates[step]

    np.testing.assert_allclose(lazy(gradients, before=schedule), exact(gradients, rates), rtol=0, atol=1e-7)


def test_a_rate_changed_just_before_a_state_dict(form):
    """The rows still have to move by the old rate."""
    found = []
    for make in (reader_and_adam, dense_and_adam):
        model, adam = make()
        steps_of(model, adam, STEPS[:220])
        adam.param_groups[0]["lr"] = 0.1
        states = copy.deepcopy((model.state_dict(), adam.state_dict()))
        found.append(states[0])
        model, adam = make()
        model.load_state_dict(states[0])
        adam.load_state_dict(states[1])
        steps_of(model, adam, STEPS[220:221])
        found.append(model.state_dict())
    assert_close(found[0], found[2])
    assert_close(found[1], found[3], atol=1e-4)


def test_a_closure_and_a_scaler(form):
    found = []
    for scaled in (False, True):
        model, adam = reader_and_adam()
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        rows = torch.arange(BATCH)

        def closure():
            adam.zero_grad()
            loss = model(rows, rows.repeat(2)).pow(2).mean()
            scaler.scale(loss).backward()
            return loss

        for _ in range(5):
            if scaled:
                closure()
                scaler.step(adam)
                scaler.update()
            else:
                assert adam.step(closure).item() > 0
        found.append(model.state_dict())
    assert_close(*found, atol=1e-7)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"betas": (0.9995, 0.999)}, "beta1"),
        ({"betas": (0.5**0.5, 0.5)}, "beta1"),
        ({"betas": (0.9486, 0.9)}, "beta1"),  # below the root, and too close to it
        ({"betas": (1.0, 0.999)}, "beta"),
        ({"eps": 0.0}, "eps"),
        ({"lr": -1.0}, "learning rate"),
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"amsgrad": True}, "amsgrad"),
    ],
)
def test_refused_settings(options, message):
    with pytest.raises(ValueError, match=message):
        LazyAdam(table_of(5, 2), **options)


def test_settings_refused_later():
    table = table_of(5, 2)
    adam = LazyAdam(table)
    adam.param_groups[0]["weight_decay"] = 0.1
    table(torch.arange(5)).sum().backward()
    with pytest.raises(ValueError, match="weight_decay"):
        adam.step()


def test_refused_tables():
    with pytest.raises(ValueError, match="max_norm"):
        LazyAdam(nn.Embedding(5, 2, max_norm=1.0, sparse=True))
    with pytest.raises(ValueError, match="max_norm"):
        LazyAdam(nn.EmbeddingBag(5, 2, max_norm=1.0, mode="sum", sparse=True))
    with pytest.raises(ValueError, match="float64"):
        LazyAdam(nn.Embedding(5, 2, sparse=True).double())


class Propagated(nn.Module):
    """A model that reads its table as a whole, as those on graphs do."""

    def __init__(self):
        super().__init__()
        self.table = table_of(300, 4)

    def forward(self, rows, others):
        return self.table.weight.cumsum(0).index_select(0, rows).sum(-1)


def test_a_table_read_as_a_whole_is_dense_adams():
    """To the bit, and after a state dict too."""
    dense, model = Propagated(), Propagated()
    steps_of(dense, torch.optim.Adam(dense.parameters(), fused=True), STEPS[:40])
    adam = LazyAdam(model)
    steps_of(model, adam, STEPS[:20])
    saved = copy.deepcopy((model.state_dict(), adam.state_dict()))
    model = Propagated()
    adam = LazyAdam(model)
    model.load_state_dict(saved[0])
    adam.load_state_dict(saved[1])
    steps_of(model, adam, STEPS[20:40])
    assert_same(model.state_dict(), dense.state_dict())
