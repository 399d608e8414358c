from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.config import ColumnsConfig
from enhancer.config.data import DataConfig
from enhancer.data import read_features, read_sides
from enhancer.errors import ConfigError, DataError


@pytest.fixture
def read(tmp_path):
    def read(content, wanted, ids, name="items.csv", kind="item", max_values=10_000, **columns):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return read_features(path, kind, ColumnsConfig(**columns), wanted, ids, max_values=max_values)

    return read


def kinds(found):
    return {each.name: each.kind for each in found.columns}


def test_values_tell_what_a_column_is(read):
    found = read(
        "item_id,year,colour,genres,codes,json\n"
        'a,1990,red,Drama|War,007,"[""x"", ""y""]"\n'
        "b,2000,blue,War,008,\n"
        'c,,red,,009,"[""y""]"\n',
        ["year", "colour", "genres", "codes", "json"],
        ["a", "b", "c"],
    )
    assert kinds(found) == {
        "year": "number",
        "colour": "category",
        "genres": "tags",
        "codes": "category",
        "json": "tags",
    }
    names = found.features.names
    assert names[:5] == ("year", "colour=blue", "colour=red", "genres=Drama", "genres=War")
    assert names[5:] == ("codes=007", "codes=008", "codes=009", "json=x", "json=y")
    np.testing.assert_allclose(
        found.features.dense(),
        [[-1, 0, 1, 0.5, 0.5, 1, 0, 0, 0.5, 0.5], [1, 1, 0, 0, 1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 1, 0, 1]],
    )
    assert {each.name: each.missing for each in found.columns} == {
        "year": 1, "colour": 0, "genres": 1, "codes": 0, "json": 1
    }  # fmt: skip


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=2, max_size=30))
def test_numbers_are_standardised_and_gaps_are_the_mean(tmp_path_factory, numbers):
    if all(number is None for number in numbers):
        return
    ids = [f"i{n}" for n in range(len(numbers))]
    rows = "".join(f"{i},{'' if n is None else repr(n)}\n" for i, n in zip(ids, numbers, strict=True))
    path = tmp_path_factory.mktemp("numbers") / "items.csv"
    path.write_text(f"item_id,x\n{rows}")
    found = read_features(path, "item", ColumnsConfig(), ["x"], ids, max_values=10).features.dense()[:, 0]
    there = np.array([n for n in numbers if n is not None])
    spread = there.std() or 1.0
    expected = [0.0 if n is None else np.clip((n - there.mean()) / spread, -5, 5) for n in numbers]
    np.testing.assert_allclose(found, expected, atol=1e-5)


WORDS = st.lists(st.lists(st.sampled_from(["Drama", "War", "Sci-Fi", "Ä"]), max_size=4), min_size=1, max_size=12)


@given(WORDS, st.sampled_from(["|", ";", "json"]))
def test_tags_are_the_mean_of_their_columns(tmp_path_factory, rows, mark):
    if not any(rows):
        return
    ids = [f"i{n}" for n in range(len(rows))]
    lines = []
    for name, words in zip(ids, rows, strict=True):
        written = json.dumps(words) if mark == "json" else mark.join(words)
        lines.append(json.dumps({"item_id": name, "tags": written}))
    path = tmp_path_factory.mktemp("tags") / "items.jsonl"
    path.write_text("\n".join(lines))
    found = read_features(path, "item", ColumnsConfig(), ["tags:tags"], ids, max_values=10)
    names = sorted({word for words in rows for word in words})
    expected = [[(word in words) / max(len(set(words)), 1) for word in names] for words in rows]
    assert found.features.names == tuple(f"tags={word}" for word in names)
    np.testing.assert_allclose(found.features.dense(), expected, rtol=1e-6)


def test_the_configuration_overrules_and_the_file_is_believed(read):
    content = (
        "item_id:token\tyear:token\tclass:token_seq\tprice:float\n1\t1990\tAction Sci-Fi\t3.5\n2\tunknown\tDrama\t\n"
    )
    found = read(content, ["year", "class", "price"], ["1", "2"], name="x.item")
    assert kinds(found) == {"year": "category", "class": "tags", "price": "number"}
    assert found.features.names[2:5] == ("class=Action", "class=Drama", "class=Sci-Fi")
    again = read(content, ["year:number", "class:category"], ["1", "2"], name="x.item")
    assert kinds(again) == {"year": "number", "class": "category"}
    assert again.columns[0].invalid_examples == ("unknown",)
    assert "such as 'unknown'" in again.lines("x.item", "item")[0]


def test_lists_of_json_lines_are_tags(read):
    rows = [{"item_id": "a", "tags": ["x", "y z"]}, {"item_id": "b", "tags": []}, {"item_id": "c", "tags": None}]
    found = read("\n".join(map(json.dumps, rows)), ["tags"], ["a", "b", "c"], name="items.jsonl")
    assert found.features.names == ("tags=x", "tags=y z")
    assert found.columns[0].missing == 2


def test_rows_are_those_of_the_vocabulary_and_absent_ones_are_counted(read):
    found = read("user_id,age\nz,9\nb,3\na,1\n", ["age"], ["a", "nobody", "b"], name="users.csv", kind="user")
    np.testing.assert_allclose(found.features.dense()[:, 0], [-1, 0, 1])
    assert found.absent == 1
    assert "no row of 1 users" in found.lines("users.csv", "user")[0]


def test_the_order_of_rows_decides_nothing(read):
    one = read("item_id,c\na,x\nb,y\nc,x\n", ["c"], ["a", "b", "c"]).features
    other = read("item_id,c\nc,x\nb,y\na,x\n", ["c"], ["a", "b", "c"]).features
    assert one.names == other.names
    np.testing.assert_array_equal(one.dense(), other.dense())


def test_a_number_far_out_is_cut_off(read):
    ids = [f"i{n}" for n in range(101)]
    found = read("item_id,x\n" + "".join(f"{i},{n % 2}\n" for n, i in enumerate(ids[:-1])) + "i100,1e9\n", ["x"], ids)
    assert found.features.values.max() == 5


def test_numbers_that_are_all_alike_tell_nothing(read):
    found = read("item_id,x\na,3\nb,3\n", ["x"], ["a", "b"])
    assert found.features.width == 1
    assert not len(found.features.values)


@pytest.mark.parametrize(
    ("content", "wanted", "error", "says"),
    [
        ("item_id,genres\na,x\n", ["genre"], ConfigError, r"no column 'genre' .*\[data.features\] item.*did you mean 'genres'"),
        ("item_id,genres\na,x\n", ["genres:tag"], ConfigError, "did you mean 'tags'"),
        ("item_id,genres\na,x\n", ["genre:tags"], ConfigError, "did you mean 'genres'"),
        ("item_id,x\na,1\n", ["x", "x:category"], ConfigError, "names 'x' twice"),
        ("item_id,x\na,\nb,\n", ["x"], DataError, "column 'x' has no value for any item"),
        ("item_id,x\na,1\na,2\n", ["x"], DataError, "line 3.*'a' occurs again with other features"),
        ("item_id,x\n" + "".join(f"i{n},v{n}\n" for n in range(30)), ["x"], ConfigError, "more than 20 different values"),
        ("key,x\na,1\n", ["x"], ConfigError, "no column 'item_id'"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_words(read, content, wanted, error, says):
    with pytest.raises(error, match=says):
        read(content, wanted, ["a", "b", *(f"i{n}" for n in range(30))], max_values=20)


@pytest.mark.parametrize(("kind", "setting"), [("item", "items_id"), ("user", "users_id")])
def test_a_wrong_column_of_ids_is_reported_under_the_key_that_names_it(read, kind, setting):
    with pytest.raises(ConfigError, match=rf"no column 'fim' \(see \[data.columns\] {setting}\)"):
        read("film,x\na,1\n", ["x"], ["a"], kind=kind, **{setting: "fim"})


def test_a_row_that_comes_again_unchanged_is_read_once(read):
    assert read("item_id,x\na,1\na,1\nb,3\n", ["x"], ["a", "b"]).features.values.tolist() == [-1, 1]


def test_a_column_with_a_colon_in_its_name_comes_first(read):
    assert kinds(read('item_id,"x:tags"\na,p|q\n', ["x:tags"], ["a"])) == {"x:tags": "tags"}


def test_both_sides_by_configuration(tmp_path):
    (tmp_path / "items.csv").write_text("film,year\na,1990\nb,2000\n")
    (tmp_path / "users.csv").write_text("user_id,job\nu,poet\n")
    config = DataConfig.model_validate(
        {
            "items": "items.csv",
            "users": "users.csv",
            "columns": {"items_id": "film"},
            "features": {"item": ["year"], "user": ["job"]},
        }
    )
    found = read_sides(config, tmp_path, ["u"], ["a", "b"])
    assert {kind: read.features.n for kind, read in found.items()} == {"user": 1, "item": 2}
    with pytest.raises(ConfigError, match=r"\[data\] users is not set"):
        read_sides(config.model_copy(update={"users": None}), tmp_path, ["u"], ["a"])


def test_ids_that_the_table_spells_otherwise_are_joined_and_told(read, tmp_path):
    found = read("user_id,age\n1,20\n2,40\n", ["age"], ["1.0", "2.0", "3.0"], name="users.csv", kind="user")
    np.testing.assert_allclose(found.features.dense()[:, 0], [-1, 1, 0])
    assert found.absent == 1
    line = found.lines(tmp_path / "users.csv", "user")[-1]
    assert "2 users are spelt otherwise than in the interactions (such as '1' for '1.0', '2' for '2.0')" in line
    both = read("user_id,age\n1,20\n1.0,40\n2,30\n", ["age"], ["1.0", "2.0"], name="users.csv", kind="user")
    assert both.absent == 1
    assert "not taken for the same" in both.lines(tmp_path / "users.csv", "user")[-1]
