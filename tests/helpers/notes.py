"""Answers to requests for notes, which name their entity and aspect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from generation import asked_ids

TEMPLATE = """
system = "Write about films."
user = "{{ text }}"
[aspects]
plot = "What happens."
mood = "What it feels like."
making = "Who made it."
"""


def asked_notes(body: Mapping[str, Any]) -> list[str]:
    """Return the names of the notes that a request asks for."""
    schema = body["response_format"]["json_schema"]["schema"]
    if asked_ids(body):
        schema = schema["properties"]["items"]["items"]
    return [name for name in schema["properties"] if name not in ("id", "confidence")]


def film_of(body: Mapping[str, Any]) -> str:
    """Return the number of the film that a request about one entity shows."""
    found = re.search(r"film (\S+)", body["messages"][1]["content"])
    assert found is not None
    return found[1]


def note(name: str, subject: str) -> str:
    return f"The {name} of number {subject}, told in a few plain words."


def notes_of(subject: str, names: list[str], confidence: str = "high") -> dict[str, str]:
    return {**{name: note(name, subject) for name in names}, "confidence": confidence}


def answer_notes(body: Mapping[str, Any]) -> str:
    """Return valid notes of the entity or entities."""
    names = asked_notes(body)
    if ids := asked_ids(body):
        return json.dumps({"items": [{"id": id_, **notes_of(id_, names)} for id_ in ids]})
    return json.dumps(notes_of(film_of(body), names))
