from __future__ import annotations

import contextlib
import json
import re
import time
from typing import Any

import pytest
from generation import profile_of
from hypothesis import given, strategies as st

from enhancer.harness import AnswerValidator, InvalidAnswerError, parse_object
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
        f"For {{user}}, and {{ nobody }} else: {TEXT}",
        f"As [asked]: {TEXT} Note: [done].",
        f"<thinking>\n{TEXT[:9]}</thinking>\n```JSON\r\n{TEXT}\r\n```",
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
        ('{"a": ' + "9" * 5000 + "}", "of 5,000 digits is out of range"),
        ('{"a": ' + "9" * 301 + "}", "of 301 digits is out of range"),
        ('{"a": [-' + "1" * 400 + "]}", "out of range"),
        ("{'profile': 'x'}", "not valid"),
        ('{"profile": "x",}', "not valid"),
        ("{" * 200_000, "nested deeper"),
        ("[" * 200_000, "no JSON object"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "longer than"),
        ('{"a":' + "[" * 65 + "]" * 65 + "}", "nested deeper"),
        ("x" * 1_000_000, "longer than"),
        (f'{TEXT} {{"profile": "and', "more than one"),
        (f"{{'draft': 1}} {TEXT}", "not valid"),
        (f"{TEXT} {{}}", "more than one"),
        (f"{{}} {TEXT}", "more than one"),
        (f"{{x: {TEXT}}}", "not valid"),
        ("{x} " * 150 + TEXT, "too many braces"),
        (TEXT + " {x}" * 150, "too many braces"),
        (f"```json\n{TEXT}\n```\n```json\n{TEXT}\n```", "more than one"),
        ('{"a": "\x0b"}', "not valid"),
        ('{"a": 01}', "not valid"),
        ('{"a": 1e400, "b": -1e400}', "out of range"),
    ],
)
def test_what_is_not_one_sound_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidAnswerError, match=message):
        parse_object(text)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.sampled_from(["{}", "Well: {}", "```json\n{}\n```", "{} ok"]))
def test_any_object_survives_the_way(value: dict[str, Any], frame: str) -> None:
    assert parse_object(frame.replace("{}", json.dumps(value))) == value


@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=4), st.data())
def test_an_answer_that_was_cut_off_anywhere_is_refused(value: dict[str, Any], data: st.DataObject) -> None:
    whole = json.dumps(value)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InvalidAnswerError):
        parse_object(whole[:cut])


@given(
    st.dictionaries(st.text(), JSON, max_size=3),
    st.dictionaries(st.text(), JSON, max_size=3),
    st.text(alphabet="ab ,.:;()\n", max_size=30),
)
def test_two_objects_are_never_taken_for_one(one: dict[str, Any], two: dict[str, Any], between: str) -> None:
    with pytest.raises(InvalidAnswerError, match="more than one"):
        parse_object(json.dumps(one) + between + json.dumps(two))


@given(st.lists(st.sampled_from(["a", "b", "list"]), max_size=5), st.text(max_size=5))
def test_a_key_that_stands_twice_is_refused_at_any_depth(way: list[str], key: str) -> None:
    inner = f"{{{json.dumps(key)}: 1, {json.dumps(key)}: 1}}"
    for step in way:
        inner = f"[{inner}]" if step == "list" else f'{{"x": 0, "{step}": {inner}}}'
    with pytest.raises(InvalidAnswerError, match="twice"):
        parse_object(f'{{"top": {inner}}}')


PIECES = [
    "{",
    "}",
    "[",
    "]",
    '"a"',
    '"b"',
    ":",
    ",",
    "1",
    "NaN",
    "1e999",
    "null",
    "x",
    " ",
    "\n",
    "```json\n",
    "```",
    '"\\"',
]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_what_is_read_stood_there_as_json(text: str) -> None:
    try:
        found = parse_object(text)
    except InvalidAnswerError:
        return
    json.dumps(found, allow_nan=False)
    ends = [n + 1 for n, character in enumerate(text) if character == "}"]
    starts = [n for n, character in enumerate(text) if character == "{"]
    assert any(_reads_as(text[start:end], found) for start in starts for end in ends if end > start)


def _reads_as(text: str, value: Any) -> bool:
    try:
        return bool(json.loads(text, strict=False) == value)
    except ValueError:
        return False


def test_braces_without_end_take_no_time() -> None:
    began = time.perf_counter()
    for text in ("{a " * 130_000, "{a} " * 99_000, TEXT + "{[" * 190_000, TEXT + "{a" + "b" * 390_000, '{"' * 190_000):
        with contextlib.suppress(InvalidAnswerError):
            parse_object(text)
    assert time.perf_counter() - began < 3


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
        validator.validate({**GOOD, **change}, PROMPT)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("profile", "asked"),
    [
        ("Title: Heat,  a film of 1995", "title: Heat, a film of 1995"),
        (
            "Here you are. title: Heat, a film of 1995, about a thief and the man who hunts him.",
            "title: Heat, a film of 1995, about a thief and the man who hunts him.",
        ),
    ],
    ids=["all of a short text", "a long text with a preface"],
)
def test_an_echo_is_none_the_less_for_being_short_or_introduced(
    validator: AnswerValidator, profile: str, asked: str
) -> None:
    with pytest.raises(InvalidAnswerError, match="word for word"):
        validator.validate({**GOOD, "profile": profile}, f"<data>\n{asked}\n</data>")


@pytest.mark.parametrize(
    "change",
    [
        {"profile": "two sentences, short, lower-case"},
        {"profile": "Two sentences: themes, mood, and who would love it."},
        {"tags": ["tag", "tag"]},
        {"tags": ["tag"]},
        {"tags": ["Tag1", "tag 2", "tag-3"]},
    ],
)
def test_the_example_of_the_prompt_is_no_profile(validator: AnswerValidator, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidAnswerError, match="repeats the example of the prompt"):
        validator.validate({**GOOD, **change}, PROMPT)
    validator.validate({**GOOD, **change}, PROMPT, earlier_rules=True)


@pytest.mark.parametrize(
    "change",
    [
        {
            "profile": "Two sentences could never hold this saga of a family of vintners; yet those who love wine will try."
        },
        {"tags": ["tag", "children-play"]},
        {"tags": ["short", "lower-case"]},
    ],
)
def test_words_of_the_example_are_no_echo_of_it(validator: AnswerValidator, change: dict[str, Any]) -> None:
    validator.validate({**GOOD, **change}, PROMPT)


def test_an_example_with_real_tags_leaves_them_free() -> None:
    own = AnswerValidator(
        PROFILE_SCHEMA, 'Answer like this: {"profile": "A tale.", "tags": ["dark", "slow", "sea"]} {oh'
    )
    own.validate({**GOOD, "tags": ["slow", "dark"]}, PROMPT)
    with pytest.raises(InvalidAnswerError, match="repeats the example"):
        own.validate({**GOOD, "tags": ["dark", "slow", "sea"]}, PROMPT)


def test_multiples_of_decimals_are_exact() -> None:
    schema = {
        "type": "object",
        "properties": {"profile": {"type": "string"}, "stars": {"type": "number", "multipleOf": 0.1}},
    }
    judge = AnswerValidator(schema, "")
    for n in range(101):
        judge.validate_text(f'{{"profile": "five stars, or so", "stars": {n // 10}.{n % 10}}}', "")
        judge.validate_text(f'{{"profile": "five stars, or so", "stars": {n / 10!r}}}', "")
    for wrong in ("0.05", "9.99", "1e-9", "0.30000000000000004"):
        with pytest.raises(InvalidAnswerError, match=r"not a multiple of 0\.1"):
            judge.validate_text(f'{{"profile": "five stars, or so", "stars": {wrong}}}', "")


def test_missing_keys_are_named(validator: AnswerValidator) -> None:
    with pytest.raises(InvalidAnswerError, match="'tags' is a required property"):
        validator.validate({"profile": GOOD["profile"]}, PROMPT)


def test_a_good_answer_is_stripped(validator: AnswerValidator) -> None:
    answer = validator.validate({"profile": f"  {GOOD['profile']}\n", "tags": [" a ", "b"]}, PROMPT)
    assert answer.profile == GOOD["profile"]
    assert answer.tags == ("a", "b")


def test_a_remote_reference_is_never_fetched() -> None:
    schema = {"type": "object", "properties": {"profile": {"$ref": "http://127.0.0.1:9/schema"}}}
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        AnswerValidator(schema, "").validate({"profile": "x"}, "")
