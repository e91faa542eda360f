"""The backbones by name: how each is built from training interactions, and which options it has."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.sparse import csr_matrix
from torch import Generator, nn

from denoise_lib.models import CDAE, GMF, MLP, NeuMF


@dataclass(frozen=True)
class Backbone:
    """One kind of model.

    Attributes:
        name: as the tables print it.
        build: ``(interactions, generator=…, **options) -> model``, where ``interactions`` is the CSR matrix
            ``(n_users, n_items)`` of the training positives.
        options: names of its options, which ``params/<dataset>.yaml`` sets.
        starts_from: backbones whose trained models ``from_trained`` takes to make the initial weights.
        optimizer: ``(parameters, lr=…) -> Optimizer``; None: that of :func:`denoise_lib.train.fit`.
    """

    name: str
    build: Callable[..., nn.Module]
    options: tuple[str, ...]
    starts_from: tuple[str, ...] = ()
    from_trained: Callable[..., nn.Module] | None = None
    optimizer: Callable | None = None


def _gmf(interactions: csr_matrix, dim: int, generator: Generator) -> GMF:
    return GMF(*interactions.shape, dim, generator)


def _mlp(interactions: csr_matrix, dim: int, n_layers: int, generator: Generator) -> MLP:
    return MLP(*interactions.shape, dim, n_layers, generator)


def _neumf(interactions: csr_matrix, dim: int, n_layers: int, generator: Generator) -> NeuMF:
    return NeuMF(*interactions.shape, dim, n_layers, generator)


_ALL = (
    Backbone("GMF", _gmf, ("dim",)),
    Backbone("MLP", _mlp, ("dim", "n_layers")),
    Backbone("NeuMF", _neumf, ("dim", "n_layers")),
    Backbone(
        "NeuMF-pre",
        _neumf,
        ("dim", "n_layers"),
        starts_from=("GMF", "MLP"),
        from_trained=NeuMF.from_pretrained,
        optimizer=torch.optim.SGD,
    ),
    Backbone("CDAE", CDAE, ("hidden_dim", "corruption")),
)
BACKBONES = {backbone.name: backbone for backbone in _ALL}
