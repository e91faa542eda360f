"""One function per public source: get the data, check them, write the authors' format to ``data/<name>/``."""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from denoise_lib.data import FILES, Split, load_split, save_split, split_ratings
from denoise_lib.files import replacing
from replication.sources.fetch import download, first_that_works, git_blob_id, sha256
from replication.support import paths

SPLIT_SEED = 2021  # of the per-user splits made here; recorded in the card beside the data


def load(name: str) -> Split:
    """The split of a data set, prepared first where it is not on disk yet.

    Raises:
        ValueError: an unknown name, or data that cannot be had (the message says what was tried).
    """
    ensure(name)
    return load_split(paths.data(name), name, *sizes(name))


def sizes(name: str) -> tuple[int | None, int | None]:
    """Numbers of users and items, which stand in a part or not; None for files placed by hand."""
    about = card(name)
    return SIZES.get(name, (about.get("users"), about.get("items")))


def ensure(name: str) -> None:
    """Prepares a data set where it is not on disk yet."""
    if not is_prepared(name):
        prepare(name, paths.data(name))


def is_prepared(name: str) -> bool:
    """Whether the three files of a data set are on disk, and no newer than the card that says what they are."""
    files = [*files_of(name), paths.data(name) / "card.json"]
    return all(map(Path.is_file, files)) and files[-1].stat().st_mtime >= max(file.stat().st_mtime for file in files)


def prepare(name: str, folder: str | Path) -> None:
    """Writes a data set's three files, and ``card.json`` with their origin, to a folder.

    Files of a published split that lie there already are used, and checked against the published ones. A name without
    a source stands for the three files of that name, which must lie there.

    Raises:
        ValueError: an unknown name, or data that cannot be had (the message says what was tried).
    """
    folder = Path(folder)
    origin = _SOURCES[name](folder) if name in _SOURCES else _placed_by_hand(name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "card.json") as temporary:
        temporary.write_text(json.dumps(origin, indent=2) + "\n")


def checksums(name: str) -> dict[str, str]:
    """SHA-256 of each of a data set's files, which are on disk. A file is read again only when it has changed."""
    return {file.name: _digest(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files_of(name)}


@cache
def _digest(file: Path, changed: int, size: int) -> str:
    return sha256(file.read_bytes())


def files_of(name: str) -> list[Path]:
    """Where the three files of a data set lie, or will lie."""
    return [paths.data(name) / pattern.format(name) for pattern in FILES.values()]


def has_flags(name: str) -> bool:
    """Whether the training part of a data set tells true from false positives. True for data that are not there yet."""
    return not is_prepared(name) or load(name).train.is_clean is not None


def card(name: str) -> dict:
    """Where a data set came from, as :func:`prepare` recorded it; empty for files placed by hand."""
    file = paths.data(name) / "card.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _placed_by_hand(name: str, folder: Path) -> dict:
    missing = [file for pattern in FILES.values() if not (folder / (file := pattern.format(name))).is_file()]
    if missing:
        raise ValueError(
            f"there is no data set {name!r}; there are {', '.join(_SOURCES)}. For a table of your own, "
            f"./run_all.sh --new {name} FILE; for a split of your own, {', '.join(missing)} must lie in {folder}"
        )
    return {"source": "placed by hand"}


# --------------------------------------------------------------------------------------------------------------- toy

TOY_USERS, TOY_ITEMS, TOY_GENRES = 300, 150, 5


def _toy(folder: Path) -> dict:
    """A world whose truth is known.

    Every item has one of five genres and a popularity; every user likes two genres. A user's true interactions are
    items of the liked genres; the false positives (about a quarter of all) are items of the other genres, drawn by
    popularity alone: what everybody clicks. Popularity draws true interactions too, but by its square root.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    genre = rng.permutation(np.arange(TOY_ITEMS) % TOY_GENRES)
    popularity = 1 / (1 + rng.permutation(TOY_ITEMS)) ** 0.8
    rows = []
    for user in range(TOY_USERS):  # 300 users, once: clarity before speed
        liked = np.isin(genre, rng.choice(TOY_GENRES, size=2, replace=False))
        n_true, n_false = rng.integers(12, 33), rng.integers(4, 11)
        for is_liked, n, attraction in ((True, n_true, popularity**0.5), (False, n_false, popularity)):
            chance = attraction * (liked == is_liked)
            items = rng.choice(TOY_ITEMS, size=n, replace=False, p=chance / chance.sum())
            rows += [(user, item, int(is_liked)) for item in items]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating"])
    save_split(replace(split_ratings(frame, clean_from=1, seed=SPLIT_SEED), name="toy"), folder)
    return {"source": "generated by replication/sources/public.py", "split_seed": SPLIT_SEED}


# ------------------------------------------------------------------------------------------------------------ ml100k

ML100K_ZIP = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
ML100K_SHA256 = "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"  # of u.data
ML100K_WHEEL = "recbole==1.2.1"  # its file is u.data below one header line, byte for byte
ML100K_CLEAN_FROM = 3
ML100K_NOTICE = (
    "MovieLens-100K (F. M. Harper, J. A. Konstan, ACM TiiS 5(4), 2015, doi:10.1145/2827872) is for research use; its "
    "licence forbids redistribution."
)


def _movielens(folder: Path) -> dict:
    """The 100,000 official ratings: all are interactions, those below 3 are false positives."""
    content, source = first_that_works(
        {
            f"the file {paths.shown(folder / 'u.data')}": lambda: (folder / "u.data").read_bytes(),
            ML100K_ZIP: _u_data_from_grouplens,
            f"the copy in the wheel of {ML100K_WHEEL}": _u_data_from_wheel,
        },
        digest=sha256,
        expected=ML100K_SHA256,
        notice=ML100K_NOTICE,
        by_hand=f"Download {ML100K_ZIP} by any means and place its ml-100k/u.data at {folder / 'u.data'}.",
    )
    frame = pd.read_csv(io.BytesIO(content), sep="\t", names=["user", "item", "rating"], usecols=range(3))
    split = split_ratings(frame, clean_from=ML100K_CLEAN_FROM, seed=SPLIT_SEED)
    save_split(replace(split, name="ml100k"), folder)
    return {
        "source": source,
        "sha256 of u.data": ML100K_SHA256,
        "false positive": f"rating below {ML100K_CLEAN_FROM}",
        "split": "80/10/10 per user at random, false positives left out of test",
        "split_seed": SPLIT_SEED,
        "notice": ML100K_NOTICE,
    }


def _u_data_from_grouplens() -> bytes:
    return zipfile.ZipFile(io.BytesIO(download(ML100K_ZIP))).read("ml-100k/u.data")


def _u_data_from_wheel() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", scratch, ML100K_WHEEL]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1] if done.stderr else "no message"
            raise OSError(f"pip download failed: {last}")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            return file.read("recbole/dataset_example/ml-100k/ml-100k.inter").partition(b"\n")[2]


# --------------------------------------------------------------------------------- the authors' splits, by git blob id

CITE = {
    "adressa": "J. A. Gulla et al., The Adressa Dataset for News Recommendation, WI 2017",
    "amazon_book": "R. He and J. McAuley, Ups and Downs, WWW 2016",
    "yelp": "the Yelp Open Dataset, under Yelp's terms of use",
}


def _published(name: str, folder: Path) -> dict:
    """An authors' split: each file from the folder or a mirror, identified by its git blob id.

    A file in the folder whose id differs from the published one is accepted, with a warning in the card.
    """
    notice = (
        f"{name}: the split published with the paper, in a repository without an open licence; not redistributed here. "
        f"Cite the paper and {CITE[name]} [citation from memory]."
    )
    known = pd.read_csv(files("replication.sources") / "published_files.csv")
    warned, origins = [], {}
    for (file_name, blob), mirrors in known[known["dataset"] == name].groupby(["file", "git_blob"], sort=False):
        file = folder / file_name
        if file.is_file():
            found = git_blob_id(file.read_bytes())
            origins[file_name] = f"placed by hand, git blob {found}"
            if found != blob:
                blobs = f"git blob {found[:10]}, published {blob[:10]}"
                warned.append(f"{file_name} is not the published file ({blobs})")
            continue
        content, origins[file_name] = first_that_works(
            {url: partial(download, url) for url in mirrors["url"]},
            digest=git_blob_id,
            expected=blob,
            notice=notice,
            by_hand=f"Place the file at {file}.",
        )
        try:
            with replacing(file) as temporary:
                temporary.write_bytes(content)
        except OSError as error:  # a full disk, above all
            raise ValueError(
                f"{file} cannot be written: {error.strerror}. It takes {len(content):,} bytes; make room, or set "
                "DENOISE_HOME to another disk, and start again. The files that are whole stay."
            ) from None
    return {**origins, "warnings": warned, "notice": notice}


_SOURCES = {"toy": _toy, "ml100k": _movielens, **{name: partial(_published, name) for name in CITE}}
SIZES = {
    "toy": (TOY_USERS, TOY_ITEMS),
    "ml100k": (943, 1682),
    # As the authors' code declares them or their logs print them.
    "adressa": (212_231, 6_596),
    "amazon_book": (80_464, 98_663),
    "yelp": (45_548, 57_396),
}
