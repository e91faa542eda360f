"""Every command block of the README and the docs: its arguments are valid, and what is quick is run as it stands."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import PROJECT

from denoise_lib import cli, params

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
QUICK = ("--help", "--list", "--dry-run", "toy")
PLACEHOLDERS = ("films", "my_losses.py")  # a reader's own


def commands() -> list[str]:
    """The lines of all ```bash blocks, without comments."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip() and not line.startswith("#")]
    return list(dict.fromkeys(found))


def ours(command: str) -> bool:
    return "./run_all.sh" in command


def is_quick(command: str) -> bool:
    words = shlex.split(command)
    return ours(command) and any(word in QUICK for word in words) and not any(name in words for name in PLACEHOLDERS)


def test_there_are_commands():
    assert len(commands()) > 20 and sum(map(is_quick, commands())) > 8


@pytest.mark.parametrize("command", [command for command in commands() if ours(command)])
def test_arguments(command):
    _, _, arguments = command.partition("./run_all.sh")
    words = [word for word in shlex.split(arguments) if word != "--help"]
    options = cli._parser().parse_args(words)
    params.given(options.set)
    assert not set(options.dataset) - {*params.datasets(), *PLACEHOLDERS}


@pytest.mark.parametrize("command", [command for command in commands() if not ours(command)])
def test_files_that_other_commands_name(command):
    for name in re.findall(r"(?<![\w./~-])(?:tools|benchmarks|notebooks|tests)/[\w./]+", command):
        assert (PROJECT / name).exists(), name


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory):
    """One home for all: what a command has computed, the next one finds."""
    return tmp_path_factory.mktemp("commands")


@pytest.mark.parametrize("command", sorted(filter(is_quick, commands()), key=lambda command: ("--full" not in command, "--html" in command, len(command))))
def test_quick_commands_run(command, shared_home):
    line = command.replace("./run_all.sh", f"{sys.executable} -m denoise_lib.cli").replace("$(mktemp -d)", str(shared_home))
    environment = os.environ | {"DENOISE_HOME": str(shared_home)}
    done = subprocess.run(["bash", "-c", line], env=environment, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_every_script_says_how_to_use_it():
    scripts = [file for folder in ("tools", "benchmarks") for file in (PROJECT / folder).glob("*.py") if "argparse" in file.read_text()]
    assert len(scripts) > 5
    started = {file: subprocess.Popen([sys.executable, file, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for file in scripts}
    for file, process in started.items():
        out, errors = process.communicate()
        assert process.returncode == 0 and b"usage:" in out, (file.name, errors[-500:])
