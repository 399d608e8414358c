from __future__ import annotations

import csv
import io
import json
import tracemalloc

import pytest
from hypothesis import given, strategies as st

from enhancer.data import open_table
from enhancer.errors import ConfigError, DataError


def rows(table, names=None):
    names = names or table.columns
    return [row for _, block in table.blocks(names) for row in zip(*block, strict=True)]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_lines_may_end_in_a_carriage_return_alone(write):
    table = open_table(write("a.csv", "item_id,title\r1,Toy Story\r2,Heat\r"))
    assert [columns for _, columns in table.blocks(["item_id", "title"])] == [[["1", "2"], ["Toy Story", "Heat"]]]


def test_a_carriage_return_within_a_bare_field_is_told_in_words(write):
    table = open_table(write("a.csv", "item_id,title\n1,Toy\rStory\n"))
    with pytest.raises(DataError, match="line 2: carriage return within a field"):
        list(table.blocks(["item_id", "title"]))
    quoted = open_table(write("b.csv", 'item_id,title\n1,"Toy\rStory"\n'))
    assert [columns for _, columns in quoted.blocks(["title"])] == [[["Toy\rStory"]]]


def test_every_format_tells_the_same(tmp_path, write):
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [("1", "Toy Story", "4.5"), ("2", "Été, à Paris", "")]
    write("a.csv", 'item_id,title,score\r\n1,Toy Story,4.5\r\n2,"Été, à Paris",\r\n')
    write("b.csv", "item_id;title;score\n1;Toy Story;4.5\n2;Été, à Paris;\n")
    write("c.tsv", '\ufeffitem_id\ttitle\tscore\n1\tToy Story\t4.5\n2\t"Été, à Paris"\t\n')
    objects = [
        {"item_id": 1, "title": "Toy Story", "score": 4.5},
        {"item_id": "2", "title": "Été, à Paris", "score": None},
    ]
    write("d.jsonl", "\n".join(json.dumps(o) for o in objects))
    write("e.item", "item_id:token\ttitle:token_seq\tscore:float\n1\tToy Story\t4.5\n2\tÉté, à Paris\t\n")
    pq.write_table(
        pa.table({"item_id": [1, 2], "title": ["Toy Story", "Été, à Paris"], "score": [4.5, None]}),
        tmp_path / "f.parquet",
    )
    for path in sorted(tmp_path.iterdir()):
        table = open_table(path)
        assert table.columns == ["item_id", "title", "score"], path
        assert rows(table) == wanted, path
        assert rows(table, ["score", "item_id"]) == [("4.5", "1"), ("", "2")], path


def test_quotes_may_hold_line_breaks_and_quotes(write):
    table = open_table(write("a.csv", 'id,text\n1,"two\nlines"\n\n2,"say ""hi"""\n'))
    assert rows(table) == [("1", "two\nlines"), ("2", 'say "hi"')]
    assert table.location(0) == "line 3"
    assert table.location(2) == "line 5"


def test_a_tsv_takes_stray_quotes_as_they_are(write):
    table = open_table(write("a.tsv", 'id\ttitle\n1\t"Heroes" and more\n2\t"Hello\n3\t"""Q"""\n'))
    assert rows(table) == [("1", '"Heroes" and more'), ("2", '"Hello'), ("3", '"Q"')]


def test_nested_json_becomes_compact_text(write):
    line = json.dumps({"id": 7, "genres": ["Drama", "War"], "cast": [{"name": "A"}], "ok": True, "none": None})
    assert rows(open_table(write("a.jsonl", line))) == [("7", "Drama, War", '[{"name":"A"}]', "true", "")]


def test_json_lines_may_differ_in_their_keys(write):
    table = open_table(write("a.jsonl", '{"id": "1"}\n\n{"id": "2", "title": "T"}\n'))
    assert table.columns == ["id", "title"]
    assert rows(table) == [("1", ""), ("2", "T")]


def test_lone_surrogates_do_not_get_through(write):
    assert rows(open_table(write("a.jsonl", r'{"id": "1", "t": "x\ud800y"}'))) == [("1", "x?y")]


def test_a_bare_ending_tells_the_known_ones(write):
    with pytest.raises(ConfigError, match=r"unknown ending '.xlsx'.*\.csv"):
        open_table(write("a.xlsx", "x"))


def test_parquet_without_pyarrow_names_the_install_command(write, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r'pip install "enhancer\[parquet\]"'):
        open_table(write("a.parquet", b"PAR1"))


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["id", "id"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns are called 'id'"):
        open_table(tmp_path / "a.parquet")


def test_dates_in_parquet_are_iso(tmp_path):
    import datetime as dt

    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["1"], "day": [dt.date(1995, 11, 22)]}), tmp_path / "a.parquet")
    assert rows(open_table(tmp_path / "a.parquet")) == [("1", "1995-11-22")]


cell = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=12)


@given(st.lists(st.tuples(cell, cell, cell).filter(lambda row: any(row)), min_size=1, max_size=20))
def test_any_csv_that_is_written_is_read_back(tmp_path_factory, table):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b", "c"])
    writer.writerows(table)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(out.getvalue().encode())
    assert rows(open_table(path)) == table


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b"]), cell, min_size=1), min_size=1, max_size=20))
def test_any_json_lines_that_are_written_are_read_back(tmp_path_factory, objects):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    path.write_text("\n".join(json.dumps(o) for o in objects), encoding="utf-8")
    table = open_table(path)
    wanted = [tuple(o.get(name, "") for name in table.columns) for o in objects]
    assert rows(table) == wanted


def test_memory_does_not_grow_with_the_file(write):
    path = write("a.csv", "id,text\n" + "".join(f"{n},{'x' * 80}\n" for n in range(40_000)))
    table = open_table(path)
    tracemalloc.start()
    try:
        for _ in table.blocks(["id", "text"]):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_500_000  # a file of 3.5 MB


def test_numbers_that_passed_through_a_data_frame(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [1.0, 2.0], "year": [1995.0, float("nan")]}), tmp_path / "a.parquet")
    assert rows(open_table(tmp_path / "a.parquet")) == [("1", "1995"), ("2", "")]
