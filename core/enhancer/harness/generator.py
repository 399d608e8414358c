"""Generate profiles with concurrent workers, which re-ask, split groups and report failures."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from enhancer.errors import CircuitOpenError, DeadlineError, FutileRunError, ProviderError
from enhancer.harness.answers.first_answers import FirstAnswers
from enhancer.harness.calls.caller import StoppedError
from enhancer.harness.calls.entity_request import by_entity, call_version, entity_request, request_ids
from enhancer.harness.calls.first_wave import FirstWave
from enhancer.harness.calls.refusals import Refusals, is_refusal, model_not_found, refusal_reason
from enhancer.harness.calls.retry import is_transient
from enhancer.harness.calls.thought_room import is_thought

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.harness.answers.entity_task import EntityTask
    from enhancer.harness.calls.caller import Caller
    from enhancer.harness.calls.gate import Gate
    from enhancer.harness.calls.thought_room import Trial
    from enhancer.harness.journal.completion_writer import PaidAnswer

_log = logging.getLogger(__name__)
_MAX_FAILED_GROUPS = 5
"""After this many group requests without any profile, each entity is asked about on its own."""

Group = list["EntityTask"]
"""Notes of one entity, or the same notes of several entities, that share a request."""


class Outcomes(Protocol):
    """Receiver of the tasks of a run that are done."""

    async def answered(self, case: EntityTask, /) -> EntityTask | None:
        """Take a valid answer; return a task to ask next, if any."""

    async def failed(self, case: EntityTask, reason: str, transient: bool, /) -> None:
        """Take a failure; a later run retries a transient one."""

    async def excused(self, case: EntityTask, reason: str, /) -> None:
        """Leave to a later run a task that has failed for good, because the reason concerns all calls."""


class Generator:
    """Runs the workers that generate profiles. For one event loop.

    Args:
        caller: Makes the calls.
        gate: Notified when a call has used up its attempts.
        llm: ``[llm]``.
        outcomes: Told about each task.
        expected_tokens: Completion tokens that a note is expected to take, for :class:`FirstAnswers`.
        keep_going: Go on although most of the first answers are not valid.
        proven: Whether the model is known to answer this prompt, so that all calls may be in flight at once.
    """

    def __init__(
        self,
        caller: Caller,
        gate: Gate,
        llm: LLMConfig,
        outcomes: Outcomes,
        *,
        expected_tokens: float | None = None,
        keep_going: bool = False,
        proven: bool = False,
    ) -> None:
        self._caller = caller
        self._gate = gate
        self._llm = llm
        self._answered = outcomes.answered
        self._failed = outcomes.failed
        self._excused = outcomes.excused
        self._ended: list[tuple[EntityTask, ProviderError]] = []
        """Tasks that failed for good because their text was refused."""
        self._first_answers = None if keep_going else FirstAnswers(expected_tokens=expected_tokens)
        self._first_wave = None if keep_going or proven else FirstWave.of(llm.concurrency, llm.items_per_request)
        """Bounds what is in flight until the first answers are judged; None afterwards."""
        self._failed_groups = 0
        self._groups_work = False
        self._refusals: Refusals[Group] = Refusals(llm.concurrency, keep_going=keep_going)
        self._unreached: list[tuple[EntityTask, ProviderError]] = []
        """Tasks without an answer while no call was answered yet. They are few, because the gate soon stops the run."""
        self._workers: list[asyncio.Task[None]] = []
        self._error: BaseException | None = None

    async def run(self, next_group: Callable[[], Awaitable[Group | None]]) -> None:
        """Process groups until ``next_group`` returns None or the run is stopped.

        Args:
            next_group: Returns the next group: tasks of one kind and lane that share a request.

        Raises:
            EnhancerError: The error that stopped the run. Answers to calls in flight are kept.
        """
        # More workers than calls in flight: while some validate answers, others wait at the gate.
        workers = self._llm.concurrency + self._llm.concurrency // 4
        self._workers = [asyncio.create_task(self._work(next_group)) for _ in range(workers)]
        try:
            await asyncio.wait(self._workers)
        finally:
            for worker in self._workers:
                worker.cancel()
        if self._error is None:
            await self._end_unreached()
        if self._error is None:
            await self._end_refused()
        if isinstance(self._error, FutileRunError) and self._first_answers is not None:
            # Calls that were in flight have been answered since, and were paid for.
            self._error = self._first_answers.error(self._caller.usage.calls)
        if self._error is not None:
            await self._excuse_refused()
            raise self._error

    @property
    def throttling(self) -> str | None:
        """Description of how the provider slows down the run; None if it does not."""
        return self._gate.throttling()

    @property
    def in_flight(self) -> int:
        """Number of calls that wait for an answer."""
        return self._gate.in_flight

    def stop(self, error: BaseException | None = None) -> None:
        """Make no further calls; calls in flight may still be answered."""
        if error is not None and self._error is None:
            self._error = error
        self._caller.stopping = True
        for worker in self._workers:
            if worker in self._caller.idle:
                worker.cancel()

    def abort(self) -> None:
        """Make no further calls and cancel the calls in flight."""
        self._caller.stopping = True
        for worker in self._workers:
            worker.cancel()

    @property
    def undecided(self) -> list[EntityTask]:
        """Tasks without an answer that are held back, because the cause is not known yet."""
        return [*(task for task, _ in self._unreached), *(task for tasks in self._refusals for task in tasks)]

    async def decide(self) -> None:
        """Decide about the tasks that are held back, as at the end of the run: they fail, or the run stops."""
        await self._end_unreached()
        if self._error is None:
            await self._end_refused()
        if self._error is not None:
            self.stop(self._error)

    # -- a worker ---------------------------------------------------------------------------------------------------

    async def _work(self, next_group: Callable[[], Awaitable[Group | None]]) -> None:
        task, idle = asyncio.current_task(), self._caller.idle
        assert task is not None
        try:
            while not self._caller.stopping:
                idle.add(task)  # as caller.waiting(), which takes longer
                try:
                    group = await next_group()
                finally:
                    idle.discard(task)
                if group is None:
                    return
                if self._first_wave is None:
                    await self._ask_all(group)
                else:
                    await self._ask_first(group, self._first_wave)
        except (StoppedError, asyncio.CancelledError):
            return
        except Exception as error:  # noqa: BLE001 - raised by run()
            self.stop(error)

    async def _ask_all(self, group: Group) -> None:
        # Parts of a group that need another request are queued, which avoids recursion.
        todo: deque[Group] = deque(_entities(group) if self._avoids_groups else [group])
        while todo:
            todo.extendleft(reversed(await self._ask(todo.popleft())))

    async def _ask_first(self, group: Group, wave: FirstWave) -> None:
        """Ask for a group before the model is proven, with few others at once."""
        with self._caller.waiting():
            await wave.enter()
        try:
            await self._ask_all(group)
        finally:
            wave.leave()

    @property
    def _avoids_groups(self) -> bool:
        """Whether the model has failed to answer any group request."""
        return self._failed_groups >= _MAX_FAILED_GROUPS and not self._groups_work

    def _count_failed_group(self) -> None:
        self._failed_groups += 1
        if self._avoids_groups and self._failed_groups == _MAX_FAILED_GROUPS:
            _log.warning(
                "%d requests about several entities returned no valid profile: each entity now gets its own request; "
                "[llm] items_per_request = 1 saves these calls",
                _MAX_FAILED_GROUPS,
            )

    async def _ask(self, tasks: Group) -> list[Group]:
        """Ask for notes; return the groups that need another request."""
        room, cut_offs = self._caller.room, max(task.cut_offs for task in tasks)
        if (trial := room.enter_now(cut_offs)) is None:
            with self._caller.waiting():
                trial = await room.enter(cut_offs)
        try:
            return await self._ask_now(tasks, trial)
        finally:
            room.leave(trial, valid=any(task.answer is not None for task in tasks))

    async def _ask_now(self, tasks: Group, trial: Trial) -> list[Group]:
        grouped = (ids := request_ids(tasks)) is not None
        version = call_version(tasks)
        number = self._refusals.send()
        try:
            paid = await self._caller.call(
                entity_request(tasks, self._llm, self._caller.room),
                hashes=tuple(task.input_hash for task in tasks),
                ids=ids,
                attempt=max(task.answer_count for task in tasks) + 1,
                template=version,
            )
        except ProviderError as error:
            if not grouped:
                await self._handle_error(tasks, error, number)
                return []
            too_slow = isinstance(error, DeadlineError)
            if not too_slow:
                self._raise_if_fatal(error)
            if too_slow or is_refusal(error):
                self._refusals.add_group(number, error)
                self._count_failed_group()
                return _halves(tasks)
            await self._defer(tasks, error, number)
            return []
        await self._mark_reachable(number)
        again: Group = []
        follow_ups: Group = []
        for position, task in enumerate(tasks):
            status = task.receive(paid._replace(position=position))
            # A group reply that does not mention a note says nothing about it.
            if self._first_answers is not None and (not grouped or status != "ask_again" or task.invalid_answers):
                self._first_answers.count(version, task, status)
            if status == "valid":
                self._groups_work = self._groups_work or grouped
                if (follow_up := await self._answered(task)) is not None:
                    follow_ups.append(follow_up)
            elif status == "ask_again":
                again.append(task)
            else:
                await self._failed(task, task.error, False)
        if self._first_answers is not None:
            self._first_answers.spend(version, paid.completion_tokens or 0)
            self._first_answers.check(version)
            if self._first_wave is not None and self._first_answers.is_proven(version):
                self._first_wave.end()
                self._first_wave = None
        if grouped and len(again) == len(tasks) and self._had_no_room(paid, trial.tokens):
            return [tasks]
        return [*(self._regroup(tasks, again) if grouped else _entities(again)), *_alike(follow_ups)]

    def _had_no_room(self, paid: PaidAnswer, room: int) -> bool:
        """Check whether thought cut off an answer that has more room for it now."""
        return paid.finish_reason == "length" and is_thought(paid) and self._caller.room.tokens() > room

    def _regroup(self, asked: Group, again: Group) -> list[Group]:
        """Return the requests for the notes that a group reply did not answer."""
        # An entity that the reply does not mention may be asked about in a group again; an invalid note may not.
        missing = [task for task in again if not task.invalid_answers]
        if len(missing) == len(asked):
            self._count_failed_group()
            return _halves(missing)
        return [*_alike(missing), *_entities([task for task in again if task.invalid_answers])]

    # -- no answer --------------------------------------------------------------------------------------------------

    def _raise_if_fatal(self, error: ProviderError) -> None:
        """Raise the error if no single entity is the cause, which stops the run."""
        if not (is_refusal(error) or is_transient(error)):
            raise error
        if is_refusal(error) and model_not_found(error) and not self._refusals.any_answer:
            raise error
        if is_transient(error):
            self._gate.exhausted(error)

    async def _handle_error(self, tasks: Group, error: ProviderError, number: int) -> None:
        """Handle the error of a request about one entity."""
        self._raise_if_fatal(error)
        if is_refusal(error):
            await self._refuse(self._refusals.add(number, tasks, error))
        else:
            await self._defer(tasks, error, number)

    async def _defer(self, tasks: Group, error: ProviderError, number: int) -> None:
        """Leave tasks to a later run."""
        await self._refuse(self._refusals.unanswered(number))
        for task in tasks:
            await self._unanswered(task, error)

    async def _unanswered(self, task: EntityTask, error: ProviderError) -> None:
        """Defer the task; a later run retries it. Before the first answer, wait: the whole run may be failing."""
        if self._refusals.any_answer:
            await self._failed(task, str(error), True)
        else:
            self._unreached.append((task, error))

    async def _end_unreached(self) -> None:
        """If no call was answered, fail the run without quarantining any entity."""
        if self._unreached and not self._refusals.any_answer and not len(self._refusals):
            error = self._unreached[-1][1]
            self._error = CircuitOpenError(
                f"the LLM cannot be reached: {error.message}",
                hint=error.hint or "no entity was quarantined; run again when the provider answers",
            )
        else:
            await self._flush_unreached()

    async def _flush_unreached(self) -> None:
        unreached, self._unreached = self._unreached, []
        for task, error in unreached:
            await self._failed(task, str(error), True)

    async def _mark_reachable(self, number: int) -> None:
        refused = self._refusals.answered(number)
        if self._unreached:
            await self._flush_unreached()
        if refused:
            await self._refuse(refused)

    async def _refuse(self, refused: Sequence[tuple[Group, ProviderError]]) -> None:
        """Fail the tasks that the provider refused for good."""
        for tasks, error in refused:
            for task in tasks:
                await self._failed(task, refusal_reason(error.message), False)
                self._ended.append((task, error))

    async def _excuse_refused(self) -> None:
        """Leave to a later run what was refused for the reason that stopped this one.

        Calls in flight do not lose access in the order in which they were sent. Those that are still answered make
        refusals of earlier ones look like those of single texts.
        """
        cause = None if self._error is None else self._error.__cause__
        for task, error in self._ended:
            if isinstance(cause, ProviderError) and error.message == cause.message:
                await self._excused(task, error.message)

    async def _end_refused(self) -> None:
        try:
            await self._refuse(self._refusals.at_end())
        except ProviderError as error:
            self._error = error


def _entities(tasks: Group) -> list[Group]:
    """Return a group for each entity."""
    return list(by_entity(tasks).values())


def _halves(tasks: Group) -> list[Group]:
    """Split a group in two, between entities."""
    entities = _entities(tasks)
    middle = (len(entities) + 1) // 2
    return [[task for own in half for task in own] for half in (entities[:middle], entities[middle:])]


def _alike(tasks: Group) -> list[Group]:
    """Return a group for each set of notes: the entities of a request are asked for the same notes."""
    groups: dict[tuple[str, ...], Group] = {}
    for own in _entities(tasks):
        groups.setdefault(tuple(task.key.aspect for task in own), []).extend(own)
    return list(groups.values())
