"""What decides a run: :class:`Settings`, and :func:`plan`, which makes them from a data set's parameters."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from denoise_lib import datasets, paths
from denoise_lib.controls import CONTROLS, DROPPING
from denoise_lib.train import PROTOCOLS

RESULT_VERSION = 1  # raise it whenever the numbers change: older runs are then computed again
BACKBONES = ("GMF", "MLP", "NeuMF", "NeuMF-pre", "CDAE")
METHODS = ("CE", "T-CE", "R-CE")  # the paper's; controls.py has the others
ON_KNOWN = ("known-only", "fine-tuning")  # strategies of extra feedback that train on it alone, with CE
STRATEGIES = (*ON_KNOWN, "warm-up", "weighted")


@dataclass(frozen=True)
class Settings:
    """All that decides a run's result besides its data. What a backbone or method does not use is None, so that a
    CE run is the same run whatever T-CE's drop rate is."""

    dataset: str
    backbone: str
    method: str
    seed: int
    protocol: str
    epochs: int
    batch_size: int
    lr: float
    n_negatives: int
    eval_every: int
    top_k: tuple[int, ...]
    test_curve: bool  # record test metrics at every evaluation point, for analysis only
    dim: int | None = None
    n_layers: int | None = None
    hidden_dim: int | None = None
    corruption: float | None = None
    max_drop_rate: float | None = None
    ramp_steps: int | None = None
    beta: float | None = None
    diagnostics: bool | None = None  # record what diagnostics.py measures, at every evaluation point; changes no weight
    noise: str | None = None  # kind of the false positives added to the clean part of the data (noise.py)
    dose: float | None = None  # and how many, in clean positives
    strategy: str | None = None  # what is done with known true positives (extra_feedback.py)
    known_share: float | None = None  # and how many are known
    known_weight: float | None = None  # weighted: what a known one counts, in others
    threads: int = 1
    device: str = "cpu"
    pretrained: tuple["Settings", ...] = ()  # the runs whose weights it starts from: NeuMF-pre's halves, or a first stage

    @property
    def name(self) -> str:
        strategy = f" {self.strategy} {self.known_share:g}" if self.strategy else ""
        return f"{self.backbone} {self.method}{strategy} seed {self.seed}"

    def id(self) -> str:
        """A readable prefix and a hash of settings, data and result version."""
        used = {name: value for name, value in asdict(self).items() if value is not None}
        content = json.dumps([used, datasets.checksums(self.dataset), RESULT_VERSION], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        return f"{self.backbone}-{self.method}-seed{self.seed}-{digest}".lower()

    @property
    def folder(self) -> Path:
        return paths.results(self.dataset) / "runs" / self.id()


def plan(
    methods: Iterable[str],
    *,
    dataset: str,
    backbones: list[str],
    seeds: list[int] | dict[str, list[int]],
    protocol: str,
    epochs: int | dict[str, int],
    batch_size: int,
    lr: float,
    n_negatives: int,
    eval_every: int,
    top_k: list[int],
    test_curve: bool,
    dim: int,
    n_layers: int,
    hidden_dim: int,
    corruption: float,
    max_drop_rate: float | dict[str, float],
    ramp_steps: int | dict[str, int],
    beta: float | dict[str, float],
    threads: int,
    device: str,
    diagnostics: bool = False,
) -> list[Settings]:
    """The settings of every (backbone, method, seed). ``seeds``, ``epochs``, ``max_drop_rate``, ``ramp_steps`` and
    ``beta`` are one value or a map from backbone to value; ``device: auto`` is CUDA where there is one.

    Raises:
        ValueError: a value out of range, or a map that lacks a backbone.
    """
    _check_choices("backbones", backbones, BACKBONES)
    _check_choices("methods", methods, METHODS + CONTROLS)
    _check_choices("protocol", [protocol], PROTOCOLS)
    _check_choices("device", [device], ("auto", "cpu", "cuda"))
    lists = seeds.values() if isinstance(seeds, dict) else [seeds]
    for name, values in [*(("seeds", values) for values in lists), ("top_k", top_k), ("backbones", backbones)]:
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} is a list of at least one value without repeats, got {values}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"

    def settings(backbone: str, method: str, seed: int) -> Settings:
        own = partial(value_for, backbone)
        is_cdae, drops = backbone == "CDAE", method in DROPPING
        run = Settings(
            dataset, backbone, method, seed, protocol, own("epochs", epochs), batch_size, lr, n_negatives, eval_every,
            tuple(sorted(top_k)), test_curve,
            dim=None if is_cdae else dim,
            n_layers=None if backbone in ("GMF", "CDAE") else n_layers,
            hidden_dim=hidden_dim if is_cdae else None,
            corruption=float(corruption) if is_cdae else None,
            max_drop_rate=float(own("max_drop_rate", max_drop_rate)) if drops else None,
            ramp_steps=own("ramp_steps", ramp_steps) if drops else None,
            beta=float(own("beta", beta)) if method == "R-CE" else None,
            diagnostics=diagnostics or None,
            threads=threads,
            device=device,
            pretrained=tuple(settings(half, method, seed) for half in ("GMF", "MLP")) if backbone == "NeuMF-pre" else (),
        )  # fmt: skip
        _check_ranges(run)
        return run

    return [
        settings(backbone, method, seed)
        for backbone in backbones
        for method in methods
        for seed in value_for(backbone, "seeds", seeds)
    ]


def value_for(backbone: str, name: str, value):
    """A backbone's own value of a parameter, which is one value for all or a map from backbone to value.

    Raises:
        ValueError: the map lacks the backbone.
    """
    if not isinstance(value, dict):
        return value
    if backbone not in value:
        raise ValueError(f"{name} names {', '.join(value)}, but not {backbone}; give it one value or add it")
    return value[backbone]


def _check_choices(name: str, values: Iterable[str], choices: tuple[str, ...]) -> None:
    for value in values:
        if value not in choices:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(choices)}")


def _check_ranges(run: Settings) -> None:
    counts = ("epochs", "batch_size", "n_negatives", "eval_every", "dim", "n_layers", "hidden_dim", "threads")
    for name in counts:
        value = getattr(run, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name in ("corruption", "max_drop_rate"):
        value = getattr(run, name)
        if value is not None and not 0 <= value < 1:
            raise ValueError(f"{name} is a share in [0, 1), got {value}")
    for name in ("seed", "ramp_steps", "beta"):
        value = getattr(run, name)
        if value is not None and value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    if run.top_k[0] < 1 or run.lr <= 0:
        raise ValueError(f"top_k must be at least 1 and lr positive, got {run.top_k} and {run.lr}")
