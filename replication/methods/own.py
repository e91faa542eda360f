"""A user's own losses and backbones: files whose public functions and classes join the comparison by their names."""

import ast
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import nn

from replication.methods import METHODS
from replication.methods.backbones import BACKBONES, Backbone
from replication.methods.known_positives import STRATEGIES
from replication.methods.method import Method
from replication.support import paths

PARAMETERS = ["logits", "labels", "step"]  # of a function that is a loss
OTHER_ROWS = ("MostPop", "ItemKNN", "EASE", "plain", *STRATEGIES)  # names of rows and lines beside those of methods


@dataclass(frozen=True)
class Source:
    """A user's file as it was when a run was planned: the run is trained by this code, whatever becomes of the file."""

    file: str
    code: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.code).hexdigest()


def own_methods(files: list[str]) -> dict[str, Source]:
    """Name -> file of each loss: a public function with exactly the parameters ``logits, labels, step``.

    Raises:
        ValueError: a file is not there, cannot be run or has no loss, a name is taken, or a loss does not give a finite
            scalar with a finite gradient for a small batch.
    """
    wanted = f"function with exactly the parameters {', '.join(PARAMETERS)}"
    return _found(files, _is_loss, _try_loss, [*METHODS, *OTHER_ROWS], wanted)


def own_backbones(files: list[str]) -> dict[str, Source]:
    """Name -> file of each backbone: a public ``nn.Module`` that has ``score_items``.

    Raises:
        ValueError: a file is not there, cannot be run or has no backbone, a name is taken, or a backbone cannot be
            built as ``Class(interactions, dim=…, generator=…)`` or does not score the pairs of a small matrix.
    """
    return _found(files, _is_backbone, _try_backbone, [*BACKBONES], "nn.Module with forward and score_items")


def method(name: str, source: Source | None) -> Method:
    """The method of that name, from a user's file where one is given."""
    if source is None:
        return METHODS[name]
    return Method(name, f"from {Path(source.file).name}", loss=lambda: getattr(_module(source), name))


def backbone(name: str, source: Source | None) -> Backbone:
    """The backbone of that name, from a user's file where one is given."""
    return BACKBONES[name] if source is None else Backbone(name, getattr(_module(source), name), ("dim",))


def _found(files: list[str], is_one: Callable, try_it: Callable, names: list[str], wanted: str) -> dict[str, Source]:
    taken, found = {_plain(name): name for name in names}, {}
    for source in map(_read, files):
        module, nodes = _module(source), ast.parse(source.code).body
        defined = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        members = {name: one for name, one in vars(module).items() if name[0] != "_" and is_one(one)}
        members = {name: one for name, one in members.items() if one.__module__ == module.__name__}  # not imported
        if not members:
            raise ValueError(f"{source.file} has no public {wanted}")
        for name, one in members.items():
            if defined.count(name) > 1:
                raise ValueError(f"{source.file} defines {name} {defined.count(name)} times")
            if _plain(name) in taken:
                raise ValueError(f"{source.file}: the name {name} is taken by {taken[_plain(name)]}; choose another")
            try:
                try_it(one)
            except Exception as error:
                raise ValueError(f"{name} fails (see docs/extending.md): {_told(source, error)}") from error
            taken[_plain(name)], found[name] = f"{name} of {source.file}", source
    return found


def _plain(name: str) -> str:
    """A name without what readers do not tell apart."""
    return name.lower().replace("-", "").replace("_", "")


def _read(file: str) -> Source:
    path = (paths.PROJECT / file).resolve()  # the command makes paths whole; those in a params file are the project's
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return Source(str(path), path.read_bytes())


@cache
def _module(source: Source) -> ModuleType:
    """The file, run as a module of its own."""
    module = sys.modules[f"own_{source.sha256}"] = ModuleType(f"own_{source.sha256}")  # dataclasses look there
    try:
        exec(compile(source.code, source.file, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise ValueError(_told(source, error)) from error
    return module


def _told(source: Source, error: BaseException) -> str:
    """The file, its line where there is one (a syntax error tells its own), and what happened."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f" line {frame.lineno}:" for frame in frames if frame.filename == source.file]
    return f"{source.file}:{''.join(lines[-1:])} {type(error).__name__}: {error}"


def _is_loss(one) -> bool:
    return inspect.isfunction(one) and list(inspect.signature(one).parameters) == PARAMETERS


def _is_backbone(one) -> bool:
    return inspect.isclass(one) and issubclass(one, nn.Module) and hasattr(one, "score_items")


def _try_loss(loss: Callable) -> None:
    logits = torch.linspace(-2, 2, 8).requires_grad_()
    value = loss(logits, torch.tensor([1.0, 0.0] * 4), 0)
    if getattr(value, "shape", None) != ():
        gives = getattr(value, "shape", value)
        raise ValueError(f"it gives {gives}; a loss is a scalar tensor, such as the mean over the batch")
    value.backward()
    if not (value.isfinite() and logits.grad.isfinite().all()):
        raise ValueError(f"the loss is {value.item():g} and its gradient {logits.grad.tolist()}")


def _try_backbone(backbone: type) -> None:
    interactions = csr_matrix(np.tri(40, 60, -1, dtype=np.int8))  # the first user and the last items have none
    users, items = torch.arange(40), torch.arange(60)
    model, again = (backbone(interactions, dim=16, generator=torch.Generator().manual_seed(1)).eval() for _ in range(2))
    logits, scores = model(users.repeat_interleave(60), items.repeat(40)), model.score_items(users)
    if logits.shape != (2400,) or scores.shape != (40, 60):
        given = f"{tuple(logits.shape)} and {tuple(scores.shape)}"
        raise ValueError(f"forward gives (2400,) for 2400 pairs, score_items (40, 60) for 40 users, and not {given}")
    if not torch.allclose(logits.view(40, 60), scores, rtol=1e-3, atol=1e-5):
        raise ValueError("forward and score_items give other numbers for the same pairs, or NaN")
    if not torch.equal(scores, again.score_items(users)):
        raise ValueError("its initial weights do not come from the generator that it is given")
    logits.sum().backward()
