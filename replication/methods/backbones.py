"""The backbones by name: how each is built from training interactions, and which options it has."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

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


def _sized(model: type[nn.Module]) -> Callable[..., nn.Module]:
    """``build`` of a model that needs the numbers of users and items alone."""
    return lambda interactions, **options: model(*interactions.shape, **options)


_ALL = (
    Backbone("GMF", _sized(GMF), ("dim",)),
    Backbone("MLP", _sized(MLP), ("dim", "n_layers")),
    Backbone("NeuMF", _sized(NeuMF), ("dim", "n_layers")),
    Backbone(
        "NeuMF-pre",
        _sized(NeuMF),
        ("dim", "n_layers"),
        starts_from=("GMF", "MLP"),
        from_trained=NeuMF.from_pretrained,
        optimizer=torch.optim.SGD,
    ),
    Backbone("CDAE", CDAE, ("hidden_dim", "corruption")),
)
BACKBONES = {backbone.name: backbone for backbone in _ALL}
