"""Track one note of an entity from its first request to a valid answer or a final failure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from enhancer.contracts.llm import Message
from enhancer.harness.answers.group_reply import GroupReply, match_group_reply
from enhancer.harness.answers.parse import InvalidAnswerError, parse_object
from enhancer.harness.answers.thought import without_thought
from enhancer.harness.answers.usage import EntityUsage, token_share
from enhancer.harness.calls.thought_room import cut_off_reason, is_last_cut_off

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from enhancer.contracts.record import Key
    from enhancer.harness.answers.answer_validator import Answer, AnswerValidator
    from enhancer.harness.calls.cache_key import KeyMaker
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.prompts import Note

RE_ASKS = 2
"""Maximum number of re-asks after an invalid answer, each with the error shown."""
_MAX_SHOWN = 4000
"""Maximum length of an invalid answer in a re-ask."""
AnswerStatus = Literal["valid", "ask_again", "refused", "exhausted"]
"""Result of receiving an answer: see :meth:`EntityTask.receive`."""


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """Question and rules of judgement of one note."""

    note: Note
    validator: AnswerValidator
    keys: KeyMaker
    """Computes the input hash of a rendered text."""
    fallback: PromptSpec | None = None
    """Question that follows if the model says that its confidence is low; None to keep it."""
    is_fallback: bool = False
    """Whether it is the ``fallback`` of another."""


@dataclass(slots=True, eq=False)
class EntityTask:
    """State of one note of one entity: the profile, or an aspect.

    New answers and answers from the journal are processed by the same method.
    """

    key: Key
    input_hash: str
    prompt: str
    """Rendered user text."""
    spec: PromptSpec
    claims: tuple[str, ...] = ()
    """Input hashes that the run has claimed for this task; by default its own."""
    paid_follow_ups: Sequence[PaidAnswer] = ()
    """Answers to the follow-up that earlier runs paid for."""
    answer: Answer | None = None
    answer_count: int = 0
    """Number of answers received, including group replies."""
    invalid_answers: int = 0
    """Number of answers in which this note was not valid."""
    cut_offs: int = 0
    """Number of answers that were cut off, after each of which the next request allows more tokens."""
    error: str = ""
    """Error of the last answer that was not valid."""
    raw: str = ""
    """Text of the last answer that was not valid, or the part of it that is this note."""
    at: str = ""
    """Time of the last answer."""
    model: str = ""
    """Model of the last answer."""
    usage: EntityUsage = field(default_factory=EntityUsage)

    def __post_init__(self) -> None:
        self.claims = self.claims or (self.input_hash,)

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
            if paid.finish_reason == "length":
                self.cut_offs += 1
                self.error = cut_off_reason(paid)
                return "exhausted" if is_last_cut_off(paid, self.cut_offs) else "ask_again"
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

    @property
    def follow_up(self) -> EntityTask | None:
        """The task that asks for this note again, after a valid answer of low confidence; None if it is kept."""
        spec = self.spec.fallback
        if spec is None or self.answer is None or self.answer.confidence != "low":
            return None
        # The hash of the follow-up is among the claims; that of the prompt may be another, if notes were put into it.
        input_hash = next((one for one in self.claims if one != self.input_hash), None) or spec.keys.of(self.prompt)
        # The note costs what both calls cost.
        return EntityTask(self.key, input_hash, self.prompt, spec, claims=self.claims, usage=self.usage)

    def _validate(self, paid: PaidAnswer) -> Answer:
        if paid.ids is None:
            return self._validate_single(paid)
        note = self.spec.note
        try:
            field = None if note.template.aspects else note.field
            reply = _match(paid.text, tuple(dict.fromkeys(paid.ids)), field, _is_cut_off(paid), paid.earlier_rules)
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
            return self.spec.validator.validate(element, self.prompt, earlier_rules=paid.earlier_rules)
        except InvalidAnswerError:
            self.raw = self._own_part(element)
            raise

    def _validate_single(self, paid: PaidAnswer) -> Answer:
        self.raw = paid.text
        if paid.notes == 1:
            return self.spec.validator.validate_text(
                paid.text, self.prompt, cut_off=_is_cut_off(paid), earlier_rules=paid.earlier_rules
            )
        value = _parse(paid.text, _is_cut_off(paid), paid.earlier_rules)
        self.raw = self._own_part(value)
        return self.spec.validator.validate(value, self.prompt, earlier_rules=paid.earlier_rules)

    def _own_part(self, value: Mapping[str, Any]) -> str:
        """Return what an answer says about this note, as JSON: a re-ask shows it without the notes that are valid."""
        field = self.spec.note.field
        if not self.spec.note.template.aspects:
            return json.dumps(value)
        return json.dumps({field: value[field]} if field in value else {})

    def _add_usage(self, paid: PaidAnswer) -> None:
        n, position = paid.notes, paid.position
        self.usage.add_call(
            None if paid.prompt_tokens is None else token_share(paid.prompt_tokens, position, n),
            None if paid.completion_tokens is None else token_share(paid.completion_tokens, position, n),
            None if paid.cost_usd is None else paid.cost_usd / n,
        )


class _NotInReplyError(Exception):
    """The group reply has no element for this entity."""


def request_messages(tasks: Sequence[EntityTask]) -> tuple[Message, ...]:
    """Return the messages of a request for notes of one entity; a re-ask shows the invalid answer and its errors."""
    first = tasks[0]
    notes = [task.spec.note.field for task in tasks]
    base = first.spec.note.template.request(*notes, knowledge=first.spec.note.knowledge).messages(first.prompt)
    again = [task for task in tasks if task.invalid_answers]
    if not again:
        return base
    errors = "; ".join(dict.fromkeys(task.error for task in again))
    return (
        *base,
        Message("assistant", _shown([task.raw for task in again])[:_MAX_SHOWN] or "{}"),
        Message(
            "user",
            f"That answer cannot be used: {errors}. Answer again, with one JSON object that fits the schema and"
            " nothing else.",
        ),
    )


def _shown(answers: Sequence[str]) -> str:
    """Return the invalid answers as one, without thoughts: the only one, or the object of their parts."""
    if len(set(answers)) == 1:
        return (without_thought(answers[0]) or "").strip()
    whole: dict[str, Any] = {}
    for answer in answers:
        try:
            whole |= _parse(answer)
        except InvalidAnswerError:
            return answer
    return json.dumps(whole)


def _is_cut_off(paid: PaidAnswer) -> bool:
    return paid.finish_reason == "length"


@lru_cache(maxsize=64)
def _match(
    text: str,
    ids: tuple[str, ...],
    field: str | None,
    cut_off: bool,
    earlier_rules: bool,
) -> GroupReply:
    """Match a reply. Cached, because all notes of a group read the same reply."""
    return match_group_reply(text, ids, field, cut_off=cut_off, earlier_rules=earlier_rules)


@lru_cache(maxsize=64)
def _parse(text: str, cut_off: bool = False, earlier_rules: bool = False) -> dict[str, Any]:
    """Parse an answer. Cached, because all notes of an entity read the same answer."""
    return parse_object(text, cut_off=cut_off, earlier_rules=earlier_rules)
