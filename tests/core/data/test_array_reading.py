"""Large tables are read as arrays. What is read is the same as by cells, whatever the files hold."""

from __future__ import annotations

import gzip
import random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from enhancer.config import ColumnsConfig
from enhancer.data import open_table, read_interactions
from enhancer.data.readers import arrays, plain_text
from enhancer.errors import DataError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def _read_any_file_as_arrays(monkeypatch):
    monkeypatch.setattr(plain_text, "MIN_BYTES", 0)
    monkeypatch.setattr(plain_text, "_CHUNK_BYTES", 64)


def by_cells(path, columns=None, **more):
    """Read a table with arrays switched off."""
    with pytest.MonkeyPatch.context() as patch:
        from enhancer.data.readers.table_reader import TableReader

        for kind in (type(open_table(path)),):
            patch.setattr(kind, "array_blocks", TableReader.array_blocks)
        return read_interactions(path, columns or ColumnsConfig(), item_ids=None, **more)


def same(one, other):
    assert (one.user_ids, one.item_ids, one.time_decimals, one.report) == (
        other.user_ids,
        other.item_ids,
        other.time_decimals,
        other.report,
    )
    for name in ("users", "items", "ratings", "timestamps", "labels"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        if first is not None:
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second)


ROWS = [(f"u{n % 7}", n % 5, n % 11 / 2, 1_000_000 - n) for n in range(60)]


def write(path, rows, mark=",", head="user_id,item_id,rating,timestamp", end="\n"):
    path.write_bytes((end.join([head.replace(",", mark), *(mark.join(map(str, row)) for row in rows)]) + end).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.inter", "a.csv.gz"])
def test_text_is_read_alike(tmp_path, name, end):
    head = "user_id:token,item_id:token,rating:float,timestamp:float"
    path = write(
        tmp_path / name.removesuffix(".gz"),
        ROWS,
        "," if "csv" in name else "\t",
        head if name == "a.inter" else head.replace(":token", "").replace(":float", ""),
        end,
    )
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    found = read_interactions(tmp_path / name, ColumnsConfig(label="rating >= 3"), item_ids=None)
    same(found, by_cells(tmp_path / name, ColumnsConfig(label="rating >= 3")))
    assert len(found) == 35


field = st.one_of(st.integers(-3, 30).map(str), st.sampled_from(["07", "7.0", " 7", "x", "é", "0x1F", '"q"', "", "\0"]))
number = st.one_of(st.integers(-3, 30).map(str), st.sampled_from(["1.5", "nan", "", "1e3", "0x1F", " 2", "1_0", "inf"]))
moment = st.one_of(number, st.sampled_from(["2020-01-01", "2020-01-01T00:00:00.5Z", "12345678901234567890"]))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(field, field, number, moment), min_size=1, max_size=12), st.sampled_from(["\n", "\r\n", "\r"])
)
def test_any_text_is_read_alike_or_refused_in_the_same_words(tmp_path_factory, rows, end):
    path = write(tmp_path_factory.mktemp("any") / "a.csv", rows, end=end)
    outcomes = []
    for read in (by_cells, lambda path: read_interactions(path, ColumnsConfig(), item_ids=None)):
        try:
            outcomes.append(read(path))
        except DataError as error:
            outcomes.append(str(error))
    if isinstance(outcomes[0], str):
        assert outcomes[0] == outcomes[1]
    else:
        same(*outcomes)


@pytest.mark.parametrize("items", ["int64", "int8", "uint64", "string", "large_string", "dictionary", "double"])
@pytest.mark.parametrize("time", ["int64", "double", "s", "ms", "us", "ns", "date32", "date64", "string"])
def test_parquet_is_read_alike(tmp_path, items, time):
    types = {"dictionary": pa.dictionary(pa.int8(), pa.string()), "double": pa.float64()}
    times = {"double": pa.float64(), "date32": pa.date32(), "date64": pa.date64(), "string": pa.string()}
    days = [int(row[3]) % 10_000 for row in ROWS]
    strings = [f"2020-01-01T00:00:00.{day:04}" for day in days]
    made = pa.array(strings) if time == "string" else pa.array(days)
    kind = times.get(time) or (pa.int64() if time == "int64" else pa.timestamp(time if len(time) < 3 else "s"))
    column = made.cast(pa.int32()).cast(kind) if time == "date32" else made
    if time == "date64":
        column = pa.array([day * 86_400_000 for day in days]).cast(kind)
    elif time not in ("date32", "string"):
        column = made.cast(kind)
    names = [str(row[1]) for row in ROWS] if "string" in items or items == "dictionary" else [row[1] for row in ROWS]
    table = {
        "user_id": [row[0] for row in ROWS],
        "item_id": pa.array(names, types.get(items) or getattr(pa, items)()),
        "rating": pa.array([row[2] for row in ROWS], pa.float32()),
        "timestamp": column,
    }
    parquet.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=16)
    same(read_interactions(tmp_path / "a.parquet", ColumnsConfig(), item_ids=None), by_cells(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("user_id", ["a", None, "b"], "row 2, column 'user_id': the id is empty"),
        ("user_id", ["a", "b", " "], "row 3, column 'user_id': the id is empty"),
        ("rating", [1.0, float("inf"), 2.0], "row 2, column 'rating': 'inf' is not a finite rating"),
        ("rating", ["1", "2", "x"], "row 3, column 'rating': 'x' is not a number"),
        ("timestamp", ["2020-01-01", "soon", "2020-01-02"], "row 2, column 'timestamp': 'soon' is not a time"),
    ],
)
def test_bad_values_of_parquet_name_their_row(tmp_path, column, values, says):
    table = {"user_id": ["a", "b", "c"], "item_id": [1, 2, 3], "rating": [1, 2, 3], "timestamp": [1, 2, 3]}
    parquet.write_table(pa.table(table | {column: values}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=says):
        read_interactions(tmp_path / "a.parquet", ColumnsConfig(), item_ids=None)


def test_negative_and_very_large_integers_are_ids(tmp_path):
    ids = [-1, 0, 2**62, 7, 2**62, -1]
    parquet.write_table(pa.table({"user_id": ids, "item_id": range(6)}), tmp_path / "a.parquet")
    found = read_interactions(tmp_path / "a.parquet", ColumnsConfig(), item_ids=None)
    assert [found.user_ids[row] for row in found.users] == list(map(str, ids))


def test_ids_of_a_fixed_vocabulary_that_are_integers(tmp_path):
    parquet.write_table(pa.table({"user_id": [1, 1, 2, 3], "item_id": [5, 99, 5, 7]}), tmp_path / "a.parquet")
    found = read_interactions(tmp_path / "a.parquet", ColumnsConfig(), item_ids=["5", "7"], user_ids=["1", "3"])
    assert (found.users.tolist(), found.items.tolist()) == ([0, 1], [0, 1])
    assert (found.report.unknown_items, found.report.unknown_item_examples) == (1, ("99",))
    assert (found.report.unknown_users, found.report.unknown_user_examples) == (1, ("2",))


def test_without_pyarrow_text_is_read_by_cells(tmp_path, monkeypatch):
    import sys

    path = write(tmp_path / "a.csv", ROWS)
    expected = read_interactions(path, ColumnsConfig(), item_ids=None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
    with pytest.raises(arrays.IrregularTableError):
        next(open_table(path).array_blocks({"user_id": "id"}))
    same(read_interactions(path, ColumnsConfig(), item_ids=None), expected)


@pytest.mark.parametrize("times", [True, False])
@pytest.mark.parametrize("many", [True, False])
def test_the_latest_of_each_pair_agrees_with_a_dictionary(times, many):
    from enhancer.data.interactions import Interactions, _last_of_each_pair

    draw = random.Random(0)
    rows = [(draw.randrange(5), draw.randrange(5), draw.randrange(-4, 4)) for _ in range(200)]
    users, items, moments = (np.array(column) for column in zip(*rows, strict=True))
    names = ["x"] * (2**40 if many else 5) if not many else _Endless()
    read = Interactions(
        names, ["x"] * 5, users.astype(np.int32), items.astype(np.int32), timestamps=moments if times else None
    )
    latest = {}
    for n, (user, item, moment) in enumerate(rows):
        if (user, item) not in latest or not times or moment >= latest[user, item][0]:
            latest[user, item] = (moment, n)
    assert _last_of_each_pair(read).tolist() == sorted(n for _, n in latest.values())


class _Endless(list):
    def __len__(self):
        return 2**60
