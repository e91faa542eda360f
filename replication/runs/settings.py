"""What decides a run: :class:`Settings`, and :func:`plan`, which makes them from a data set's parameters."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch

from denoise_lib.optimizer import LARGE
from replication.methods import METHODS, own
from replication.methods.backbones import BACKBONES, Backbone
from replication.methods.method import Method
from replication.runs.parameters import Parameters
from replication.sources import public

RESULT_VERSION = 1  # raise it whenever the numbers change: older runs are then computed again
LATER = (
    "curve_users",
    "split_seed",
    "patience",
    "knows_validation",
)  # absent where None, so that ids from before they were stay
OPTIONS = {  # of all backbones and methods, in the order in which tables show them
    "backbone_options": [name for backbone in BACKBONES.values() for name in backbone.options],
    "method_options": [name for method in METHODS.values() for name in method.grid],
}


@dataclass(frozen=True)
class Settings:
    """All that decides a run's result besides its data. Options that a backbone or method does not have are absent, so
    that a CE run is the same run whatever T-CE's drop rate is."""

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
    backbone_options: dict = field(hash=False)  # name -> value, never changed
    method_options: dict = field(hash=False)
    diagnostics: bool | None = None  # record what measure.py adds at every evaluation point; changes no weight
    noise: str | None = None  # kind of the false positives added to the clean part of the data (methods/noise.py)
    dose: float | None = None  # and how many, in clean positives
    strategy: str | None = None  # what is done with known true positives (methods/known_positives.py)
    known_share: float | None = None  # and how many are known
    known_weight: float | None = None  # weighted: what a known one counts, in others
    curve_users: int | None = None  # users who are ranked at evaluation points, where not all
    split_seed: int | None = None  # of another random split of the same interactions
    patience: int | None = None  # select by noisy validation Recall, stop after so many points without a better one
    knows_validation: bool | None = None  # controls judge validation rows by what they know of training rows
    threads: int = 1
    device: str = "cpu"
    pretrained: tuple["Settings", ...] = ()  # what it starts from: NeuMF-pre's halves, or a first stage
    method_source: own.Source | None = None  # the user's file that the method is from
    backbone_source: own.Source | None = None

    @property
    def name(self) -> str:
        strategy = f" {self.strategy} {self.known_share:g}" if self.strategy else ""
        return f"{self.backbone} {self.method}{strategy} seed {self.seed}"

    @property
    def result_version(self) -> int:
        """One more where a table is large, or of a size that is not known: LazyAdam trains it since version 1."""
        largest = max(size or math.inf for size in public.sizes(self.dataset))
        return RESULT_VERSION + (largest > LARGE * self.batch_size)

    def the_method(self) -> Method:
        return own.method(self.method, self.method_source)

    def the_backbone(self) -> Backbone:
        return own.backbone(self.backbone, self.backbone_source)

    def flat(self) -> dict:
        """Every setting by its name, options beside the others and None where a run does not have them: what is hashed
        and what ``run.json`` holds. A user's file stands there by its digest."""
        flat: dict = {}
        for name, value in vars(self).items():
            if name in OPTIONS:
                flat |= dict.fromkeys(OPTIONS[name]) | value
            elif isinstance(value, own.Source):
                flat[name] = value.sha256
            elif not name.endswith("_source") and not (name in LATER and value is None):
                flat[name] = tuple(run.flat() for run in value) if name == "pretrained" else value
        return flat

    def id(self, data: Mapping[str, str]) -> str:
        """A readable prefix and a hash of settings, data and result version.

        Args:
            data: file name -> SHA-256 of the data set's files.
        """
        used = {name: value for name, value in self.flat().items() if value is not None}
        content = json.dumps([used, dict(data), self.result_version], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        return f"{self.backbone}-{self.method}-seed{self.seed}-{digest}".lower()


def plan(methods: Iterable[str], parameters: Parameters, *, diagnostics: bool = False) -> list[Settings]:
    """The settings of every (backbone, method, seed) with a data set's parameters; ``device: auto`` is CUDA where there
    is one. Names of methods and backbones from a user's files count too."""
    same = ("dataset", "protocol", "batch_size", "lr", "n_negatives", "eval_every", "test_curve", "threads", "device")
    common = {name: getattr(parameters, name) for name in same}
    common |= {"top_k": tuple(sorted(parameters.top_k)), "diagnostics": diagnostics or None}
    if parameters.device == "auto":
        common["device"] = "cuda" if torch.cuda.is_available() else "cpu"

    def settings(backbone: str, method: str, seed: int) -> Settings:
        sources = parameters.method_sources.get(method), parameters.backbone_sources.get(backbone)
        own_method, own_backbone = own.method(method, sources[0]), own.backbone(backbone, sources[1])
        value = partial(parameters.value, backbone=backbone)
        return Settings(
            **common,
            backbone=backbone,
            method=method,
            seed=seed,
            epochs=value("epochs"),
            curve_users=value("curve_users"),
            backbone_options={name: getattr(parameters, name) for name in own_backbone.options},
            method_options={name: value(name) for name in own_method.grid},
            pretrained=tuple(settings(first, method, seed) for first in own_backbone.starts_from),
            method_source=sources[0],
            backbone_source=sources[1],
        )

    return [
        settings(backbone, method, seed)
        for backbone in parameters.all_backbones()
        for method in methods
        for seed in parameters.value("seeds", backbone)
    ]
