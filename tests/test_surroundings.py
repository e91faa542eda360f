"""What surrounds a call: links, locales, the user's settings."""

import os
import subprocess
import sys

from conftest import PROJECT
from made_tables import interactions, write


def test_the_command_is_called_through_a_link(tmp_path):
    (tmp_path / "denoise").symlink_to(PROJECT / "run_all.sh")
    (tmp_path / "bin").mkdir()
    script = (PROJECT / "run_all.sh").read_text(encoding="utf-8")
    sourced = script[script.index("source ") :].splitlines()[0].replace("source ", "").replace("BASH_SOURCE[0]", "1")
    shown = subprocess.run(
        ["bash", "-c", f"echo {sourced}", "_", str(tmp_path / "denoise")], capture_output=True, text=True
    )
    assert shown.stdout.strip() == str(PROJECT / "tools" / "environment.sh")


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
