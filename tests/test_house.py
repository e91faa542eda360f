"""The house: floors, sizes, what the method may import, and that it works with its four packages alone."""

import ast
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import PROJECT
from packaging.requirements import Requirement
from packaging.version import Version

import denoise_lib

METHOD, *_ = PACKAGES = [PROJECT / "denoise_lib", PROJECT / "replication"]
FILES = sorted(file for package in PACKAGES for file in package.rglob("*.py"))
FOUR = {"torch", "numpy", "pandas", "scipy"}
EXAMPLE = textwrap.dedent(denoise_lib.__doc__.partition("::\n\n")[2])


def check_floors(checkout: Path) -> subprocess.CompletedProcess:
    """The contracts of pyproject.toml, for the packages of that folder."""
    call = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    return subprocess.run([sys.executable, "-c", call], cwd=checkout, capture_output=True, text=True)


@pytest.mark.slow
def test_each_floor_imports_those_below_it():
    done = check_floors(PROJECT)
    assert done.returncode == 0 and "3 kept, 0 broken" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "file, line, contract",
    [
        ("replication/runs/store.py", "from replication.report import tables", "floors"),
        ("replication/support/paths.py", "import denoise_lib", "floors"),
        (
            "denoise_lib/losses.py",
            "from denoise_lib.data import Split",
            "losses, models and sampling import nothing of ours",
        ),
        ("denoise_lib/train.py", "import tqdm", "denoise_lib imports torch, numpy, pandas and scipy"),
    ],
)
def test_an_import_that_runs_up_is_found(tmp_path, file, line, contract):
    for package in PACKAGES:
        shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    with open(tmp_path / file, "a") as text:
        text.write(f"\n\n{line}\n")
    done = check_floors(tmp_path)
    assert done.returncode == 1 and f"{contract} BROKEN" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_sizes(file):
    lines = file.read_text().splitlines()
    assert len(lines) <= 350
    assert [number for number, line in enumerate(lines, start=1) if len(line) > 120] == []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_fit = file == METHOD / "train.py" and node.name == "fit"
            assert node.end_lineno - node.lineno < 60 or is_fit, node.name
            assert len(node.args.args) < 10, f"{node.name} takes ten positional arguments"


def test_the_library_is_thin():
    n_lines = {file: len(file.read_text().splitlines()) for file in FILES}
    assert sum(n for file, n in n_lines.items() if file.parent == METHOD) <= 1_605
    assert sum(n_lines.values()) <= 7_700


@pytest.mark.parametrize("file", sorted(METHOD.glob("*.py")), ids=lambda file: file.stem)
def test_the_method_imports_four_packages_and_reads_no_environment(file):
    allowed = FOUR | {"denoise_lib", *sys.stdlib_module_names, *(["numba"] if file.stem == "optimizer_loops" else [])}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            assert {name.partition(".")[0] for name in names} <= allowed and not getattr(node, "level", 0)
        name = getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
        assert name not in ("environ", "getenv", "environb", "expanduser", "home", "cwd", "getcwd")


def test_the_ten_lines_train_on_arrays():
    """Users like the items of their own parity, which their other interactions tell."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(100), 20)
    items = np.concatenate([2 * rng.choice(60, 20, replace=False) + user % 2 for user in range(100)])
    part = np.tile(np.arange(20), 100)
    masks = {"train": part < 14, "valid": (part >= 14) & (part < 17), "test": part >= 17}
    torch.manual_seed(0)
    values = {"users": users, "items": items, "masks": masks}
    exec(EXAMPLE, values)
    assert len([line for line in EXAMPLE.splitlines() if line and "import" not in line]) <= 10
    assert values["recall"] > 0.3, "20 of 103 items are .19, 20 of 43 are .47"


@pytest.mark.slow
def test_the_method_works_with_its_four_packages_alone(tmp_path):
    """In a process that can import these, what they require, and no other package."""
    code = f"""
        import importlib.metadata, pkgutil, re, sys
        from packaging.requirements import Requirement
        wanted, seen = {sorted(FOUR)}, set()
        while wanted:
            name = re.sub("[-_.]+", "-", wanted.pop()).lower()
            try:
                needed = map(Requirement, importlib.metadata.requires(name) or [])
            except importlib.metadata.PackageNotFoundError:
                continue  # of another system
            if name not in seen:
                seen.add(name)
                wanted += [one.name for one in needed if not one.marker or one.marker.evaluate({{"extra": ""}})]
        hidden = {{
            module
            for module, packages in importlib.metadata.packages_distributions().items()
            if not {{re.sub("[-_.]+", "-", package).lower() for package in packages}} & seen
        }} - {{"denoise_lib"}}
        assert {{"joblib", "tqdm", "yaml", "pydantic", "matplotlib"}} <= hidden

        class Hides:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in hidden | {{"replication"}}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
            del sys.modules[name]
        sys.meta_path.insert(0, Hides())
        import denoise_lib
        names = [module.name for module in pkgutil.iter_modules(denoise_lib.__path__, "denoise_lib.")]
        names.remove("denoise_lib.optimizer_loops")  # numba's, used where it is
        for name in names:
            importlib.import_module(name)
        print(*names)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {f"denoise_lib.{file.stem}" for file in METHOD.glob("[!_]*.py")} - {
        "denoise_lib.optimizer_loops"
    }


def test_an_installation_without_extras_takes_four_packages():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert {Requirement(line).name for line in project["dependencies"]} == FOUR


def test_the_three_lists_of_packages_agree():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    everything = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    wanted = [requirement for requirement in map(Requirement, everything) if requirement.name != project["name"]]
    lines = [line for line in (PROJECT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    locked = dict(line.lower().replace("_", "-").split("==") for line in lines)
    for requirement in wanted:
        assert Version(locked[requirement.name.lower().replace("_", "-")]) in requirement.specifier, requirement
    assert locked["torch"] == "2.13.0"
    assert not [name for name in locked if name.startswith(("nvidia", "triton"))]

    conda = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e .[test]"]
    (python,) = [entry.split("=")[1] for entry in conda if isinstance(entry, str) and entry.startswith("python=")]
    assert Version(python) in Requirement(f"x{project['requires-python']}").specifier
