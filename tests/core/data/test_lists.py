"""Lists stay lists, from every format to the features, and read as before in texts."""

from __future__ import annotations

import ast
import json
import pickle

import pytest
from hypothesis import given, strategies as st

from enhancer.config import ColumnsConfig
from enhancer.data import open_table, read_entities, read_features
from enhancer.data.readers import ListCell, TableOptions, list_cell
from enhancer.data.readers.list_text import elements_of
from enhancer.data.readers.native.literals import parse_literal

GIVEN = [["Clothing, Shoes & Jewelry", "Women"], ["a|b; c", "Women"], []]
WANTED = ("tags=Clothing, Shoes & Jewelry", "tags=Women", "tags=a|b; c")


def tags(path, column="tags"):
    found = read_features(path, "item", ColumnsConfig(), [column], ["0", "1", "2"], max_values=100)
    assert [each.kind for each in found.columns] == ["tags"]
    assert found.columns[0].missing == 1
    return found.features.names


def test_lists_of_json_lines(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps({"item_id": n, "tags": value}) for n, value in enumerate(GIVEN)))
    assert tags(path) == WANTED
    assert next(read_entities(path, "item", ColumnsConfig(), 100)).text == "tags: Clothing, Shoes & Jewelry, Women"


@pytest.mark.parametrize("kind", ["list_", "large_list", "fixed", "dictionary"])
def test_lists_of_parquet(tmp_path, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "list_": pa.list_(pa.string()),
        "large_list": pa.large_list(pa.string()),
        "fixed": pa.list_(pa.string(), 2),
        "dictionary": pa.list_(pa.dictionary(pa.int32(), pa.string())),
    }
    given_lists = [value or None for value in GIVEN] if kind == "fixed" else GIVEN
    column = pa.array(given_lists, types[kind])
    pq.write_table(pa.table({"item_id": ["0", "1", "2"], "tags": column}), tmp_path / "items.parquet")
    assert tags(tmp_path / "items.parquet") == WANTED
    first = next(read_entities(tmp_path / "items.parquet", "item", ColumnsConfig(), 100))
    assert first.text == "tags: Clothing, Shoes & Jewelry, Women"


@pytest.mark.parametrize("write", [json.dumps, str, lambda value: str(tuple(value))])
def test_lists_in_cells_of_csv(tmp_path, write):
    import csv

    with (tmp_path / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "tags"])
        rows.writerows([n, write(value)] for n, value in enumerate(GIVEN))
    assert tags(tmp_path / "items.csv", "tags:tags") == WANTED
    # Stored profiles were made from the text as it stands in the file.
    assert next(read_entities(tmp_path / "items.csv", "item", ColumnsConfig(), 100)).text == f"tags: {write(GIVEN[0])}"


def test_nested_lists_are_flattened_for_tags_and_compact_json_as_text(tmp_path):
    rows = [[["Books", "Art"], ["Books"]], [[]], [{"id": 7, "name": "Books"}, None, 3]]
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps({"item_id": n, "tags": value}) for n, value in enumerate(rows)))
    assert tags(path) == ("tags=3", "tags=Art", "tags=Books")
    assert [row for _, (column,) in open_table(path).blocks(["tags"]) for row in column] == [
        '[["Books","Art"],["Books"]]',
        "[[]]",
        '[{"id":7,"name":"Books"},null,3]',
    ]


def test_a_list_of_one_number_is_a_tag(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps({"item_id": n, "tags": [1990 + n] if n else []}) for n in range(3)))
    assert tags(path) == ("tags=1991", "tags=1992")


def test_a_text_among_lists_is_one_tag(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": 0, "tags": ["a", "b"]}\n{"item_id": 1, "tags": "a, b"}\n')
    assert tags(path) == ("tags=a", "tags=a, b", "tags=b")


def test_lists_of_equal_text_and_other_elements_differ(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": 0, "tags": ["a, b"]}\n{"item_id": 0, "tags": ["a", "b"]}\n')
    with pytest.raises(Exception, match=r"line 2.*occurs again with other features"):
        read_features(path, "item", ColumnsConfig(), ["tags"], ["0"], max_values=10)


def test_a_list_cell_is_a_text_that_survives_pickling():
    cell = pickle.loads(pickle.dumps(list_cell(["a", "b"])))
    assert (cell, cell.elements, type(cell)) == ("a, b", ("a", "b"), ListCell)


plain = st.one_of(st.text(st.characters(codec="utf-8"), max_size=8), st.integers(), st.booleans(), st.none())
literals = st.recursive(
    plain | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(literals)
def test_literals_of_python_are_read_without_eval(value):
    assert parse_literal(repr(value)) == value


@given(literals)
def test_literals_of_json_are_read(value):
    assert parse_literal(json.dumps(value)) == value


@given(st.text("[](){},:'\"\\ ab1-.eNone\n", max_size=25))
def test_any_text_has_elements_or_none(text):
    try:
        expected = ast.literal_eval(text.strip())
    except Exception:  # noqa: BLE001 - the reference refuses in many ways
        expected = None
    found = elements_of(text)
    if isinstance(expected, list) and all(type(each) is int for each in expected):
        assert found == tuple(map(str, expected))


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("['Drama' 'War']", ("Drama", "War")),  # NumPy
        ("['Drama'\n 'War']", ("Drama", "War")),
        (r"['it\'s', \"\u00e9\", '\x41\n']".replace('\\"', '"'), ("it's", "é", "A\n")),
        ("[u'a', 1.0, None, nan]", ("a", "1")),
        ("[('a', 1), ('b', 2)]", ("a", "1", "b", "2")),
        ("[{'id': 1, 'name': 'Drama'}]", ("Drama",)),
        ("[]", ()),
        ("[REC]", None),
        ("[REC] 2", None),
        ("(500) Days of Summer", None),
        ("['open", None),
        ("['a']]", None),
        ("{'a': 1}", None),
        ("[__import__('os')]", None),
        ("[" * 100_000, None),
        ("['a', " * 50 + "]" * 50, ("a",) * 50),
        ("Drama", None),
    ],
)
def test_elements_of_lists_as_text(text, elements):
    assert elements_of(text) == elements


def plain_texts(path):
    return [
        [entity.text for entity in read_entities(path, "item", ColumnsConfig(), 100, options=options)]
        for options in (None, TableOptions(plain_cells=True))
    ]


def test_plain_cells_show_any_list_as_its_elements(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('item_id,tags\n0,"[\'Drama\', [\'War\']]"\n1,"[""a""]"\n2,[REC]\n3,"[1, 2]"\n')
    old, new = plain_texts(path)
    assert old == ["tags: ['Drama', ['War']]", 'tags: ["a"]', "tags: [REC]", "tags: [1, 2]"]
    assert new == ["tags: Drama, War", "tags: a", "tags: [REC]", "tags: [1, 2]"]
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": 0, "tags": [["a"], ["b"]]}\n{"item_id": 1, "tags": ["a", "b"]}\n')
    assert plain_texts(path) == [['tags: [["a"],["b"]]', "tags: a, b"], ["tags: a, b", "tags: a, b"]]


def test_plain_cells_show_narrow_floats_by_their_shortest_digits(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "item_id": ["0", "1"],
        "price": pa.array([0.1, None], pa.float32()),
        "half": pa.array([0.1, 7], pa.float16()),
        "wide": pa.array([0.1, 1 / 3], pa.float64()),
        "marks": pa.array([[0.1, 2], None], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    old, new = plain_texts(tmp_path / "items.parquet")
    # Profiles that are stored were made from this text.
    assert old[0] == "price: 0.10000000149011612\nhalf: 0.0999755859375\nwide: 0.1\nmarks: 0.10000000149011612, 2"
    assert new == ["price: 0.1\nhalf: 0.1\nwide: 0.1\nmarks: 0.1, 2", "half: 7\nwide: 0.3333333333333333"]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_shortest_digits_are_exact(number):
    import numpy as np

    from enhancer.data.readers.arrow_columns import _shortened

    assert np.float32(_shortened(number, np.float32)) == np.float32(number)
    assert len(repr(_shortened(number, np.float32))) <= len(repr(number))
