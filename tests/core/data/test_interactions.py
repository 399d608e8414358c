from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.config import ColumnsConfig
from enhancer.data import Histories, Interactions, read_interactions
from enhancer.data.time_values import align_times
from enhancer.errors import ConfigError, DataError


@pytest.fixture
def read(tmp_path):
    def read(content, name="ratings.csv", item_ids=None, columns=None, **more):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return read_interactions(path, ColumnsConfig(**(columns or {})), item_ids=item_ids, **more)

    return read


def pairs(found):
    return [(found.user_ids[u], found.item_ids[i]) for u, i in zip(found.users, found.items, strict=True)]


def test_columns_over_a_vocabulary(read):
    found = read("user_id,item_id,rating,timestamp\nu2,i1,4,100\nu1,i9,3.5,90\n")
    assert (found.user_ids, found.item_ids) == (["u1", "u2"], ["i1", "i9"])
    assert pairs(found) == [("u2", "i1"), ("u1", "i9")]
    assert found.ratings.tolist() == [4.0, 3.5]
    assert found.timestamps.tolist() == [100, 90]
    types = {found.users.dtype, found.items.dtype, found.ratings.dtype, found.timestamps.dtype}
    assert types == {np.dtype("int32"), np.dtype("float32"), np.dtype("int64")}


def test_ratings_and_times_are_optional(read):
    found = read("user_id,item_id\nu,i\n")
    assert found.ratings is None
    assert found.timestamps is None


def test_numbers_as_ids_sort_as_numbers(read):
    assert read("user_id,item_id\n10,1\n9,2\n").user_ids == ["9", "10"]


def test_the_items_table_is_the_vocabulary_and_unknown_ids_are_counted(read):
    found = read("user_id,item_id\nu,b\nu,x\nv,x\nv,a\nw,y\n", item_ids=["a", "b", "c"])
    assert found.item_ids == ["a", "b", "c"]
    assert pairs(found) == [("u", "b"), ("v", "a")]
    assert found.user_ids == ["u", "v"]
    assert found.report.unknown_items == 3
    assert found.report.unknown_item_examples == ("x", "y")
    assert found.report.lines() == [
        "3 of 5 interactions left out: their item is not in the items table (such as 'x', 'y')"
    ]


def test_of_one_pair_the_latest_is_kept(read):
    found = read("user_id,item_id,rating,timestamp\nu,i,5,30\nu,i,1,10\nu,j,2,5\nu,j,3,5\n")
    assert dict(zip(pairs(found), found.ratings.tolist(), strict=True)) == {("u", "i"): 5.0, ("u", "j"): 3.0}
    assert found.report.duplicates == 2


def test_without_times_the_last_row_is_kept(read):
    found = read("user_id,item_id,rating\nu,i,5\nu,i,1\n")
    assert found.ratings.tolist() == [1.0]


def test_low_ratings_are_left_out_after_duplicates_are_merged(read):
    found = read("user_id,item_id,rating\nu,i,5\nu,i,1\nu,j,4\n", min_rating=4)
    assert pairs(found) == [("u", "j")]
    assert (found.report.duplicates, found.report.below_min_rating) == (1, 1)
    assert found.item_ids == ["j"]


def test_min_rating_needs_ratings(read):
    with pytest.raises(ConfigError, match=r"min_rating .* no rating column"):
        read("user_id,item_id\nu,i\n", min_rating=4)


def test_ratings_and_times_that_are_not_wanted_cannot_stop_a_task(read):
    text = "user_id,item_id,rating,timestamp\nu,i,good,once\nu,j,,\n"
    found = read(text, columns={"rating": False, "timestamp": False})
    assert (pairs(found), found.ratings, found.timestamps) == ([("u", "i"), ("u", "j")], None, None)
    with pytest.raises(ConfigError, match=r"min_rating is set, and \[data.columns\] rating = false"):
        read(text, min_rating=4, columns={"rating": False, "timestamp": False})


def test_k_core(read):
    square = "".join(f"u{u},i{i}\n" for u in range(3) for i in range(3))
    found = read("user_id,item_id\n" + square + "u0,lonely\nloner,i0\n", k_core=2)
    assert len(found) == 9
    assert found.report.outside_core == 2
    assert "lonely" not in found.item_ids


def test_times_of_many_forms(read):
    found = read("user_id,item_id,timestamp\nu,a,881250949.0\nu,b,1997-12-04T15:55:49\nu,c,1997-12-04 16:55:49+01:00\n")
    assert found.timestamps.tolist() == [881250949] * 3


def test_nanoseconds_are_exact(read):
    assert read("user_id,item_id,timestamp\nu,a,1700000000123456789\n").timestamps.tolist() == [1700000000123456789]


@pytest.mark.parametrize(
    ("given", "times", "decimals"),
    [
        (["100.9", "100.1", "100"], [1009, 1001, 1000], 1),
        (["0.1", "0.25", "1"], [10, 25, 100], 2),
        (["1700000000123456789", "1700000000123456788.0"], [1700000000123456789, 1700000000123456788], 0),
        (["1970-01-01T00:00:01.000000002", "1970-01-01T01:00:01.5+01:00"], [1_000_000_002, 1_500_000_000], 9),
        (["-0.5", "1969-12-31T23:59:59.25Z"], [-50, -75], 2),
    ],
)
def test_times_keep_their_resolution(read, given, times, decimals):
    found = read("user_id,item_id,timestamp\n" + "".join(f"u,i{n},{time}\n" for n, time in enumerate(given)))
    assert (found.timestamps.tolist(), found.time_decimals) == (times, decimals)


def test_latest_of_a_pair_is_told_by_fractions(read):
    found = read("user_id,item_id,rating,timestamp\nu,i,5,100.9\nu,i,1,100.1\n")
    assert (found.ratings.tolist(), found.timestamps.tolist()) == ([5.0], [1009])


def test_blocks_of_other_resolution_are_aligned():
    parts = [(np.array([100, 101]), 0), (np.array([1005]), 1)]
    aligned, decimals = align_times(parts)
    assert ([part.tolist() for part in aligned], decimals) == ([[1000, 1010], [1005]], 1)


@pytest.mark.parametrize("tz", [None, "UTC", "+02:00"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_times_are_exact(tmp_path, unit, tz):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    given = [1_700_000_000 * second + 9, 1_700_000_000 * second + 1, -1]
    when = pa.array(given, pa.timestamp(unit, tz))
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"user_id": ["u"] * 3, "item_id": ["a", "b", "c"], "timestamp": when}), path)
    assert read_interactions(path, ColumnsConfig(), item_ids=None).timestamps.tolist() == given


def test_recbole_json_and_parquet(tmp_path, read):
    import pyarrow as pa
    import pyarrow.parquet as pq

    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    atomic = read(head + "196\t242\t3\t881250949\n", name="ml.inter")
    row = {"user_id": 196, "item_id": 242, "rating": 3, "timestamp": 881250949}
    lines = read(json.dumps(row), name="r.jsonl")
    pq.write_table(pa.table({k: [v] for k, v in row.items()}), tmp_path / "r.parquet")
    table = read_interactions(tmp_path / "r.parquet", ColumnsConfig(), item_ids=None)
    for found in (atomic, lines, table):
        assert pairs(found) == [("196", "242")]
        assert (found.ratings.tolist(), found.timestamps.tolist()) == ([3.0], [881250949])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("u,i,good,1", r"ratings.csv, line 4, column 'rating': 'good' is not a number"),
        ("u,i,,1", r"line 4, column 'rating': the rating is empty"),
        ("u,i,nan,1", r"line 4, column 'rating': 'nan' is not a finite rating"),
        ("u,i,inf,1", r"line 4, column 'rating': 'inf' is not a finite rating"),
        ("u,i,1e300,1", r"line 4, column 'rating': '1e300' is not a finite rating"),
        ("u,i,1,soon", r"line 4, column 'timestamp': 'soon' is not a time"),
        ("u,i,1,nan", r"line 4, column 'timestamp': 'nan' is not a time"),
        ("u,i,1,1e30", r"line 4, column 'timestamp': '1e30' is not a time"),
        ("u,i,1,99999999999999999999999", r"line 4, column 'timestamp': .* is not a time"),
        (",i,1,1", r"line 4, column 'user_id': the id is empty"),
        ("u,  ,1,1", r"line 4, column 'item_id': the id is empty"),
        (f"u,{'x' * 2000},1,1", r"line 4, column 'item_id': the id has 2,000 characters"),
        ("u,i,1", r"line 4: 3 fields, but the header has 4"),
        ("u,i,1,1,9", r"line 4: 5 fields, but the header has 4"),
    ],
)
def test_bad_values_name_file_line_and_column(read, row, message):
    with pytest.raises(DataError, match=message):
        read(f"user_id,item_id,rating,timestamp\na,b,1,1\n\n{row}\nc,d,1,1\n")


def test_the_line_is_right_after_quoted_line_breaks(read):
    with pytest.raises(DataError, match="line 4, column 'rating'"):
        read('user_id,item_id,rating\n"a\nb",i,1\nu,i,x\n')


def test_nothing_left_says_why(read):
    with pytest.raises(DataError, match=r"no interaction is left; 1 of 1 .* not in the items table \(such as 'i'\)"):
        read("user_id,item_id\nu,i\n", item_ids=["a"])


def test_columns_that_are_not_there(read):
    with pytest.raises(ConfigError, match=r"no column 'user_id'.*did you mean 'userid'"):
        read("userid,item_id\nu,i\n")
    with pytest.raises(ConfigError, match=r"no column 'stars'.*rating"):
        read("user_id,item_id\nu,i\n", columns={"rating": "stars"})
    with pytest.raises(ConfigError, match="both 'item_id'"):
        read("user_id,item_id\nu,i\n", columns={"user_id": "item_id"})


row = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 5), st.integers(0, 9))


@given(st.lists(row, min_size=1, max_size=60))
def test_reading_agrees_with_a_dictionary(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("inter") / "r.csv"
    path.write_text("user_id,item_id,rating,timestamp\n" + "".join(",".join(map(str, r)) + "\n" for r in table))
    found = read_interactions(path, ColumnsConfig(), item_ids=None)
    latest = {}
    for u, i, rating, time in table:
        if (u, i) not in latest or time >= latest[u, i][1]:
            latest[u, i] = (float(rating), time)
    told = {
        (int(u), int(i)): (r, t)
        for (u, i), r, t in zip(pairs(found), found.ratings.tolist(), found.timestamps.tolist(), strict=True)
    }
    assert told == latest
    assert found.report.duplicates == len(table) - len(latest)


@given(st.lists(row, min_size=1, max_size=60), st.integers(0, 6), st.integers(0, 8), st.booleans())
def test_histories_are_most_recent_first(table, user, limit, with_time):
    seen = {(u, i): (rating, time) for u, i, rating, time in table}
    users, items = (np.array([key[n] for key in seen], np.int32) for n in (0, 1))
    ratings = np.array([v[0] for v in seen.values()], np.float32)
    times = np.array([v[1] for v in seen.values()], np.int64) if with_time else None
    train = Interactions([str(n) for n in range(7)], [str(n) for n in range(7)], users, items, ratings, times)
    place = {key: n for n, key in enumerate(seen)}
    mine = sorted(
        (k for k in seen if k[0] == user), key=lambda k: (seen[k][1] if with_time else 0, place[k]), reverse=True
    )
    wanted = [(k[1], float(seen[k][0]), seen[k][1] if with_time else None) for k in mine][:limit]
    assert Histories(train).of(user, limit) == wanted
