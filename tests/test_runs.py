"""Run folders: whole or absent, read instead of computed, the same bits wherever they are computed."""

import subprocess
import sys
import threading
import types
from dataclasses import replace

import numpy as np
import psutil
import pytest
from conftest import PROJECT, wait_until

from denoise_lib.evaluator import evaluate, ranking_task
from replication.methods import PAPER
from replication.methods.backbones import BACKBONES
from replication.runs import map as run_map
from replication.runs.compute import RunsFailed, in_processes
from replication.runs.map import distinct, map_runs
from replication.runs.recipe import split_for
from replication.runs.settings import plan
from replication.runs.store import found, load_run
from replication.sources import public

RESULT_FILES = ("history.csv", "metrics.csv", "per_user.npz", "model.pt")


def hashes(run) -> dict:
    return {name: run.info["files"][name] for name in RESULT_FILES}


def test_all_backbones_and_methods_run(home, tiny):
    finished = map_runs(plan(PAPER, tiny.having(backbones=list(BACKBONES), epochs=2)), jobs=1)
    assert [(r.settings.backbone, r.settings.method) for r in finished] == [(b, m) for b in BACKBONES for m in PAPER]
    for run in finished:
        assert sorted(file.name for file in run.folder.iterdir()) == sorted([*RESULT_FILES, "run.json"])
        assert 0 < run.value("recall", 20) < 1
        per_user = run.per_user()
        for column, k in enumerate(per_user["ks"]):
            assert per_user["recall"][:, column].mean() == pytest.approx(run.value("recall", k), abs=1e-12)
    leftovers = [
        path for path in finished[0].folder.parent.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"
    ]
    assert [path.name for path in leftovers] in ([], [".partial"])


def test_neumf_pre_starts_from_its_halves_and_takes_plain_gradient_steps(home, tiny):
    (run,) = map_runs(plan(["CE"], tiny.having(backbones=["NeuMF-pre"])), jobs=1)
    gmf, _ = (load_run(half).model() for half in run.settings.pretrained)
    moved = (run.model().user_gmf.weight - gmf.user_gmf.weight).abs().max().item()
    # In 100 steps Adam would move a weight by about lr = 0.003 each; plain steps are smaller by the gradient's size.
    assert 0 < moved < 0.003
    assert (gmf.user_gmf.weight.abs().max() > 0.05).item()


def test_a_finished_run_is_read_and_not_computed(home, tiny, monkeypatch):
    (first,) = map_runs(plan(["CE"], tiny))
    monkeypatch.setattr(run_map, "attempt", lambda *a: pytest.fail("computed again"))
    (second,) = map_runs(plan(["CE"], tiny))
    assert hashes(first) == hashes(second) and second.selected_step == first.selected_step


def test_the_reloaded_model_reproduces_its_metrics(home, tiny):
    (run,) = map_runs(plan(["CE"], tiny))
    split = split_for(run.settings)
    task = ranking_task(split, split.test, [split.train, split.valid])
    again = evaluate(run.model(), task, (5, 20))
    assert (again["ndcg"] == run.per_user()["ndcg"]).all()


def test_the_selected_step_has_the_recorded_test_metrics(home, tiny):
    (run,) = map_runs(plan(["T-CE"], tiny))
    at_selected = run.history.set_index("step").loc[run.selected_step]
    assert at_selected["recall_20_test"] == pytest.approx(run.value("recall", 20), abs=1e-12)


@pytest.mark.slow
def test_same_bits_in_one_process_and_in_workers_beside_others(home, tiny, monkeypatch, tmp_path):
    settings = plan(PAPER, tiny.having(backbones=["GMF", "NeuMF", "CDAE"], epochs=1))
    here = [hashes(run) for run in map_runs(settings, jobs=1)]
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path / "workers"))
    in_workers = [hashes(run) for run in map_runs(settings, jobs=2)]
    monkeypatch.setenv("DENOISE_HOME", str(tmp_path / "again"))
    again = [hashes(run) for run in map_runs(settings[:3], jobs=1)]
    assert here == in_workers and again == here[:3]


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_are_kept(home, tiny):
    settings = plan(["CE"], tiny.having(seeds=[1, 2, 3]))
    broken = plan(["CE"], tiny.having(lr=1e30))
    for jobs in (1, 2):
        with pytest.raises(RuntimeError, match="1 of .* runs failed.*") as error:
            map_runs([settings[jobs - 1], *broken, settings[2]], jobs=jobs)
        assert "GMF CE seed 1" in str(error.value) and "diverged" in str(error.value) and "lr=1e+30" in str(error.value)
        assert found(settings[jobs - 1]) and not found(broken[0])


def test_runs_that_fail_alike_show_one_traceback(home, tiny):
    with pytest.raises(RunsFailed, match="3 of 3") as error:
        map_runs(plan(["CE"], tiny.having(lr=1e30, seeds=[1, 2, 3])), jobs=1)
    message = str(error.value)
    assert message.count("Traceback") == 1 and all(
        message.count(f"GMF CE seed {seed}: ValueError") == 1 for seed in (1, 2, 3)
    )
    assert message.count("Settings(") == 3


@pytest.mark.slow
def test_a_killed_run_costs_no_other(home, tiny):
    """One of two processes is killed in the middle of a long run: the others finish."""
    long, *short = plan(["CE"], tiny) + plan(["CE"], tiny.having(seeds=[2, 3, 4]))
    long = replace(long, epochs=20_000)  # minutes, if it were not killed

    def workers():  # children of the server that forks them
        return list({*psutil.Process().children(recursive=True)} - {*psutil.Process().children()})

    def kill_the_long_one():
        wait_until(lambda: all(map(found, short)) and len(workers()) == 1)
        workers()[0].kill()

    killer = threading.Thread(target=kill_the_long_one)
    killer.start()
    with pytest.raises(
        RuntimeError,
        match=r"1 of 4 runs failed.*\nGMF CE seed 1: ProcessDied: its process was killed by signal 9 .*memory",
    ):
        map_runs([long, *short], 2)
    killer.join()
    assert not found(long) and all(map(found, short)) and not workers()


@pytest.mark.slow
def test_a_script_without_a_main_guard_gives_equal_hashes_twice(tmp_path, tiny):
    """Its workers do not run it again."""
    (tmp_path / "script.py").write_text("""
import json, sys
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters
from replication.runs.settings import plan
runs = map_runs(plan(["CE", "T-CE"], Parameters(**json.loads(sys.argv[1]))), jobs=2)
print(json.dumps([run.info["files"] for run in runs]))
""")
    found = set()
    for home in ("one", "two"):
        command = [sys.executable, tmp_path / "script.py", tiny.model_dump_json()]
        environment = {"DENOISE_HOME": str(tmp_path / home), "PATH": "", "PYTHONPATH": str(PROJECT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1


def test_warm_users_are_those_with_training_rows(home, tiny):
    (run,) = map_runs(plan(["CE"], tiny))
    rows = run.metrics.query("part == 'test' and metric == 'recall' and k == 5").set_index("users")
    split = public.load("toy")
    assert rows.loc["all", "n_users"] == len(np.unique(split.test.users)) == rows.loc["warm", "n_users"]


def test_a_failure_begins_with_its_cause(home, tiny):
    with pytest.raises(RuntimeError) as error:
        map_runs(plan(["T-CE"], tiny.having(lr=1e30)), jobs=1)
    assert "the model gives NaN" in "\n".join(str(error.value).splitlines()[:3])


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_waits_for_those_it_starts_from_and_says_that_they_failed(home, tiny, jobs):
    (sound,), (broken,) = plan(["CE"], tiny), plan(["CE"], tiny.having(lr=1e30))
    known = replace(sound, strategy="fine-tuning", known_share=0.2, epochs=1)
    follows, orphan = replace(known, pretrained=(sound,)), replace(known, pretrained=(broken,))
    assert distinct([follows, orphan, sound]) == [sound, broken, follows, orphan]
    with pytest.raises(RunsFailed, match="2 of 4 runs failed") as error:
        map_runs([follows, orphan, sound], jobs=jobs)
    assert f"it starts from {broken.name}, which failed" in str(error.value)
    assert found(sound) and found(follows)


def test_auto_runs_as_many_side_by_side_as_cores_and_memory_allow(home, tiny, monkeypatch):
    settings = plan(["CE"], tiny.having(seeds=[1, 2, 3]))
    n_parameters = 300 * 8 + 150 * 8 + 8 + 1  # two tables, the output layer and its bias
    one = (512 << 20) + 24 * n_parameters
    monkeypatch.setattr(run_map.joblib, "cpu_count", lambda: 8)
    for free, threads, expected in [
        (100 * one, 1, 8),
        (100 * one, 4, 2),
        (3 * one, 1, 3),
        (one // 2, 1, 1),
        (one, 16, 1),
    ]:
        monkeypatch.setattr(run_map.psutil, "virtual_memory", lambda free=free: types.SimpleNamespace(available=free))
        assert run_map._side_by_side([replace(run, threads=threads) for run in settings]) == expected


@pytest.mark.slow
def test_runs_side_by_side_say_where_they_are(home, tiny):
    planned = plan(["CE"], tiny.having(seeds=[1, 2], eval_every=1))  # many messages at once must not hold up the last
    public.ensure("toy")
    said = []
    ended = list(in_processes(planned, 2, lambda run, *where: said.append((run.seed, *where))))
    assert {run.seed for run, failure in ended if failure is None} == {1, 2}
    for run in map_runs(planned):
        points = run.history[["step", "valid_loss"]].to_numpy().tolist()
        assert [(step, loss) for seed, step, _, loss in said if seed == run.settings.seed] == [
            tuple(point) for point in points
        ]
