"""What a run was computed with: a commit is dirty where the code was changed since, and not where results were."""

import subprocess

import pytest

from replication.support import environment, paths


@pytest.mark.parametrize("code", ["denoise_lib/code.py", "replication/runs/code.py", "params/toy.yaml"])
def test_results_do_not_make_the_code_dirty(tmp_path, monkeypatch, code):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for name in (code, "results/toy/runs.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    clean = environment._commit()
    (tmp_path / "results/toy/runs.csv").write_text("2")
    assert environment._commit() == clean and "dirty" not in clean
    (tmp_path / code).write_text("2")
    assert environment._commit() == f"{clean}-dirty"
