"""One entity on its way to a profile: what was asked, what came back, and what is to be done next."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from enhancer.contracts.llm import Message
from enhancer.harness.answers.matching import GroupReply, match_group_reply
from enhancer.harness.answers.parse import InvalidAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enhancer.contracts.record import Key
    from enhancer.harness.answers.validate import Answer, AnswerValidator
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.prompts import Template

RE_ASKS = 2
"""Times that an invalid answer is asked again, with the error shown."""
_SHOWN = 4000
"""Characters of an invalid answer that the model is shown."""
AnswerStatus = Literal["valid", "ask_again", "refused", "exhausted"]


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """How a kind of entity is asked about: made once a run."""

    template: Template
    validator: AnswerValidator


@dataclass(slots=True)
class EntityUsage:
    """What one entity's answers cost together, its share of batched ones included."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    unknown: bool = False
    """Whether any call's cost is not known, so that no sum is."""


@dataclass(slots=True, eq=False)
class EntityTask:
    """The state of one entity. Live answers and answers from the journal go through the same ``receive``."""

    key: Key
    input_hash: str
    prompt: str
    """The rendered user text."""
    ask: PromptSpec
    answer: Answer | None = None
    answer_count: int = 0
    """Answers so far, batched ones included."""
    invalid_answers: int = 0
    """Answers that were about this entity and could not be used."""
    raise_max_tokens: bool = False
    """Whether an answer was cut off, and the next may be longer."""
    error: str = ""
    raw: str = ""
    """The last answer that could not be used."""
    at: str = ""
    model: str = ""
    usage: EntityUsage = field(default_factory=EntityUsage)

    def receive(self, paid: PaidAnswer) -> AnswerStatus:
        """Judge an answer and say what follows.

        Returns:
            ``answered``: :attr:`answer` is valid. ``again``: ask again. ``refused``: the model declines, asking again
            is no use. ``hopeless``: it was asked as often as it may be.
        """
        self._count(paid)
        self.answer_count += 1
        self.at, self.model = paid.at, paid.model
        alone = paid.ids is None
        if paid.finish_reason in ("refusal", "content_filter"):
            if alone:
                self.error = "the model refused" if paid.finish_reason == "refusal" else "stopped by a content filter"
                self.raw = paid.text
                return "refused"
            return "ask_again"
        try:
            self.answer = self._judge(paid)
        except _NotHereError:
            return "ask_again"
        except InvalidAnswerError as error:
            self.error = str(error)
            if alone:
                self.raw = paid.text
            if paid.finish_reason == "length" and not self.raise_max_tokens:
                self.raise_max_tokens = True
                self.error = "the answer was cut off"
                return "ask_again"
            self.invalid_answers += 1
            return "exhausted" if self.invalid_answers > RE_ASKS else "ask_again"
        return "valid"

    def receive_all(self, answers: Iterable[PaidAnswer]) -> AnswerStatus:
        """Judge the answers that earlier runs paid for, oldest first, until one is valid."""
        verdict: AnswerStatus = "ask_again"
        for paid in answers:
            verdict = self.receive(paid)
            if verdict == "valid":
                break
        return verdict

    def messages(self) -> tuple[Message, ...]:
        """Ask about this entity alone; after an invalid answer, with that answer and what was wrong with it."""
        base = self.ask.template.messages(self.prompt)
        if not self.invalid_answers:
            return base
        return (
            *base,
            Message("assistant", self.raw[:_SHOWN] or "{}"),
            Message(
                "user",
                f"That answer cannot be used: {self.error}. Answer again, with one JSON object that fits the schema and"
                " nothing else.",
            ),
        )

    def _judge(self, paid: PaidAnswer) -> Answer:
        if paid.ids is None:
            return self.ask.validator.validate_text(paid.text, self.prompt)
        try:
            matched = _match(paid.text, paid.ids)
        except InvalidAnswerError as error:
            # The fault is the whole reply's: the request is split, and it counts against no single entity.
            raise _NotHereError from error
        id_ = paid.ids[paid.place]
        if id_ in matched.contradictory:
            self.raw = paid.text
            raise InvalidAnswerError(matched.contradictory[id_])
        if id_ not in matched.found:
            raise _NotHereError
        element = matched.found[id_]
        try:
            return self.ask.validator.validate(element, self.prompt)
        except InvalidAnswerError:
            self.raw = json.dumps(element)
            raise

    def _count(self, paid: PaidAnswer) -> None:
        n = 1 if paid.ids is None else len(paid.ids)
        usage = self.usage
        if paid.prompt_tokens is not None:
            usage.prompt_tokens = (usage.prompt_tokens or 0) + _share(paid.prompt_tokens, paid.place, n)
        if paid.completion_tokens is not None:
            usage.completion_tokens = (usage.completion_tokens or 0) + _share(paid.completion_tokens, paid.place, n)
        usage.unknown = usage.unknown or paid.cost_usd is None
        cost = None if paid.cost_usd is None else paid.cost_usd / n
        usage.cost_usd = None if usage.unknown or cost is None else (usage.cost_usd or 0.0) + cost


class _NotHereError(Exception):
    """A batched reply says nothing about this entity."""


@lru_cache(maxsize=64)
def _match(text: str, ids: tuple[str, ...]) -> GroupReply:
    """Cached, because the entities of one request look at the same reply one after another."""
    return match_group_reply(text, ids)


def _share(total: int, place: int, n: int) -> int:
    """Whole tokens such that the shares add up to the total."""
    return total * (place + 1) // n - total * place // n
