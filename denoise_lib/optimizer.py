"""Adam, and what keeps large embedding tables from costing more than the training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def adam(parameters, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=lr, fused=True)  # one pass over memory instead of a dozen


@contextmanager
def fast_tables(model: nn.Module, batch_size: int) -> Iterator[Callable]:
    """Keeps the gradients of large embedding tables, and denormal numbers, from costing more than the training.

    A dense gradient of a large table is allocated and zeroed anew at every step, although a batch touches few of its
    rows. Inside this block such tables report the touched rows only, and the yielded function adds these into a dense
    gradient that is kept from step to step: the optimizer sees what it would have seen. Adam's momentum of a row that
    is not touched for hundreds of steps decays into denormal numbers, which are slow; they are flushed to zero.
    """
    tables = [
        m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings > 8 * batch_size and not m.sparse
    ]
    kept: dict[Tensor, tuple[Tensor, Tensor]] = {}  # parameter -> its dense gradient, the rows written last

    def densify(parameters) -> None:
        for parameter in parameters if tables else ():
            if parameter.grad is None or not parameter.grad.is_sparse:
                continue
            rows, values = parameter.grad._indices()[0], parameter.grad._values()
            gradient, written = kept.get(parameter) or (torch.zeros_like(parameter), rows[:0])
            gradient.index_fill_(0, written, 0).index_add_(0, rows, values)
            kept[parameter] = gradient, rows
            parameter.grad = gradient

    for table in tables:
        table.sparse = True
    torch.set_flush_denormal(True)
    try:
        yield densify
    finally:
        torch.set_flush_denormal(False)
        for table in tables:
            table.sparse = False
