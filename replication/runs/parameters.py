"""A data set's parameters: ``params/<dataset>.yaml`` and what a call changes of them, checked by :func:`resolve`."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from denoise_lib.train import PROTOCOLS
from replication.methods import CONTROLS, PAPER, own
from replication.methods.backbones import BACKBONES
from replication.sources import public
from replication.support import paths

# The types that readers see in --help and in docs/parameters.md.
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Unit = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Weight = Annotated[float, Field(ge=1)]
Protocol, Control = Literal[PROTOCOLS], Literal[CONTROLS]
Order = Literal["random", "time"]
Device, Jobs = Literal["auto", "cpu", "cuda"], Literal["auto"] | Count
Records = bool | Literal["only"]
TYPES = (
    "Count: an integer from 1. Whole: an integer from 0. Share: a number in [0, 1). Part: in (0, 1]. Unit: in [0, 1]. "
    "Positive: above 0. NotNegative: from 0. Weight: from 1."
)
CHANGE_NO_RESULT = ("jobs", "use_records")  # decide when and from where numbers are there, not what they are
ADD_ROWS = ("own_methods", "own_backbones")  # beside the others, which stay as they are
SPOIL_NO_COMPARISON = ("seeds", "backbones", "top_k", "test_curve", "threads", "device")  # with the published numbers


def _about(text: str, default: Any = ...) -> Any:
    return Field(default, description=text)


class Grids(BaseModel):
    """The values of the sensitivity study, and the ends of the dose-response study; an absent one is not studied."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    max_drop_rate: list[Share] = []
    ramp_steps: list[Whole] = []
    beta: list[NotNegative] = []


class Fair(BaseModel):
    """What 08_fair_fight trains with, by ``tools/tune.py --fair``: backbone -> value; ``lr`` has all its backbones."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    splits: list[Whole] = []  # seeds of random splits, one run each; []: the split of the data set, with its seeds
    lr: dict[str, Positive] = {}
    max_drop_rate: dict[str, Share] = {}
    ramp_steps: dict[str, Whole] = {}
    beta: dict[str, NotNegative] = {}


class DataParameters(BaseModel):
    """The data of 01."""

    dataset: str = _about("names params/<dataset>.yaml and data/<dataset>/")
    expected: dict[str, int] = _about("counts that must be found in the data, published where there are any")
    declared_differences: dict[str, int] = _about("counts that differ from these, knowingly: name and count found", {})
    ratings: str | list[str] | None = _about("your own table to make the data set from, or three, already split", None)
    columns: dict[str, str | int] = _about("of it, role: name or position; user, item, rating, dwell, flag, time", {})
    clean_from: float | None = _about("of it, the lowest rating or dwell time of a true positive", None)
    not_rated: float | None = _about("of it, the rating of rows that are no ratings, which are left out", None)
    split: Order = _about("of it, how each user's rows are cut: random, or time, which tests the last ones", "random")


class RunParameters(BaseModel):
    """The runs of 02, 03 and 04. Some parameters may be one value for all backbones or a map from each to its value."""

    backbones: list[str] = _about(f"of {', '.join(BACKBONES)}", ["GMF", "NeuMF", "CDAE"])
    seeds: list[Whole] | dict[str, list[Whole]] = _about("one run each; intervals are over them")
    protocol: Protocol = _about("corrected or authors: see DEVIATIONS.md", "corrected")
    dim: Count = _about("width of the embeddings and of the tower's last layer", 32)
    n_layers: Count = _about("layers of the tower, MLP and NeuMF", 3)
    hidden_dim: Count = _about("width of CDAE's hidden layer", 200)
    corruption: Share = _about("share of CDAE's input that is dropped in training", 0.5)
    batch_size: Count = _about("rows, positives and negatives together", 1024)
    lr: Positive = _about("Adam's learning rate", 0.001)
    n_negatives: Count = _about("sampled per positive, anew each epoch", 1)
    epochs: Count | dict[str, Count] = _about("passes over the training data")
    eval_every: Count = _about("optimizer steps between evaluation points", 100)
    top_k: list[Count] = _about("cut-offs of the metrics, in items", [5, 20])
    test_curve: bool = _about("record test metrics at every evaluation point, for analysis only", True)
    curve_users: Count | None | dict[str, Count | None] = _about(
        "users ranked at each point, a sample; null: all", None
    )
    max_drop_rate: Share | dict[str, Share] = _about("T-CE: share of the batch dropped after the ramp", 0.1)
    ramp_steps: Whole | dict[str, Whole] = _about("T-CE: optimizer steps to the maximum", 5_000)
    beta: NotNegative | dict[str, NotNegative] = _about("R-CE: exponent of the weight", 0.25)
    threads: Count = _about("torch threads of each run", 1)
    device: Device = _about("auto (CUDA where there is one), cpu or cuda", "auto")
    jobs: Jobs = _about("runs side by side; auto: as many as cores and memory allow", "auto")
    use_records: Records = _about(
        "read results/<dataset>/records in the place of runs that are not on disk; only: compute nothing", False
    )
    main_controls: list[Control] = _about("controls that join the main comparison", [])
    own_methods: list[str] = _about("files with your own losses, which join the comparison (docs/extending.md)", [])
    own_backbones: list[str] = _about("files with your own backbones, which join the comparison", [])


class DiagnosticsParameters(BaseModel):
    """The studies of 05."""

    controls: list[Control] = _about(f"of {', '.join(CONTROLS)}", list(CONTROLS))
    study_seeds: dict[str, list[Whole]] = _about("backbone: seeds", {})
    grid_seeds: list[Whole] = _about("seeds of the sensitivity (NeuMF) and dose-response (GMF) studies", [])
    grids: Grids = _about("option: values; {}: no sensitivity study", Grids())
    doses: list[Unit] = _about("made-up false positives per true one; []: no such study", [])


class ExtraFeedbackParameters(BaseModel):
    """The strategies of 06."""

    extra_seeds: dict[str, list[Whole]] = _about("backbone: seeds", {})
    known_shares: list[Part] = _about("shares of the true positives that are known; []: no study", [])
    compared_share: Part = _about("the one of them for T-CE and R-CE, which are not done for all", 0.2)
    fine_tuning_epochs: Whole = _about("at most, in epochs of the whole training part", 5)
    fine_tuning_lr: Positive | dict[str, Positive] = _about("Adam's learning rate of fine-tuning", 0.0001)
    known_weight: Weight = _about("what a known one counts in weighted", 5.0)
    neighbours: list[Count] = _about("numbers of neighbours to choose from", [1, 5, 20])
    lambdas: list[Unit] = _about("weights of the own score to choose from", [0.0, 0.5, 1.0])


class FairParameters(BaseModel):
    """The runs of 08."""

    fair: Fair = _about("splits and tuned options; {}: no such study", Fair())


class Parameters(FairParameters, ExtraFeedbackParameters, DiagnosticsParameters, RunParameters, DataParameters):
    """All parameters of a data set."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    _released: dict = PrivateAttr(default_factory=dict)  # what the data set's file says

    @cached_property
    def method_sources(self) -> dict[str, own.Source]:
        """The file of each of your own losses, by its name."""
        return own.own_methods(self.own_methods)

    @cached_property
    def backbone_sources(self) -> dict[str, own.Source]:
        """The file of each of your own backbones, by its name."""
        return own.own_backbones(self.own_backbones)

    @model_validator(mode="after")
    def _fits_together(self):
        self.all_methods()  # reads and tries the files with your own losses
        with_own, studied = [*BACKBONES, *self.backbone_sources], [*self.study_seeds, *self.extra_seeds]
        for names, known in ((self.backbones, with_own), (studied, BACKBONES)):
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"backbones: {unknown[0]!r} is not one of {', '.join(known)}")
        for name in ("backbones", "top_k", "seeds", "study_seeds", "extra_seeds"):
            value = getattr(self, name)
            for values in value.values() if isinstance(value, dict) else [value]:
                if not values or len(set(values)) < len(values):
                    raise ValueError(f"{name} is a list of at least one value without repeats, got {values}")
        for backbone in self.all_backbones():
            for name in ("seeds", "epochs", "curve_users", "ramp_steps", "beta"):
                self.value(name, backbone)
            drop_rate = self.value("max_drop_rate", backbone)
            if drop_rate * (1 + self.n_negatives) >= 1:
                with_negatives = f"with n_negatives {self.n_negatives} {drop_rate} ({backbone}) drops every positive"
                raise ValueError(f"max_drop_rate is a share of the whole batch: {with_negatives}; lower one of the two")
        n_items = self.declared_differences.get("items", self.expected.get("items", max(self.top_k)))
        if max(self.top_k) > n_items:
            raise ValueError(f"top_k: {max(self.top_k)} is more than the data set's {n_items} items")
        if self.doses and not (self.grids.max_drop_rate and self.grids.ramp_steps):
            raise ValueError("doses takes its drop rates and ramp from grids, which lacks max_drop_rate or ramp_steps")
        if self.known_shares and (share := self.compared_share) not in self.known_shares:
            raise ValueError(f"compared_share must be one of known_shares {self.known_shares}, got {share}")
        if "NeuMF-pre" in self.extra_seeds:
            raise ValueError("extra_seeds: NeuMF-pre already starts from trained halves; take another backbone")
        if self.ratings and self.dataset in public.CATALOGUE:
            raise ValueError(f"ratings: {self.dataset} has a source of its own; choose another name for your data set")
        return self

    def value(self, name: str, backbone: str):
        """A backbone's value of a parameter that may be a map; your own backbones take GMF's, or the first.

        Raises:
            ValueError: the map lacks the backbone.
        """
        value = getattr(self, name)
        if not isinstance(value, dict):
            return value
        own_takes = "GMF" if "GMF" in value else next(iter(value), "GMF")
        known = backbone if backbone in BACKBONES or backbone in value else own_takes
        if known not in value:
            raise ValueError(f"{name} names {', '.join(value)}, but not {known}; give it one value or add it")
        return value[known]

    def all_backbones(self) -> list[str]:
        """The backbones of the main table: those asked for, then your own."""
        return list(dict.fromkeys([*self.backbones, *self.backbone_sources]))

    def all_methods(self) -> list[str]:
        """The methods of the main table: the paper's, the controls beside them, then your own."""
        return [*PAPER, *self.main_controls, *self.method_sources]

    def table(self) -> dict:
        """What :func:`replication.sources.own_table.prepare` must know of your own table."""
        return self.model_dump(include={"ratings", "columns", "clean_from", "not_rated", "split"})

    def having(self, **values) -> "Parameters":
        """The same with other values, which are checked: a part of a study."""
        return _checked(self.model_dump() | values, self.dataset)

    def changes(self) -> dict[str, tuple]:
        """Name -> (value, the file's value) of each parameter that decides results and differs from the file."""
        deciding = self.model_dump(exclude={*CHANGE_NO_RESULT, *ADD_ROWS})
        pairs = {name: (value, self._released.get(name, value)) for name, value in deciding.items()}
        return {name: (value, released) for name, (value, released) in pairs.items() if value != released}

    def released(self, name: str):
        """What the data set's file says of a parameter."""
        return self._released[name]

    def unlike_published(self) -> str:
        """Why runs with these parameters cannot be held against published numbers; empty where they can.

        The data set's file has the published settings; fewer seeds, other backbones or another K spoil no comparison.
        """
        changed = [name for name in self.changes() if name not in SPOIL_NO_COMPARISON]
        return f"changed from the published settings: {', '.join(changed)}" if changed else ""


def datasets() -> list[str]:
    """The data sets that have a params file."""
    return sorted(file.stem for file in paths.PARAMS.glob("*.yaml"))


def resolve(dataset: str, changes: dict | None = None, where: str = "changes") -> Parameters:
    """The parameters of a data set: its file, with some values changed. ``where`` names the changes in an error.

    Raises:
        ValueError: no such file, broken YAML, or wrong keys and values; every one is named with what is valid.
    """
    file = paths.PARAMS / f"{dataset}.yaml"
    if not file.is_file():
        known = f"there are {', '.join(datasets())}{nearest(dataset, datasets())}"
        own_table = f"For a table of your own: ./run_all.sh --new {dataset} FILE"
        raise ValueError(f"there is no data set {dataset!r}; {known}. {own_table}")
    released = _checked(_read_yaml(file.read_text(encoding="utf-8"), file), file.name)
    if released.dataset != dataset:
        raise ValueError(f"{file.name}: dataset is {released.dataset!r}; it must be the file's name, {dataset!r}")
    if "dataset" in (changes or {}):
        raise ValueError(f"{where}: name the data set itself, as an argument, not as a change of its parameters")
    parameters = _checked(released.model_dump() | (changes or {}), where) if changes else released
    parameters._released = released.model_dump()
    return parameters


def assigned(assignments: list[str]) -> dict:
    """The ``key=value`` of ``--set``, where each value is YAML, as changes.

    Raises:
        ValueError: an assignment that is no ``key=value``.
    """
    values = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {assignment}: expected key=value")
        values[key] = _read_yaml(text, f"--set {assignment}: {text!r}")
    return values


def _read_yaml(text: str, where: object) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {error}") from None


def described() -> list[tuple[str, str, str, str]]:
    """Name, type, default (empty where the file must say it) and meaning of every parameter, group by group."""
    rows = []
    for group in (DataParameters, RunParameters, DiagnosticsParameters, ExtraFeedbackParameters, FairParameters):
        for name, field in group.model_fields.items():
            default = (
                "" if field.is_required() else json.dumps({} if isinstance(field.default, BaseModel) else field.default)
            )
            rows.append((name, group.__annotations__[name], default, field.description))
    return rows


def _checked(values: Any, where: str) -> Parameters:
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected key: value lines, found {type(values).__name__}")
    try:
        return Parameters.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(f"{where}: {line}" for line in _told(error))) from None


def _told(error: ValidationError) -> list[str]:
    """One line for each wrong parameter: its place, what was found and what is valid."""
    lines: dict[str, str] = {}
    for one in error.errors():
        key, *inner = map(str, one["loc"] or ("",))
        # Of a parameter that may be of several types, the place names the type that was tried.
        inner = [place for place in inner if not re.search(r"[\[(]|^(constrained-)?(int|float|str|literal)", place)]
        place, value = ".".join([key, *inner]), one["input"]
        if not key:  # several parameters together
            lines[place] = str(one["ctx"]["error"])
        elif one["type"] == "extra_forbidden":
            known = {"grids": Grids, "fair": Fair}[key].model_fields if inner else Parameters.model_fields
            names = ", ".join(sorted(set(known) - {"dataset"}))
            lines[place] = f"unknown key {place!r}{nearest([key, *inner][-1], known)}. The keys are {names}"
        elif one["type"] == "missing":
            lines[place] = f"{place} is missing: {Parameters.model_fields[key].description}"
        else:
            wanted = one["msg"].removeprefix("Input should be ")
            told = f"{place} is {value!r} ({type(value).__name__}); it must be {wanted}"
            if isinstance(value, str) and re.fullmatch(r"[\d.]+e[+-]?\d+", value, re.IGNORECASE):
                told += f"; YAML reads {value} as text, write {float(value):g}"
            lines[place] = f"{lines[place]}, or {wanted}" if place in lines else told
    return [line for place, line in lines.items() if not any(other.startswith(f"{place}.") for other in lines)]


def nearest(word: str, words) -> str:
    near = get_close_matches(word, list(words), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
