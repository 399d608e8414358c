"""Validate answers against their schema and prompt, even if the provider promises to follow the schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.contracts.record import CONFIDENCES
from enhancer.harness.answers.exact_schema import schema_validator
from enhancer.harness.answers.parse import InvalidAnswerError, parse_object
from enhancer.harness.answers.plain_schema import compile_plain_schema
from enhancer.harness.answers.prompt_example import PromptExample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jsonschema.exceptions import ValidationError

    from enhancer.contracts.record import Confidence
    from enhancer.prompts import Note

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TAG = re.compile(r"</?data>")
_ECHO_LENGTH = 60
"""Minimum length of a profile that counts as a repetition of the prompt."""
_MAX_REASON_LENGTH = 600
_CONFIDENCE = "confidence"


@dataclass(frozen=True, slots=True)
class Answer:
    """A valid profile or note."""

    profile: str
    tags: tuple[str, ...]
    confidence: Confidence = ""
    """Confidence that the model states; empty if it did not say so in one of the known words."""


class AnswerValidator:
    """Validator of the answers about one kind of entity.

    Args:
        schema: JSON schema of an answer about one entity, or of the part of it that is the note.
        system: System text, which a profile must not repeat.
        field: Key of the note, if answers hold several; the other keys of an answer are then ignored. None if an
            answer is a profile as a whole.
    """

    def __init__(self, schema: Mapping[str, Any], system: str, field: str | None = None) -> None:
        self._field = field
        self._keeps_confidence = _CONFIDENCE in schema.get("properties", {})
        self._validator = schema_validator(schema)
        self._is_surely_valid = compile_plain_schema(schema) or _never
        self._system = _plain(system)
        self._example = PromptExample(system)

    @classmethod
    def of(cls, note: Note) -> AnswerValidator:
        """Return the validator of a note."""
        part = note.answer_schema
        if part is None:
            return cls(note.template.schema, note.text.system)
        return cls(part, note.text.system, note.field)

    def validate_text(self, text: str, prompt: str, *, cut_off: bool = False, earlier_rules: bool = False) -> Answer:
        """Parse and validate the answer about one entity; see :func:`~enhancer.harness.answers.parse.parse_object`.

        Raises:
            InvalidAnswerError: The answer is not valid. The message is for the model.
        """
        value = parse_object(text, cut_off=cut_off, earlier_rules=earlier_rules)
        return self.validate(value, prompt, earlier_rules=earlier_rules)

    def validate(self, value: Mapping[str, Any], prompt: str, *, earlier_rules: bool = False) -> Answer:
        """Validate a parsed answer.

        Args:
            value: The JSON object.
            prompt: Rendered user text that it answers.
            earlier_rules: Whether to judge as releases up to 0.5 did, which accepted the example of the prompt.

        Raises:
            InvalidAnswerError: The answer is not valid. The message is for the model.
        """
        confidence = _confidence(value.get(_CONFIDENCE))
        name = self._field or "profile"
        if self._field is not None:
            value = {name: value[name]} if name in value else {}
        elif _CONFIDENCE in value and not self._keeps_confidence:
            value = {key: part for key, part in value.items() if key != _CONFIDENCE}
        if not self._is_surely_valid(value):
            errors = sorted(self._validator.iter_errors(value), key=lambda error: (len(error.path), str(error.path)))
            if errors:
                raise InvalidAnswerError(_explain(errors))
        profile = value[name].strip()
        if not any(character.isalnum() for character in profile):
            raise InvalidAnswerError(f"{name!r} is empty")
        tags = value.get("tags", ())
        if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
            tags = ()
        for key, text in ((name, profile), *(("tags", tag) for tag in tags)):
            if _UNSAFE.search(text):
                raise InvalidAnswerError(f"{key!r} holds a control character or half a Unicode character")
        self._refuse_echo(name, profile, prompt)
        if not earlier_rules:
            self._refuse_example(name, profile, tags)
        return Answer(profile, tuple(tag.strip() for tag in tags if tag.strip()), confidence)

    def _refuse_echo(self, name: str, profile: str, prompt: str) -> None:
        kind = "profile" if self._field is None else "note"
        plain = _plain(profile)
        if "<data" in plain or "</data" in plain or "<entry" in plain:
            raise InvalidAnswerError(f"{name!r} repeats the prompt; write a {kind} in your own words")
        if len(plain) >= _ECHO_LENGTH and plain in self._system:
            raise InvalidAnswerError(f"{name!r} repeats the prompt word for word; write it in your own words")
        if not _share_nothing(plain, prompt):
            asked = _plain(prompt)
            about = _plain(_TAG.sub(" ", prompt))
            repeats = plain == about or (len(about) >= _ECHO_LENGTH and about in plain)
            if repeats or (len(plain) >= _ECHO_LENGTH and (plain in asked or plain in about)):
                raise InvalidAnswerError(f"{name!r} repeats the prompt word for word; write it in your own words")
        opening = self._system[:_ECHO_LENGTH]
        if len(opening) >= _ECHO_LENGTH and opening in plain:
            raise InvalidAnswerError(f"{name!r} repeats the instructions; write a {kind}")

    def _refuse_example(self, name: str, profile: str, tags: Sequence[str]) -> None:
        if self._example.has_text(name, profile):
            raise InvalidAnswerError(f"{name!r} repeats the example of the prompt; write one about the data")
        if tags and self._example.has_tags(tags):
            raise InvalidAnswerError("'tags' repeats the example of the prompt; give tags of your own")


def _confidence(value: object) -> Confidence:
    """Return the confidence that a model gave. Other words than the known ones are no reason to pay again."""
    word = value.strip().lower() if isinstance(value, str) else ""
    return next((known for known in CONFIDENCES if known == word), "")


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _never(_: object) -> bool:
    return False


def _share_nothing(plain: str, prompt: str) -> bool:
    """Check by a few words whether neither text can contain the other. This settles most profiles."""
    folded = prompt.casefold()
    if all(word in folded for word in plain.split(" ", 8)[:8]):
        return False
    # The last word of the opening may be truncated.
    opening = _TAG.sub(" ", folded[:400]).split(None, 8)
    return not all(word in plain for word in opening[: 8 if len(opening) > 8 else -1])


def _explain(errors: Sequence[ValidationError]) -> str:
    """Describe the first few errors with their places; quoted values are shortened."""
    described = []
    for error in errors[:3]:
        path = ".".join(str(part) for part in error.path) or "the object"
        described.append(f"{path}: {_short(error)}")
    return "; ".join(described)[:_MAX_REASON_LENGTH]


def _short(error: ValidationError) -> str:
    # The messages of jsonschema quote the whole value, which may be long.
    rule, limit = error.validator, error.validator_value
    known = {
        "minLength": f"is shorter than {limit} characters",
        "maxLength": f"is longer than {limit} characters",
        "minItems": f"has fewer than {limit} elements",
        "maxItems": f"has more than {limit} elements",
        "type": f"is not of type {limit}",
    }
    return known.get(str(rule)) or error.message[:200]
