"""Forms of questions, and questions."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from jsonschema.exceptions import best_match

from enhancer.contracts.llm import Message
from enhancer.harness.answers.exact_schema import schema_validator
from enhancer.harness.answers.parse import InvalidAnswerError, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts.record import Key

_MAX_ERROR = 300


class Form:
    """Everything that questions of one kind share.

    Args:
        name: Name for the ledger and the quarantine, such as ``judge/v1``.
        system: System text.
        schema: JSON schema of an answer, an object.
        answer_tokens: Completion tokens of a typical answer, for estimates.
        max_tokens: Completion tokens that an answer needs at most; ``[llm] max_tokens`` counts if it is larger.

    Attributes:
        fingerprint: Hexadecimal hash of the content; part of the cache key.
        version: Name and start of the fingerprint, for the ledger.
    """

    def __init__(
        self, name: str, system: str, schema: Mapping[str, Any], *, answer_tokens: float, max_tokens: int
    ) -> None:
        self.name = name
        self.system = system.strip()
        self.schema = schema
        self.answer_tokens = answer_tokens
        self.max_tokens = max_tokens
        self._validator = schema_validator(schema)
        content = {"system": self.system, "schema": schema, "max_tokens": max_tokens}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        self.fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
        self.version = f"{name}@{self.fingerprint[:8]}"

    def messages(self, text: str) -> tuple[Message, ...]:
        """Return the messages of a question."""
        return Message("system", self.system), Message("user", text)

    def parse(self, text: str, *, cut_off: bool = False, earlier_rules: bool = False) -> dict[str, Any]:
        """Parse and validate an answer; see :func:`~enhancer.harness.answers.parse.parse_object`.

        Raises:
            InvalidAnswerError: The answer does not fit the schema. The message is for the model.
        """
        answer = parse_object(text, cut_off=cut_off, earlier_rules=earlier_rules)
        error = best_match(self._validator.iter_errors(answer))
        if error is not None:
            path = ".".join(map(str, error.absolute_path)) or "the object"
            raise InvalidAnswerError(f"{path}: {error.message[:_MAX_ERROR]}")
        return answer


class Question(NamedTuple):
    """One question."""

    key: Key
    """The entity that it is about; the aspect names the question, such as ``judge/plot``."""
    form: Form
    text: str
    """User text, with outside text quoted as data."""
