from __future__ import annotations

import json
import re
from typing import Any

import pytest
from generation import profile_of
from hypothesis import given
from hypothesis import strategies as st

from enhancer.harness import AnswerValidator, InvalidAnswerError, match, parse_object
from enhancer.prompts import PROFILE_SCHEMA, Template

GOOD = profile_of("toys")
TEXT = json.dumps(GOOD)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "\ufeff  " + TEXT + "\n",
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```",
        f"Here you are:\n```json\n{TEXT}\n```\nI hope that helps {{you}}!",
        f"Sure! {TEXT} Anything else?",
        f"<think>Maybe {{'a': 1}}… no.</think>\n{TEXT}",
        f"{TEXT} (a set is written {{a, b}})",
    ],
)
def test_fences_and_prose_are_tolerated(text: str) -> None:
    assert parse_object(text) == GOOD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("   \n", "is empty"),
        ("I cannot do that.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        (f"[{TEXT}]", "JSON list"),
        ('"profile"', "no JSON object"),
        (TEXT[:-5], "not complete"),
        (TEXT + TEXT, "more than one"),
        (f"{TEXT}\nor\n{TEXT}", "more than one"),
        ('{"profile": NaN}', "NaN is not JSON"),
        ('{"a": Infinity}', "Infinity is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e999}', "out of range"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"x": {"a": 1, "a": 1}}', "'a' stands twice"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read"),
        ("{'profile': 'x'}", "not valid"),
        ('{"profile": "x",}', "not valid"),
        ("{" * 200_000, "nested deeper"),
        ("[" * 200_000, "no JSON object"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "longer than"),
        ('{"a":' + "[" * 65 + "]" * 65 + "}", "nested deeper"),
        ("x" * 1_000_000, "longer than"),
    ],
)
def test_what_is_not_one_sound_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidAnswerError, match=message):
        parse_object(text)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.sampled_from(["{}", "Well: {}", "```json\n{}\n```", "{} ok"]))
def test_any_object_survives_the_way(value: dict[str, Any], frame: str) -> None:
    assert parse_object(frame.replace("{}", json.dumps(value))) == value


@given(st.text(max_size=300) | st.text(alphabet='{}[]"\\,: a1eN-`\n', max_size=300))
def test_nothing_but_the_typed_error_comes_out(text: str) -> None:
    try:
        assert isinstance(parse_object(text), dict)
    except InvalidAnswerError as error:
        assert str(error)  # noqa: PT017 - either outcome is right


# -- judging ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator() -> AnswerValidator:
    return AnswerValidator(PROFILE_SCHEMA, Template.load("item/v1").system)


PROMPT = (
    "<data>\ntitle: Toy Story. A cowboy doll is profoundly threatened by a spaceman figure in a boy's room.\n</data>"
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": ""}, "profile: is shorter"),
        ({"profile": " " * 40}, "'profile' is empty"),
        ({"profile": "." * 40}, "'profile' is empty"),
        ({"profile": 7}, "profile: is not of type string"),
        ({"profile": None}, "profile: is not of type string"),
        ({"profile": "x" * 2001}, "profile: is longer"),
        ({"profile": "good words, many of them \ud800"}, "half a Unicode"),
        ({"profile": "good words, many of them \x00"}, "control character"),
        ({"tags": []}, "tags: has fewer"),
        ({"tags": ["a"] * 9}, "tags: has more"),
        ({"tags": "a, b"}, "tags: is not of type array"),
        ({"tags": ["a", 3]}, "tags.1: is not of type string"),
        ({"extra": 1}, "extra"),
        (
            {"profile": "Title: Toy Story. A cowboy  doll is profoundly threatened by a spaceman figure"},
            "word for word",
        ),
        ({"profile": "You write concise taste profiles for a recommender. Given the item in it, you"}, "repeats the"),
        ({"profile": "<data> a toy cowboy is here </data>"}, "repeats the prompt"),
    ],
)
def test_what_is_no_profile_is_refused(validator: AnswerValidator, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidAnswerError, match=re.escape(message)) as caught:
        validator.judge({**GOOD, **change}, PROMPT)
    assert len(str(caught.value)) < 700


def test_missing_keys_are_named(validator: AnswerValidator) -> None:
    with pytest.raises(InvalidAnswerError, match="'tags' is a required property"):
        validator.judge({"profile": GOOD["profile"]}, PROMPT)


def test_a_good_answer_is_stripped(validator: AnswerValidator) -> None:
    answer = validator.judge({"profile": f"  {GOOD['profile']}\n", "tags": [" a ", "b"]}, PROMPT)
    assert answer.profile == GOOD["profile"]
    assert answer.tags == ("a", "b")


def test_a_remote_reference_is_never_fetched() -> None:
    schema = {"type": "object", "properties": {"profile": {"$ref": "http://127.0.0.1:9/schema"}}}
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        AnswerValidator(schema, "").judge({"profile": "x"}, "")


# -- batched replies ----------------------------------------------------------------------------------------------


def reply(*elements: Any) -> str:
    return json.dumps({"items": list(elements)})


def test_order_does_not_matter_and_strangers_are_ignored() -> None:
    found = match(
        reply({"id": "b", "profile": 2}, {"id": "z", "profile": 9}, {"id": "a", "profile": 1}), ["a", "b", "c"]
    )
    assert found.found == {"a": {"profile": 1}, "b": {"profile": 2}}
    assert found.missing == ["c"]


def test_doubles_count_once_if_equal_and_are_doubted_if_not() -> None:
    same = match(reply({"id": "a", "p": 1}, {"id": "a", "p": 1}), ["a"])
    assert same.found == {"a": {"p": 1}}
    differ = match(reply({"id": "a", "p": 1}, {"id": "b", "p": 1}, {"id": "a", "p": 2}), ["a", "b"])
    assert list(differ.doubtful) == ["a"]
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
    assert list(match(reply({"id": given_id, "p": 1}), ids).found) == ([expected] if expected else [])


@pytest.mark.parametrize("text", ['{"items": {}}', '{"profiles": []}', "{}", "no"])
def test_a_reply_that_is_no_list_of_items_fails_whole(text: str) -> None:
    with pytest.raises(InvalidAnswerError):
        match(text, ["a"])


@given(
    st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=8, unique=True),
    st.lists(st.tuples(st.integers(0, 9) | st.text(max_size=4) | st.none(), JSON), max_size=12),
    st.randoms(use_true_random=False),
)
def test_every_id_is_in_exactly_one_place(ids: list[str], noise: list[tuple[Any, Any]], random: Any) -> None:
    elements = [{"id": id_, "p": id_} for id_ in ids if random.random() < 0.7] + [{"id": i, "p": v} for i, v in noise]
    random.shuffle(elements)
    found = match(reply(*elements), ids)
    assert sorted([*found.found, *found.doubtful, *found.missing]) == sorted(ids)
    for id_ in ids:
        if id_ not in [i for i, _ in noise] and {"id": id_, "p": id_} in elements and id_ in found.found:
            assert found.found[id_]["p"] == id_ or not id_.isalpha()
