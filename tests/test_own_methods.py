"""A user's own losses and backbones: the two examples, through the command; what is refused; what a failure costs."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PROJECT, run_all
from scipy.sparse import csr_matrix

from denoise_lib.losses import reweighted_cross_entropy
from replication.app import cli
from replication.methods import CONTROLS, PAPER, own
from replication.report.tables import main_table
from replication.runs import parameters
from replication.runs.compute import RunsFailed
from replication.runs.map import map_runs
from replication.runs.settings import plan
from replication.runs.store import folder_of
from replication.sources import public

LOSSES, LIGHTGCN = (str(PROJECT / "examples" / name) for name in ("robust_losses.py", "lightgcn.py"))
OWN = ["generalised_cross_entropy", "symmetric_cross_entropy"]
SMALL = {"backbones": ["GMF"], "seeds": [1], "epochs": 2}
PLAIN_LOSS = "def mine(logits, labels, step):\n    return (labels - logits.sigmoid()).square().mean()\n"


def example(file: str):
    """The module of an example."""
    return own._module(own._read(file))


def planned(methods: list[str] | None = None, **changes):
    """The runs of a small plan, of all methods unless some are named."""
    resolved = parameters.resolve("toy", SMALL | changes)
    return plan(methods or resolved.all_methods(), resolved)


@pytest.fixture
def file(tmp_path) -> Path:
    """A file with a loss of the user's, in a home with the toy data."""
    (tmp_path / "my.py").write_text(PLAIN_LOSS)
    return tmp_path / "my.py"


@pytest.fixture
def data(home):
    public.load("toy")


# ------------------------------------------------------------------------------------------------- the two examples


@pytest.fixture(scope="module")
def called(tmp_path_factory) -> tuple[Path, str]:
    """The home and the output of one call with both examples."""
    home = tmp_path_factory.mktemp("called")
    files = ["--method", "examples/robust_losses.py", "--backbone", "examples/lightgcn.py"]
    changes = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    done = run_all(*files, "--jobs", "2", *changes, "toy", home=home)
    assert done.returncode == 0, done.stderr[-2000:]
    return home, done.stdout


@pytest.mark.slow
def test_own_rows_stand_in_tables_curves_and_counts(called):
    home, printed = called
    rows = pd.read_csv(home / "results/toy/tables/main.csv")
    trained = rows[rows["backbone"].notna()]
    cells = {(backbone, method) for backbone in ("GMF", "LightGCN") for method in [*PAPER, *OWN]}
    assert set(zip(trained["backbone"], trained["method"])) == cells and trained["mean"].between(0, 1).all()
    for drawn in ("test_curves", "change_against_ce"):
        points = pd.read_csv(home / f"figures/toy/{drawn}.csv")
        assert set(OWN) < set(points["method"]) and "LightGCN" in set(points["backbone"])
    assert all(f"{method} against CE, Recall@K and NDCG@K: " in printed for method in OWN)
    assert "not the released settings: backbones" in printed and "own_methods" not in printed  # rows beside the others


@pytest.mark.slow
def test_the_other_rows_are_those_of_a_call_without(called, home, data):
    alone = map_runs(planned(), jobs=1)
    in_call = {folder.name for folder in (called[0] / "results/toy/runs").glob("gmf-*")}
    assert len(in_call) == 5 and {run.folder.name for run in alone} < in_call
    table = pd.read_csv(called[0] / "results/toy/tables/main.csv")
    beside = table[(table["backbone"] == "GMF") & table["method"].isin(PAPER)].reset_index(drop=True)
    expected = main_table(alone, primary=True)
    numbers = ["backbone", "method", "metric", "k", "mean", "change", "against_ce"]
    pd.testing.assert_frame_equal(beside[numbers], expected[numbers], check_exact=True, check_dtype=False)


def test_full_has_them_in_the_controls_and_no_other_study(home, data):
    resolved = parameters.resolve("toy", SMALL | {"own_methods": [LOSSES], "own_backbones": [LIGHTGCN]})
    runs = [run for run in cli._planned(resolved, studies=cli.FULL) if run.diagnostics]
    assert {run.method for run in runs} == {*PAPER, *OWN, *CONTROLS}
    assert {(run.backbone, run.seed) for run in runs} == {
        (name, seed) for name in ("GMF", "LightGCN") for seed in (1, 2)
    }
    others = [run for run in cli._planned(resolved, studies=cli.FULL) if run.strategy or run.dose is not None]
    assert others and not any(run.method in OWN or run.backbone == "LightGCN" for run in others)


@pytest.mark.parametrize("q", [0.1, 0.25, 1.0])
def test_the_gradient_of_rce_is_that_of_generalised_cross_entropy(q, monkeypatch):
    """With P the probability of the label: d (1 - P^q) / q = -P^q d log P, on positives and on negatives."""
    logits, labels = (
        torch.linspace(-6, 6, 25, dtype=torch.float64).repeat(2),
        torch.tensor([1.0, 0.0]).repeat_interleave(25),
    )
    monkeypatch.setattr(example(LOSSES), "Q", q)

    def gradient(loss) -> torch.Tensor:
        at = logits.clone().requires_grad_()
        return torch.autograd.grad(loss(at), at)[0]

    of_gce = gradient(lambda at: example(LOSSES).generalised_cross_entropy(at, labels.double(), 0))
    of_rce = gradient(lambda at: reweighted_cross_entropy(at, labels.double(), beta=q))
    p = torch.sigmoid(logits)
    by_hand = torch.where(labels == 1, -(p**q) * (1 - p), (1 - p) ** q * p) / len(logits)  # d log p / d logit = 1 - p
    torch.testing.assert_close(of_rce, by_hand)
    torch.testing.assert_close(of_gce, by_hand)


def test_rce_and_generalised_cross_entropy_train_alike(data, file):
    code = Path(LOSSES).read_text()
    file.write_text(code.replace("Q = 0.7", "Q = 0.25"))  # R-CE's exponent in params/toy.yaml
    alike = map_runs(planned(["R-CE", OWN[0]], own_methods=[str(file)]), jobs=1)
    of_rce, of_gce = (run.history[["recall_20_test", "ndcg_20_test"]] for run in alike)
    assert len(of_rce) > 3 and np.abs(of_rce - of_gce).max(axis=None) < 0.003
    other = map_runs(planned([OWN[0]], own_methods=[LOSSES]), jobs=1)[0].history
    assert np.abs(other[of_rce.columns] - of_rce).max(axis=None) > 0.003


def test_the_losses_by_hand():
    logits, labels = torch.tensor([math.log(3), math.log(3)]), torch.tensor([1.0, 0.0])  # p = 3/4, so P = 3/4 and 1/4
    generalised = (2 - 0.75**0.7 - 0.25**0.7) / 0.7 / 2
    assert example(LOSSES).generalised_cross_entropy(logits, labels, 0).item() == pytest.approx(generalised, abs=1e-6)
    symmetric = (-math.log(0.75) - math.log(0.25) + 0.5 * 4 * (0.25 + 0.75)) / 2
    assert example(LOSSES).symmetric_cross_entropy(logits, labels, 0).item() == pytest.approx(symmetric, abs=1e-6)


def test_lightgcn_is_its_dense_definition():
    interactions = np.array([[1, 1, 0], [0, 1, 0]])
    model = example(LIGHTGCN).LightGCN(csr_matrix(interactions, dtype=np.int8), dim=4)
    graph = np.block([[np.zeros((2, 2)), interactions], [interactions.T, np.zeros((3, 3))]])
    scale = np.diag(np.maximum(graph.sum(axis=1), 1) ** -0.5)
    step, start = scale @ graph @ scale, model.embeddings.detach().numpy()
    users, items = np.split((start + step @ start + step @ step @ start) / 3, [2])
    np.testing.assert_allclose(model.score_items(torch.arange(2)).detach().numpy(), users @ items.T, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- run ids


def test_an_edit_changes_the_ids_of_its_own_runs_only(file):
    def ids() -> dict[str, str]:
        return {run.method: run.id({}) for run in planned(own_methods=[str(file)])}

    before = ids()
    file.write_text(PLAIN_LOSS.replace("square", "abs"))
    after = ids()
    assert {name for name in before if before[name] != after[name]} == {"mine"}
    moved = file.rename(file.with_name("elsewhere.py"))
    assert {run.method: run.id({}) for run in planned(own_methods=[str(moved)])} == after


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_is_trained_by_the_code_that_it_was_planned_with(data, file, jobs):
    runs = planned(["CE", "mine"], own_methods=[str(file)])
    file.write_text("syntax error")
    _, mine = map_runs(runs, jobs=jobs)
    assert mine.settings.method == "mine" and mine.info["settings"]["method_source"] == runs[1].method_source.sha256
    assert mine.model().score_items(torch.arange(2)).shape == (2, 150)


# ------------------------------------------------------------------------------------------------------ refusals

LOSS = "(logits, labels, step):\n    return "
MODULE = """import torch
from torch import nn
class Mine(nn.Module):
    def __init__(self, interactions, dim, generator):
        super().__init__()
        self.users, self.items = (nn.Parameter(torch.randn(n, dim, generator=generator)) for n in interactions.shape)
    def forward(self, users, items):
        return (self.users[users] * self.items[items]).sum(-1)
    def score_items(self, users):
        return self.users[users] @ self.items.T
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def mine(logits, labels, step)\n", r"my.py: SyntaxError: expected ':' \(my.py, line 1\)"),
        ("import not_there", "my.py: line 1: ModuleNotFoundError"),
        ("raise SystemExit", "my.py: line 1: SystemExit"),
        (
            "def mine(logits, labels, step, weight=1):\n    pass",
            "my.py has no public function with exactly the parameters",
        ),
        (f"def _mine{LOSS}logits.mean()", "my.py has no public function"),
        (f"from {Path(LOSSES).stem} import symmetric_cross_entropy", "my.py has no public function"),
        (f"def t_ce{LOSS}logits.mean()", "my.py: the name t_ce is taken by T-CE"),
        (f"def OracleDrop{LOSS}logits.mean()", "my.py: the name OracleDrop is taken by oracle-drop"),
        (f"def ease{LOSS}logits.mean()", "my.py: the name ease is taken by EASE"),
        (f"def warm_up{LOSS}logits.mean()", "my.py: the name warm_up is taken by warm-up"),
        (f"def one{LOSS}logits.mean()\n" * 2, "my.py defines one 2 times"),
        (f"def one{LOSS}logits.mean()\ndef One{LOSS}logits.sum()", "my.py: the name One is taken by one of .*my.py"),
        (
            f"def mine{LOSS}logits - labels",
            r"mine fails .*my.py: ValueError: it gives torch.Size\(\[8\]\); a loss is a sc",
        ),
        (f"def mine{LOSS}0.5", "mine fails .*my.py: ValueError: it gives 0.5; a loss is a scalar tensor"),
        (
            f"def mine{LOSS}labels.mean()",
            "mine fails .*my.py: RuntimeError: element 0 of tensors does not require grad",
        ),
        (f"def mine{LOSS}logits.mean() / 0", "mine fails .*my.py: ValueError: the loss is inf"),
        (f"def mine{LOSS}(logits - logits).abs().sqrt().sum()", "mine fails .*: the loss is 0 and its gradient .nan"),
        (f"def mine{LOSS}[][step]", "mine fails .*my.py: line 2: IndexError: list index out of range"),
    ],
)
def test_refused_losses(file, monkeypatch, code, message):
    monkeypatch.syspath_prepend(Path(LOSSES).parent)
    file.write_text(code)
    with pytest.raises(ValueError, match=message):
        planned(own_methods=[str(file)])


def test_a_name_in_two_files_and_a_file_that_is_not_there(file):
    other = file.with_name("other.py")
    other.write_text(PLAIN_LOSS)
    with pytest.raises(ValueError, match="other.py: the name mine is taken by mine of .*my.py"):
        planned(own_methods=[str(file), str(other)])
    with pytest.raises(ValueError, match="there is no file .*gone.py"):
        planned(own_methods=["gone.py"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("score_items", "score_all", "my.py has no public nn.Module with forward and score_items"),
        ("nn.Module", "object", "my.py has no public nn.Module"),
        ("class Mine", "class Neumf", "my.py: the name Neumf is taken by NeuMF"),
        ("interactions, dim, generator", "n_users, n_items", "Mine fails .*my.py: TypeError: .*unexpected keyword"),
        (".sum(-1)", "", r"Mine fails .*my.py: ValueError: forward gives .*, and not \(2400, 16\) and \(40, 60\)"),
        ("@ self.items.T", "@ self.items[1:].T", r"Mine fails .*, and not \(2400,\) and \(40, 59\)"),
        ("@ self.items.T", "@ self.items.T + 1", "Mine fails .*forward and score_items give other numbers"),
        ("generator=generator", "generator=None", "Mine fails .*initial weights do not come from the generator"),
        ("nn.Parameter(", "nn.Buffer(", "Mine fails .*RuntimeError: element 0 of tensors does not require grad"),
        ("(-1)", "(-1) + missing", "Mine fails .*my.py: line 8: NameError: name 'missing' is not defined"),
    ],
)
def test_refused_backbones(file, old, new, message):
    assert old in MODULE
    file.write_text(MODULE)
    assert len(planned(own_backbones=[str(file)])) == 6
    file.write_text(MODULE.replace(old, new))
    with pytest.raises(ValueError, match=message):
        planned(own_backbones=[str(file)])


@pytest.mark.slow
def test_a_refused_call_runs_nothing(home, file):
    file.write_text("def mine(:")
    done = run_all("--method", os.path.relpath(file, PROJECT), "toy", home=home)
    assert done.returncode == 1 and f"{file}: SyntaxError" in done.stderr and "Traceback" not in done.stderr
    assert list(home.iterdir()) == [file]


def test_other_functions_are_ignored(file):
    helpers = "import torch\nfrom torch import sigmoid\nscale = 2\ndef helper(logits, labels): ...\nclass Table: ...\n"
    file.write_text(helpers + PLAIN_LOSS + "def _hidden(logits, labels, step): ...\n")
    assert list(own.own_methods([str(file)])) == ["mine"]


def test_the_losses_of_the_page_are_methods(file):
    page = (PROJECT / "docs" / "extending.md").read_text()
    file.write_text("".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    assert list(own.own_methods([str(file)])) == ["absolute_error", "q_3", "q_7"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_losses_that_fail_later_cost_no_other_run(data, file, jobs):
    later = {"nan": "logits.mean() * math.nan", "raises": "[][1]", "vector": "logits"}
    code = "import math\n" + PLAIN_LOSS
    for name, then in later.items():
        code += f"def {name}(logits, labels, step):\n    return {then} if step > 30 else mine(logits, labels, step)\n"
    file.write_text(code)
    runs = planned(["CE", *later, "mine"], own_methods=[str(file)])
    with pytest.raises(RunsFailed, match="3 of 5 runs failed") as failed:
        map_runs(runs, jobs=jobs)
    causes = ("ValueError: the model gives NaN", "IndexError: list index", "RuntimeError: grad can be implicitly")
    for name, cause in zip(later, causes):
        assert f"\nGMF {name} seed 1: training with {file} failed: {cause}" in str(failed.value)
    assert str(failed.value).count("Traceback") == 3 and f'"{file}", line 7' in str(failed.value)
    assert [folder_of(run).exists() for run in runs] == [True, False, False, False, True]


@pytest.mark.slow
def test_a_backbone_that_cannot_be_built_costs_no_other_run(data, file):
    file.write_text(MODULE.replace("super()", "assert interactions.shape[0] < 100\n        super()"))
    runs = planned(["CE"], own_backbones=[str(file)])
    with pytest.raises(
        RunsFailed, match=f"1 of 2 runs failed; .*\nMine CE seed 1: training with {file} failed: AssertionError"
    ):
        map_runs(runs)
    assert [folder_of(run).exists() for run in runs] == [True, False]
