"""Track one entity from its first request to a valid profile or a final failure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from enhancer.contracts.llm import Message
from enhancer.harness.answers.group_reply import GroupReply, match_group_reply
from enhancer.harness.answers.parse import InvalidAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enhancer.contracts.record import Key
    from enhancer.harness.answers.answer_validator import Answer, AnswerValidator
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.prompts import Template

RE_ASKS = 2
"""Maximum number of re-asks after an invalid answer, each with the error shown."""
_MAX_SHOWN = 4000
"""Maximum length of an invalid answer in a re-ask."""
AnswerStatus = Literal["valid", "ask_again", "refused", "exhausted"]
"""Result of receiving an answer: see :meth:`EntityTask.receive`."""


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """Prompt template and answer validator of one kind of entity."""

    template: Template
    validator: AnswerValidator


@dataclass(slots=True)
class EntityUsage:
    """Tokens and cost of all answers about one entity, including its share of group replies."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    unknown_cost: bool = False
    """Whether the cost of any call is unknown, which makes the sum unknown."""


@dataclass(slots=True, eq=False)
class EntityTask:
    """State of one entity. New answers and answers from the journal are processed by the same method."""

    key: Key
    input_hash: str
    prompt: str
    """Rendered user text."""
    spec: PromptSpec
    answer: Answer | None = None
    answer_count: int = 0
    """Number of answers received, including group replies."""
    invalid_answers: int = 0
    """Number of answers about this entity that were not valid."""
    raise_max_tokens: bool = False
    """Whether an answer was truncated, so the next request allows more tokens."""
    error: str = ""
    """Error of the last answer that was not valid."""
    raw: str = ""
    """Text of the last answer that was not valid."""
    at: str = ""
    """Time of the last answer."""
    model: str = ""
    """Model of the last answer."""
    usage: EntityUsage = field(default_factory=EntityUsage)

    def receive(self, paid: PaidAnswer) -> AnswerStatus:
        """Validate an answer.

        Returns:
            ``valid`` if :attr:`answer` is set; ``ask_again`` if another request is needed; ``refused`` if the model
            declined; ``exhausted`` after the last allowed re-ask.
        """
        self._add_usage(paid)
        self.answer_count += 1
        self.at, self.model = paid.at, paid.model
        is_single = paid.ids is None
        if paid.finish_reason in ("refusal", "content_filter"):
            if is_single:
                self.error = "the model refused" if paid.finish_reason == "refusal" else "stopped by a content filter"
                self.raw = paid.text
                return "refused"
            return "ask_again"
        try:
            self.answer = self._validate(paid)
        except _NotInReplyError:
            return "ask_again"
        except InvalidAnswerError as error:
            self.error = str(error)
            if is_single:
                self.raw = paid.text
            if paid.finish_reason == "length" and not self.raise_max_tokens:
                self.raise_max_tokens = True
                self.error = "the answer was cut off"
                return "ask_again"
            self.invalid_answers += 1
            return "exhausted" if self.invalid_answers > RE_ASKS else "ask_again"
        return "valid"

    def receive_all(self, answers: Iterable[PaidAnswer]) -> AnswerStatus:
        """Validate answers that earlier runs paid for, oldest first, until one is valid."""
        status: AnswerStatus = "ask_again"
        for paid in answers:
            status = self.receive(paid)
            if status == "valid":
                break
        return status

    def messages(self) -> tuple[Message, ...]:
        """Return the messages of a request about this entity; a re-ask shows the invalid answer and its error."""
        base = self.spec.template.messages(self.prompt)
        if not self.invalid_answers:
            return base
        return (
            *base,
            Message("assistant", self.raw[:_MAX_SHOWN] or "{}"),
            Message(
                "user",
                f"That answer cannot be used: {self.error}. Answer again, with one JSON object that fits the schema and"
                " nothing else.",
            ),
        )

    def _validate(self, paid: PaidAnswer) -> Answer:
        if paid.ids is None:
            return self.spec.validator.validate_text(paid.text, self.prompt)
        try:
            reply = _match(paid.text, paid.ids)
        except InvalidAnswerError as error:
            # The reply as a whole is not valid: the group is split, and no entity has an invalid answer.
            raise _NotInReplyError from error
        id_ = paid.ids[paid.position]
        if id_ in reply.contradictory:
            self.raw = paid.text
            raise InvalidAnswerError(reply.contradictory[id_])
        if id_ not in reply.found:
            raise _NotInReplyError
        element = reply.found[id_]
        try:
            return self.spec.validator.validate(element, self.prompt)
        except InvalidAnswerError:
            self.raw = json.dumps(element)
            raise

    def _add_usage(self, paid: PaidAnswer) -> None:
        n = 1 if paid.ids is None else len(paid.ids)
        usage = self.usage
        if paid.prompt_tokens is not None:
            usage.prompt_tokens = (usage.prompt_tokens or 0) + _share(paid.prompt_tokens, paid.position, n)
        if paid.completion_tokens is not None:
            usage.completion_tokens = (usage.completion_tokens or 0) + _share(paid.completion_tokens, paid.position, n)
        usage.unknown_cost = usage.unknown_cost or paid.cost_usd is None
        cost = None if paid.cost_usd is None else paid.cost_usd / n
        usage.cost_usd = None if usage.unknown_cost or cost is None else (usage.cost_usd or 0.0) + cost


class _NotInReplyError(Exception):
    """The group reply has no element for this entity."""


@lru_cache(maxsize=64)
def _match(text: str, ids: tuple[str, ...]) -> GroupReply:
    """Match a reply. Cached, because all entities of a group read the same reply."""
    return match_group_reply(text, ids)


def _share(total: int, position: int, n: int) -> int:
    """Return the share of one entity in whole tokens; the shares add up to the total."""
    return total * (position + 1) // n - total * position // n
