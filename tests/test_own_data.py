"""A table of your own, from dirty rows to recommendations."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import PROJECT, notebooks

from replication.app import cli
from replication.report.recommend import recommend
from replication.runs import store
from replication.runs.map import map_runs
from replication.runs.parameters import Parameters, assigned, resolve
from replication.runs.settings import plan
from replication.sources import own_table, public
from replication.support import paths


def write(path, *lines: str):
    path.write_text("\n".join(lines) + "\n")
    return path


def interactions(n_users=30, n_items=20, per_user=10, seed=0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        f"u{user:03d},i{item},{rng.integers(1, 6)}"
        for user in range(n_users)
        for item in rng.choice(n_items, per_user, replace=False)
    ]


@pytest.fixture
def own(home, monkeypatch):
    """An empty home with a params folder of its own."""
    (home / "params").mkdir()
    monkeypatch.setattr(paths, "PARAMS", home / "params")
    monkeypatch.setenv("DENOISE_PARAMS", str(home / "params"))  # for kernels
    (home / "params" / "toy.yaml").write_text((PROJECT / "params" / "toy.yaml").read_text())
    return home


def call(*arguments: str) -> int:
    return cli.run(cli._parser().parse_args(arguments), list(arguments))


def test_dirty_rows_are_left_out_and_named(tmp_path):
    file = write(
        tmp_path / "t.csv",
        "User ID,movie:token,stars,Timestamp",
        "001,a,4,10", "1,a,5,11", "001,,4,12", ",a,4,13", "001,b,many,14", "001,a,1,15", "001,c,4", "", "001,c,inf,16", " 001 , d ,2,17",
    )  # fmt: skip
    table = own_table.read_table(file)
    assert table.columns == {"user": "User ID", "item": "movie:token", "rating": "stars", "time": "Timestamp"}
    assert table.frame[["user", "item", "value"]].to_numpy().tolist() == [
        ["001", "a", 4],
        ["1", "a", 5],
        ["001", "d", 2],
    ]
    assert (table.n_rows, table.quality) == (9, "rating")  # a blank line is no row
    assert table.told() == [
        "rows with another number of columns than the header: 1 left out (row 8)",
        "rows without user: 1 left out (row 5)",
        "rows without item: 1 left out (row 4)",
        "rows without a readable rating (stars): 2 left out (row 6, 10)",
        "rows that repeat a pair of user and item: 1 left out (row 7)",
    ]


@pytest.mark.parametrize(
    "header, role", [("user\titem\tflag", "flag"), ("uid;item_id;dwell_time", "dwell"), ("user,item", None)]
)
def test_separators_and_qualities(tmp_path, header, role):
    separator = next(one for one in "\t;," if one in header)
    rows = [separator.join(fields[: len(header.split(separator))]) for fields in (("a", "x", "1"), ("a", "y", "0"))]
    table = own_table.read_table(write(tmp_path / "t.txt", header, *rows))
    assert table.quality == role and table.frame["item"].tolist() == ["x", "y"]


def test_columns_that_are_said_win(tmp_path):
    file = write(tmp_path / "t.csv", "who,what,rating,flag", "a,x,5,0", "b,y,1,1")
    with pytest.raises(
        ValueError,
        match=r"no column is recognised as the user among who, what, rating, flag.*--set 'columns=\{user: NAME\}', or --column",
    ):
        own_table.read_table(file)
    table = own_table.read_table(file, {"user": "who", "item": "what"})
    assert (table.quality, table.frame["value"].tolist()) == ("flag", [0.0, 1.0])
    assert table.remarks == ["not used, though their names are known: rating; columns={role: name} takes others"]
    table = own_table.read_table(file, {"user": "who", "item": "what", "rating": "rating"})
    assert (table.quality, table.frame["value"].tolist()) == ("rating", [5.0, 1.0])


@pytest.mark.parametrize(
    "content, users, values",
    [
        (b"user,item,rating\r\na,x,1\r\nb,y,2\r\n", ["a", "b"], [1, 2]),
        (b"user;item;rating\na;x;4,5\nb;y;4\n", ["a", "b"], [4.5, 4]),
        (b"user,item\nM\xfcller,x\nM\xf6ller,x\n", ["Müller", "Möller"], None),
        ("user,item\nü,x\n".encode("utf-16"), ["ü"], None),
        (b'user,item,rating\n"a, b",x,1\n"c\nd",y,2\n', ["a, b", "c\nd"], [1, 2]),
        (b'user, "item; id", rating\na, "x", 3\n', ["a"], [3]),
        (b'user\titem\n"a\tx\nb\ty\n', ['"a', "b"], None),  # nothing is quoted between tabs
        (b"user,item,liked\na,x,True\nb,x,n\nc,x,1.00\nd,x,2\n", ["a", "b", "c"], [1, 0, 1]),
    ],
)
def test_files_of_many_kinds(tmp_path, content, users, values):
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    table = own_table.read_table(file, {"item": "item; id"} if b"item; id" in content else {})
    assert table.frame["user"].tolist() == users
    assert values is None or table.frame["value"].tolist() == values


def test_odd_dates_stop_nothing(tmp_path):
    file = write(
        tmp_path / "t.csv", "user,item,date,time", "a,x,1970-01-02,1", "a,y,9999-12-31,2", "a,z,12h1,3", "a,w,60,4"
    )
    table = own_table.read_table(file, {"time": "date"})
    assert table.frame["time"].iloc[[0, 3]].tolist() == [86_400, 60] and table.frame["time"].iloc[2:3].isna().all()
    assert any("without a readable time (date), kept" in remark for remark in table.remarks)


@pytest.mark.parametrize(
    "lines, columns, message",
    [
        (None, {}, "there is no file"),
        (["user,item", ",b"], {}, "no usable row: rows without user: 1"),
        (["user,item"], {}, "a header only"),
        ([" "], {}, "is empty; its first line"),
        (["user,item", 'a,"' + 200_000 * "x"], {}, "line 2: field larger.*never closed"),
        (["user,item", "a,b"], {"user": "name"}, "no column 'name'; the file has user, item"),
        (["user,item", "a,b"], {"buyer": "user"}, "roles are user, item.*got 'buyer'"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, lines, columns, message):
    file = tmp_path / "t.csv"
    if lines:
        write(file, *lines)
    with pytest.raises(ValueError, match=message):
        own_table.read_table(file, columns)


@pytest.mark.slow
def test_from_a_table_to_an_answer(own, tmp_path, capsys):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions(), "alone,i0,5", "u000,,3")
    assert call("--new", "mine", str(file)) == 0
    told = capsys.readouterr().out
    assert (
        "301 of 302 rows, 31 users, 20 items" in told
        and "row 303" in told
        and "clean_from: 3, rating runs from 1 to 5" in told
    )
    written = yaml.safe_load((paths.PARAMS / "mine.yaml").read_text())
    own_code = {"own_methods", "own_backbones"}
    assert written["clean_from"] == 3 and set(written) == set(Parameters.model_fields) - own_code
    small = [
        f"--set={pair}"
        for pair in ("backbones=[GMF]", "seeds=[1, 2]", "epochs=2", "eval_every=1", "ramp_steps=2", "jobs=1")
    ]
    assert call(*small, "mine") == 0
    assert "T-CE against CE, Recall and NDCG: 0 better, 0 worse, 4 unresolved of 4 cells" in capsys.readouterr().out
    folder, card = own / "data" / "mine", public.card("mine")
    assert card["left out"] == ["rows without item: 1 left out (row 303)"] and card["users with one interaction"] == 1
    split = public.load("mine")
    users = pd.read_csv(folder / "users.csv", dtype=str)["id"]
    assert (split.n_users, split.n_items) == (31, 20) and users[0] == "alone" and users[1] == "u000"
    assert 0 in split.train.users and 0 not in split.valid.users and 0 not in split.test.users
    assert split.test.is_clean.all() and not split.train.is_clean.all()
    assert len(pd.read_csv(own / "results" / "mine" / "runs.csv")) == 6
    assert (own / "results" / "mine" / "tables" / "main.md").is_file()

    changes = assigned([pair[6:] for pair in small] + ["seeds=[1]"])
    (run,) = map_runs(plan(["CE"], resolve("mine", changes)))
    best = recommend(run, ["u003", "alone"], 5)
    assert best["user"].tolist() == ["u003"] * 5 + ["alone"] * 5 and best["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    table = own_table.read_table(file).frame
    for user, rows in best.groupby("user"):
        assert rows["probability"].is_monotonic_decreasing and rows["item"].str.startswith("i").all()
        assert not set(rows["item"]) & set(table[(table["user"] == user) & (table["value"] >= 3)]["item"])
    with pytest.raises(ValueError, match="no user 'nobody' in mine; ids look like alone, u000"):
        recommend(run, ["nobody"])


def test_set_alone_makes_the_params(own, tmp_path, capsys):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions())
    assert call(f"--set=ratings={file}", "--set=clean_from=4", "--dry-run", "mine") == 0
    assert resolve("mine").clean_from == 4 and not (own / "data" / "mine").exists()
    assert "wrote" in capsys.readouterr().err


@pytest.mark.parametrize("scale, expected", [(1, 3), (2, None)])
def test_the_limit_is_guessed_for_one_to_five_only(own, tmp_path, scale, expected):
    lines = [line[: line.rindex(",") + 1] + str(scale * int(line[-1])) for line in interactions()]
    call("--new", "mine", str(write(tmp_path / "t.csv", "user,item,rating", *lines)))
    text = (paths.PARAMS / "mine.yaml").read_text()
    assert yaml.safe_load(text)["clean_from"] == expected
    assert ("FILL IN" in text) == (expected is None)
    own_table.prepare("mine", str(tmp_path / "t.csv"), {}, expected)
    assert (public.load("mine").train.is_clean is None) == (expected is None)


def test_a_changed_table_is_read_anew_and_others_data_stay(own, tmp_path, capsys):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions())
    own_table.prepare("mine", str(file), {}, 3)
    before = public.checksums("mine")
    own_table.prepare("mine", str(file), {}, 3)
    assert not capsys.readouterr().err and public.checksums("mine") == before
    own_table.prepare("mine", str(file), {}, 5)
    assert "made anew" in capsys.readouterr().err and public.checksums("mine") != before
    with pytest.raises(ValueError, match="has a source of its own"):
        own_table.prepare("toy", str(file), {}, 3)
    (own / "data" / "theirs").mkdir()
    (own / "data" / "theirs" / "theirs.train.rating").touch()
    with pytest.raises(ValueError, match="choose another name"):
        own_table.prepare("theirs", str(file), {}, 3)
    with pytest.raises(ValueError, match="rating runs to 5, a true positive from 9"):
        own_table.prepare("mine", str(file), {}, 9)
    assert "made anew" not in capsys.readouterr().err
    file.unlink()
    assert own_table.prepare("mine", str(file), {}, 5) is None and "is gone" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there is no file"):
        own_table.prepare("mine", str(file), {}, 4)


@pytest.mark.slow
def test_another_limit_runs_and_says_so(own, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", notebooks(tmp_path / "notebooks", real=("04_tables",)))
    write(tmp_path / "t.csv", "user,item,rating", *interactions())
    monkeypatch.chdir(tmp_path)  # a path is relative to where one stands
    small = [
        f"--set={pair}"
        for pair in ("backbones=[GMF]", "seeds=[1]", "epochs=1", "eval_every=1", "ramp_steps=2", "jobs=1")
    ]
    assert call("--set=ratings=t.csv", *small, "mine") == 0
    assert call("--set=clean_from=4", *small, "mine") == 0
    assert public.card("mine")["clean_from"] == 4
    assert "clean_from=4 instead of 3" in (own / "results" / "mine" / "tables" / "main.md").read_text()
    assert "ratings" not in (own / "results" / "mine" / "tables" / "main.md").read_text()
    assert (
        store.note(resolve("mine")) == "not the params file's settings: clean_from=4 instead of 3"
    )  # in the other notebooks too


def test_a_published_name_is_not_taken_over(own, tmp_path):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions())
    with pytest.raises(ValueError, match="toy has a source of its own"):
        call(f"--set=ratings={file}", "toy")
    with pytest.raises(ValueError, match="--new takes a name and a file"):
        call("--set=seeds=[1]", "--new", "mine", str(file))
    assert not (own / "data").exists() and not (own / "params" / "mine.yaml").exists()


@pytest.mark.parametrize("limit", [1_000_000, 1_234_567, 2.5])
def test_limits_are_written_as_numbers(own, tmp_path, limit):
    lines = [f"u{user},i{item},{(user + item) % 5 * limit}" for user in range(30) for item in range(10)]
    file = write(tmp_path / "t.csv", "user,item,dwell", *lines)
    call(f"--set=clean_from={limit}", "--new", "mine", str(file))
    assert resolve("mine").clean_from == limit


def test_ids_come_back_as_they_were(own, tmp_path):
    strange = ['"q"', "NA", "ü", "a, b", "007"]
    rows = [f'"{name.replace(chr(34), 2 * chr(34))}",i{item}' for name in strange for item in range(10)]
    own_table.prepare("mine", str(write(tmp_path / "t.csv", "user,item", *rows)), {}, None)
    assert own_table.original_ids("mine", "users").tolist() == sorted(strange)


@pytest.mark.parametrize(
    "name, message", [("toy", "there is a data set 'toy' already"), ("a b", "is no name"), ("ml100k", "already")]
)
def test_names(own, tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        call("--new", name, str(write(tmp_path / "t.csv", "user,item", "a,b")))
