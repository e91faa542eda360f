"""A user's own losses and backbones: Python files whose public functions or modules join the comparison by their names."""

import ast
import hashlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from replication.methods import METHODS
from replication.methods.backbones import BACKBONES, Backbone
from replication.methods.method import Method, Style
from replication.support import paths

PARAMETERS = ["logits", "labels", "step"]  # of a function that is a loss
BASELINES = ("MostPop", "ItemKNN", "EASE")  # names that tables give to rows of their own
COLOURS = ("#7B3294", "#A6611A", "#01665E", "#C51B7D", "#4D4D4D", "#8C510A")
MARKERS = ("d", "<", ">", "p", "h", "8")


@dataclass(frozen=True)
class Source:
    """A file with a user's code, as it was when a run was planned."""

    file: str
    sha256: str


def source_of(file: str | Path) -> Source:
    """The file, which must exist, and the digest of its content.

    Raises:
        ValueError: there is no such file.
    """
    file = (paths.PROJECT / file).resolve()  # the command makes paths whole; those in a params file are of the project
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    return Source(str(file), hashlib.sha256(file.read_bytes()).hexdigest())


def own_methods(files: list[str]) -> dict[str, Source]:
    """Name -> file of every loss in some files: each public function with exactly the parameters ``logits, labels, step``.

    Raises:
        ValueError: a file that cannot be run or has no loss, a name that is taken or used twice, or a loss that does not
            give a finite scalar with a gradient for a small batch.
    """
    found = _named(
        files, _losses, [*METHODS, *BASELINES], f"public function with the parameters {', '.join(PARAMETERS)}"
    )
    for name, source in found.items():
        _try(name, source)
    return found


def own_backbones(files: list[str]) -> dict[str, Source]:
    """Name -> file of every backbone in some files: each public ``nn.Module`` with ``forward`` and ``score_items``.

    Raises:
        ValueError: a file that cannot be run or has no backbone, or a name that is taken or used twice.
    """
    return _named(files, _modules, list(BACKBONES), "public nn.Module with forward and score_items")


def method(name: str, source: Source | None) -> Method:
    """The method of that name, from a user's file where one is given."""
    if source is None:
        return METHODS[name]
    place = int(source.sha256, 16)
    style = Style(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)], (0, (4, 2)))
    loss = _checked(name, source, _losses(source)[name])
    return Method(name, f"from {Path(source.file).name}", style, loss=lambda: loss)


def backbone(name: str, source: Source | None) -> Backbone:
    """The backbone of that name, from a user's file where one is given."""
    return BACKBONES[name] if source is None else Backbone(name, _modules(source)[name], ("dim",))


def _named(files: list[str], members, taken: list[str], wanted: str) -> dict[str, Source]:
    plain = {name.lower().replace("-", "_"): name for name in taken}
    found: dict[str, Source] = {}
    for source in map(source_of, files):
        names = _names_twice(source) + list(members(source))
        if not names:
            raise ValueError(f"{source.file}: nothing to compare in it, it has no {wanted}")
        for name in names:
            if name.lower() in plain:
                raise ValueError(
                    f"{source.file}: the name {name} is taken by {plain[name.lower()]}; choose another one"
                )
            if name in found or names.count(name) > 1:
                other = f" and in {found[name].file}" if name in found else ""
                raise ValueError(f"{source.file}: {name} is defined twice, here{other}; choose another name")
            found[name] = source
    return found


def _names_twice(source: Source) -> list[str]:
    """Names of public functions and classes that the file defines a second time, of which Python would keep the last."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = [node.name for node in ast.parse(_text(source)).body if isinstance(node, kinds) and node.name[0] != "_"]
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _text(source: Source) -> str:
    content = Path(source.file).read_bytes()
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ValueError(f"{source.file} has changed since this run was planned; start again")
    return content.decode()


@cache
def _module(source: Source):
    """The file, run as a module of its own."""
    name = f"own_{source.sha256[:12]}"
    try:
        text = _text(source)
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, None, origin=source.file))
        module.__file__ = source.file
        sys.modules[name] = module
        exec(compile(text, source.file, "exec"), module.__dict__)
    except SyntaxError as error:
        raise ValueError(f"{source.file}: line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise ValueError(f"{source.file} cannot be run: {type(error).__name__}: {error}") from error
    return module


def _public(source: Source, is_one) -> dict:
    """The members that the file itself defines, in their order."""
    module = _module(source)
    return {
        name: member
        for name, member in vars(module).items()
        if not name.startswith("_") and getattr(member, "__module__", None) == module.__name__ and is_one(member)
    }


def _losses(source: Source) -> dict:
    is_loss = lambda one: inspect.isfunction(one) and list(inspect.signature(one).parameters) == PARAMETERS  # noqa: E731
    return _public(source, is_loss)


def _modules(source: Source) -> dict:
    def is_backbone(one) -> bool:
        return inspect.isclass(one) and issubclass(one, nn.Module) and hasattr(one, "score_items")

    return _public(source, is_backbone)


def _checked(name: str, source: Source, loss):
    """The loss, with an error that names the file where it gives no scalar."""

    def checked(logits: Tensor, labels: Tensor, step: int) -> Tensor:
        value = loss(logits, labels, step)
        if not isinstance(value, Tensor) or value.shape != ():
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{source.file}: {name} must give a scalar tensor, the loss of the batch; it gave {got}")
        return value

    return checked


def _try(name: str, source: Source) -> None:
    """Calls a loss on eight rows, so that what is wrong with it is said before anything is trained."""
    logits = torch.linspace(-2, 2, 8).requires_grad_()
    labels = torch.tensor([1.0, 0.0] * 4)
    try:
        value = _checked(name, source, _losses(source)[name])(logits, labels, 0)
        value.backward()
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{source.file}: {name} fails on a small batch: {type(error).__name__}: {error}") from error
    if not torch.isfinite(value) or logits.grad is None or not torch.isfinite(logits.grad).all():
        raise ValueError(f"{source.file}: {name} gives {value.item():g} or no finite gradient on a small batch")
