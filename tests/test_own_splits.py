"""Splits made elsewhere, and by time."""

import pandas as pd
import pytest
from made_tables import HEAD, call, interactions, rows, text, write

from denoise_lib.data import FILES
from replication.app import doctor
from replication.runs import parameters
from replication.sources import own_table, public
from replication.sources.tables import read_table


def three_tables(folder) -> list[str]:
    """Train with ratings, valid without, test with: all numbered together."""
    records = [[*row, str(1 + n % 5)] for n, row in enumerate(rows())]
    parts = {"train": (3, [*HEAD, "rating"], records[:300]), "valid": (2, HEAD, records[300:350])}
    parts["test"] = (3, ["item", "user", "rating"], [[item, user, value] for user, item, value in records[350:]])
    files = []
    for part, (n_columns, header, some) in parts.items():
        (folder / f"{part}.csv").write_bytes(text(",", header, *(record[:n_columns] for record in some)))
        files.append(str(folder / f"{part}.csv"))
    return files


def test_three_tables_are_a_split(own, tmp_path, capsys):
    files = three_tables(tmp_path)
    assert call("--new", "theirs", *files) == 0
    told = capsys.readouterr().out
    assert (
        "theirs: 400 of 400 rows, 40 users, 20 items; read as " in told and "20 false positives leave the test" in told
    )
    values = parameters.resolve("theirs")
    assert values.ratings == files and values.clean_from == 3
    own_table.prepare("theirs", **values.table())
    split = public.load("theirs")
    assert [len(getattr(split, part)) for part in FILES] == [300, 50, 30]
    assert split.train.is_clean.mean() == 0.6 and split.valid.is_clean is None and split.test.is_clean.all()
    users, items = (own_table.original_ids("theirs", of) for of in ("users", "items"))
    pairs = [list(zip(users[part.users], items[part.items])) for part in (split.train, split.valid)]
    assert pairs[0] + pairs[1] == [(user, item) for user, item, *_ in rows()[:350]]
    assert call("--list") == 0 and "theirs: data in" in capsys.readouterr().out
    assert doctor.main(files) in (0, 1) and "theirs" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="one table, or three"):
        call("--new", "others", *files[:2])
    with pytest.raises(ValueError, match="one table, or three.*got 4"):
        own_table.read([*files, files[0]])
    write(tmp_path / "test.csv", "user,item,rating", "u00,i00,1")
    with pytest.raises(ValueError, match="the test part is empty"):
        call("--new", "others", *files)


def test_files_of_one_table_are_alike(tmp_path):
    three_tables(tmp_path)
    (tmp_path / "valid.csv").rename(tmp_path / "train2.csv")
    with pytest.raises(ValueError, match="must all have ratings, or none"):
        read_table(str(tmp_path / "train*.csv"))


@pytest.mark.parametrize("placed", ["in place", "elsewhere", "three files"])
def test_three_files_in_the_authors_format_are_a_split(own, tmp_path, capsys, placed):
    folder = own / "data" / "theirs" if placed == "in place" else tmp_path / "split"
    folder.mkdir(parents=True)
    files = [folder / pattern.format("theirs") for pattern in FILES.values()]
    numbers = [f"{user}\t{(user + k) % 20}\t{int(k != 3)}" for user in range(40) for k in range(10)]
    for file, lines in zip(files, (numbers[::2], numbers[1::4], [f"{n}\t{n % 5 + 12}" for n in range(40)])):
        write(file, *lines)
    assert call("--new", "theirs", *map(str, files if placed == "three files" else [folder])) == 0
    assert "theirs: 340 of 340 rows, 40 users, 20 items; read as a split" in capsys.readouterr().out
    values = parameters.resolve("theirs")
    assert (values.ratings is None) == (placed == "in place")
    if values.ratings:
        assert "no data yet" in (call("--list"), capsys.readouterr().out)[1]
        own_table.prepare("theirs", **values.table())
    assert [len(getattr(public.load("theirs"), part)) for part in FILES] == [200, 100, 40]
    assert "theirs: data in" in (call("--list"), capsys.readouterr().out)[1]
    (own / "params" / "theirs.yaml").write_text(
        (own / "params" / "theirs.yaml").read_text().replace("expected: {", "expected: {} # {")
    )
    assert call("--set=backbones=[GMF]", "--dry-run", "theirs") == 0
    assert "40 users, 20 items, 200 train" in capsys.readouterr().out.replace("generated data of 200 train, 100", "")
    assert doctor.main([str(own / "data" / "theirs")]) in (0, 1)
    with pytest.raises(
        ValueError, match="must hold one theirs.train.rating, theirs.valid.rating, theirs.test.negative"
    ):
        own_table.authors_split([str(files[0]), str(files[2]), str(files[1])])


def test_a_split_by_time_tests_what_came_last(own, tmp_path, capsys):
    records = [[*row, f"2020-01-{10 - n % 10:02d}"] for n, row in enumerate(rows())]
    records[0][2] = "never"
    (tmp_path / "t.csv").write_bytes(text(",", [*HEAD, "date"], *records))
    assert call("--split", "time", "--new", "mine", str(tmp_path / "t.csv")) == 0
    values = parameters.resolve("mine")
    assert values.split == "time"
    table = own_table.prepare("mine", **values.table())
    split, days = public.load("mine"), pd.to_datetime(table.frame["time"], unit="s").dt.day.fillna(0)
    day_of = dict(zip(zip(table.frame["user"], table.frame["item"]), days))
    tested = {
        part: [
            {int(day_of[pair]) for pair in zip(rows.users, rows.items) if (pair[0] == 0) == is_first}
            for is_first in (0, 1)
        ]
        for part in FILES
        for rows in [getattr(split, part)]
    }
    assert tested["train"] == [set(range(1, 9)), set(range(8))]  # the first user's last day cannot be read
    assert tested["valid"] == [{9}, {8}] and tested["test"] == [{10}, {9}]
    own_table.prepare("mine", **(values.table() | {"split": "random"}))
    assert "made anew" in capsys.readouterr().err
    assert doctor.main([str(tmp_path / "t.csv"), "--split", "time"]) == 0
    assert "older than a training row" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="needs a column with times"):
        call("--split", "time", "--new", "other", str(write(tmp_path / "no.csv", "user,item,rating", *interactions())))
