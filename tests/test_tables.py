"""Tables as people bring them: every kind of file, and what is left out of it."""

import gzip
import io
import json
import tempfile
import zipfile

import duckdb
import pandas as pd
import pytest
from made_tables import HEAD, read, rows, text, write

from replication.sources.tables import Table, read_table


def ids(table: Table, role: str) -> list[str]:
    return table.ids[role][table.frame[role]].tolist()


PLAIN = text(",", HEAD, *rows())
JSON = [json.dumps({"user_id": user, "n": 1.5, "item_id": item, "more": {"x": 1}}) for user, item in rows()]
LONE = [["u00", '"i00'], *rows()[1:]]
DOZEN = [[f'"{user}"', f'"{item}"', '"a ""b"", c"'] for user, item in rows()]


def parquet(tmp_path) -> bytes:
    frame = pd.DataFrame(rows("{n}"), columns=["user", "item", "n"]).astype({"n": int})
    duckdb.from_df(frame).write_parquet(str(tmp_path / "made"))
    return (tmp_path / "made").read_bytes()


def zstd(tmp_path) -> bytes:
    frame = pd.DataFrame(rows(), columns=HEAD)
    duckdb.from_df(frame).write_csv(str(tmp_path / "made"), compression="zstd")
    return (tmp_path / "made").read_bytes()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("ratings.csv", content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        text("\t", HEAD, *rows()),
        text(";", HEAD, *rows(), end="\r\n"),
        text("|", HEAD, *rows(), end="\r"),
        text("::", HEAD, *rows()),
        PLAIN.replace(b"\n", b",\n").replace(b",\n", b"\n", 1),  # every row but the header ends with a comma
        text(", ", HEAD, *rows()),
        PLAIN.replace(b"i05\n", b"i05\r\n"),  # two kinds of line ends
        b"sep=;\r\n" + text(";", HEAD, *rows(), end="\r\n"),  # Excel
        b"# an export\n\n" + PLAIN,
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.decode().encode("utf-16"),
        PLAIN.decode().encode("utf-16-le"),  # without a mark
        PLAIN.decode().encode("utf-16-be"),
        text(",", HEAD, *LONE),  # a quotation mark that is never closed
        text(",", [*HEAD, "t"], *rows("it's 5\" {n}")[:-1], ["u39", "i08", '"5" wide"']),
        text(",", [*HEAD, "text"], *DOZEN),
        text(",", [*HEAD, "text"], *DOZEN).replace(b'""b""', b'\\"b\\"'),
        text(",", [*HEAD, "text"], *DOZEN[:50], ['"u05"', '"i05"', '"a\nb,c,d\ne"'], *DOZEN[51:]),
        text("\t", [f'"{name}"' for name in HEAD], *([f'"{n}"', *row] for n, row in enumerate(DOZEN))).replace(
            b'\t"a ""b"", c"', b""
        ),  # R, with the names of rows
        text(",", [f"'{name}'" for name in HEAD], *([f"'{cell}'" for cell in row] for row in rows())),
        text(",", [*HEAD, "review"], *rows("short")[:-1], ["u39", "i08", "x" * 140_000]),
        b'"User\nID","Item\nID"\n' + text(",", *rows()),
        "\n".join(JSON).encode(),
        ("[" + ",\n".join(JSON) + "]").encode(),
        gzip.compress(PLAIN),
        gzip.compress("\n".join(JSON).encode()),
        zipped(PLAIN),
        parquet,
        zstd,
    ],
)
def test_files_of_every_kind_give_all_rows(tmp_path, content):
    table = read(tmp_path, content(tmp_path) if callable(content) else content)
    assert (len(table.frame), table.n_rows, len(table.left_out)) == (400, 400, 0)
    assert [list(table.ids[role]) for role in ("user", "item")] == [
        [f"u{n:02d}" for n in range(40)], [f"i{n:02d}" for n in range(20)],
    ]  # fmt: skip
    assert list(zip(ids(table, "user"), ids(table, "item"))) == [(user, item) for user, item, *_ in rows()]


def test_several_files_are_one_table(tmp_path):
    (tmp_path / "many").mkdir()
    write(tmp_path / "many" / "_SUCCESS", "")
    write(tmp_path / "many" / "part-0.csv", "user,item", "a,x", ",y")
    write(tmp_path / "many" / "part-1.csv", "item;user", "x;b", "y;a;3")
    for source in (tmp_path / "many", tmp_path / "many" / "part-*.csv"):
        table = read_table(source)
        assert ids(table, "user") == ["a", "b"] and ids(table, "item") == ["x", "x"] and table.n_rows == 4
        assert table.left_out.to_numpy().tolist() == [
            ["part-0.csv", 3, "user", "rows without user"],
            ["part-1.csv", 3, "", "rows with another number of columns than the header"],
        ]
        assert "rows without user: 1 left out (row part-0.csv:3)" in table.told()


def test_rows_keep_their_order(tmp_path):
    """Of files of many chunks, which DuckDB reads side by side: the split at random goes by it."""
    for file, numbers in (("a.csv", range(200_000)), ("b.csv", range(200_000, 400_000))):
        write(tmp_path / file, "user,item,time", *(f"u{row % 1000},i{row},{row}" for row in numbers))
    assert (read_table(tmp_path).frame["time"].diff()[1:] == 1).all()


def test_dirty_rows_are_left_out_and_named(tmp_path):
    file = write(
        tmp_path / "t.csv",
        "User ID,movie:token,stars,Timestamp",
        "001,a,4,10", "1,a,5,11", "001,,4,12", ",a,4,13", "001,b,many,14", "001,a,1,15", "001,c,4", "", "001,c,inf,16",
        " 001 , d ,2,17",
    )  # fmt: skip
    table = read_table(file)
    assert table.columns == {"user": "User ID", "item": "movie:token", "rating": "stars", "time": "Timestamp"}
    assert list(zip(ids(table, "user"), ids(table, "item"), table.frame["value"])) == [
        ("001", "a", 4), ("1", "a", 5), ("001", "d", 2),
    ]  # fmt: skip
    assert (table.n_rows, table.quality) == (9, "rating")  # a blank line is no row
    assert table.told() == [
        "rows with another number of columns than the header: 1 left out (row 8)",
        "rows without user: 1 left out (row 5)",
        "rows without item: 1 left out (row 4)",
        "rows without a readable rating (stars): 2 left out (row 6, 10)",
        "rows that repeat a pair of user and item: 1 left out (row 7)",
    ]


def test_words_for_nothing_are_missing_ids_and_said(tmp_path):
    table = read(tmp_path, PLAIN + b"NA,i01\nu01,\\N\nu02,null\n,i01\nNan,i01\n")
    assert len(table.frame) == 401 and "Nan" in table.ids["user"]  # a name
    assert table.told() == [
        "rows without user: 2 left out (row 402, 405)",
        "rows without item: 2 left out (row 403, 404)",
        "read as a missing user: NA (1 rows); if it is an id, write it otherwise",
        "read as a missing item: \\N (1 rows), null (1 rows); if it is an id, write it otherwise",
    ]


def test_lines_that_are_no_rows_are_counted(tmp_path):
    table = read(tmp_path, text(",", [*HEAD, "review"], *rows("fine")[:-1], ["u39", "i08", '"a\nb, c\nd, e, f, g"']))
    assert (len(table.frame), table.n_rows) == (400, 400)
    assert table.remarks == ["2 lines more than rows: line breaks in cells, or a quotation mark without its end"]
    table = read(tmp_path, text(",", [*HEAD, "review"], *DOZEN[:100], ['"u10"', '"i10"', '"a" b"'], *DOZEN[101:]))
    assert (len(table.frame), table.n_rows) == (399, 400)
    assert table.told() == ["rows with a quotation mark that is not closed: 1 left out (row 102)"]


def test_encodings_keep_ids_apart(tmp_path):
    latin = read(tmp_path, "user,item\nMüller,Wait…\nMöller,Wait\n".encode("cp1252"))
    assert ids(latin, "user") == ["Müller", "Möller"] and ids(latin, "item") == ["Wait…", "Wait"]
    assert latin.remarks == ["the file is not UTF-8 and was read as Windows-1252"]
    broken = read(tmp_path, "user,item,review\nü,x,é\nö,y,é\nu,#,é\nv,z,#\n".encode().replace(b"#", b"\xff"))
    assert ids(broken, "user") == ["ü", "ö", "v"]  # the broken review costs nobody's row
    assert broken.told() == [
        "rows whose user or item is no UTF-8: 1 left out (row 4)",
        "2 characters are no UTF-8; each costs the cell that it stands in",
    ]
    composed = read(tmp_path, "user,item\né,x\ne\u0301,x\n".encode())
    assert composed.frame["user"].tolist() == [1, 0]  # two users
    assert composed.remarks == ["users that look the same but are written with other characters (NFC, NFD): 1 pairs"]


@pytest.mark.parametrize(
    "header, role", [("user\titem\tflag", "flag"), ("uid;item_id;dwell_time", "dwell"), ("user,item", None)]
)
def test_separators_and_qualities(tmp_path, header, role):
    separator = next(one for one in "\t;," if one in header)
    lines = [separator.join(fields[: len(header.split(separator))]) for fields in (("a", "x", "1"), ("a", "y", "0"))]
    table = read_table(write(tmp_path / "t.txt", header, *lines))
    assert table.quality == role and ids(table, "item") == ["x", "y"]


@pytest.mark.parametrize(
    "header, roles",
    [
        ("User-ID;ISBN;Book-Rating", "user item rating"),  # Book-Crossing
        ("reviewerID,asin,overall,unixReviewTime", "user item rating time"),  # Amazon
        ("user_id,business_id,stars,date", "user item rating time"),  # Yelp
        ("user\tcheck-in time\tlatitude\tlocation_id", "user time - item"),  # Gowalla
        ("userId::movieId::rating::timestamp", "user item rating time"),
    ],
)
def test_names_of_known_data_sets(tmp_path, header, roles):
    separator = next(one for one in (";", "\t", "::", ",") if one in header)
    table = read_table(write(tmp_path / "t", header, separator.join("1" * len(header.split(separator)))))
    assert list(table.columns.items()) == [
        (role, dict(zip(roles.split(), header.split(separator)))[role])
        for role in ("user", "item", "rating", "time")
        if role in roles.split()
    ]


def test_columns_that_are_said_win(tmp_path):
    file = write(tmp_path / "t.csv", "who,what,rating,flag", "a,x,5,0", "b,y,1,1")
    with pytest.raises(
        ValueError,
        match=r"no column is recognised as the user among who, what, rating, flag.*--set 'columns=\{user: NAME\}', or "
        r"--column user=NAME.*by position: --set 'columns=\{user: 1, item: 2\}'.*tabs, ;",
    ):
        read_table(file)
    table = read_table(file, {"user": "who", "item": "what"})
    assert (table.quality, table.frame["value"].tolist()) == ("flag", [0.0, 1.0])
    assert table.remarks == ["not used, though their names are known: rating; columns={role: name} takes others"]
    table = read_table(file, {"user": "who", "item": "what", "rating": "rating"})
    assert (table.quality, table.frame["value"].tolist()) == ("rating", [5.0, 1.0])


def test_two_columns_that_may_be_it_are_asked_about(tmp_path):
    file = write(tmp_path / "t.csv", "user_id,track_id,artist_id", "a,x,p", "b,y,p")
    with pytest.raises(ValueError, match=r"the item may be track_id or artist_id.*columns=\{item: NAME\}"):
        read_table(file)
    assert ids(read_table(file, {"item": "artist_id"}), "item") == ["p", "p"]


def test_columns_by_position_where_no_line_names_them(tmp_path):
    file = write(tmp_path / "u.data", "196\t242\t3\t881250949", "186\t302\t1\t891717742")
    table = read_table(file, {"user": 1, "item": 2, "rating": 3, "time": 4})
    assert ids(table, "user") == ["196", "186"] and table.frame["value"].tolist() == [3, 1]
    assert table.columns["rating"] == "column 3" and "no line names the columns" in table.remarks[0]
    netflix = write(tmp_path / "netflix.txt", "1:", "1,5,2005-09-06", "5,3,2005-09-06")
    with pytest.raises(ValueError, match="no column is recognised as the user among 1, 5, 2005-09-06"):
        read_table(netflix)


@pytest.mark.parametrize(
    "content, values",
    [
        (b"user;item;rating\na;x;4,5\nb;y;4\n", [4.5, 4]),
        (b"user\titem\trating\na\tx\t4,5\nb\ty\t4\n", [4.5, 4]),
        (b'user,item,rating\na,x,"4,5"\nb,y,4\n', [4.5, 4]),
        (b"user\titem\tdwell\na\tx\t1,500\nb\ty\t900\n", [900]),  # a thousand and a half? It is left out
        (b"user,item,liked\na,x,True\nb,x,n\nc,x,1.00\nd,x,2\n", [1, 0, 1]),
        (b'{"user": 1, "item": "a", "stars": 4.5}\nnonsense\n{"user": "1", "item": "b", "stars": null}\n', [4.5]),
    ],
)
def test_values(tmp_path, content, values):
    assert read(tmp_path, content).frame["value"].tolist() == values


@pytest.mark.parametrize(
    "dates, seconds",
    [
        (["1970-01-02", "1970-01-01T00:01:00Z", "1970-01-01 01:00+01", "12:30", "12h1", "60"], [86_400, 60, 0]),
        (["01/01/1970", "13/01/1970"], [0, 12 * 86_400]),
        (["01/01/1970 1:00 AM", "01/13/1970 12:00 AM"], [3600, 12 * 86_400]),
        (["01/02/1970", "03/04/1970"], []),  # either
        (["13/01/1970", "01/13/1970"], []),  # both
        (["Jan 2, 1970", "01 Jan 1970"], [86_400, 0]),
        (["01 2, 1970", "01 31, 1970"], [86_400, 30 * 86_400]),  # Amazon
        (["Fri Jan 02 00:00:00 +0000 1970"], [86_400]),  # Foursquare
        (["1262304000", "1.5e9"], [1262304000, 1.5e9]),
        (["9999-12-31", "tomorrow"], [253402214400]),
    ],
)
def test_times_are_read_in_one_way_for_the_whole_column(tmp_path, dates, seconds):
    table = read(tmp_path, text(";", ["user", "item", "date"], *([f"u{n}", "x", date] for n, date in enumerate(dates))))
    assert table.frame["time"].dropna().tolist() == seconds and table.frame["time"].isna()[len(seconds) :].all()
    assert any("day and month cannot be told apart" in remark for remark in table.remarks) == (not seconds)
    assert any("without a readable time (date), kept" in remark for remark in table.remarks) == (
        len(seconds) < len(dates)
    )


@pytest.mark.parametrize(
    "content, columns, message",
    [
        (None, {}, "there is no file"),
        (b"user,item\n,b\n", {}, "no usable row: rows without user: 1"),
        (b"user,item\n", {}, "a header only"),
        (b" \n", {}, "is empty; its first line"),
        (b"user,item\na,b\n", {"user": "name"}, "no column 'name'; the file has user, item"),
        (b"user,item\na,b\n", {"user": 3}, "no column 3; the file has user, item"),
        (b"user,item\na,b\n", {"buyer": "user"}, "roles are user, item.*got 'buyer'"),
        (gzip.compress(PLAIN)[:200], {}, "cannot be read"),
        (bytes(range(256)) * 40, {}, "no column is recognised.*A table is CSV"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, content, columns, message):
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        read_table(tmp_path / "t.csv", columns)
    assert str(refused.value).isprintable()


def test_an_archive_of_several_files_is_refused_in_words(tmp_path):
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        for name in ("ml/ratings.csv", "ml/movies.csv"):
            archive.writestr(name, PLAIN)
    with pytest.raises(ValueError, match="holds ml/ratings.csv, ml/movies.csv; unpack it and name one file"):
        read_table(tmp_path / "ml.zip")


def test_a_json_column_that_comes_late_is_not_lost(tmp_path):
    lines = [
        json.dumps({"user": f"u{n % 60}", "item": f"i{n}"} | ({"rating": 4} if n > 1500 else {})) for n in range(1600)
    ]
    (tmp_path / "late.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert read_table(tmp_path / "late.jsonl").columns == {"user": "user", "item": "item", "rating": "rating"}


def test_the_scratch_folder_may_have_any_name(tmp_path, monkeypatch):
    (tmp_path / "it's").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "it's"))
    (tmp_path / "t.csv").write_bytes(text(",", HEAD, *rows()))
    assert read_table(tmp_path / "t.csv").n_rows == 400
