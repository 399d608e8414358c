"""Test the matching of group replies to entities."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from enhancer.harness import InvalidAnswerError, match_group_reply

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def reply(*elements: Any) -> str:
    return json.dumps({"items": list(elements)})


def test_order_does_not_matter_and_strangers_are_ignored() -> None:
    found = match_group_reply(
        reply({"id": "b", "profile": 2}, {"id": "z", "profile": 9}, {"id": "a", "profile": 1}), ["a", "b", "c"]
    )
    assert found.found == {"a": {"profile": 1}, "b": {"profile": 2}}
    assert found.missing == ["c"]


def test_doubles_count_once_if_equal_and_are_doubted_if_not() -> None:
    same = match_group_reply(reply({"id": "a", "p": 1}, {"id": "a", "p": 1}), ["a"])
    assert same.found == {"a": {"p": 1}}
    differ = match_group_reply(reply({"id": "a", "p": 1}, {"id": "b", "p": 1}, {"id": "a", "p": 2}), ["a", "b"])
    assert list(differ.contradictory) == ["a"]
    assert list(differ.found) == ["b"]
    assert differ.missing == []


@pytest.mark.parametrize(
    ("given_id", "ids", "expected"),
    [
        (7, ["7", "8"], "7"),
        (7, ["007", "8"], "007"),
        (7, ["7", "07"], "7"),
        (7, ["07", "007"], None),
        (7.0, ["7"], "7"),
        (7.5, ["7"], None),
        (True, ["1", "True"], None),
        (None, ["None"], None),
        (" a", ["a"], "a"),
        ("A", ["a"], None),
    ],
)
def test_an_id_that_changed_its_form_is_accepted_where_it_is_unambiguous(
    given_id: Any, ids: list[str], expected: str | None
) -> None:
    assert list(match_group_reply(reply({"id": given_id, "p": 1}), ids).found) == ([expected] if expected else [])


@pytest.mark.parametrize("text", ['{"items": {}}', '{"profiles": []}', "{}", "no"])
def test_a_reply_that_is_no_list_of_items_fails_whole(text: str) -> None:
    with pytest.raises(InvalidAnswerError):
        match_group_reply(text, ["a"])


@given(
    st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=8, unique=True),
    st.lists(st.tuples(st.integers(0, 9) | st.text(max_size=4) | st.none(), JSON), max_size=12),
    st.randoms(use_true_random=False),
)
def test_every_id_is_in_exactly_one_place(ids: list[str], noise: list[tuple[Any, Any]], random: Any) -> None:
    elements = [{"id": id_, "p": id_} for id_ in ids if random.random() < 0.7] + [{"id": i, "p": v} for i, v in noise]
    random.shuffle(elements)
    found = match_group_reply(reply(*elements), ids)
    assert sorted([*found.found, *found.contradictory, *found.missing]) == sorted(ids)


# -- against what was done to the reply ---------------------------------------------------------------------------

IDS = st.lists(
    st.integers(0, 30).map(str)
    | st.sampled_from(["07", "007", "a", "b b", "é", "1.5", "-3", "1_0", "٣", "True", "null"]),
    min_size=1,
    max_size=8,
    unique=True,
)
DEEDS = st.sampled_from(
    ["keep", "keep", "keep", "drop", "double", "contradict", "number", "float", "space", "unname", "wrong"]
)


@given(IDS, st.lists(DEEDS, min_size=8, max_size=8), st.integers(0, 3), st.randoms(use_true_random=False))
def test_whatever_happens_to_a_reply_nobody_gets_anothers_profile(
    ids: list[str], deeds: list[str], strangers: int, random: Any
) -> None:
    elements: list[Any] = [{"id": f"stranger {n}", "profile": f"of stranger {n}"} for n in range(strangers)]
    found, contradictory, missing = [], [], []
    for id_, deed in zip(ids, deeds, strict=False):
        mine = {"id": id_, "profile": f"of {id_!r}", "tags": [id_]}
        plain = id_.isascii() and id_.isdigit()
        alone = plain and sum(i.isascii() and i.isdigit() and int(i) == int(id_) for i in ids) == 1
        number: Any = int(id_) if plain else None
        if deed == "keep":
            elements.append(mine)
            found.append(id_)
        elif deed == "double":
            elements += [mine, dict(mine)]
            found.append(id_)
        elif deed == "contradict":
            elements += [mine, {**mine, "profile": f"of {id_!r}, otherwise"}]
            contradictory.append(id_)
        elif deed in ("number", "float") and alone:
            elements.append({**mine, "id": float(number) if deed == "float" else number})
            found.append(id_)
        elif deed == "space" and not plain:
            elements.append({**mine, "id": f" {id_}\n"})
            found.append(id_)
        else:
            elements += {"unname": [{"profile": "of whom?"}], "wrong": [{**mine, "id": [id_]}, 3]}.get(deed, [])
            missing.append(id_)
    random.shuffle(elements)
    got = match_group_reply(json.dumps({"items": elements}), ids)
    assert set(got.found) == set(found)
    assert set(got.contradictory) == set(contradictory)
    assert got.missing == [id_ for id_ in ids if id_ in missing], "in the order in which they were asked about"
    assert all(content == {"profile": f"of {id_!r}", "tags": [id_]} for id_, content in got.found.items())
    assert all(got.contradictory.values())


@pytest.mark.parametrize(
    "given_id", ["07", 7, "7 ", 7.0, 7.5, -7, True, None, [7], {"id": 7}, "seven", "1_0", "\u0667", 1e300]
)
def test_an_id_is_never_guessed(given_id: Any) -> None:
    """Two ids may mean the same number: then only an exact match counts."""
    got = match_group_reply(json.dumps({"items": [{"id": given_id, "profile": "x"}]}), ["7", "07", "007", "10"])
    expected = {"07": ["07"], "7 ": ["7"]}.get(given_id if isinstance(given_id, str) else "", [])
    if given_id in (7, 7.0) and not isinstance(given_id, bool):
        expected = ["7"]  # the text of a JSON number
    assert list(got.found) == expected
