"""Compressed files, encodings, long lines and wide tables."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

from enhancer.config import ColumnsConfig
from enhancer.data import open_table, read_entities, read_interactions
from enhancer.data.readers import TableOptions, text_files
from enhancer.data.readers.table_reader import MAX_COLUMNS
from enhancer.errors import ConfigError, DataError, PluginError

TEXTS = {
    "a.csv": "item_id,title\n1,Été\n2,Heat\n",
    "b.tsv": "item_id\ttitle\n1\tÉté\n2\tHeat\n",
    "c.item": "item_id:token\ttitle:token_seq\n1\tÉté\n2\tHeat\n",
    "d.jsonl": '{"item_id": 1, "title": "Été"}\n{"item_id": 2, "title": "Heat"}\n',
    "e.json": '{"item_id": 1, "title": "Été"}\n{"item_id": 2, "title": "Heat"}\n',
    "f.ndjson": '{"item_id": 1, "title": "Été"}\n{"item_id": 2, "title": "Heat"}\n',
}


def compressed(ending, data):
    if ending == ".gz":
        return gzip.compress(data)
    import pyarrow as pa

    return pa.compress(data, codec="zstd", asbytes=True)


def titles(path, options=None):
    return [title for _, (column,) in open_table(path, options).blocks(["title"]) for title in column]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_every_text_format_may_be_compressed(tmp_path, name, ending):
    path = tmp_path / f"{name}{ending}"
    data = TEXTS[name].encode()
    path.write_bytes(compressed(ending, data) if ending else data)
    assert titles(path) == ["Été", "Heat"]
    assert [entity.id for entity in read_entities(path, "item", ColumnsConfig(), 100)] == ["1", "2"]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_several_parts_in_a_row_are_one_file(tmp_path, ending):
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(compressed(ending, b"item_id,title\n1,A\n") + compressed(ending, b"2,B\n"))
    assert titles(path) == ["A", "B"]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_compression_is_told(tmp_path, ending, damage):
    path = tmp_path / f"a.csv{ending}"
    rows = "".join(f"{n},{hash(str(n))}\n" for n in range(30_000))
    whole = compressed(ending, f"item_id,title\n{rows}".encode())
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"item_id,title\n1,A\n")
    with pytest.raises(DataError, match="damaged or cut off"):
        titles(path)


def test_zstandard_without_pyarrow_names_the_install_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.csv.zst").write_bytes(b"x")
    with pytest.raises(PluginError, match=r'pip install "enhancer\[parquet\]"'):
        open_table(tmp_path / "a.csv.zst")


def test_another_encoding_may_be_named_and_is_asked_for(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("item_id,title\n1,Amélie\n2,À bout\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2: not UTF-8; .*\[data\] encoding"):
        titles(path)
    assert titles(path, TableOptions(encoding="latin-1")) == ["Amélie", "À bout"]
    path.write_text("item_id,title\n1,Amélie\n2,À bout — “x”\n", encoding="utf-8")
    assert titles(path, TableOptions(encoding="cp1252")) == ["Amélie", "À bout — “x”"]  # UTF-8 is seen to be UTF-8


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030", "shift_jis"])
def test_encodings_of_several_bytes(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("item_id,title\n1,千と千尋\n".encode(encoding))
    assert titles(path, TableOptions(encoding=encoding)) == ["千と千尋"]
    path.write_bytes("item_id,title\n1,A\n".encode(encoding) + b"\xff")
    with pytest.raises(DataError, match=rf"line \d: not {encoding}; correct \[data\] encoding"):
        titles(path, TableOptions(encoding=encoding))


@pytest.mark.parametrize("name", ["a.csv", "d.jsonl", "a.csv.gz"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(text_files, "MAX_LINE", 1 << 18)
    rows = TEXTS[name.removesuffix(".gz")].encode()
    data = rows + b"3,".rjust(1 << 20, b"x")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(DataError, match=rf"{name}, line {rows.count(10) + 1}: longer than 0 MiB"):
        titles(tmp_path / name)


def test_a_wide_csv_takes_time_and_memory_by_its_cells(tmp_path):
    names = [f"c{n}" for n in range(50_000)]
    path = tmp_path / "wide.csv"
    path.write_text(f"item_id,{','.join(names)}\n" + "".join(f"{n},{'1,' * 49_999}1\n" for n in range(3)))
    assert [len(entity.columns) for entity in read_entities(path, "item", ColumnsConfig(), 100)] == [50_000] * 3
    path.write_text(",".join(f"c{n}" for n in range(MAX_COLUMNS + 1)) + "\n")
    with pytest.raises(DataError, match=r"wide.csv, line 1: more than 100,000 columns"):
        open_table(path)


def test_json_lines_of_many_keys_take_time_by_their_values(tmp_path):
    path = tmp_path / "wide.jsonl"
    path.write_text("".join(json.dumps({"item_id": n, f"k{n}": n, "t": "x"}) + "\n" for n in range(4_000)))
    found = list(read_entities(path, "item", ColumnsConfig(), 100))
    assert (found[0].text, found[-1].text) == ("k0: 0\nt: x", "t: x\nk3999: 3999")
    assert len(found[0].columns) == 4_001


def test_json_lines_of_too_many_keys_name_the_line(tmp_path):
    path = tmp_path / "wide.jsonl"
    path.write_text("".join(json.dumps({f"k{n}-{m}": 0 for m in range(1001)}) + "\n" for n in range(101)))
    with pytest.raises(DataError, match=r"line 100: more than 100,000 columns"):
        open_table(path)


def test_excel_names_the_separator_above_the_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfsep=;\r\nitem_id;title\r\n1;a, b\r\n;x\r\n")
    assert titles(path) == ["a, b", "x"]
    with pytest.raises(DataError, match="line 4, column 'item_id': the id is empty"):
        list(read_entities(path, "item", ColumnsConfig(), 100))


def test_quotes_that_are_escaped_by_backslashes(tmp_path):
    path = tmp_path / "BX-Books.csv"
    path.write_text(
        'item_id;title\n"1";"C:\\"\n"2";"The \\"Real\\" Life"\n"3";"He said \\"no\\""\n"4";"two\nlines"\n5;\n',
    )
    assert titles(path) == ["C:\\", 'The "Real" Life', 'He said "no"', "two\nlines", ""]
    table = open_table(path)
    list(table.blocks(["title"]))
    assert [table.location(n) for n in range(5)] == ["line 2", "line 3", "line 4", "line 6", "line 7"]
    path.write_text('item_id;title\n"1";"The \\"Real\\" Life"\n2;3;4\n')
    with pytest.raises(DataError, match="line 3: 3 fields, but the header has 2"):
        titles(path)


@pytest.mark.parametrize("name", ["a.item", "a.tsv"])
def test_fields_that_pandas_has_quoted(tmp_path, name):
    pd = pytest.importorskip("pandas")
    given = ['"Heroes"', 'say "hi"', "tab\there", "two\nlines", "plain", '"open']
    head = ["item_id:token", "title:token_seq"] if name == "a.item" else ["item_id", "title"]
    frame = pd.DataFrame({head[0]: range(len(given)), head[1]: given})
    frame.to_csv(tmp_path / name, sep="\t", index=False)
    assert titles(tmp_path / name) == given


def test_stray_quotes_of_atomic_files_stay(tmp_path):
    path = tmp_path / "a.item"
    path.write_text('item_id:token\ttitle:token_seq\n1\t"Heroes" and more\n2\t"Hello\n3\t"Q"\n')
    assert titles(path) == ['"Heroes" and more', '"Hello', "Q"]


def test_ids_may_be_spelt_like_anything_but_nul(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"item_id": "\\u0000blank\\u0000", "title": "x"}\n')
    with pytest.raises(DataError, match=r"line 1, column 'item_id': the id .* has a NUL character"):
        list(read_entities(path, "item", ColumnsConfig(), 100))
    path.write_text('{"item_id": "blank", "title": "a\\u0000b \\u0000"}\n')
    (one,) = read_entities(path, "item", ColumnsConfig(), 100)
    assert (one.text, one.title) == ("title: a b", "a b")
    (tmp_path / "r.csv").write_bytes(b"user_id,item_id\nu,1\n\n\0blank\0,1\n")
    with pytest.raises(DataError, match=r"line 4, column 'user_id': the id .* has a NUL character"):
        read_interactions(tmp_path / "r.csv", ColumnsConfig(), item_ids=None)


def test_folders_of_parquet_files_are_one_table(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "films"
    for year, names in (("1995", ["Heat"]), ("2020", ["Tenet", "Soul"]), ("__HIVE_DEFAULT_PARTITION__", ["Lost"])):
        (folder / f"year={year}").mkdir(parents=True)
        table = pa.table({"item_id": names, "title": names} | ({"score": [1.5]} if len(names) == 1 else {}))
        pq.write_table(table, folder / f"year={year}" / "part-0.parquet")
    (folder / "_SUCCESS").write_text("")
    (folder / "_metadata.parquet").write_text("no table")
    table = open_table(folder)
    assert table.columns == ["item_id", "title", "score", "year"]
    rows = [row for _, columns in table.blocks(table.columns) for row in zip(*columns, strict=True)]
    assert rows == [
        ("Heat", "Heat", "1.5", "1995"),
        ("Tenet", "Tenet", "", "2020"),
        ("Soul", "Soul", "", "2020"),
        ("Lost", "Lost", "1.5", ""),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"is a folder, not a file; a folder may hold \.parquet files"):
        open_table(tmp_path / "empty")


@pytest.mark.parametrize("pandas", [True, False])
def test_every_type_of_parquet_is_text(tmp_path, monkeypatch, pandas):
    import datetime as dt
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    if not pandas:
        monkeypatch.setitem(sys.modules, "pandas", None)
    nano = 1_000_000_001
    columns = {
        "s": (pa.timestamp("s"), 1, "1970-01-01T00:00:01"),
        "ms": (pa.timestamp("ms"), 1001, "1970-01-01T00:00:01.001000"),
        "ns": (pa.timestamp("ns"), nano, "1970-01-01T00:00:01.000000001"),
        "utc": (pa.timestamp("ns", "UTC"), nano, "1970-01-01T00:00:01.000000001+00:00"),
        "date32": (pa.date32(), dt.date(1995, 11, 22), "1995-11-22"),
        "date64": (pa.date64(), dt.date(1995, 11, 22), "1995-11-22"),
        "time": (pa.time64("ns"), nano, "00:00:01"),
        "took": (pa.duration("ns"), nano, "0:00:01"),
        "decimal": (pa.decimal128(9, 2), Decimal("1.50"), "1.50"),
        "word": (pa.dictionary(pa.int8(), pa.string()), "a", "a"),
        "large": (pa.large_string(), "é", "é"),
        "flag": (pa.bool_(), True, "true"),
        "half": (pa.float16(), 1.5, "1.5"),
        "bytes": (pa.binary(), b"a\xff", "a\ufffd"),
        "struct": (pa.struct([("at", pa.int32())]), {"at": 1}, '{"at":1}'),
        "list": (pa.list_(pa.timestamp("ns")), [nano], "1970-01-01T00:00:01"),
        "map": (pa.map_(pa.string(), pa.int32()), [("a", 1)], '[["a",1]]'),
        "null": (pa.null(), None, ""),
    }
    table = pa.table({name: pa.array([value, None], kind) for name, (kind, value, _) in columns.items()})
    pq.write_table(table, tmp_path / "a.parquet", version="2.6")
    reader = open_table(tmp_path / "a.parquet")
    ((_, found),) = reader.blocks(reader.columns)
    assert {name: cell[0] for name, cell in zip(columns, found, strict=True)} == {
        name: text for name, (_, _, text) in columns.items()
    }
    assert {cell[1] for cell in found} == {""}
