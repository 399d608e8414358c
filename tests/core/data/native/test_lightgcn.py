"""``train.txt`` of LightGCN and its like: a user and all their items on each line."""

from __future__ import annotations

import tracemalloc

from native_files import rows, write

from enhancer.data import open_table
from enhancer.data.readers.native import recognise


def pairs(path):
    return [tuple(row.values()) for row in rows(path)]


def test_each_item_of_a_line_is_an_interaction(tmp_path):
    path = write(tmp_path / "train.txt", "0 10 11 12\n1 \n2\n3 10 \n")
    assert open_table(path).columns == ["user_id", "item_id"]
    assert pairs(path) == [("0", "10"), ("0", "11"), ("0", "12"), ("3", "10")]


def test_a_row_is_located_by_the_line_of_its_user(tmp_path):
    table = open_table(write(tmp_path / "train.txt", "0 10 11\n1\n2 12\n"))
    assert [table.location(n) for n in range(3)] == ["line 1", "line 1", "line 3"]


def test_numbers_of_the_items_are_their_ids(tmp_path):
    path = write(tmp_path / "item_list.txt", "org_id remap_id freebase_id\nB00X 0 m.01\nan old id 1 m.02\n")
    assert rows(path) == [
        {"org_id": "B00X", "item_id": "0", "freebase_id": "m.01"},
        {"org_id": "an old id", "item_id": "1", "freebase_id": "m.02"},
    ]
    assert recognise(path).role == "items"
    assert recognise(write(tmp_path / "user_list.txt", "org_id remap_id\nA 0\n")) is None


def test_lines_that_may_be_something_else_are_not_recognised(tmp_path):
    for text in ("0 5 4\n1 6 3\n", "0 5\n0 6 7\n", "0 5\na 6 7\n", "hello 1\n", ""):
        assert recognise(write(tmp_path / "ratings.txt", text)) is None, text
        assert recognise(write(tmp_path / "train.txt", text)) is None, text
    for name, text in (
        ("ratings.txt", "0 5\n1 6 7\n"),
        ("train.txt", "0 5\n1 6\n"),
        ("test.txt", "0 5 6 7 8\n1 6 7 8 9\n"),
    ):
        assert recognise(write(tmp_path / name, text)).name == "lightgcn"


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = write(
        tmp_path / "train.txt", "".join(f"{n} {' '.join(map(str, range(n % 50, 60)))}\n" for n in range(20_000))
    )
    table = open_table(path)
    tracemalloc.start()
    try:
        for _ in table.blocks(table.columns):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 2_000_000
    assert peak < 15_000_000
