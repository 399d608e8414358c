"""Put together the texts and schemas of requests for the notes of a template."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from enhancer.config.inputs import ASPECT_NAME, RESERVED
from enhancer.contracts.llm import Message
from enhancer.contracts.record import CONFIDENCES
from enhancer.errors import ConfigError
from enhancer.prompts.quoting import neutralize
from enhancer.prompts.schema import group_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Knowledge = Literal["closed", "open"]
"""Source that a model may write from: the given text alone, or also what it knows."""
CONFIDENCE = "confidence"
"""Key of an answer under which the model says how sure it is."""
NOTE_SCHEMA: Mapping[str, Any] = {"type": "string", "minLength": 10, "maxLength": 4000}
"""JSON schema of the text of a note."""
_CONFIDENCE_SCHEMA: Mapping[str, Any] = {"type": "string", "enum": list(CONFIDENCES)}

# These texts are part of the cache keys: a change of any of them makes all notes stale.
_ONE = "Write this note:"
_SEVERAL = "Write these notes. Each must make sense without the others, and none repeats another:"
_FORM = "Answer with one JSON object and nothing else: "
_GROUP = """
This time there are several entries, each in an <entry> with its id. Write about each as if it were the only one: \
nothing in one entry says anything about another.
"""
_GROUP_FORM = (
    "Answer with one JSON object and nothing else, with one element for each entry, under the entry's own id: "
)
_CLOSED = """
Write only what <data> says and what follows from it. Leave out what it does not say, even if you know it, and do not \
guess. "confidence" tells how much <data> gave you to go by: "low", "medium" or "high".
"""
_OPEN = """
Use what <data> says, and also what you know about this very thing from elsewhere. Write only what you are sure of: a \
note that says less is better than an invented name, year or detail. "confidence" tells how well you know it: "high" \
if well, "medium" if in part, "low" if you had nothing but <data> to go by.
"""
_PROFILE_OPEN = """
Beside what <data> says, use what you know about this very thing from elsewhere. Write only what you are sure of: a \
profile that says less is better than an invented name, year or detail. Add the key "confidence" beside "profile": \
"high" if you know it well, "medium" if in part, "low" if you had nothing but <data> to go by.
"""


@dataclass(frozen=True, slots=True)
class RequestText:
    """Texts and schemas of the requests for some notes of a template.

    Attributes:
        system: System text of a request about one entity.
        group_system: System text of a request about a group of entities.
        schema: JSON schema of an answer about one entity.
        group_schema: JSON schema of an answer about a group.
        version: Name of the template and start of a hash, under which the ledger lists the calls.
    """

    system: str
    group_system: str
    schema: Mapping[str, Any]
    group_schema: Mapping[str, Any]
    version: str

    def messages(self, rendered: str) -> tuple[Message, ...]:
        """Return the messages of a request about one entity."""
        return (Message("system", self.system), Message("user", rendered))

    def group_messages(self, entries: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
        """Return the messages of a request about a group of entities.

        Args:
            entries: Pairs of id and rendered user text.
        """
        blocks = [f"<entry id={_quoted_id(id_)}>\n{rendered}\n</entry>" for id_, rendered in entries]
        return (Message("system", self.group_system), Message("user", "\n\n".join(blocks)))


class TemplateText(Protocol):
    """The parts of a template that requests consist of; see :class:`~enhancer.prompts.Template`."""

    name: str
    version: str
    fingerprint: str
    system: str
    group_instructions: str
    aspects: Mapping[str, str]
    schema: Mapping[str, Any]


def request_text(template: TemplateText, notes: Sequence[str], knowledge: Knowledge) -> RequestText:
    """Put together the request for some notes; for a template without aspects, the request for the profile."""
    version = template.version if knowledge == "closed" else _version(template.name, template.fingerprint, knowledge)
    if not template.aspects:
        system, schema = template.system, template.schema
        if knowledge == "open":
            system, schema = f"{system}\n\n{_PROFILE_OPEN.strip()}", _with_confidence(schema)
        return RequestText(system, f"{system}\n\n{template.group_instructions}", schema, group_schema(schema), version)
    asked = "\n".join(f"- {name}: {template.aspects[name]}" for name in notes)
    head = f"{template.system}\n\n{_ONE if len(notes) == 1 else _SEVERAL}\n{asked}\n\n"
    head += (_CLOSED if knowledge == "closed" else _OPEN).strip()
    form = {**dict.fromkeys(notes, "text"), CONFIDENCE: "low, medium or high"}
    grouped = {"items": [{"id": "the entry's id", **form}]}
    schema = {
        "type": "object",
        "properties": {**dict.fromkeys(notes, NOTE_SCHEMA), CONFIDENCE: _CONFIDENCE_SCHEMA},
        "required": [*notes, CONFIDENCE],
        "additionalProperties": False,
    }
    return RequestText(
        f"{head}\n\n{_FORM}{json.dumps(form)}",
        f"{head}\n\n{template.group_instructions}\n\n{_GROUP_FORM}{json.dumps(grouped)}",
        schema,
        group_schema(schema),
        version,
    )


def check_note_name(name: object, where: str) -> None:
    """Check the name of a note.

    Raises:
        ConfigError: It has other characters than allowed, is too long, or is reserved.
    """
    if not isinstance(name, str) or not ASPECT_NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} cannot be the name of an aspect",
            hint="a name begins with a small letter, followed by up to 39 small letters, digits, _ or -",
        )
    if name in RESERVED:
        raise ConfigError(f"{where}: an aspect cannot be called {name!r}", hint="the name is taken; choose another")


def default_group_instructions() -> str:
    """Return what templates with aspects say about groups, unless they have a text of their own."""
    return _GROUP


def _with_confidence(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties", {})
    if CONFIDENCE in properties:
        return schema
    return {
        **schema,
        "properties": {**properties, CONFIDENCE: _CONFIDENCE_SCHEMA},
        "required": [*schema.get("required", ()), CONFIDENCE],
    }


def _version(name: str, fingerprint: str, knowledge: Knowledge) -> str:
    return f"{name}@{hashlib.sha256(f'{fingerprint} {knowledge}'.encode()).hexdigest()[:8]}"


def _quoted_id(id_: str) -> str:
    """Return an id as a JSON string that cannot form or close a marker."""
    return json.dumps(neutralize(id_), ensure_ascii=False)
