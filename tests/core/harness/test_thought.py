"""Test that thoughts are taken out of answers, and that what is in one is never an answer."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from generation import profile_of
from hypothesis import given, strategies as st

from enhancer.harness import InvalidAnswerError, parse_object
from enhancer.harness.answers.parse import UnfinishedThoughtError

GOOD = profile_of("toys")
TEXT = json.dumps(GOOD)
DRAFT = '{"profile": "a mere draft"}'
DRESSES = [
    ("<think>", "</think>"),
    ("<THINK>", "</Think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts lang='en'>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<Reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<analysis>", "</analysis>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<antThinking>", "</antThinking>"),
    ("[THINK]", "[/THINK]"),
    ("[think]", "[/think]"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("Here is my thought process:", "Here is my response:"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis<|message|>", "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>"),
    ("analysisWe think. ", "assistantfinal"),
]


@pytest.mark.parametrize("dress", DRESSES, ids=lambda dress: dress[0].strip())
def test_a_thought_is_no_part_of_the_answer(dress: tuple[str, str]) -> None:
    opening, closing = dress
    assert parse_object(f"{opening}Maybe {DRAFT} but\nno.{closing}\n{TEXT}") == GOOD
    assert parse_object(f"{opening}Maybe {DRAFT}{closing}```json\n{TEXT}\n```") == GOOD


@pytest.mark.parametrize("dress", DRESSES, ids=lambda dress: dress[0].strip())
@pytest.mark.parametrize("cut_off", [True, False])
def test_a_thought_without_end_holds_no_answer(dress: tuple[str, str], cut_off: bool) -> None:
    for thought in (f"Maybe {DRAFT} but", DRAFT, TEXT, ""):
        with pytest.raises(UnfinishedThoughtError):
            parse_object(dress[0] + thought, cut_off=cut_off)


@pytest.mark.parametrize(
    "text",
    [
        f"so far so good: {DRAFT}</think>{TEXT}",
        f"{DRAFT}</THINKING>\n\n{TEXT}",
        f"<think>one {DRAFT}</think><think>two {DRAFT}</think>{TEXT}",
        f"<think>one</think>{TEXT}<think>was that right? {DRAFT}</think>",
        f"<think>a <think> in it {DRAFT}</think> and {DRAFT}</think>{TEXT}",
        f"<think>a [/THINK] and a </reasoning> in it {DRAFT}</think>{TEXT}",
        f"<think></think>\n\n<answer>{TEXT}</answer>",
        f"<think/>{TEXT}",
        f"<|channel|>commentary<|message|>{DRAFT}<|end|><|channel|>final<|message|>{TEXT}<|return|>",
        f"<|channel|>final<|message|>{TEXT}",
        f"<|channel|>final<|message|><think>{DRAFT}</think>{TEXT}",
        f"◁think▷{DRAFT}◁/think▷{TEXT}",
    ],
)
def test_several_thoughts_and_tags_alone(text: str) -> None:
    assert parse_object(text) == GOOD


@pytest.mark.parametrize(
    "text",
    [f"{DRAFT}</think>", f"<think>{DRAFT}</think>", f"<think>{DRAFT}</think> \n", "</think>"],
)
def test_a_thought_alone_is_no_answer(text: str) -> None:
    with pytest.raises(InvalidAnswerError, match="no answer follows the thought"):
        parse_object(text)


def test_tags_in_the_strings_of_an_answer_are_text() -> None:
    told = {"profile": "about a <think> tag, </think> and [THINK]"}
    assert parse_object(json.dumps(told)) == told


@pytest.mark.parametrize("tail", [" but", "\n\nOr rather", " {", "\n```\nHm"])
def test_a_cut_off_answer_counts_only_if_nothing_follows_its_object(tail: str) -> None:
    assert parse_object(TEXT, cut_off=True) == GOOD
    assert parse_object(f"Here you are: {TEXT} \n", cut_off=True) == GOOD
    with pytest.raises(InvalidAnswerError):
        parse_object(TEXT + tail, cut_off=True)
    with pytest.raises(InvalidAnswerError, match="cut off, and text follows"):
        parse_object(f"Let me see. {TEXT} is a first idea", cut_off=True)


NAMES = st.sampled_from([opening for opening, _ in DRESSES if not opening.startswith(("Here", "analysis"))])
JSON_TEXT = st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=3).map(json.dumps)
PROSE = st.text(alphabet="ab .,\n`", max_size=20)


@given(PROSE, NAMES, st.lists(PROSE | JSON_TEXT, max_size=6), st.booleans())
def test_an_object_in_a_thought_without_end_is_never_returned(
    before: str, opening: str, thought: list[str], cut_off: bool
) -> None:
    with pytest.raises(InvalidAnswerError):
        parse_object(before + opening + "".join(thought), cut_off=cut_off)


MARKS = [part for dress in DRESSES for part in dress]
PIECES = [*MARKS, TEXT, DRAFT, "{", "}", '"', '{\\"a\\": 1}', "\n", " but ", "```", "final", "<|message|>", "<think"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.booleans())
def test_nothing_but_the_typed_error_comes_out(text: str, cut_off: bool) -> None:
    try:
        found = parse_object(text, cut_off=cut_off)
    except InvalidAnswerError as error:
        assert str(error)  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(found, dict)


@given(st.lists(st.sampled_from(["<think>", "</think>", DRAFT, TEXT, " hm "]), max_size=10))
def test_what_is_returned_stands_outside_of_all_thoughts(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        found = parse_object(text)
    except InvalidAnswerError:
        return
    outside = text.rpartition("</think>")[2] if "</think>" in text else text
    bare = re.sub(r"<think>.*?</think>", "", text)
    assert json.dumps(found) in outside or json.dumps(found) in bare
    assert not re.search(r"<think>(?!.*</think>)", text, re.DOTALL)


def test_marks_without_end_take_no_time() -> None:
    for text in ("<think " * 50_000, "<" + "a_" * 190_000, "◁think▷" * 50_000, "analysis" * 45_000, "[THINK]" * 50_000):
        with pytest.raises(InvalidAnswerError):
            parse_object(text)


# -- lenient reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (json.dumps(TEXT), GOOD),
        (f"<think>{DRAFT}</think>{json.dumps(TEXT)}", GOOD),
        (json.dumps(TEXT)[1:-1], GOOD),
        (json.dumps(json.dumps(GOOD, indent=2))[1:-1], GOOD),
        ('{"profile": "one line\nand another", "tags": ["a"]}', {"profile": "one line\nand another", "tags": ["a"]}),
        ('Here:\n```json\n{"profile": "one\r\n\ttwo"}\n```', {"profile": "one\r\n\ttwo"}),
        ('"{\\"profile\\": \\"one\\ntwo\\"}"', {"profile": "one\ntwo"}),
    ],
)
def test_line_breaks_in_strings_and_objects_in_strings_are_read(text: str, value: dict[str, Any]) -> None:
    assert parse_object(text) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"profile": "one,\n"tags": ["a"]}',
        '{"profile": "one,\n"tags": "two"}',
        '{"profile": "x", "one\n": "two"}',
        '{"profile": "a\x01b"}',
        '{"profile": "a\nb", "profile": "c"}',
        '{"profile": "a\nb"} {"profile": "c"}',
        json.dumps(json.dumps(TEXT)),
        json.dumps("no object"),
        json.dumps(TEXT + TEXT),
        json.dumps("[" * 200_000),
        json.dumps('{"a":' * 70 + "1" + "}" * 70),
        json.dumps(TEXT)[1:-1] + "\\",
        '"{\\"profile\\": \\"a\\u0001\\"}',
    ],
)
def test_what_stays_ambiguous_is_refused(text: str) -> None:
    with pytest.raises(InvalidAnswerError):
        parse_object(text)


def test_what_is_cut_off_in_a_string_is_refused() -> None:
    inner = json.dumps(TEXT)
    for end in range(1, len(inner) - 1):
        with pytest.raises(InvalidAnswerError):
            parse_object(inner[:end], cut_off=True)
