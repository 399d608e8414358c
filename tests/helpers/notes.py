"""Answers to requests for notes, which name their entity and aspect."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from generation import asked_ids
from loopback import Behaviour

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


def erratic(seed: int) -> Callable[[int, dict[str, Any]], Behaviour]:
    """Return answers that are valid, invalid in part, or no answers at all, at random."""

    def choose_answer(number: int, body: dict[str, Any]) -> Behaviour:
        chance = random.Random(f"{seed} {number}")
        names = asked_notes(body)
        if chance.random() < 0.1:
            return Behaviour(status=chance.choice([400, 500]))
        if chance.random() < 0.15:
            return Behaviour(answer=chance.choice(["no", "{}", '{"items": 3}', '{"plot": 1, "mood": null}']))
        found = []
        for id_ in asked_ids(body) or [film_of(body)]:
            element: dict[str, Any] = {"id": id_, **notes_of(id_, names, chance.choice(["low", "high", "odd"]))}
            for name in names:
                if chance.random() < 0.25:
                    element[name] = chance.choice(["short", 7, None, element[name] * 200])
            if chance.random() < 0.1:
                element.pop(chance.choice(names))
            if chance.random() < 0.9 or not asked_ids(body):
                found.append(element)
        if not asked_ids(body):
            return Behaviour(answer=json.dumps({k: v for k, v in found[0].items() if k != "id"}))
        return Behaviour(answer=json.dumps({"items": found}))

    return choose_answer
