"""Each finding of the data doctor, and its command."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from denoise_lib.data import Interactions, Split, save_split
from replication.app import doctor
from replication.report.doctor import effective_drop_rates, examine
from replication.runs.parameters import resolve
from replication.sources import own_table, public


def joined(*parts: Interactions) -> Interactions:
    return Interactions(
        *(np.concatenate([getattr(part, of) for part in parts]) for of in ("users", "items", "is_clean"))
    )


def test_a_clean_split_has_no_findings():
    split = Split("s", 2, 2, *(Interactions(*np.array(rows).T, np.arange(len(rows)) == 0) for rows in (
        [(0, 0), (1, 1)], [(0, 1)], [(1, 0)],
    )))  # fmt: skip
    assert examine(split)["finding"].tolist() == [
        "users without test rows"
    ]  # which a split this small cannot do without


def test_findings_are_counted():
    flags = np.ones
    split = Split(
        "s", 5, 6,
        Interactions(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]), flags(4, bool)),  # (1, 2) twice
        Interactions(np.array([0, 2]), np.array([0, 3]), flags(2, bool)),  # (0, 0) is in train; user 2, item 3 are not
        Interactions(np.array([0, 0, 1, 1]), np.array([1, 2, 0, 1]), flags(4, bool)),  # (0, 1) is in train
    )  # fmt: skip
    found = examine(split).set_index(["part", "finding"])
    assert found.loc[("train", "rows that repeat a pair"), "count"] == 1
    assert found.loc[("train/valid", "valid rows whose pair is in train"), "count"] == 1
    masked = found.loc[("test", "test rows whose pair is in train or valid")]
    assert (
        masked["count"] == 1 and "0.750" in masked["consequence"] and masked["invalid"]
    )  # user 0 reaches half, user 1 all
    assert found.loc[("train/valid", "valid rows whose pair is in train"), "invalid"]  # one of two
    assert found.loc[("valid", "users without training rows"), "count"] == 1
    assert found.loc[("valid", "rows whose item is not in train"), "count"] == 1
    assert found.loc[("all", "user ids that occur in no part"), "count"] == 2
    assert found.loc[("all", "item ids that occur in no part"), "count"] == 2
    assert found.loc[("train", "rows that are all flagged alike"), "count"] == 4
    assert found.loc[("test", "users without test rows"), ["count", "invalid"]].tolist() == [3, True]
    assert len(found) == 9


def test_parts_without_flags(split):
    plain = replace(split, train=Interactions(split.train.users, split.train.items))
    findings = examine(plain)
    assert findings.query("finding == 'rows without a flag'")[["part", "count"]].to_numpy().tolist() == [
        ["train", len(plain.train)]
    ]


def test_a_leaky_split_is_invalid(home, tmp_path, capsys):
    toy = public.load("toy")
    clean_valid = toy.valid[toy.valid.is_clean]
    leaky = replace(toy, name="leaky", test=joined(toy.test, clean_valid))
    assert not examine(toy)["invalid"].any()
    (finding,) = examine(leaky).query("invalid").to_dict("records")
    assert finding["part"] == "test" and finding["count"] == len(clean_valid)
    reachable = np.repeat([True, False], [len(toy.test), len(clean_valid)])
    ceiling = pd.Series(reachable).groupby(leaky.test.users).mean().mean()
    assert finding["consequence"].endswith(f"cannot exceed {ceiling:.3f}") and ceiling < 0.6
    wholly = examine(leaky).query("finding == 'test users of whom every row is masked'")["count"].item()
    assert wholly == len(set(leaky.test.users) - set(toy.test.users))
    save_split(leaky, tmp_path / "leaky")
    assert doctor.main([str(tmp_path / "leaky")]) == 1
    assert "INVALID test: " in capsys.readouterr().out


def test_false_positives_in_the_test_part_are_invalid(split):
    flagged = replace(split, test=joined(split.test, Interactions(np.array([0]), np.array([0]), np.array([False]))))
    assert examine(flagged).query("finding == 'flagged false positives'")[["count", "invalid"]].to_numpy().tolist() == [
        [1, True]
    ]


def test_flags_the_wrong_way_round(split):
    turned = Interactions(split.train.users, split.train.items, ~split.train.is_clean)
    assert not examine(split)["finding"].str.contains("more than there are true").any()
    found = examine(replace(split, train=turned)).set_index("finding")
    assert found.loc["false positives, more than there are true ones", "count"] == split.train.is_clean.sum()


@pytest.mark.parametrize("popular_is_clean", [True, False])
def test_popular_false_positives(popular_is_clean):
    items = np.array([0, 0, 0, 1])
    train = Interactions(np.arange(4), items, (items == 0) == popular_is_clean)
    split = Split(
        "s", 4, 2, train, Interactions(np.array([3]), np.array([0])), Interactions(np.array([0]), np.array([1]))
    )
    found = examine(split)["finding"].str.contains("more popular").any()
    assert found != popular_is_clean


def test_a_ramp_that_a_run_does_not_complete(split):
    changes = {"backbones": ["GMF", "CDAE"], "epochs": {"GMF": 2, "CDAE": 40}, "ramp_steps": 21, "max_drop_rate": 0.2}
    parameters = resolve("toy", changes)
    n_steps = 2 * -(-2 * len(split.train) // parameters.batch_size)
    findings = examine(split, parameters)
    (row,) = findings[findings["finding"].str.contains("ramp")].to_dict("records")
    assert "GMF" in row["finding"] and row["count"] == 21 - n_steps
    rates = effective_drop_rates(parameters, len(split.train))
    assert (
        rates.loc["GMF", "last"] == round(0.2 * (n_steps - 1) / 20, 4)
        and rates.loc["CDAE", "last, of the positives"] == 0.4
    )
    assert rates.loc["GMF", "mean"] == pytest.approx(rates.loc["GMF", "last"] / 2, abs=1e-4)


def test_rows_that_come_later_are_counted():
    frame = pd.DataFrame({"user": 0, "item": np.arange(10), "time": np.arange(10.0)})
    table = own_table.Table(frame, {"user": "user", "item": "item", "time": "time"}, 10, {})
    pick = lambda *items: Interactions(np.zeros(len(items), np.int64), np.array(items))  # noqa: E731
    split = Split("s", 1, 10, pick(0, 1, 2, 3, 4, 8), pick(6), pick(5, 7, 9))
    assert (
        examine(split, table=table)
        .set_index("finding")
        .loc["test rows older than a training row of their user", "count"]
        == 2
    )


def test_the_command_on_a_table(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [
        f"u{user},i{item},{rng.integers(1, 11)}" for user in range(20) for item in rng.choice(15, 10, replace=False)
    ]
    file = tmp_path / "mine.csv"
    file.write_text("\n".join(["who,item,score", *rows, "u0,,1"]) + "\n")
    assert doctor.main([str(file)]) == 2 and "columns={user: NAME}" in capsys.readouterr().err
    assert doctor.main([str(file), "--column", "user=who", "--clean-from", "6"]) == 1  # 20 users are few
    told = capsys.readouterr().out
    assert (
        "mine: 20 users, 15 items" in told
        and "table: 1 rows without item" in told
        and "row 202" in told
        and "score" in told
    )


def test_the_command_shows_what_tce_drops(home, capsys):
    public.load("toy")
    assert doctor.main([str(home / "data" / "toy")]) == 0
    assert "last, of the positives" in capsys.readouterr().out


@pytest.mark.parametrize("path, message", [("nothing", "there is no file"), (".", "must hold one")])
def test_the_command_without_data(tmp_path, monkeypatch, capsys, path, message):
    monkeypatch.chdir(tmp_path)
    assert doctor.main([path]) == 2 and message in capsys.readouterr().err
