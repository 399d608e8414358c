"""What may enter the store: every answer is validated here, even where the provider promises to keep the schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from referencing import Registry

from enhancer.harness.answers.fast_schema import shortcut
from enhancer.harness.answers.parse import InvalidAnswerError, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jsonschema.exceptions import ValidationError

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TAG = re.compile(r"</?data>")
_ECHO_LENGTH = 60
"""A profile that repeats this much of the prompt, word for word, is no profile."""
_REASON_LENGTH = 600


@dataclass(frozen=True, slots=True)
class Answer:
    """A valid profile."""

    profile: str
    tags: tuple[str, ...]


class AnswerValidator:
    """Judges answers about one kind of entity against one schema and the prompt that they answer."""

    def __init__(self, schema: Mapping[str, Any], system: str) -> None:
        # An empty registry: a reference to another document is an error, never a fetch.
        self._validator = Draft202012Validator(dict(schema), registry=Registry())
        self._fits = shortcut(schema) or _unknown
        self._system = _plain(system)

    def validate_text(self, text: str, prompt: str) -> Answer:
        """Read and judge the answer about one entity.

        Raises:
            InvalidAnswerError: With a message for the model.
        """
        return self.validate(parse_object(text), prompt)

    def validate(self, value: Mapping[str, Any], prompt: str) -> Answer:
        """Judge an answer that has been read.

        Args:
            value: The object.
            prompt: The rendered user text that it answers.

        Raises:
            InvalidAnswerError: With a message for the model.
        """
        if not self._fits(value):
            errors = sorted(self._validator.iter_errors(value), key=lambda error: (len(error.path), str(error.path)))
            if errors:
                raise InvalidAnswerError(_explain(errors))
        profile = value["profile"].strip()
        if not any(character.isalnum() for character in profile):
            raise InvalidAnswerError("'profile' is empty")
        tags = value.get("tags", ())
        if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
            tags = ()
        for what, text in (("profile", profile), *(("tags", tag) for tag in tags)):
            if _UNSAFE.search(text):
                raise InvalidAnswerError(f"{what!r} holds a control character or half a Unicode character")
        self._refuse_echo(profile, prompt)
        return Answer(profile, tuple(tag.strip() for tag in tags if tag.strip()))

    def _refuse_echo(self, profile: str, prompt: str) -> None:
        plain = _plain(profile)
        if "<data" in plain or "</data" in plain or "<entry" in plain:
            raise InvalidAnswerError("'profile' repeats the prompt; write a profile in your own words")
        if len(plain) >= _ECHO_LENGTH and plain in self._system:
            raise InvalidAnswerError("'profile' repeats the prompt word for word; write it in your own words")
        if not _share_nothing(plain, prompt):
            asked = _plain(prompt)
            about = _plain(_TAG.sub(" ", prompt))
            repeats = plain == about or (len(about) >= _ECHO_LENGTH and about in plain)
            if repeats or (len(plain) >= _ECHO_LENGTH and (plain in asked or plain in about)):
                raise InvalidAnswerError("'profile' repeats the prompt word for word; write it in your own words")
        opening = self._system[:_ECHO_LENGTH]
        if len(opening) >= _ECHO_LENGTH and opening in plain:
            raise InvalidAnswerError("'profile' repeats the instructions; write a profile")


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _unknown(_: object) -> bool:
    return False


def _share_nothing(plain: str, prompt: str) -> bool:
    """Whether it is plain from a few words that neither text can hold the other; most profiles are done with here."""
    folded = prompt.casefold()
    if all(word in folded for word in plain.split(" ", 8)[:8]):
        return False
    # Whatever is cut at the end of the opening is no word.
    opening = _TAG.sub(" ", folded[:400]).split(None, 8)
    return not all(word in plain for word in opening[: 8 if len(opening) > 8 else -1])


def _explain(errors: Sequence[ValidationError]) -> str:
    """The first few faults, each with its place; values that were sent are cut short."""
    said = []
    for error in errors[:3]:
        place = ".".join(str(part) for part in error.path) or "the object"
        said.append(f"{place}: {_short(error)}")
    return "; ".join(said)[:_REASON_LENGTH]


def _short(error: ValidationError) -> str:
    # jsonschema's own messages quote the whole instance, however long.
    rule, limit = error.validator, error.validator_value
    known = {
        "minLength": f"is shorter than {limit} characters",
        "maxLength": f"is longer than {limit} characters",
        "minItems": f"has fewer than {limit} elements",
        "maxItems": f"has more than {limit} elements",
        "type": f"is not of type {limit}",
    }
    return known.get(str(rule)) or error.message[:200]
