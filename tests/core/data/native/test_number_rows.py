"""Files of numbers alone are read as arrays, and to the same result as line by line."""

from __future__ import annotations

import numpy as np
import pytest
from native_files import write

from enhancer.config import ColumnsConfig
from enhancer.data import read_interactions
from enhancer.data.readers import plain_text
from enhancer.data.readers.native import recognise
from enhancer.errors import DataError

FORMS = {
    "ratings.dat": "{0}::{1}::{2}::{3}",
    "u.data": "{0}\t{1}\t{2}\t{3}",
    "ratings_Toys.csv": "A00000000{0:03},B0000000{1:02},{2}.0,{3}",
}


@pytest.fixture
def arrays(monkeypatch):
    """Count the blocks of arrays that are read, also from small files."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(plain_text, "MIN_BYTES", 0)
    seen = []
    read = plain_text._PlainReader.read
    monkeypatch.setattr(plain_text._PlainReader, "read", lambda self, text: seen.append(1) or read(self, text))
    return seen


def read_as(path):
    columns = ColumnsConfig(**recognise(path).columns)
    return read_interactions(path, columns, item_ids=None)


@pytest.mark.parametrize("name", FORMS)
def test_arrays_are_what_lines_are(tmp_path, monkeypatch, arrays, name):
    rng = np.random.default_rng(0)
    rows = zip(*(rng.integers(low, high, 500).tolist() for low, high in ((1, 40), (1, 60), (1, 6))), strict=True)
    lines = [FORMS[name].format(*row, 10**9 + n) for n, row in enumerate(rows)]
    path = write(tmp_path / name, "\n".join(lines) + "\n")
    fast = read_as(path)
    assert arrays
    monkeypatch.setattr(plain_text, "MIN_BYTES", 1 << 40)
    slow = read_as(path)
    assert (fast.user_ids, fast.item_ids, fast.report) == (slow.user_ids, slow.item_ids, slow.report)
    for field in ("users", "items", "ratings", "timestamps"):
        assert np.array_equal(getattr(fast, field), getattr(slow, field)), field


@pytest.mark.parametrize("wrong", ["1::2::5:3:978300760", "1::2::5", "1::2::5::978300760::1"])
def test_a_damaged_line_is_named_all_the_same(tmp_path, arrays, wrong):
    path = write(tmp_path / "ratings.dat", "1::1::5::978300760\n" * 60 + wrong + "\n")
    with pytest.raises(DataError, match=r"ratings\.dat, line 61: \d fields instead of 4"):
        read_as(path)
    assert arrays
