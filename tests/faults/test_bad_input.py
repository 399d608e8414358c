"""Tests of faulty data files; each message names the file, the line and the column."""

from __future__ import annotations

import json

import pytest

from enhancer.config import ColumnsConfig
from enhancer.data import open_table, read_entities, read_interactions
from enhancer.errors import ConfigError, DataError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def items(path, max_text=4000):
    return list(read_entities(path, "item", ColumnsConfig(), max_text))


def interactions(path):
    return read_interactions(path, ColumnsConfig(), item_ids=None)


# -- the file itself ------------------------------------------------------------------------------------------------


def test_a_missing_file_tells_the_nearest(write):
    path = write("items.csv", "item_id,title\n1,A\n")
    with pytest.raises(ConfigError, match=r"no such file: .*item\.csv; did you mean 'items\.csv'\?") as caught:
        items(path.with_name("item.csv"))
    assert caught.value.exit_code == 2


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        items(tmp_path)


@pytest.mark.parametrize("name", ["items.xlsx", "items", "items.gz", "items.parquet.gz"])
def test_an_unknown_ending(write, name):
    with pytest.raises(ConfigError, match=r"known: \.csv, \.tsv"):
        items(write(name, "x"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.item", "a.parquet"])
@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file(write, name, content):
    with pytest.raises(DataError, match=r"a\.\w+ is empty") as caught:
        items(write(name, content))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.item"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_a_header_alone(write, name, end):
    mark = "," if name == "a.csv" else "\t"
    with pytest.raises(DataError, match="has a header but no rows"):
        items(write(name, f"item_id{mark}title{end}"))
    with pytest.raises(DataError, match="has a header but no rows"):
        interactions(write(name, f"user_id{mark}item_id{end}"))


def test_a_parquet_file_that_is_none_or_cut_off(write, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(DataError, match="not a Parquet file"):
        items(write("a.parquet", b"PAR1 but no more"))
    pq.write_table(pa.table({"item_id": ["1"] * 9999, "title": ["x"] * 9999}), tmp_path / "b.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(DataError):
        items(write("c.parquet", whole[: len(whole) // 2]))


# -- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.item"])
def test_bad_utf8_names_the_line(write, name):
    mark = b"," if name == "a.csv" else b"\t"
    rows = b"".join(b"%d%stitle %d\n" % (n, mark, n) for n in range(30_000))
    path = write(name, b"item_id" + mark + b"title\n" + rows + b"x" + mark + b"caf\xe9\n")
    with pytest.raises(DataError, match=r"line 30002: not UTF-8; save the file as UTF-8"):
        items(path)


def test_bad_utf8_in_json_lines_and_headers(write):
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        items(write("a.jsonl", b'{"item_id": "1", "t": "x"}\n{"item_id": "2", "t": "\xff"}\n'))
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        items(write("a.csv", "item_id,title\n1,A\n".encode("utf-16")))


def test_a_byte_order_mark_and_windows_line_ends(write):
    (one,) = items(write("a.csv", b"\xef\xbb\xbfitem_id,title\r\n1,Caf\xc3\xa9\r\n"))
    assert (one.id, one.title) == ("1", "Café")


def test_a_field_of_ten_megabytes(write):
    one, two = items(write("a.csv", f"item_id,text\n1,{'word ' * 2_000_000}\n2,short\n"))
    assert len(one.text) == 4000
    assert two.text == "text: short"
    (one,) = items(write("a.jsonl", json.dumps({"item_id": 1, "text": "x" * 10_000_000})))
    assert len(one.text) == 4000


def test_quoted_line_breaks_and_a_quote_that_never_ends(write):
    assert items(write("a.csv", 'item_id,title\n1,"two\r\nlines"\n'))[0].title == "two lines"
    with pytest.raises(DataError, match=r"a\.csv, line \d: .*check the quotes"):
        items(write("a.csv", 'item_id,title\n1,"never ends\n2,B\n'))


def test_control_characters_and_nul_do_no_harm(write):
    (one,) = items(write("a.csv", "item_id,title\n1,a\x00b\x1bc\n"))
    assert one.id == "1"


# -- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "shown"), [("2,B,extra,9", "4 fields, but the header has 2"), ("2", "1 fields, but the header has 2")]
)
def test_ragged_rows(write, row, shown):
    with pytest.raises(DataError, match=rf"a\.csv, line 3: {shown}"):
        items(write("a.csv", f"item_id,title\n1,A\n{row}\n"))


def test_blank_lines_are_no_rows(write):
    assert [e.id for e in items(write("a.csv", "item_id,title\n\n1,A\n   \n2,B\n\n"))] == ["1", "2"]
    assert [e.id for e in items(write("a.jsonl", '\n{"item_id": 1, "t": "A"}\n\n'))] == ["1"]


def test_an_empty_id(write):
    with pytest.raises(DataError, match=r"a\.csv, line 3, column 'item_id': the id is empty"):
        items(write("a.csv", "item_id,title\n1,A\n  ,B\n"))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2, column 'item_id': the id is empty"):
        items(write("a.jsonl", '{"item_id": 1, "t": "A"}\n{"t": "B"}\n'))


def test_two_columns_of_one_name(write):
    with pytest.raises(DataError, match="two columns are called 'title'"):
        items(write("a.csv", "item_id,title,title\n1,A,B\n"))


def test_another_separator_than_the_ending_says(write):
    assert items(write("a.csv", "item_id\ttitle\n1\tA\n"))[0].title == "A"
    with pytest.raises(ConfigError, match="has no column 'item_id'"):
        items(write("a.tsv", "item_id,title\n1,A\n"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "line 2: expected a JSON object, found an array"),
        ('"x"', "line 2: .* found a string"),
        ("7", "line 2: .* found a number"),
        ("null", "line 2: .* found null"),
        ('{"item_id": 2, "t": ', "line 2: not JSON"),
        ("{'item_id': 2}", "line 2: not JSON"),
        ("[" * 100_000, "line 2: JSON nested too deeply"),
        ('{"item_id": 2, "t": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 2: JSON nested too deeply"),
        ('{"item_id": ' + "9" * 5000 + "}", "line 2: not JSON"),
    ],
)
def test_json_that_is_no_object(write, line, message):
    with pytest.raises(DataError, match=message):
        items(write("a.jsonl", f'{{"item_id": 1, "t": "A"}}\n{line}\n'))


def test_a_json_array_over_many_lines_is_explained(write):
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: not JSON"):
        items(write("a.jsonl", '[\n{"item_id": 1}\n]\n'))


def test_a_table_may_be_read_twice(write):
    table = open_table(write("a.csv", "item_id,title\n1,A\n"))
    assert list(table.blocks(["title"])) == list(table.blocks(["title"])) == [(range(1), [["A"]])]
