"""Ask questions: use answers that were paid for, ask again after invalid ones, and quarantine what stays unanswered.

Every call goes through :class:`~enhancer.harness.calls.caller.Caller`: gate, budget, deadline, retries, journal.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from enhancer.contracts.llm import Message, Request
from enhancer.errors import FutileRunError, ProviderError, StoreError
from enhancer.harness.answers.first_answers import FirstAnswers
from enhancer.harness.answers.parse import InvalidAnswerError
from enhancer.harness.answers.thought import without_thought
from enhancer.harness.calls.caller import StoppedError
from enhancer.harness.calls.first_wave import FirstWave
from enhancer.harness.calls.refusals import Refusals, is_refusal, model_not_found, refusal_reason
from enhancer.harness.calls.retry import is_transient
from enhancer.harness.calls.thought_room import cut_off_reason, is_last_cut_off

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.record import Key
    from enhancer.harness.answers.entity_task import AnswerStatus
    from enhancer.harness.calls.caller import Caller
    from enhancer.harness.calls.gate import Gate
    from enhancer.harness.calls.thought_room import ThoughtRoom, Trial
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.harness.journal.journal import Journal
    from enhancer.harness.questions.form import Question

RE_ASKS = 2
"""Maximum number of re-asks after an invalid answer, each with the error shown."""
_MAX_SHOWN = 4000
"""Maximum length of an invalid answer in a re-ask."""
_RENEWALS = 4
"""Renewals of claims during one lease."""


@dataclass(slots=True, eq=False)
class QuestionState:
    """State of one question. Answers from the journal and new ones are processed by the same method."""

    question: Question
    input_hash: str
    answer: dict[str, Any] | None = None
    answers: int = 0
    """Number of answers received."""
    invalid_answers: int = 0
    cut_offs: int = 0
    """Number of answers that were cut off, after each of which the next request allows more tokens."""
    error: str = ""
    raw: str = ""

    def receive(self, paid: PaidAnswer) -> AnswerStatus:
        """Validate an answer."""
        self.answers += 1
        self.raw = paid.text
        if paid.finish_reason in ("refusal", "content_filter"):
            self.error = "the model refused" if paid.finish_reason == "refusal" else "stopped by a content filter"
            return "refused"
        try:
            cut_off = paid.finish_reason == "length"
            self.answer = self.question.form.parse(paid.text, cut_off=cut_off, earlier_rules=paid.earlier_rules)
        except InvalidAnswerError as error:
            self.error = str(error)
            if cut_off:
                self.cut_offs += 1
                self.error = cut_off_reason(paid)
                return "exhausted" if is_last_cut_off(paid, self.cut_offs) else "ask_again"
            self.invalid_answers += 1
            return "exhausted" if self.invalid_answers > RE_ASKS else "ask_again"
        return "valid"

    def receive_all(self, answers: Sequence[PaidAnswer]) -> AnswerStatus:
        """Validate answers that earlier runs paid for, oldest first, until one is valid."""
        status: AnswerStatus = "ask_again"
        for paid in answers:
            status = self.receive(paid)
            if status == "valid":
                break
        return status

    def request(self, llm: LLMConfig, room: ThoughtRoom) -> Request:
        """Build the next request, with room for thought on top of that for the answer."""
        form = self.question.form
        messages = form.messages(self.question.text)
        if self.invalid_answers:
            again = (
                f"That answer cannot be used: {self.error}. Answer again, with one JSON object that fits the schema and"
                " nothing else."
            )
            shown = (without_thought(self.raw) or "").strip()[:_MAX_SHOWN]
            messages = (*messages, Message("assistant", shown or "{}"), Message("user", again))
        return Request(
            messages=messages,
            model=llm.model,
            schema=form.schema,
            schema_name=form.name.split("/", maxsplit=1)[0],
            temperature=llm.temperature,
            top_p=llm.top_p,
            seed=llm.seed,
            max_tokens=max(llm.max_tokens, form.max_tokens) * 2**self.cut_offs + room.tokens(self.cut_offs),
            reasoning_effort=llm.reasoning_effort,
            subjects=(self.question.key,),
            timeout=llm.timeout,
        )


class _Paid(NamedTuple):
    """An answer, and the room of its call."""

    answer: PaidAnswer
    trial: Trial


@dataclass(slots=True, eq=False)
class Outcome:
    """Answers, and reasons of questions without one."""

    answers: dict[Key, dict[str, Any]] = field(default_factory=dict)
    failed: dict[Key, str] = field(default_factory=dict)
    """Questions in quarantine, and their reasons."""
    deferred: dict[Key, str] = field(default_factory=dict)
    """Questions that a later run asks again: the provider was not reached, or another process is asking."""
    cached: int = 0
    """Answers that had been paid for."""

    @property
    def done(self) -> int:
        """Number of questions that are settled."""
        return len(self.answers) + len(self.failed) + len(self.deferred)


class Questioner:
    """Asks questions concurrently. For one event loop.

    Args:
        caller: Makes the calls.
        gate: Notified when a call has used up its attempts.
        journal: Answers that were paid for, claims, and the quarantine.
        llm: ``[llm]``.
        on_progress: Called after each settled question.
        expected_tokens: Completion tokens that an answer is expected to take; see
            :class:`~enhancer.harness.answers.first_answers.FirstAnswers`.
    """

    def __init__(
        self,
        caller: Caller,
        gate: Gate,
        journal: Journal,
        llm: LLMConfig,
        *,
        on_progress: Callable[[Outcome], None],
        expected_tokens: float | None = None,
    ) -> None:
        self._caller = caller
        self._gate = gate
        self._journal = journal
        self._llm = llm
        self._on_progress = on_progress
        self._workers: list[asyncio.Task[None]] = []
        self._refusals: Refusals[tuple[QuestionState, Sequence[Question]]] = Refusals(llm.concurrency, overruled=False)
        # Whoever asks has nothing to overrule it by, and some answers may be enough.
        self._first_answers = FirstAnswers(expected_tokens=expected_tokens, noun="questions", lenient=True, way_on="")
        self._first_wave = FirstWave.of(llm.concurrency)
        """Bounds what is in flight until the first answers are judged; None afterwards."""
        self._error: BaseException | None = None
        self.outcome = Outcome()

    async def ask(self, questions: Mapping[str, Sequence[Question]]) -> Outcome:
        """Ask until every question is settled.

        Args:
            questions: Questions by input hash. Those with one hash are asked once.

        Raises:
            EnhancerError: The error that stopped the run, such as a budget that is used up. Paid answers are kept.
        """
        states = unanswered(questions, self._journal, self.outcome)
        claimed = await asyncio.wrap_future(self._journal.claim([state.input_hash for state in states]))
        for state in states:
            if state.input_hash not in claimed:
                self._settle(questions[state.input_hash], self.outcome.deferred, "another process is asking")
        queue = [state for state in reversed(states) if state.input_hash in claimed]
        renewing = asyncio.create_task(self._renew())
        self._workers = [asyncio.create_task(self._work(queue, questions)) for _ in range(self._llm.concurrency)]
        try:
            await asyncio.wait(self._workers)
            if self._error is None:
                await self._refuse(self._refusals.at_end())
        finally:
            renewing.cancel()
            for worker in self._workers:
                worker.cancel()
            with contextlib.suppress(StoreError):  # a full disk was reported already, and claims expire
                await asyncio.wrap_future(self._journal.unclaim())
        if isinstance(self._error, FutileRunError):
            # Calls that were in flight have been answered since, and were paid for.
            self._error = self._first_answers.error(self._caller.usage.calls)
        if self._error is not None:
            raise self._error
        return self.outcome

    def stop(self, *, abort: bool = False) -> None:
        """Make no further calls; with ``abort``, cancel those in flight too."""
        self._caller.stopping = True
        for worker in self._workers:
            if abort or worker in self._caller.idle:
                worker.cancel()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._journal.lease / _RENEWALS)
            self._journal.renew()

    async def _work(self, queue: list[QuestionState], questions: Mapping[str, Sequence[Question]]) -> None:
        try:
            while queue and not self._caller.stopping:
                if (wave := self._first_wave) is not None:
                    with self._caller.waiting():
                        await wave.enter()
                try:
                    if queue:
                        state = queue.pop()
                        await self._ask_one(state, questions[state.input_hash])
                finally:
                    if wave is not None:
                        wave.leave()
        except (StoppedError, asyncio.CancelledError):
            return
        except Exception as error:  # noqa: BLE001 - raised by ask()
            self._error = self._error or error
            self.stop()

    async def _ask_one(self, state: QuestionState, same: Sequence[Question]) -> None:
        while (paid := await self._answer(state, same)) is not None:
            status = state.receive(paid.answer)
            self._caller.room.leave(paid.trial, valid=status == "valid")
            self._judge(state, status, paid.answer)
            if status == "valid":
                assert state.answer is not None
                self._settle(same, self.outcome.answers, state.answer)
                return
            if status != "ask_again":
                await self._quarantine(state, same, state.error)
                return

    async def _answer(self, state: QuestionState, same: Sequence[Question]) -> _Paid | None:
        """Return the answer to a question; None if there is none, which is dealt with."""
        room = self._caller.room
        if (trial := room.enter_now(state.cut_offs)) is None:
            with self._caller.waiting():
                trial = await room.enter(state.cut_offs)
        number = self._refusals.send()
        try:
            paid = await self._caller.call(
                state.request(self._llm, room),
                hashes=(state.input_hash,),
                ids=None,
                attempt=state.answers + 1,
                template=state.question.form.version,
            )
        except BaseException as error:
            room.leave(trial, valid=False)
            if not isinstance(error, ProviderError):
                raise
            await self._unanswered(state, same, error, number)
            return None
        await self._refuse(self._refusals.answered(number))
        return _Paid(paid, trial)

    def _judge(self, state: QuestionState, status: AnswerStatus, paid: PaidAnswer) -> None:
        """Count an answer, and stop the run if it is in vain."""
        version = state.question.form.version
        self._first_answers.count(version, state, status)
        self._first_answers.spend(version, paid.completion_tokens or 0)
        self._first_answers.check(version)
        if self._first_wave is not None and self._first_answers.is_proven(version):
            self._first_wave.end()
            self._first_wave = None

    async def _unanswered(
        self, state: QuestionState, same: Sequence[Question], error: ProviderError, number: int
    ) -> None:
        """Defer or quarantine a question, or raise an error that concerns all questions."""
        if is_transient(error):
            self._gate.exhausted(error)
            await self._refuse(self._refusals.unanswered(number))
            self._settle(same, self.outcome.deferred, str(error))
            return
        if not is_refusal(error) or (model_not_found(error) and not self._refusals.any_answer):
            raise error
        await self._refuse(self._refusals.add(number, (state, same), error))

    async def _refuse(self, refused: Sequence[tuple[tuple[QuestionState, Sequence[Question]], ProviderError]]) -> None:
        """Quarantine the questions that the provider refused for good."""
        for (state, same), error in refused:
            await self._quarantine(state, same, refusal_reason(error.message))

    async def _quarantine(self, state: QuestionState, same: Sequence[Question], reason: str) -> None:
        for question in same:
            written = self._journal.quarantine(question.key, state.input_hash, reason=reason, raw=state.raw)
            await asyncio.wrap_future(written)
        self._settle(same, self.outcome.failed, reason)

    def _settle(self, same: Sequence[Question], where: dict[Key, Any], value: Any) -> None:
        where.update({question.key: value for question in same})
        self._on_progress(self.outcome)


def unanswered(
    questions: Mapping[str, Sequence[Question]], journal: Journal | None, outcome: Outcome
) -> list[QuestionState]:
    """Settle the questions that the journal answers, or that are known to have no valid answer.

    Args:
        questions: Questions by input hash.
        journal: The journal; None if there is none yet.
        outcome: Gets answers and reasons.

    Returns:
        The states of the other questions.
    """
    paid = {} if journal is None else journal.paid_answers(list(questions))
    left = []
    for input_hash, same in questions.items():
        state = QuestionState(same[0], input_hash)
        status = state.receive_all(paid.get(input_hash, ()))
        keys = [question.key for question in same]
        if status == "valid":
            assert state.answer is not None
            outcome.answers.update(dict.fromkeys(keys, state.answer))
            outcome.cached += len(keys)
        elif status != "ask_again":
            outcome.failed.update(dict.fromkeys(keys, state.error))
        else:
            left.append(state)
    return left
