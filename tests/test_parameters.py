"""Parameters: the data sets' files, what a call changes of them, and what is refused, each by its name."""

import re

import pytest
import yaml

from replication.methods import METHODS
from replication.runs.parameters import ADD_ROWS, Parameters, assigned, datasets, described, resolve
from replication.runs.settings import plan
from replication.runs.store import note
from replication.support import paths


@pytest.mark.parametrize("dataset", datasets())
def test_params_files(dataset):
    text = yaml.safe_load((paths.PARAMS / f"{dataset}.yaml").read_text())
    assert set(Parameters.model_fields) - set(text) == set(ADD_ROWS), "every file has every key but for your own files"
    values = resolve(dataset)
    assert plan(METHODS, values) and note(values) == "" and values.changes() == {}


def test_every_parameter_is_described():
    rows = described()
    assert [name for name, *_ in rows] == list(Parameters.model_fields)
    assert all(kind and about for _, kind, _, about in rows)


def test_changes():
    values = resolve("toy", assigned(["seeds=[1, 2]", "beta=1", "epochs={GMF: 2, NeuMF: 1, CDAE: 3}"]))
    assert values.seeds == [1, 2] and values.epochs["CDAE"] == 3 and values.value("epochs", "NeuMF") == 1
    settings = plan(["R-CE"], values)
    found = {(run.backbone, run.epochs, run.method_options["beta"]) for run in settings}
    assert found == {("GMF", 2, 1.0), ("NeuMF", 1, 1.0), ("CDAE", 3, 1.0)}
    fewer = values.having(backbones=["GMF"])
    assert fewer.backbones == ["GMF"] and fewer.seeds == [1, 2] and values.backbones == ["GMF", "NeuMF", "CDAE"]


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("epocs=3", "unknown key 'epocs' (did you mean epochs?)"),
        ("epochs=many", "epochs is 'many' (str); it must be a valid integer, or a valid dictionary"),
        ("epochs=2.5", "epochs is 2.5 (float); it must be a valid integer, or a valid dictionary"),
        ("epochs={GMF: many}", "epochs.GMF is 'many' (str); it must be a valid integer"),
        ("epochs=true", "epochs is True (bool); it must be a valid integer, or a valid dictionary"),
        ("epochs=0", "epochs is 0 (int); it must be greater than or equal to 1"),
        ("epochs={NeuMF: 3}", "epochs names NeuMF, but not GMF; give it one value or add it"),
        ("seeds=3", "seeds is 3 (int); it must be a valid list, or a valid dictionary"),
        ("seeds=[a]", "seeds.0 is 'a' (str); it must be a valid integer"),
        ("seeds=[]", "seeds is a list of at least one value without repeats, got []"),
        ("seeds=[1, 1]", "seeds is a list of at least one value without repeats, got [1, 1]"),
        (
            "seeds={GMF: [1, 1], NeuMF: [1], CDAE: [1]}",
            "seeds is a list of at least one value without repeats, got [1, 1]",
        ),
        ("seeds=[-1]", "seeds.0 is -1 (int); it must be greater than or equal to 0"),
        ("seeds={GMF: [1]}", "seeds names GMF, but not NeuMF"),
        ("backbones=[GMFF]", "'GMFF' is not one of GMF"),
        ("top_k=[0]", "top_k.0 is 0 (int); it must be greater than or equal to 1"),
        ("protocol=faithful", "protocol is 'faithful' (str); it must be 'corrected' or 'authors'"),
        ("device=tpu", "device is 'tpu' (str); it must be 'auto', 'cpu' or 'cuda'"),
        ("max_drop_rate=1.0", "max_drop_rate is 1.0 (float); it must be less than 1"),
        ("n_negatives=9", "with n_negatives 9 0.1 (GMF) drops every positive; lower one of the two"),
        ("top_k=[5, 151]", "top_k: 151 is more than the data set's 150 items"),
        ("beta=-1", "beta is -1 (int); it must be greater than or equal to 0"),
        ("lr=0", "lr is 0 (int); it must be greater than 0"),
        ("lr=1e-3", "lr is '1e-3' (str); it must be a valid number; YAML reads 1e-3 as text, write 0.001"),
        ("jobs=0", "jobs is 0 (int); it must be 'auto', or greater than or equal to 1"),
        ("grids={lr: [0.1]}", "unknown key 'grids.lr'. The keys are beta, max_drop_rate, ramp_steps"),
        ("grids={max_drop_rate: [1.5]}", "grids.max_drop_rate.0 is 1.5 (float); it must be less than 1"),
        ("grids={}", "doses takes its drop rates"),
        ("doses=[2.0]", "doses.0 is 2.0 (float); it must be less than or equal to 1"),
        ("controls=[coin-drop]", "controls.0 is 'coin-drop' (str); it must be 'random-drop'"),
        ("epochs", "--set epochs: expected key=value"),
        ("seeds=[1", "'[1' is not YAML"),
        ("dataset=toy", "as an argument"),
    ],
)
def test_refused_changes(assignment, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        resolve("toy", assigned([assignment]), where="--set")
    assert str(error.value).startswith("--set")


def test_every_wrong_value_is_named():
    with pytest.raises(ValueError) as error:
        resolve("toy", {"epocs": 1, "lr": -1, "seeds": 3}, where="the cell")
    lines = str(error.value).splitlines()
    assert len(lines) == 3 and all(line.startswith("the cell: ") for line in lines)
    assert [key for key in ("epocs", "lr is -1", "seeds is 3") if key in str(error.value)] == [
        "epocs",
        "lr is -1",
        "seeds is 3",
    ]


def test_unknown_data_sets_and_broken_files(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no data set 'tyo'.*did you mean toy\?.*--new tyo FILE"):
        resolve("tyo")
    with pytest.raises(ValueError, match="name the data set itself"):
        resolve("toy", {"dataset": "ml100k"})
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    for text, message in [
        ("seeds: [1", "mine.yaml is not YAML"),
        ("- 1", "mine.yaml: expected key: value lines, found list"),
        ("dataset: mine", "mine.yaml: expected is missing: counts"),
        (
            "dataset: other\nexpected: {}\nseeds: [1]\nepochs: 1",
            "dataset is 'other'; it must be the file's name, 'mine'",
        ),
    ]:
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(ValueError, match=re.escape(message)):
            resolve("mine")


def test_changed_settings_are_named():
    assert note(resolve("toy", {"jobs": 7})) == "", "it decides when a number is there, not which"
    changed = resolve("toy", {"epochs": 1, "seeds": [9]})
    assert note(changed) == "not the released settings: seeds=[9] instead of [1, 2, 3], epochs=1 instead of 12"
    assert changed.unlike_published() == "changed from the published settings: epochs", (
        "fewer seeds spoil no comparison"
    )
    assert resolve("toy", {"seeds": [9], "top_k": [3]}).unlike_published() == ""
