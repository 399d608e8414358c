"""Tests of the questions that show what a model knows of items."""

from __future__ import annotations

import json

import pytest

from enhancer.data import Entity
from enhancer.errors import StoreError
from enhancer.project.notes.memory import Memory, keep_memory, read_memory
from enhancer.project.notes.probes import probed_item, probes, recalled
from enhancer.project.notes.sample import drawn


def item(id_, title, popularity=5, **columns):
    fields = {"title": [title], **{name: [value] for name, value in columns.items()}}
    return probed_item(Entity(kind="item", id=id_, text=title, title=title, columns=fields), popularity, "tail")


def asked(*items, others=()):
    return {(one.item.id, one.probe): one for one in probes(items, [*items, *others])}


@pytest.mark.parametrize(
    ("title", "columns", "shown", "year"),
    [
        ("Usual Suspects, The (1995)", {}, "Usual Suspects,", 1995),
        ("Blade Runner 2049", {}, "Blade Runner", None),
        ("Blade Runner 2049", {"release_date": "2017-10-06"}, "Blade Runner", 2017),
        ("Heat", {"year": "1995"}, None, 1995),
        ("GoldenEye", {"pianos": "1995", "video year": ""}, "Golde", None),
        ("(1984)", {}, None, None),
    ],
)
def test_a_title_is_shown_in_part_and_its_year_is_found(title, columns, shown, year):
    found = asked(item("7", title, **columns))
    assert item("7", title, **columns).year == year
    assert (("7", "title") in found) == (shown is not None)
    if shown is not None:
        assert found["7", "title"].question.text == f"<data>{shown}</data>"
    if year is not None:
        assert str(year) not in found["7", "year"].question.text


@pytest.mark.parametrize(
    ("answer", "right"),
    [("The Usual Suspects", True), ("usual suspects, the (1995)", True), ("The", True), ("Usual Business", False)],
)
def test_titles_are_compared_without_order_case_and_year(answer, right):
    one = asked(item("7", "Usual Suspects, The (1995)"))["7", "title"]
    assert recalled(one, {"title": answer}).correct is right


def test_pairs_differ_clearly_in_popularity_and_do_not_depend_on_the_sample():
    catalogue = [item(str(i), f"Film number {i} of many", popularity=1 + i * i) for i in range(40)]
    whole = asked(*catalogue)
    alone = asked(catalogue[20], others=[*catalogue[:20], *catalogue[21:]])
    by_title = {f"Film number {i} of many": 1 + i * i for i in range(40)}
    letters = set()
    for (id_, probe), one in whole.items():
        if probe != "rank":
            continue
        titles = [line.split("<data>")[1].split("</data>")[0] for line in one.question.text.splitlines()]
        a, b = (by_title[title] for title in titles)
        assert one.right == ("A" if a > b else "B")
        assert max(a, b) >= 1.5 * min(a, b)
        assert by_title[f"Film number {id_} of many"] in (a, b)
        letters.add(one.right)
    assert letters == {"A", "B"}
    assert ("20", "rank") not in alone or alone["20", "rank"].question.key == whole["20", "rank"].question.key
    assert item("7", "7") is None


def test_a_larger_sample_holds_a_smaller_one_whatever_the_order_of_the_table():
    table = [Entity(kind="item", id=str(i), text="x") for i in range(50)]
    small = [entity.id for entity in drawn(table, 10, 3)]
    large = [entity.id for entity in drawn(table[::-1], 25, 3)]
    assert set(small) < set(large)
    assert small == sorted(small, key=int)
    assert {entity.id for entity in drawn(table, 10, 4)} != set(small)


def test_what_is_known_needs_every_answer_and_is_kept_by_model(tmp_path):
    one = asked(item("7", "Usual Suspects, The (1995)"))
    right = {"title": {"title": "The Usual Suspects"}, "year": {"year": 1995}, "rank": {"more_popular": "A"}}

    def answers(**changed):
        given = right | changed
        return {each.question.key: given[each.probe] for each in one.values()}

    keep_memory(tmp_path, list(one.values()), answers(), "m1")
    assert read_memory(tmp_path).known("7") is True
    keep_memory(tmp_path, list(one.values()), answers(year={"year": 1994}), "m1")
    assert read_memory(tmp_path).known("7") is False
    assert read_memory(tmp_path).known("8") is None
    keep_memory(tmp_path, [], {}, "m2")
    assert read_memory(tmp_path) == Memory("m2", {})
    with pytest.raises(StoreError, match="the answers are in the journal"):
        keep_memory(tmp_path / "nowhere", [], {}, "m2")
    (tmp_path / "memory.json").write_text(json.dumps({"format": 99}))
    assert read_memory(tmp_path) is None
