r"""Dense Adam at the cost of the rows that a batch reads.

Adam moves every row of an embedding table at every step, since a row without gradient goes on by its momentum. That
movement is known in advance: a row with moments :math:`m, v` at step :math:`s` that gets no gradient moves in the next
:math:`k` steps by

.. math:: -\eta \sum_{i=1}^k \beta_1^i \, \frac{m / (1 - \beta_1^{s+i})}
          {\beta_2^{i/2} \sqrt v / \sqrt{1 - \beta_2^{s+i}} + \epsilon}.

So it need not move before it is read, and can then do so at once. Once :math:`\beta_1^s` is negligible,
:math:`\beta_1^i` weighs a function that is smooth in :math:`i`, and Gauss quadrature gives the sum to infinity. What is
asked for is that sum from :math:`s` less that from :math:`s + k`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

LARGE = 8  # batches: a table of more rows is worth it
NEGLIGIBLE = 1e-9  # relative error of the quadrature, and the beta1^s from which it is used
MAX_NODES = 64
ROWS_PER_BLOCK = 1 << 12  # of a table that is brought up to date as a whole: what is computed stays in the cache


class LazyAdam(torch.optim.Adam):
    r"""Adam with dense Adam's trajectory, up to rounding, in which a table costs no more than the rows that are read.

    Tables are the model's ``nn.Embedding`` and ``nn.EmbeddingBag`` modules that have ``sparse=True``. All else is
    updated by ``torch.optim.Adam(fused=True)``, as is a table in its first steps (197 at the usual betas) and where
    its gradient is dense. (``torch.optim.SparseAdam``, and TensorFlow Addons' LazyAdam, leave idle rows where they are:
    another algorithm.) On a CPU numba's compiled loops update the rows where it is installed, else torch operations.

    A table's rows are brought up to date before its forward pass reads them, and all of them before a state dict of
    model or optimizer is made or loaded. **Code that reads or writes a** ``weight`` **itself calls** :meth:`catch_up`
    **first**; :meth:`close` ends the arrangement. The state dict is ``torch.optim.Adam``'s: either can go on from the
    other's, and training that goes on from state dicts gives the bits of that which went on after making them.

    After 3,000 steps a weight is within 3e-7 of dense Adam in double precision, fused dense Adam in single precision
    within 8e-7. A change of ``lr``, ``betas`` or ``eps`` costs a step of dense Adam: all rows are brought up to date.

    Source: D. P. Kingma and J. Ba, ICLR 2015, arXiv:1412.6980 (Adam); G. H. Golub and J. H. Welsch, Calculation of
    Gauss Quadrature Rules, Mathematics of Computation 23, 1969.

    Args:
        model: all its parameters are optimized; its tables are float32. Close an older LazyAdam of the model first.
        options: ``lr``, ``betas``, ``eps`` of ``torch.optim.Adam``; ``eps`` is positive and :math:`\beta_1` below
            :math:`\sqrt{\beta_2}`, not close to it.

    Raises:
        ValueError: an option out of range; ``weight_decay``, ``amsgrad``, ``maximize``; a table with ``max_norm`` or of
            another dtype.
        RuntimeError: in :meth:`step`, when a row has a gradient but was not up to date when it was read.
    """

    def __init__(self, model: nn.Module, **options):
        super().__init__(model.parameters(), fused=True, **options)
        self._step_supports_amp_scaling = False  # a GradScaler has to unscale the gradients of tables itself
        self._settings = _checked(self.param_groups[0])
        self._current: dict[Tensor, Tensor] = {}  # table -> the step for which each row is right
        self._hooks = []
        for table in model.modules():
            if not isinstance(table, nn.Embedding | nn.EmbeddingBag) or not table.sparse:
                continue
            if table.max_norm is not None or table.weight.dtype != torch.float32:
                raise ValueError(f"LazyAdam takes float32 tables without max_norm, got {table}, {table.weight.dtype}")
            self._current[table.weight] = torch.zeros(len(table.weight), dtype=torch.int64, device=table.weight.device)
            self._hooks.append(table.register_forward_pre_hook(self._before_forward, with_kwargs=True))
            self._hooks.append(table.register_state_dict_pre_hook(self.catch_up))
            self._hooks.append(table.register_load_state_dict_pre_hook(self.catch_up))

    @torch.no_grad()
    def step(self, closure=None):
        """One step of every parameter that has a gradient; ``closure`` and result as in ``torch.optim.Adam``."""
        loss = torch.enable_grad()(closure)() if closure else None
        if (settings := _checked(self.param_groups[0])) != self._settings:
            self.catch_up()
            self._settings = settings
        sparse = {}
        for weight, current in self._current.items():
            if weight.grad is None:
                continue
            now, gradient = self._steps(weight), weight.grad
            read = current.index_select(0, gradient._indices()[0]) if gradient.is_sparse else current
            if (read < now).any():
                raise RuntimeError("a row with a gradient was not up to date: call catch_up() before reading weight")
            if gradient.is_sparse and now >= _quadrature(*settings[1:3])[2]:
                sparse[weight], weight.grad = gradient, None  # so that Adam passes over it
            else:
                weight.grad = gradient.to_dense()
                current.fill_(now + 1)
        super().step()
        for weight, gradient in sparse.items():
            weight.grad = gradient
            self.state[weight]["step"] += 1
            self._update(_step, weight, gradient._indices()[0], gradient._values().contiguous())
        return loss

    @torch.no_grad()
    def catch_up(self, *_) -> None:
        """Brings all rows of all tables up to date; takes what torch hands to a hook."""
        for weight in self._current:
            self._catch_up(weight, torch.arange(len(weight), device=weight.device))

    def close(self) -> None:
        """Brings all rows up to date and lets go of the model, which can then be read, written and moved freely."""
        self.catch_up()
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict:
        self.catch_up()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        self.catch_up()
        super().load_state_dict(state_dict)
        self._settings = _checked(self.param_groups[0])
        for weight, current in self._current.items():
            current.fill_(self._steps(weight))

    def __getstate__(self) -> dict:  # a copied model has hooks, and so brings a copy of its optimizer
        return super().__getstate__() | {name: vars(self)[name] for name in ("_settings", "_current", "_hooks")}

    @torch.no_grad()
    def _before_forward(self, table: nn.Module, args: tuple, kwargs: dict) -> None:
        self._catch_up(table.weight, (args[0] if args else kwargs["input"]).flatten())

    def _steps(self, weight: Tensor) -> int:
        return int(self.state[weight].get("step", 0))

    def _catch_up(self, weight: Tensor, rows: Tensor) -> None:
        """Makes rows ``(n,)`` of a table what dense Adam's are now."""
        rows = rows[self._current[weight].index_select(0, rows) < self._steps(weight)]
        for block in rows.split(ROWS_PER_BLOCK) if len(rows) else ():
            self._update(_catch_up, weight, block, *_quadrature(*self._settings[1:3])[:2])

    def _update(self, function: Callable, weight: Tensor, rows: Tensor, *more) -> None:
        """Calls :func:`_catch_up` or :func:`_step`, compiled where it can be."""
        state, now = self.state[weight], self._steps(weight)
        table = weight.detach(), state["exp_avg"], state["exp_avg_sq"], self._current[weight]
        if weight.device.type == "cpu" and (loops := _loops()):
            function, table, rows = getattr(loops, function.__name__), tuple(map(np.asarray, table)), rows.numpy()
            more = map(np.asarray, more)
        function(table, now, rows, *self._settings, *more)


def _checked(group: dict) -> tuple[float, float, float, float]:
    """A group's learning rate, betas and epsilon."""
    for name in ("weight_decay", "amsgrad", "maximize"):
        if group[name]:
            raise ValueError(f"LazyAdam has no {name}")
    if not group["eps"] > 0:
        raise ValueError(f"eps must be positive, got {group['eps']}")
    _quadrature(*group["betas"])
    return float(group["lr"]), *group["betas"], group["eps"]


@cache
def _quadrature(beta1: float, beta2: float) -> tuple[np.ndarray, np.ndarray, int]:
    r"""Nodes and weights with :math:`\sum_{i \ge 1} \beta_1^i f(i) \approx \sum_j w_j f(x_j)`; their first step.

    Golub and Welsch: the nodes are the eigenvalues of the Jacobi matrix of the polynomials orthogonal under that sum,
    Meixner's. They are as few as give the sum for :math:`f(i) = \beta_2^{-i/2}`, which is known, and is the steepest
    function that is met (:math:`\epsilon = 0`): two at the usual betas.
    """
    if beta1**2 < beta2:
        ratio = beta1 / math.sqrt(beta2)
        for n in range(1, MAX_NODES + 1):
            j = np.arange(n)
            beside = np.diag(j[1:] * math.sqrt(beta1), 1)
            nodes, vectors = np.linalg.eigh((np.diag(1 + j * (1 + beta1)) + beside + beside.T) / (1 - beta1))
            weights = beta1 / (1 - beta1) * vectors[0] ** 2
            if abs(weights @ beta2 ** (-nodes / 2) * (1 - ratio) - ratio) <= NEGLIGIBLE * ratio:
                return nodes, weights, math.ceil(math.log(NEGLIGIBLE) / math.log(beta1)) if beta1 else 1
    raise ValueError(f"LazyAdam needs a beta1 well below the root of beta2, got {beta1} and {beta2}")


def _catch_up(table, now, rows, lr, beta1, beta2, eps, nodes, weights) -> None:
    """Brings rows ``(n,)`` to step ``now``. Factors of whole rows are computed in double precision."""
    weight, exp_avg, exp_avg_sq, current = table
    last = current.index_select(0, rows).double()[:, None]
    idle = now - last
    p, m, v = (values.index_select(0, rows) for values in (weight, exp_avg, exp_avg_sq))
    root, moved = v.sqrt(), torch.zeros_like(m)
    for node, share in zip(nodes, lr * weights):
        for factor, i in (-share, node), (share * beta1**idle, node + idle):
            decay = (beta2**i / (1 - beta2 ** (last + i))).sqrt()
            moved.addcdiv_(m * torch.as_tensor(factor).float(), (root * decay.float()).add_(eps))
    weight.index_copy_(0, rows, p.add_(moved))
    exp_avg.index_copy_(0, rows, m.mul_((beta1**idle).float()))
    exp_avg_sq.index_copy_(0, rows, v.mul_((beta2**idle).float()))
    current.index_fill_(0, rows, now)


def _step(table, now, rows, lr, beta1, beta2, eps, gradient) -> None:
    """Step ``now`` of Adam, for the gradient ``(n, dim)`` of rows ``(n,)``, which may repeat."""
    weight, exp_avg, exp_avg_sq, current = table
    rows, where = rows.unique(return_inverse=True)
    gradient = gradient.new_zeros(len(rows), gradient.shape[1]).index_add_(0, where, gradient)
    p, m, v = (values.index_select(0, rows) for values in (weight, exp_avg, exp_avg_sq))
    m.mul_(beta1).add_(gradient, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    p.addcdiv_(m, v.sqrt().div_(math.sqrt(1 - beta2**now)).add_(eps), value=-lr / (1 - beta1**now))
    for values, new in (weight, p), (exp_avg, m), (exp_avg_sq, v):
        values.index_copy_(0, rows, new)
    current.index_fill_(0, rows, now)


@cache
def _loops():
    """The compiled :func:`_catch_up` and :func:`_step`; None without numba, or without a folder for compiled code."""
    with suppress(ImportError, RuntimeError):
        from denoise_lib import optimizer_loops

        return optimizer_loops


@contextmanager
def optimizer_for(model: nn.Module, make: Callable | None, batch_size: int, lr: float) -> Iterator[Optimizer]:
    """What ``make`` makes, or Adam: :class:`LazyAdam` for tables on a CPU that are large beside a batch.

    Such tables report the rows that a batch read, to plain SGD too; other optimizers may not be made for that. Denormal
    numbers, into which the momentum of an idle row decays, are slow: they are flushed to zero.
    """
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) and not m.sparse]
    tables = [t for t in tables if t.num_embeddings > LARGE * batch_size and t.weight.device.type == "cpu"]
    for table in tables:
        table.sparse = make in (None, torch.optim.SGD)
    torch.set_flush_denormal(True)
    try:
        if make:
            yield make(model.parameters(), lr=lr)
        else:
            with closing(LazyAdam(model, lr=lr)) as optimizer:
                yield optimizer
    finally:
        torch.set_flush_denormal(False)
        for table in tables:
            table.sparse = False
