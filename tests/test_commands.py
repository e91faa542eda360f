"""Every command block of the README and the docs: its arguments are valid, and what is quick is run as it stands."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT, copy_of_the_code

from replication.app import cli
from replication.runs.parameters import Parameters, assigned, datasets, resolve

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
QUICK = ("--help", "--list", "--dry-run", "--site", "toy")
ELSEWHERE = ("--method", "--backbone")  # test_own_methods.py runs these
PLACEHOLDERS = ("films", "my_losses.py")  # a reader's own


def commands() -> list[str]:
    """The lines of all ```bash blocks, without comments."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [
                re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip() and not line.startswith("#")
            ]
    return list(dict.fromkeys(found))


def ours(command: str) -> bool:
    return "./run_all.sh" in command


def is_quick(command: str) -> bool:
    words = shlex.split(command)
    return ours(command) and not {*QUICK}.isdisjoint(words) and {*PLACEHOLDERS, *ELSEWHERE}.isdisjoint(words)


def test_there_are_commands():
    assert len(commands()) > 20 and sum(map(is_quick, commands())) > 8


@pytest.mark.parametrize("command", [command for command in commands() if ours(command)])
def test_arguments(command):
    _, _, arguments = command.partition("./run_all.sh")
    words = [word for word in shlex.split(arguments) if word != "--help"]
    options = cli._parser().parse_args(words)
    assert set(assigned(options.set)) <= set(Parameters.model_fields)
    assert not set(options.dataset) - {*datasets(), *PLACEHOLDERS}


@pytest.mark.parametrize("command", [command for command in commands() if not ours(command)])
def test_files_that_other_commands_name(command):
    for name in re.findall(r"(?<![\w./~-])(?:tools|benchmarks|notebooks|tests)/[\w./]+", command):
        assert (PROJECT / name).exists(), name


FULL = "./run_all.sh --full toy"  # makes the release that all tests share


@pytest.mark.slow
def test_full(release):
    assert FULL in commands()
    assert sorted(file.stem for file in (release / "results/toy/notebooks").glob("*.ipynb")) == sorted(
        [*cli.MAIN, *(cli.STUDIES[name][0] for name in cli.FULL)]
    )
    runs = {file.parent.name for file in (release / "results/toy/runs").glob("[!.]*/run.json")}
    planned = cli._planned(resolve("toy"), studies=cli.FULL)
    assert len(runs) == len(planned), "the notebooks asked for no other run than the command had planned"


@pytest.fixture(scope="module")
def shared_home(release, tmp_path_factory):
    """One home for all, a copy of the release: what is there is found, what a command computes the next one finds."""
    return shutil.copytree(release, tmp_path_factory.mktemp("commands") / "home")


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """The code without notebooks, and with the one that makes the tables."""
    return [copy_of_the_code(tmp_path_factory.mktemp("code"), real) for real in ((), ("04_tables",))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    sorted({*filter(is_quick, commands())} - {FULL}, key=lambda command: ("--site" in command, len(command), command)),
)
def test_quick_commands_run(command, shared_home, code):
    """As they stand. Where nothing is changed, the notebooks are those that the release was made with: they are not
    executed again, others stand in their place. Where something is, the tables are made anew."""
    line = command.replace("./run_all.sh", f"{sys.executable} -m replication").replace("$(mktemp -d)", str(shared_home))
    words = {*shlex.split(command)}
    replicates = "toy" in words and "--dry-run" not in words
    project = code["--set" in words] if replicates else PROJECT
    environment = os.environ | {"DENOISE_HOME": str(shared_home), "PYTHONPATH": str(project)}
    done = subprocess.run(["bash", "-c", line], env=environment, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
    if "--set" in command:
        assert "instead of" in done.stdout and "instead of" in (shared_home / "results/toy/tables/main.md").read_text()


def test_every_script_says_how_to_use_it(monkeypatch, capsys):
    scripts = [file for folder in ("tools", "benchmarks") for file in (PROJECT / folder).glob("*.py")]
    scripts = [file for file in scripts if "argparse" in file.read_text()]
    assert len(scripts) > 5
    for file in scripts:
        monkeypatch.syspath_prepend(file.parent)
        monkeypatch.setattr(sys, "argv", [str(file), "--help"])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(file), run_name="__main__")
        assert not exit.value.code and f"usage: {file.name}" in capsys.readouterr().out, file.name
