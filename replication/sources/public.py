"""The public data sets: get the data, check them, write the authors' format to ``data/<name>/``."""

import io
import json
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from denoise_lib.data import FILES, Split, load_split, read_part, save_split, split_ratings
from denoise_lib.files import replacing
from replication.sources.fetch import download, first_that_works, from_wheel, from_zip, git_blob_id, sha256
from replication.support import paths

CATALOGUE = yaml.safe_load((files("replication.sources") / "catalogue.yaml").read_text(encoding="utf-8"))
SPLIT_SEED = 2021  # of the per-user splits made here; recorded in the card beside the data


def load(name: str, split_seed: int | None = None) -> Split:
    """The split of a data set, prepared first where it is not on disk yet; with a ``split_seed``, another one of the
    same interactions, made in the same way.

    Raises:
        ValueError: an unknown name, data that cannot be had (the message says what was tried), or a split seed for data
            that are split already.
    """
    ensure(name)
    if split_seed is None:
        return read(paths.data(name), name)
    if name not in RATED:
        raise ValueError(f"split_seed: {name} comes split, of {', '.join(RATED)} other splits can be made")
    frame, clean_from, _ = RATED[name](name)
    return replace(split_ratings(frame, clean_from=clean_from, seed=split_seed), name=name)


def read(folder: Path, name: str) -> Split:
    """The split in a folder, of the sizes that are published or, for a table of your own, recorded in its card."""
    return load_split(folder, name, *sizes(name, folder))


def sizes(name: str, folder: Path | None = None) -> tuple[int | None, int | None]:
    """Numbers of users and items, which stand in a part or not; None for files placed by hand."""
    about = CATALOGUE.get(name) or card(name, folder)
    return about.get("users"), about.get("items")


def ensure(name: str) -> None:
    """Writes a data set's three files, and ``card.json`` with their origin, where they are not on disk yet.

    Files of a published split that lie there already are used, and checked against the published ones. A name without
    a source stands for the three files of that name, which must lie there.

    Raises:
        ValueError: an unknown name, or data that cannot be had (the message says what was tried).
    """
    if is_prepared(name):
        return
    folder = paths.data(name)
    if name in RATED:
        frame, clean_from, origin = RATED[name](name)
        save_split(replace(split_ratings(frame, clean_from=clean_from, seed=SPLIT_SEED), name=name), folder)
    else:
        made_here = {"yelp_small": _yelp_small}
        origin = made_here.get(name, _published if name in CATALOGUE else _placed_by_hand)(name, folder)
    write_card(name, origin)


def is_prepared(name: str) -> bool:
    """Whether the three files of a data set are on disk and are those that its card names. Files of a name without a
    source need no card."""
    if not all(map(Path.is_file, files_of(name))):
        return False
    about = card(name)
    return about.get("parts", checksums(name)) == checksums(name) if about else name not in CATALOGUE


def write_card(name: str, about: dict) -> None:
    """Writes what is known of a data set, and the SHA-256 of its files, to ``card.json``."""
    text = json.dumps(about | {"parts": checksums(name)}, indent=2, ensure_ascii=False)
    with replacing(paths.data(name) / "card.json") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


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
    """Whether the training part of a data set tells true from false positives. Of data that are not there: what their
    card says, or else True."""
    return load(name).train.is_clean is not None if is_prepared(name) else card(name).get("flags", True)


def card(name: str, folder: Path | None = None) -> dict:
    """Where the data in ``data/<name>/``, or in another folder, came from; empty where it was not recorded."""
    file = (folder or paths.data(name)) / "card.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


Rated = tuple[pd.DataFrame, float, dict]  # user, item, rating; the least rating of a true positive; the card


def _toy(name: str) -> Rated:
    """A world whose truth is known.

    Every item has one of five genres and a popularity; every user likes two genres. A user's true interactions are
    items of the liked genres; the false positives (about a quarter of all) are items of the other genres, drawn by
    popularity alone: what everybody clicks. Popularity draws true interactions too, but by its square root.
    """
    n_users, n_items, n_genres = CATALOGUE[name]["users"], CATALOGUE[name]["items"], 5
    rng = np.random.default_rng(SPLIT_SEED)
    genre = rng.permutation(np.arange(n_items) % n_genres)
    popularity = 1 / (1 + rng.permutation(n_items)) ** 0.8
    rows = []
    for user in range(n_users):  # 300 users, once: clarity before speed
        liked = np.isin(genre, rng.choice(n_genres, size=2, replace=False))
        n_true, n_false = rng.integers(12, 33), rng.integers(4, 11)
        for is_liked, n, attraction in ((True, n_true, popularity**0.5), (False, n_false, popularity)):
            chance = attraction * (liked == is_liked)
            items = rng.choice(n_items, size=n, replace=False, p=chance / chance.sum())
            rows += [(user, item, int(is_liked)) for item in items]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating"])
    return frame, 1, {"source": "generated by replication/sources/public.py", "split_seed": SPLIT_SEED}


def _movielens(name: str) -> Rated:
    """The 100,000 official ratings: all are interactions, those below 3 are false positives. They are kept."""
    about, file = CATALOGUE[name], paths.data(name) / "u.data"
    in_wheel = "recbole/dataset_example/ml-100k/ml-100k.inter"
    content, source = first_that_works(
        {
            f"the file {paths.shown(file)}": file.read_bytes,
            about["zip"]: lambda: from_zip(about["zip"], "ml-100k/u.data"),
            f"the copy in the wheel of {about['wheel']}": lambda: from_wheel(about["wheel"], in_wheel, n_header=1),
        },
        digest=sha256,
        expected=about["sha256"],
        notice=about["notice"],
        by_hand=f"Download {about['zip']} by any means and place its ml-100k/u.data at {file}.",
    )
    if not file.is_file():
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    frame = pd.read_csv(io.BytesIO(content), sep="\t", names=["user", "item", "rating"], usecols=range(3))
    origin = {"source": source, "sha256 of u.data": about["sha256"]}
    split = {"false positive": f"rating below {about['clean_from']}", "split": about["split"], "split_seed": SPLIT_SEED}
    return frame, about["clean_from"], origin | split | {"notice": about["notice"]}


RATED = {"toy": _toy, "ml100k": _movielens}  # split here, at random


def _published(name: str, folder: Path) -> dict:
    """An authors' split: each file from the folder or a mirror."""
    return _card({part: _published_file(name, part) for part in FILES}, name)


def _card(found: dict[str, tuple[str, str]], name: str) -> dict:
    """What is recorded of published files, each with its origin and a warning where it is not the published one."""
    origins = {FILES[part].format(name): origin for part, (origin, _) in found.items()}
    return {**origins, "warnings": [warning for _, warning in found.values() if warning], "notice": _notice(name)}


def _notice(name: str) -> str:
    return (
        f"{name}: the split published with the paper, in a repository without an open licence; not redistributed here. "
        f"Cite the paper and {CATALOGUE[name]['cite']} [citation from memory]."
    )


def _published_file(name: str, part: str) -> tuple[str, str]:
    """Origin of a file of an authors' split, which is on disk afterwards, and a warning where it is another one.

    The published files are known by their git blob ids. A file in the folder with another id is accepted.
    """
    about, file = CATALOGUE[name], paths.data(name) / FILES[part].format(name)
    blob = about["git_blobs"][part]
    if file.is_file():
        found = git_blob_id(file.read_bytes())
        blobs = f"git blob {found[:10]}, published {blob[:10]}"
        warning = "" if found == blob else f"{file.name} is not the published file ({blobs})"
        return f"placed by hand, git blob {found}", warning
    content, origin = first_that_works(
        {url: partial(download, url) for url in [f"{mirror}/{file.name}" for mirror in about["mirrors"]]},
        digest=git_blob_id,
        expected=blob,
        notice=_notice(name),
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
    return origin, ""


def _yelp_small(name: str, folder: Path) -> dict:
    """The paper's Yelp without its large train file: the first row of each pair of its validation part is a row of
    train or, one of ten at random, of valid; its test part is the test part."""
    found = {part: _published_file("yelp", part) for part in ("valid", "test")}
    rows, test = (read_part(paths.data("yelp") / FILES[part].format("yelp")) for part in found)
    whole = Split(name, *sizes("yelp"), rows, rows, test).without_duplicates()
    is_valid = np.random.default_rng(SPLIT_SEED).permutation(len(whole.train)) < len(whole.train) // 10
    save_split(replace(whole, train=whole.train[~is_valid], valid=whole.train[is_valid]), folder)
    made = {"source": "valid and test of the published Yelp", "split": "90/10 over the rows of valid"}
    return made | {"split_seed": SPLIT_SEED} | _card(found, "yelp")


def _placed_by_hand(name: str, folder: Path) -> dict:
    if missing := [file.name for file in files_of(name) if not file.is_file()]:
        raise ValueError(
            f"there is no data set {name!r}; there are {', '.join(CATALOGUE)}. For a table of your own, "
            f"./run_all.sh --new {name} FILE; for a split of your own, {', '.join(missing)} must lie in {folder}"
        )
    return {"source": "placed by hand"}
