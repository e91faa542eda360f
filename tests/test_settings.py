"""What decides a run, and the id that follows from it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from replication.app import cli
from replication.methods import METHODS
from replication.runs import settings as settings_module
from replication.runs.map import distinct
from replication.runs.parameters import datasets, resolve
from replication.runs.settings import plan
from replication.runs.store import found
from replication.studies import diagnostics, extra_feedback
from replication.support import paths

TOY = {
    "toy.train.rating": "2a5ecf6a7ac0cd9d2ec25778aa3a19ebdfd1d7f8078c5121a11c73a1127c3a1d",
    "toy.valid.rating": "c1fd3c24f368723c8b5b17e76eeaa9043cef7706cdcc4751e17262eaf07b6bb4",
    "toy.test.negative": "6724d73cbf21c47a105dc0d40dabf07cdd94010ca1aa09bb6e04faf8fbd073f5",
}


def test_ids_are_those_of_the_first_releases():
    """Else every finished run and every record would be computed again: ids that commit d6909ca gave to these runs."""
    values = resolve("toy", {"device": "cpu"})
    (plain, *_) = plan(["T-CE"], values)
    (from_halves, *_) = plan(["R-CE"], values.having(backbones=["NeuMF-pre"]))
    (recording, *_) = plan(["popularity-drop"], values, diagnostics=True)
    (tuned, *_) = [
        run for run in extra_feedback.strategy_plan(values) if (run.strategy, run.method) == ("fine-tuning", "R-CE")
    ]
    (noisy, *_) = [run for run in diagnostics.planned(values) if (run.noise, run.method) == ("popularity", "CE")]
    assert [run.id(TOY) for run in (plain, from_halves, recording, tuned, noisy)] == [
        "gmf-t-ce-seed1-534d75199082", "neumf-pre-r-ce-seed1-5aa1d25abb0f", "gmf-popularity-drop-seed1-0627102fac14",
        "gmf-r-ce-seed1-cef51f582fa7", "gmf-ce-seed1-cb87bf99554c",
    ]  # fmt: skip


def test_the_version_rises_beside_large_tables(home):
    """What LazyAdam trains since version 1, not what dense Adam trains as before, is computed again."""

    def version(dataset: str, **changes) -> int:
        return plan(["CE"], resolve(dataset, changes))[0].result_version

    assert [version("toy"), version("ml100k"), version("adressa"), version("yelp")] == [1, 1, 2, 2]
    assert [version("toy", batch_size=batch_size) for batch_size in (37, 38)] == [2, 1]  # 300 users, 8 batches
    (of_unknown_size,) = plan(["CE"], resolve("toy", {"backbones": ["GMF"], "seeds": [1]}))
    assert replace(of_unknown_size, dataset="placed by hand").result_version == 2


def test_ids_depend_on_settings_data_and_version(tiny, monkeypatch):
    (settings,), (other,) = plan(["CE"], tiny), plan(["CE"], tiny.having(epochs=4))
    original = settings.id(TOY)
    assert original.startswith("gmf-ce-seed1-") and original == settings.id(dict(reversed(TOY.items())))
    assert len({original, other.id(TOY), settings.id({"other": "data"})}) == 3
    monkeypatch.setattr(settings_module, "RESULT_VERSION", -1)
    assert settings.id(TOY) != original


def test_what_a_method_does_not_use_does_not_change_it(tiny):
    unused = {"CE": ("max_drop_rate", "ramp_steps", "beta"), "T-CE": ("beta",), "R-CE": ("ramp_steps",)}
    for method, names in unused.items():
        for name in names:
            assert plan([method], tiny) == plan([method], tiny.having(**{name: 0 if name == "ramp_steps" else 0.0}))
    assert plan(["T-CE"], tiny) != plan(["T-CE"], tiny.having(max_drop_rate=0.3))


def test_a_run_that_records_more_stands_for_the_one_that_does_not(tiny):
    (plain,) = plan(["CE"], tiny)
    (with_diagnostics,) = plan(["CE"], tiny, diagnostics=True)
    tuned = replace(plain, strategy="fine-tuning", known_share=0.2, pretrained=(plain,))
    assert distinct([tuned, plain, with_diagnostics]) == [with_diagnostics, tuned]
    assert distinct([tuned]) == [plain, tuned]


def test_seeds_by_backbone(tiny):
    planned = plan(["CE"], tiny.having(backbones=["GMF", "CDAE"], seeds={"GMF": [1, 2], "CDAE": [7]}))
    assert [(run.backbone, run.seed) for run in planned] == [("GMF", 1), ("GMF", 2), ("CDAE", 7)]


watching: list[list[Path]] = []


def note(event: str, arguments: tuple) -> None:
    """What is opened, listed or started while a test watches; code aside, which is imported when it is needed."""
    if event in ("open", "os.listdir", "os.scandir", "socket.connect", "subprocess.Popen"):
        if not str(arguments[0]).endswith((".py", ".pyc", "__pycache__")):
            for seen in watching:
                seen.append(Path(str(arguments[0])))


sys.addaudithook(note)


@pytest.fixture
def touched():
    watching.append([])
    yield watching[0]
    watching.clear()


@pytest.mark.parametrize("dataset", datasets())
def test_looking_at_settings_touches_no_disk(home, touched, dataset):
    """All runs of a data set that is not there: planned, named and looked for, by existence alone."""
    values = resolve(dataset)
    assert [file.name for file in touched] == [f"{dataset}.yaml"]
    planned = [*plan(METHODS, values), *diagnostics.planned(values), *extra_feedback.planned(values)]
    assert planned
    for run in planned:
        assert run.name and hash(run) and run.flat()["dataset"] == dataset and run.id(TOY) and not found(run)
    assert len(touched) == 1 and not list(home.iterdir())


def test_list_downloads_nothing(home, touched, capsys):
    assert cli.run(cli._parser().parse_args(["--list"]), []) == 0
    assert capsys.readouterr().out.count("no data yet") == len(datasets())
    assert touched and all(file.is_relative_to(paths.PARAMS) for file in touched) and not list(home.iterdir())
