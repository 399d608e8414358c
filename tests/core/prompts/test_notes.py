"""Test requests for several notes, and that a note's fingerprint depends on its own request alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from enhancer.config.schema import LLMConfig
from enhancer.errors import ConfigError
from enhancer.harness import KeyMaker
from enhancer.prompts import Note, Template

CONTENT: dict[str, Any] = {
    "system": "Write about films.",
    "user": "{{ text }}",
    "aspects": {"plot": "What happens.", "mood": "What it feels like.", "making": "Who made it."},
}


def template(**changes: Any) -> Template:
    return Template("films", {**CONTENT, **changes})


def key(note: Note) -> str:
    return KeyMaker(note, LLMConfig(), endpoint="x", sample=note.sample).of("<data>a film</data>")


def test_a_request_names_its_notes_alone() -> None:
    request = template().request("plot", "making")
    for text in (request.system, request.group_system):
        assert "- plot: What happens." in text
        assert "- making: Who made it." in text
        assert "mood" not in text
    assert request.schema["required"] == ["plot", "making", "confidence"]
    element = request.group_schema["properties"]["items"]["items"]
    assert element["required"] == ["id", "plot", "making", "confidence"]
    assert "<entry>" in request.group_system
    assert "<entry>" not in request.system


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True).filter(
            lambda name: name not in ("mood", "text", "tags")
        ),
        st.text(min_size=1).filter(str.strip).filter(lambda text: "{{" not in text),
        max_size=4,
    )
)
def test_other_aspects_do_not_change_a_notes_key(others: dict[str, str]) -> None:
    others = {name: text for name, text in others.items() if name not in ("id", "kind", "model", "vector", "aspect")}
    changed = template(aspects={**others, "mood": "What it feels like."})
    assert key(Note(changed, "mood")) == key(Note(template(), "mood"))


@pytest.mark.parametrize(
    "changed",
    [
        Note(template(system="Write well about films."), "mood"),
        Note(template(user="Film: {{ text }}"), "mood"),
        Note(template(batch="There are several."), "mood"),
        Note(template(kind="user"), "mood"),
        Note(template(aspects={"mood": "How it feels."}), "mood"),
        Note(template(), "plot"),
        Note(template(), "mood", knowledge="open"),
        Note(template(), "mood", sample=2),
    ],
)
def test_what_determines_a_note_changes_its_key(changed: Note) -> None:
    assert key(changed) != key(Note(template(), "mood"))


def test_notes_are_stored_under_their_name_and_sample() -> None:
    assert [Note(template(), "mood", sample=n).aspect for n in (1, 2)] == ["mood", "mood#2"]
    profile = Template.load("item/v1")
    assert [Note(profile, sample=n).aspect for n in (1, 3)] == ["", "#3"]
    assert Note(profile, "mood", alone=True).field == "profile", "a template without aspects writes one text"


def test_a_closed_profile_has_the_fingerprint_of_its_template() -> None:
    """Profiles that were paid for before there were aspects stay current."""
    profile = Template.load("item/v1")
    note = Note(profile)
    assert (note.fingerprint, note.version, note.schema) == (profile.fingerprint, profile.version, profile.schema)
    opened = Note(profile, knowledge="open")
    assert opened.fingerprint != profile.fingerprint
    assert opened.text.system.startswith(profile.system)
    assert opened.schema["required"] == ["profile", "tags", "confidence"]


PAID_FOR = {
    ("item/films", "making", "closed"): "f61a0ff9d736",
    ("item/films", "making", "open"): "7fa93b68a940",
    ("item/v1", "profile", "open"): "37c4d6d93f72",
    ("user/v2", "recent", "closed"): "026fba98fa45",
}


@pytest.mark.parametrize(("name", "note", "knowledge"), PAID_FOR)
def test_keys_of_notes_are_those_that_were_paid_for(name: str, note: str, knowledge: Any) -> None:
    """A changed word in the texts that requests are put together from would make every note stale."""
    found = Note(Template.load(name), note, knowledge=knowledge)
    assert found.fingerprint[:12] == PAID_FOR[name, note, knowledge]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aspects": {}}, "[aspects] is empty"),
        ({"aspects": []}, "[aspects] must be a table"),
        ({"aspects": {"Mood": "x"}}, "'Mood' cannot be the name of an aspect"),
        ({"aspects": {"text": "x"}}, "an aspect cannot be called 'text'"),
        ({"aspects": {"mood": " "}}, "[aspects] mood must say what to write"),
        ({"aspects": {"mood": 3}}, "[aspects] mood must say what to write"),
        ({"aspects": {"mood": "of {{ title }}"}}, "[aspects] mood holds a placeholder"),
        ({"schema": {"type": "object"}}, "[schema] and [aspects] exclude each other"),
    ],
)
def test_what_is_wrong_with_aspects_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        template(**change)
    assert message in str(caught.value)
    assert "template 'films'" in str(caught.value)
