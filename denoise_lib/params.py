"""Parameters: ``params/<dataset>.yaml``, and the cells tagged ``parameters`` that declare them in the notebooks."""

import inspect
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml

from denoise_lib import datasets as data
from denoise_lib import paths, runs

_DECLARATION = re.compile(r"^(?P<name>\w+): (?P<type>[^=]+?) = [^#]*(?:#\s*(?P<help>.*))?$")
_TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict, "None": type(None)}
NOT_RESULTS = ("jobs", "use_records")  # decide when and from where numbers are there, not what they are
SAME_AS_PUBLISHED = ("seeds", "backbones", "top_k", "test_curve", "threads", "device")  # changing these spoils no comparison


def datasets() -> list[str]:
    """The data sets that have a params file."""
    return sorted(file.stem for file in paths.PARAMS.glob("*.yaml"))


def notebooks() -> list[Path]:
    """The notebooks' texts in their order."""
    return sorted(paths.NOTEBOOKS.glob("[0-9]*.py"))


@cache
def declared(notebook: Path) -> dict[str, tuple[str, str]]:
    """The parameters that a notebook declares: name -> (type, what it means)."""
    _, _, below = notebook.read_text().partition('\n# %% tags=["parameters"]\n')
    cell, _, _ = below.partition("\n# %%")
    matches = [_DECLARATION.match(line) for line in cell.splitlines()]
    return {match["name"]: (match["type"], match["help"] or "") for match in matches if match}


def all_declared() -> dict[str, tuple[str, str]]:
    """The parameters of all notebooks."""
    return {name: about for notebook in notebooks() for name, about in declared(notebook).items()}


def read(dataset: str) -> dict:
    """The checked content of ``params/<dataset>.yaml``.

    Raises:
        ValueError: no such file, broken YAML, or a key or value that :func:`check` refuses.
    """
    file = paths.PARAMS / f"{dataset}.yaml"
    if not file.is_file():
        raise ValueError(
            f"there is no data set {dataset!r}; there are {', '.join(datasets())}{_nearest(dataset, datasets())}. "
            f"For a table of your own: ./run_all.sh --new {dataset} FILE"
        )
    try:
        values = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {error}") from None
    check(values, where=file.name)
    if values.get("dataset") != dataset:
        raise ValueError(f"{file.name}: dataset is {values.get('dataset')!r}; it must be the file's name, {dataset!r}")
    return values


def override(values: dict, assignments: list[str]) -> dict:
    """``values`` with the ``key=value`` of ``--set`` put in."""
    return values | given(assignments)


def given(assignments: list[str]) -> dict:
    """The ``key=value`` of ``--set``; each value is YAML.

    Raises:
        ValueError: an assignment that is no ``key=value``, or a key or value that :func:`check` refuses.
    """
    values = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {assignment}: expected key=value")
        if key == "dataset":
            raise ValueError("--set dataset=…: name the data set as an argument instead")
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"--set {assignment}: {text!r} is not a YAML value") from None
    check(values, where="--set")
    return values


def check(values: dict, where: str) -> None:
    """Refuses unknown keys and values of another type than the notebooks declare.

    Raises:
        ValueError: naming the key, what was found and what is valid.
    """
    known = all_declared()
    for key, value in values.items():
        if key not in known:
            keys = ", ".join(sorted(set(known) - {"dataset"}))
            raise ValueError(f"{where}: unknown key {key!r}{_nearest(key, known)}. The keys are {keys}")
        wanted = known[key][0]
        if not _fits(value, wanted):
            raise ValueError(f"{where}: {key} is {value!r} ({type(value).__name__}); it must be {wanted}{_yaml_hint(value)}")


def of_runs(values: dict) -> dict:
    """The part of the parameters that :func:`denoise_lib.runs.plan` takes."""
    taken = inspect.signature(runs.plan).parameters
    return {key: value for key, value in values.items() if key in taken}


def note(values: dict) -> str:
    """What a reader of a table must know of its making: results-changing parameters that differ from the data set's
    file, data that are not the published ones, and records of runs on other data. Empty if none of these.

    Notebooks put this on every table and figure, so that a reduced run cannot be taken for the released one. ``values``
    may hold other things than parameters, as a notebook's ``globals()`` does.
    """
    dataset, card = values["dataset"], data.card(values["dataset"])
    released = read(dataset)
    if "clean_from" in card:  # of a table of one's own: what its data were made with, whichever notebook asks
        values = values | {"clean_from": card["clean_from"]}
    changed = ", ".join(f"{key}={values[key]} instead of {released[key]}" for key in _changed(values))
    file = "the params file's" if released["ratings"] else "the released"  # of a table of one's own nothing was released
    remarks = [f"not {file} settings: {changed}"] if changed else []
    remarks += card.get("warnings", [])
    if values.get("use_records") and (differing := runs.records_of_other_data(dataset)):
        remarks.append(f"records of runs with another {', another '.join(differing)} than the one here")
    return "; ".join(remarks)


def unlike_published(values: dict) -> str:
    """Why runs with these parameters cannot be held against published numbers; empty where they can.

    The data set's file has the published settings; fewer seeds, other backbones or another K spoil no comparison.
    """
    changed = [key for key in _changed(values) if key not in SAME_AS_PUBLISHED]
    return f"changed from the published settings: {', '.join(changed)}" if changed else ""


def _changed(values: dict) -> list[str]:
    released = read(values["dataset"])
    return [key for key in released if key in values and key not in NOT_RESULTS and values[key] != released[key]]


def _fits(value, wanted: str) -> bool:
    for option in wanted.split("|"):
        name, _, inner = option.strip().rstrip("]").partition("[")
        if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and name != "bool"):
            continue
        members = value.values() if name == "dict" else value if name == "list" else ()
        if not inner or all(_fits(member, inner.split(",")[-1]) for member in members):
            return True
    return False


def _yaml_hint(value) -> str:
    is_number = isinstance(value, str) and re.fullmatch(r"[\d.]+e[+-]?\d+", value, re.IGNORECASE)
    return f"; YAML reads {value} as text, write {float(value):g}" if is_number else ""


def _nearest(word: str, words) -> str:
    near = get_close_matches(word, list(words), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
