"""A table of your own as a data set: what is said about it, and what is made of it."""

import json
import os
import re

import pandas as pd
import pytest
import yaml
from made_tables import HEAD, call, interactions, read, rows, text, write

from denoise_lib.data import FILES
from replication.app import doctor
from replication.report.recommend import recommend
from replication.runs import parameters, store
from replication.runs.map import map_runs
from replication.runs.settings import plan
from replication.sources import own_table, public
from replication.support import paths

SMALL = [
    f"--set={pair}"
    for pair in ("backbones=[GMF]", "seeds=[1, 2]", "epochs=2", "eval_every=1", "ramp_steps=2", "jobs=1")
]


@pytest.mark.parametrize(
    "values, limit, says",
    [
        ("12345", 3, "runs from 1 to 5"),
        (("0.5", "2.5", "5"), 3, "runs from 0.5 to 5"),
        (("2", "10"), None, "FILL IN"),
        ("1", None, "1 in every row; that is no scale"),
        ("0579", None, "25% are 0: if that means not rated, set not_rated: 0"),
        ("0135", None, "25% are 0"),
    ],
)
def test_limits(own, tmp_path, capsys, values, limit, says):
    records = [[*row, values[n % len(values)]] for n, row in enumerate(rows())]
    (tmp_path / "t.csv").write_bytes(text(",", [*HEAD, "rating"], *records))
    assert call("--new", "mine", str(tmp_path / "t.csv")) == 0
    assert f"clean_from: {json.dumps(limit)}, rating" in (told := capsys.readouterr().out) and says in told
    written = (paths.PARAMS / "mine.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(written)["clean_from"] == limit and says in written
    own_table.prepare("mine", **parameters.resolve("mine").table())
    assert (public.load("mine").train.is_clean is None) == (limit is None)


def test_what_is_said_is_not_overruled(own, tmp_path):
    (tmp_path / "ones.csv").write_bytes(text(",", [*HEAD, "rating"], *rows("1")))
    records = [[*row, str(n % 6)] for n, row in enumerate(rows())]
    (tmp_path / "zeros.csv").write_bytes(text(",", [*HEAD, "rating"], *records))
    for file, said, limit, n_rows in (
        ("ones", "clean_from=null", None, 400),
        ("ones", "clean_from=1", 1, 400),
        ("zeros", "clean_from=null", None, 400),
        ("zeros", "clean_from=2", 2, 400),
        ("zeros", "not_rated=0", 3, 333),
    ):
        call(f"--set={said}", "--new", "mine", str(tmp_path / f"{file}.csv"))
        assert parameters.resolve("mine").clean_from == limit
        table = own_table.prepare("mine", **parameters.resolve("mine").table())
        assert len(table.frame) == n_rows and table.left_out.empty
        (paths.PARAMS / "mine.yaml").unlink()


def test_visits_repeat(tmp_path, capsys):
    (tmp_path / "visits.csv").write_bytes(text(",", HEAD, *rows(), *rows()))
    assert doctor.main([str(tmp_path / "visits.csv")]) == 0
    assert "normal for visits: 400" in capsys.readouterr().out
    (tmp_path / "rated.csv").write_bytes(text(",", [*HEAD, "rating"], *rows("4"), *rows("5")))
    assert doctor.main([str(tmp_path / "rated.csv")]) == 1


@pytest.mark.parametrize("per_user, sizes", [(3, [80, 20, 20]), (7, [240, 20, 20]), (8, [240, 40, 40]), (2, None)])
def test_users_with_few_rows(tmp_path, per_user, sizes):
    table = read(tmp_path, text(",", HEAD, *rows(per_user=per_user)))
    if sizes:
        split = own_table.make_split(table, "mine", None)
        assert [len(getattr(split, part)) for part in FILES] == sizes
    else:
        with pytest.raises(ValueError, match="a user needs 3 rows.*; the most here is 2"):
            own_table.make_split(table, "mine", None)


def test_from_a_table_to_an_answer(own, tmp_path, capsys):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions(), "alone,i0,5", "u000,,3")
    assert call("--new", "mine", str(file)) == 0
    told = capsys.readouterr().out
    assert "mine: 301 of 302 rows, 31 users, 20 items; read as user = user, item = item, rating = rating; " in told
    assert "row 303" in told and "clean_from: 3, rating runs from 1 to 5" in told
    values = parameters.resolve("mine")
    assert values.clean_from == 3 and values.ratings == str(file)
    assert call(*SMALL, "mine") == 0
    told = capsys.readouterr().out
    assert re.search("T-CE against CE, Recall@K and NDCG@K: 0 better, 0 worse, .* of 2 cells", told)
    *_, answer = told.partition("Does mine need denoising?\n")
    assert (
        "of the training interactions are false positives" in answer
        and "dropping as many at random, Recall@5:" in answer
    )
    written = (own / "results" / "mine" / "answer.md").read_text(encoding="utf-8")
    assert answer.strip() in written and "| random-drop |" in written
    folder, card = own / "data" / "mine", public.card("mine")
    assert card["left out"] == ["rows without item: 1 left out (row 303)"] and card["users with one interaction"] == 1
    left_out = pd.read_csv(folder / "left_out.csv", keep_default_na=False).to_numpy().tolist()
    assert left_out == [["", 303, "item", "rows without item"]]
    split = public.load("mine")
    users = pd.read_csv(folder / "users.csv", dtype=str)["id"]
    assert (split.n_users, split.n_items) == (31, 20) and users[0] == "alone" and users[1] == "u000"
    assert 0 in split.train.users and 0 not in split.valid.users and 0 not in split.test.users
    assert split.test.is_clean.all() and not split.train.is_clean.all()
    assert len(pd.read_csv(own / "results" / "mine" / "runs.csv")) == 8
    assert (own / "results" / "mine" / "tables" / "main.md").is_file()

    small = parameters.resolve("mine", parameters.assigned([pair.removeprefix("--set=") for pair in SMALL]))
    (run, _) = map_runs(plan(["CE"], small))
    best = recommend(run, ["u003", "alone"], 5)
    assert best["user"].tolist() == ["u003"] * 5 + ["alone"] * 5 and best["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    liked = {tuple(line.split(",")[:2]) for line in interactions() if line[-1] in "345"} | {("alone", "i0")}
    assert best["item"].str.startswith("i").all() and not liked & set(zip(best["user"], best["item"]))
    assert all(rows["probability"].is_monotonic_decreasing for _, rows in best.groupby("user"))
    with pytest.raises(ValueError, match="no user 'nobody' in mine; ids look like alone, u000"):
        recommend(run, ["nobody"])


def test_set_alone_makes_the_params(own, tmp_path, capsys):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions())
    assert call(f"--set=ratings={file}", "--set=clean_from=4", "--dry-run", "mine") == 0
    assert parameters.resolve("mine").clean_from == 4 and not (own / "data" / "mine").exists()
    assert "wrote" in capsys.readouterr().err


def test_a_changed_table_is_read_anew_and_others_data_stay(own, tmp_path, capsys):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions())
    own_table.prepare("mine", str(file), {}, 3)
    before = public.checksums("mine")
    how = dict(ratings=str(file), columns={}, clean_from=3)
    assert own_table.prepare("mine", **how) is None, "nothing is read again"
    assert len(own_table.table_of("mine", **how, not_rated=None).frame) == 300
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
    assert own_table.prepare("mine", str(file), {}, 5) is None
    assert own_table.table_of("mine", str(file), {}, None) is None
    assert "there is no file" in (told := capsys.readouterr().err) and "is used" in told
    with pytest.raises(ValueError, match="there is no file"):
        own_table.prepare("mine", str(file), {}, 4)


def test_prepared_data_are_known_by_their_content(own, tmp_path):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions())
    own_table.prepare("mine", str(file), {}, 3)
    file.unlink()
    folder = own / "data" / "mine"
    for age, name in enumerate(sorted(os.listdir(folder), reverse=True)):
        os.utime(folder / name, (age, age))  # as after copying to another machine, where no table is
    assert public.is_prepared("mine") and own_table.prepare("mine", str(file), {}, 3) is None
    write(folder / "mine.valid.rating", "0\t1\t1")
    assert not public.is_prepared("mine")
    with pytest.raises(ValueError, match="there is no file"):
        own_table.prepare("mine", str(file), {}, 3)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({key: card[key] for key in card if key != "parts"}))
    assert public.is_prepared("mine")  # a card of an earlier version


def test_another_limit_runs_and_says_so(own, tmp_path, monkeypatch):
    write(tmp_path / "t.csv", "user,item,rating", *interactions())
    monkeypatch.chdir(tmp_path)  # a path is relative to where one stands
    small = [*SMALL, "--set=seeds=[1]", "--set=epochs=1"]
    assert call("--set=ratings=t.csv", *small, "mine") == 0
    assert call("--set=clean_from=4", *small, "mine") == 0
    assert public.card("mine")["clean_from"] == 4
    shown = (own / "results" / "mine" / "tables" / "main.md").read_text(encoding="utf-8")
    assert "clean_from=4 instead of 3" in shown and "ratings" not in shown
    assert "clean_from=4 instead of 3" in store.note(parameters.resolve("mine"))  # in the other notebooks too


def test_a_published_name_is_not_taken_over(own, tmp_path):
    file = write(tmp_path / "t.csv", "user,item,rating", *interactions())
    with pytest.raises(ValueError, match="toy has a source of its own"):
        call(f"--set=ratings={file}", "toy")
    with pytest.raises(ValueError, match="--new takes a name and a file, and of --set columns, clean_from, not_rated"):
        call("--set=seeds=[1]", "--new", "mine", str(file))
    assert not (own / "data").exists() and not (own / "params" / "mine.yaml").exists()


@pytest.mark.parametrize("said", ["clean_from=many", "not_rated=none", "split=by time", "columns=[user]"])
def test_what_is_said_must_be_of_its_type(own, tmp_path, said):
    with pytest.raises(ValueError, match=said.partition("=")[0]):
        call(f"--set={said}", "--new", "mine", str(write(tmp_path / "t.csv", "user,item,rating", *interactions())))


@pytest.mark.parametrize("limit", [1_000_000, 1_234_567, 2.5])
def test_limits_are_written_as_numbers(own, tmp_path, limit):
    lines = [f"u{user},i{item},{(user + item) % 5 * limit}" for user in range(30) for item in range(10)]
    file = write(tmp_path / "t.csv", "user,item,dwell", *lines)
    call(f"--set=clean_from={limit}", "--new", "mine", str(file))
    assert parameters.resolve("mine").clean_from == limit


def test_ids_come_back_as_they_were(own, tmp_path):
    strange = ['"q"', "na", "ü", "a, b", "007", "😀"]
    lines = [f'"{name.replace(chr(34), 2 * chr(34))}",i{item}' for name in strange for item in range(10)]
    own_table.prepare("mine", str(write(tmp_path / "t.csv", "user,item", *lines)), {}, None)
    assert own_table.original_ids("mine", "users").tolist() == sorted(strange)


@pytest.mark.parametrize(
    "name, message", [("toy", "there is a data set 'toy' already"), ("a b", "is no name"), ("ml100k", "already")]
)
def test_names(own, tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        call("--new", name, str(write(tmp_path / "t.csv", "user,item", "a,b")))


@pytest.mark.parametrize("odd", ["😀", "User\nID", "a: #b", 'it\'s "x"', "\u2028", "\x85", "[1]*"])
def test_what_new_writes_is_read_back(own, tmp_path, odd):
    folder = tmp_path / f"in {odd}"
    folder.mkdir()
    quoted = '"' + odd.replace('"', '""') + '"'
    (folder / f"{odd}.csv").write_bytes(text(",", [quoted, "item"], *rows()))
    given = yaml.safe_dump({"user": odd.strip()}, allow_unicode=True)
    assert call(f"--set=columns={given}", "--new", "mine", str(folder / f"{odd}.csv")) == 0
    values = parameters.resolve("mine")
    assert values.ratings == str(folder / f"{odd}.csv") and values.columns == {"user": odd.strip()}
    assert len(own_table.prepare("mine", **values.table()).frame) == 400


def test_a_broken_params_file_takes_no_other_data_set_with_it(own, tmp_path, capsys, monkeypatch):
    write(own / "params" / "broken.yaml", "dataset: broken", "columns: {a")
    (own / "params" / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert call("--list") == 0
    told = capsys.readouterr().out
    assert "broken.yaml is not YAML" in told and "bytes: " in told and "toy: no data yet" in told
    with pytest.raises(ValueError, match="broken.yaml is not YAML"):
        call("--list", "broken")
