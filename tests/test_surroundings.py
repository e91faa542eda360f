"""What surrounds a call: links, locales, the user's settings."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT
from made_tables import interactions, write

from replication.app import notebooks
from replication.support import paths


STUB = """#!/bin/bash
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip") echo "PIP_USER=$PIP_USER PIP_TARGET=$PIP_TARGET" >>"$LOG" ;;
"-m replication") echo "called with $3, PYTHONUTF8=$PYTHONUTF8" >>"$LOG" ;;
esac
"""


def test_the_command_through_a_link_and_with_settings_of_pip(tmp_path):
    """With a python3 on PATH that only notes what it is called with."""
    for name in ("run_all.sh", "tools/environment.sh", "requirements.lock", "pyproject.toml"):
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / "project" / name)
    write(tmp_path / "python3", STUB).chmod(0o755)
    (tmp_path / "denoise").symlink_to(tmp_path / "project" / "run_all.sh")
    inherited = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    users = {"PIP_USER": "1", "PIP_TARGET": "elsewhere", "PYTHONUTF8": "0", "LOG": str(tmp_path / "log")}
    users["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run([tmp_path / "denoise", "toy"], env=inherited | users, check=True, capture_output=True)
    log = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert log == ["PIP_USER=0 PIP_TARGET="] * 2 + ["called with toy, PYTHONUTF8=1"]


def test_nbval_from_the_root_leaves_executed_notebooks_alone(tmp_path):
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    empty = '{"cells": [{"cell_type": "code", "source": "1", "metadata": {}, "outputs": [], "execution_count": 1}], '
    empty += '"metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 4}'
    for folder in ("notebooks", "results/toy/notebooks"):
        (tmp_path / folder).mkdir(parents=True)
        write(tmp_path / folder / "01_data.ipynb", empty)
    command = [sys.executable, "-m", "pytest", "--collect-only", "--nbval", "-p", "no:cacheprovider", "."]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert "notebooks/01_data.ipynb::" in found and "results" not in found


def test_a_full_disk_is_told_in_words(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notebooks.papermill, "execute_notebook", full)
    with pytest.raises(
        notebooks.NotebookFailed, match="01_data: cannot be written, No space left on device: .*Make room"
    ):
        notebooks.execute(paths.NOTEBOOKS["01_data"], tmp_path / "01_data.ipynb", {})


def test_a_locale_without_utf8_spoils_nothing(own, tmp_path):
    file = write(tmp_path / "t.csv", "who,item,rating", *(f"ü{line}" for line in interactions()))
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "DENOISE_HOME": str(own)}
    command = [sys.executable, "-X", "warn_default_encoding", "-W", "error::EncodingWarning:replication"]
    command += ["-m", "replication", "--set", "columns={user: who}", "--new", "mine", str(file)]
    done = subprocess.run(command, env=ascii_only, cwd=PROJECT, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"300 of 300 rows, 30 users" in done.stdout
    done = subprocess.run([*command[:7], "--list"], env=ascii_only, cwd=PROJECT, capture_output=True)
    assert done.returncode == 0 and b"mine: no data yet" in done.stdout, done.stderr


def test_figures_are_drawn_whatever_matplotlibrc_says(tmp_path):
    write(tmp_path / "matplotlibrc", "text.usetex: True", "figure.dpi: 33")
    code = "from replication.report import figures; import matplotlib; print(matplotlib.rcParams['text.usetex'])"
    environment = os.environ | {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
