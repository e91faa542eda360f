"""Reading, writing, splitting and checking; every malformed file gets an error that names file, line and remedy."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_lib.data import FILES, Interactions, Split, load_split, save_split, split_ratings


def write(folder, name="tiny", **parts):
    """Writes a small valid data set, with some parts' text replaced."""
    texts = {"train": "0\t0\t1\n1\t1\t0\n", "valid": "0\t2\t1\n", "test": "1\t0\t1\n"} | parts
    for part, text in texts.items():
        if text is not None:
            (folder / FILES[part].format(name)).write_text(text)
    return folder


def test_reads_what_the_files_say(tmp_path):
    split = load_split(write(tmp_path), "tiny")
    assert (split.n_users, split.n_items) == (2, 3)
    assert split.train.users.tolist() == [0, 1] and split.train.items.tolist() == [0, 1]
    assert split.train.is_clean.tolist() == [True, False]
    assert split.train.users.dtype == split.train.items.dtype == np.int64


def test_declared_sizes(tmp_path):
    split = load_split(write(tmp_path), "tiny", n_users=7, n_items=9)
    assert (split.n_users, split.n_items) == (7, 9)


def test_both_published_test_formats(tmp_path):
    pairs = "(1, 0)\t17\t5\n(0, 1)\t3\n\n(1,2)\n"
    test = load_split(write(tmp_path, test=pairs), "tiny").test
    assert test.users.tolist() == [1, 0, 1] and test.items.tolist() == [0, 1, 2] and test.is_clean is None
    assert load_split(write(tmp_path, test="1\t2\n"), "tiny").test.items.tolist() == [2]


def test_test_files_are_never_evaluated(tmp_path):
    with pytest.raises(ValueError, match="line 1"):
        load_split(write(tmp_path, test="(__import__('os').getpid(), 0)\t1\n"), "tiny")


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "is missing"),
        ("", "has no rows"),
        ("0\t0\t1\n1\t1\n", "line 2: 2 tab-separated columns"),
        ("0\n", "line 1: 1 tab-separated columns"),
        ("0 0 1\n", "line 1: 1 tab-separated columns"),
        ("0\t0\t1\t5\n", "line 1: 4 tab-separated columns"),
        ("0\t0\t1\n0\tx\t1\n", "line 2: item is 'x', not an integer"),
        ("0\t0\t1\n0.5\t1\t1\n", "line 2: user is '0.5', not an integer"),
        ("0\t0\t1\n\n-3\t1\t1\n", "line 3: user is -3, a negative"),
        ("0\t0\t5\n", "line 1: flag is 5"),
        ("0\t0\t\n", "line 1: flag is ''"),
    ],
)
@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_malformed_files(tmp_path, part, text, message):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_split(write(tmp_path, **{part: text}) if text is not None else _without(tmp_path, part), "tiny")
    assert message in str(error.value)
    assert FILES[part].format("tiny") in str(error.value)


def _without(folder, part):
    write(folder)
    (folder / FILES[part].format("tiny")).unlink()
    return folder


def test_an_id_beyond_the_declared_size(tmp_path):
    with pytest.raises(ValueError, match="row 1: item 2 is beyond the declared 2 items"):
        load_split(write(tmp_path), "tiny", n_items=2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_saving_and_loading_is_the_identity(tmp_path_factory, seed, with_flags):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("split")

    def part():
        n = rng.integers(1, 20)
        return Interactions(
            rng.integers(9, size=n), rng.integers(7, size=n), rng.random(n) < 0.5 if with_flags else None
        )

    split = Split("any", 9, 7, part(), part(), part())
    save_split(split, folder)
    again = load_split(folder, "any", 9, 7)
    for name in FILES:
        for field in ("users", "items", "is_clean"):
            np.testing.assert_array_equal(getattr(getattr(split, name), field), getattr(getattr(again, name), field))
    assert sorted(file.name for file in folder.iterdir()) == sorted(pattern.format("any") for pattern in FILES.values())


def ratings(n_users=30, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{u}", f"i{i:02}", rng.integers(1, 6)) for u in range(n_users) for i in rng.choice(50, 20, replace=False)
    ]
    return pd.DataFrame(rows, columns=["user", "item", "rating"])


def test_split_ratings_keeps_every_row_but_noisy_test_rows():
    frame = ratings()
    split = split_ratings(frame, clean_from=3, seed=1)
    assert (split.n_users, split.n_items) == (30, frame["item"].nunique())
    sizes = [np.bincount(part.users, minlength=30) for part in (split.train, split.valid)]
    assert (sizes[0] == 16).all() and (sizes[1] == 2).all()
    assert split.test.is_clean.all() and not split.train.is_clean.all()

    users, items = np.unique(frame["user"]), np.unique(frame["item"])
    truth = {(u, i): r for u, i, r in frame.itertuples(index=False)}
    seen = set()
    for part in (split.train, split.valid, split.test):
        for user, item, clean in zip(part.users, part.items, part.is_clean):
            pair = (users[user], items[item])
            assert pair not in seen and (truth[pair] >= 3) == clean
            seen.add(pair)
    left_out = set(truth) - seen
    assert left_out and all(truth[pair] < 3 for pair in left_out)


def test_split_ratings_follows_its_seed():
    first, again, other = (split_ratings(ratings(), clean_from=3, seed=seed) for seed in (1, 1, 2))
    assert first.train.items.tolist() == again.train.items.tolist() != other.train.items.tolist()


def test_a_user_with_one_rating_stays_in_train():
    frame = pd.concat([ratings(), pd.DataFrame([("alone", "i00", 5)], columns=["user", "item", "rating"])])
    split = split_ratings(frame, clean_from=3, seed=1)
    alone = np.unique(frame["user"]).tolist().index("alone")
    assert alone in split.train.users and alone not in split.valid.users and alone not in split.test.users


def test_repeated_ratings_keep_the_first():
    frame = ratings()
    doubled = pd.concat([frame, frame.head(5).assign(rating=1)])
    with pytest.warns(UserWarning, match="5 ratings repeat"):
        split = split_ratings(doubled, clean_from=3, seed=1)
    assert len(split.train) == len(split_ratings(frame, clean_from=3, seed=1).train)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: f.drop(columns="rating"), "lack the columns"),
        (lambda f: f.assign(rating=f["rating"].astype(object).where(f.index != 3, "five")), "row 4"),
        (lambda f: f.assign(item=f["item"].where(f.index != 7)), "row 8"),
        (lambda f: f.assign(rating=1), "test part stays empty"),
        (lambda f: f.drop_duplicates("user"), "valid part stays empty"),
    ],
)
def test_ratings_that_cannot_be_split(change, message):
    with pytest.raises(ValueError, match=message):
        split_ratings(change(ratings()), clean_from=3, seed=1)


def test_without_duplicates():
    twice = Interactions(np.array([0, 1, 0]), np.array([1, 0, 1]), np.array([True, True, False]))
    split = Split("s", 2, 2, twice, twice, twice).without_duplicates()
    assert split.train.users.tolist() == [0, 1] and split.test.is_clean.tolist() == [True, True]


def test_the_matrix_holds_ones_whatever_is_repeated():
    twice = Interactions(np.array([0, 1, 0]), np.array([1, 0, 1]))
    matrix = Split("s", 2, 2, twice, twice, twice).matrix(twice, twice)
    assert matrix.toarray().tolist() == [[0, 1], [1, 0]] and matrix.has_canonical_format
