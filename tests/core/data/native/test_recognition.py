"""No file, whatever it holds, breaks the recognition of formats, and what is recognised is read or refused in words."""

from __future__ import annotations

import json

from hypothesis import example, given, strategies as st
from native_files import rows_of, write
from native_sets import SETS

from enhancer.data.readers.native import FORMATS, native_format, recognise
from enhancer.errors import EnhancerError

NAMES = ["movies.dat", "u.item", "train.txt", "meta.json", "a.csv", "behaviors.tsv", "combined", "small_matrix.csv"]
keys = st.sampled_from(
    [
        "asin",
        "reviewerID",
        "overall",
        "user_id",
        "book_id",
        "items",
        "items_count",
        "business_id",
        "date",
        "categories",
        "title",
    ]
)
value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
record = st.dictionaries(keys, value, min_size=1)
pieces = [
    "1",
    "0",
    "::",
    "|",
    "\t",
    ",",
    ";",
    '"',
    "\\",
    "\n",
    "\r",
    "N1-0",
    "{'a':",
    "}",
    "978300760",
    "é",
    "\x00",
    " ",
    ":",
    "user_id",
    "[",
    "]",
]
raw = st.binary(max_size=60) | st.lists(st.sampled_from(pieces), max_size=40).map(
    lambda found: "".join(found).encode("cp1252")
)


def check(path):
    found = recognise(path)
    named = (native_format(name, role, path) for name, role in sorted({(each.name, each.role) for each in FORMATS}))
    for each in [found] if found is not None else named:
        try:
            rows_of(each.open(path))
        except EnhancerError as error:
            assert str(path) in str(error)  # noqa: PT017 - any row may be refused, in words


@given(raw, st.sampled_from(NAMES))
@example(b"", "movies.dat")
@example(b"{}\n{}\n", "meta.json")
@example(b'"ISBN";"Book-Title"\n"1";"a\n', "a.csv")
@example(b"user_id,book_id,is_read,rating,is_reviewed\n1,2,0,0,0\n", "a.csv")
def test_any_bytes(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    check(path)


@given(st.lists(record, min_size=1, max_size=3), st.booleans())
def test_any_objects(tmp_path_factory, records, literal):
    path = tmp_path_factory.mktemp("any") / "meta.json"
    write(path, "".join((repr(each) if literal else json.dumps(each)) + "\n" for each in records))
    check(path)


def test_files_of_one_data_set_are_not_taken_for_another(tmp_path):
    for name, made in SETS.items():
        made.make(tmp_path / name)
        wanted = {key: value for key, value in made.data.items() if key.endswith("_format")}
        for key, form in wanted.items():
            path = tmp_path / name / str(made.data[key.removesuffix("_format")])
            found = recognise(path)
            assert found is not None, path
            assert found.name == form, path
            assert native_format(found.name, found.role, path) is found
