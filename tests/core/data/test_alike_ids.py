"""Tests of ids that two tables spell otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.config import ColumnsConfig
from enhancer.data import read_interactions
from enhancer.data.alike_ids import FixedRows, plain_number


@pytest.fixture
def read(tmp_path):
    def read(pairs, item_ids, user_ids=None):
        path = tmp_path / "log.csv"
        path.write_text("user_id,item_id,rating\n" + "".join(f"{u},{i},4\n" for u, i in pairs))
        return read_interactions(path, ColumnsConfig(), item_ids=item_ids, user_ids=user_ids)

    return read


@pytest.mark.parametrize(
    ("known", "written"),
    [
        (["1", "2", "30"], ["1.0", "2.0", "30.0"]),
        (["1.0", "2.0", "30.0"], ["1", "2", "30"]),
        (["007", "0042", "100"], ["7", "42", "100"]),
        (["7", "42", "100"], ["007", "0042", "100"]),
        (["0", "10"], ["0.0", "10.00"]),
    ],
)
def test_spellings_of_one_number_are_joined_and_told(read, known, written):
    found = read([("u", name) for name in written], known)
    assert found.item_ids == known
    assert found.items.tolist() == list(range(len(known)))
    assert found.report.unknown_items == 0
    (line,) = found.report.lines()
    assert line.endswith("taken for the same")
    assert f"{written[0]!r} for {known[0]!r}" in line
    assert len(found.ratings) == len(found)


@pytest.mark.parametrize(
    ("known", "written"),
    [
        (["7", "8"], ["7", "007", "8.0"]),  # both spellings occur in the interactions
        (["7"], ["7.0", "07"]),  # two spellings of one known id
    ],
)
def test_they_are_named_and_left_out_where_something_would_be_lost(read, known, written):
    found = read([("u", known[0]), *(("u", name) for name in written)], [*known, "x"])
    assert found.report.unknown_items == sum(name not in known for name in written)
    line = found.report.lines()[-1]
    assert line.endswith("not taken for the same; write them alike")


def test_ids_that_may_be_two_known_ones_are_unknown(read):
    found = read([("u", "7.0"), ("u", "x")], ["7", "007", "x"])
    assert found.report.unknown_item_examples == ("7.0",)
    assert found.report.respelt_items.ids == 0


def test_other_ids_are_text(read):
    found = read([("u", name) for name in ("7.5", "x7", "1e3", "-7", "\u0667", "a")], ["75", "7", "1000", "a"])
    assert found.report.unknown_items == 5
    assert found.report.respelt_items.ids == 0


def test_users_of_a_test_file_are_joined_with_those_of_training(read):
    found = read([("1.0", "a"), ("2.0", "a")], ["a"], ["1", "2"])
    assert found.users.tolist() == [0, 1]
    assert (
        "2 users are spelt otherwise than in the training interactions" in found.report.lines(beside_training=True)[0]
    )


@given(
    st.lists(st.sampled_from(["1", "01", "1.0", "2", "2.0", "10", "010", "a"]), unique=True),
    st.lists(st.sampled_from(["1", "01", "1.0", "001", "2", "2.0", "10", "010.0", "a", "b"]), min_size=1),
)
def test_joining_never_merges_two_ids_of_either_table(known, written):
    rows = FixedRows(known)
    found = np.array([rows[name] for name in written], np.int32)
    kept = [name for name, row in zip(written, found, strict=True) if row >= 0]
    settled, respelt = rows.settle(found[found >= 0])
    place = {name: int(row) for name, row in zip(kept, settled, strict=True) if row >= 0}
    assert len({*place.values()}) == len(place)
    for name, row in place.items():
        assert known[row] == name or plain_number(known[row]) == plain_number(name)
    assert respelt.ids == len({name for name in kept if name not in known})
