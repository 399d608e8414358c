"""Run ``generate --batch``: batch jobs of the LLM and of the embedder instead of direct calls, in rounds.

::

    pick up ──> poll jobs ──> collect into the journal ──> survey ──┬─ answered in the journal ──> embed, store
                   ^                                                ├─ in an open job ──> later
                   │                                                ├─ no answer in any round ──> quarantine
                   └────────── wait <── submit <── file of lines <──┘

Texts may be embedded by jobs, too: their records are stored in a round after the one that submits them. All state
between two rounds is in the journal: after a crash the next run continues with its first round.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from enhancer.errors import BudgetError, StoreError
from enhancer.features.generating.condensing import NoteFailure
from enhancer.features.generating.generation_run import LONGEST_WAIT, SHORTEST_WAIT, GenerationRun
from enhancer.features.generating.grouping import bundles
from enhancer.features.generating.known_answers import leave_claims, settle
from enhancer.harness.answers.first_answers import FirstAnswers
from enhancer.harness.batches.submission import OverBudgetError, RequestTooLargeError
from enhancer.harness.calls.entity_request import by_entity, call_version
from enhancer.harness.calls.refusals import refusal_reason
from enhancer.harness.calls.thought_room import Trial
from enhancer.harness.embedding.batch_texts import BatchTexts
from enhancer.harness.journal.batch_jobs import permanent_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.features.generating.connections import BatchConnection
    from enhancer.features.generating.generation_run import KnownSlice, RunServices
    from enhancer.features.generating.reports import GenerationReport
    from enhancer.features.generating.tally import EntityState
    from enhancer.features.storing.joint_texts import JointTexts
    from enhancer.features.surveying.survey import ToAsk
    from enhancer.harness.answers.entity_task import AnswerStatus, EntityTask
    from enhancer.harness.batches.submission import JobReserve
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.harness.journal.batch_jobs import FailedRequest
    from enhancer.progress import Detail

_SLOWEST = 10.0
"""Largest wait between two polls, in configured intervals."""
_MAX_IDLE_PASSES = 10
"""Passes without a change after which a run that does not wait ends."""
_TRIAL = 100
"""Entities in the first job of a model that has never answered."""
_ROOM_TRIAL = 20
"""Entities in a job that tries more room for thought than any valid answer had."""
_TOO_LARGE = "its request is larger than the file of a batch job may be"


class PollInterval:
    """Seconds between two polls: the configured interval while jobs change, longer while they do not, with jitter.

    Args:
        interval: Configured interval in seconds.
        chance: Draws numbers between 0 and 1.
    """

    def __init__(self, interval: float, chance: Callable[[], float] = random.random) -> None:
        self._interval = interval
        self._chance = chance
        self._factor = 1.0

    def next(self, *, moved: bool) -> float:
        """Return the seconds to wait now; up to a tenth more or less, so that many runs do not poll at once."""
        self._factor = 1.0 if moved else min(self._factor * 1.5, _SLOWEST)
        return self._interval * self._factor * (0.9 + 0.2 * self._chance())


class BatchRun(GenerationRun):
    """One run by batch jobs.

    Args:
        services: Objects and options of the run.
        connect: Opens the connection to the batch API of the LLM; called at the first poll or request.
        any_open: Checks whether jobs of the LLM may be open.
        reserve: Reserves the cost of all jobs in the budget of the run.
        joint: Joint texts to embed by jobs.
        rounds: Batch jobs in which an entity may get no answer before it is quarantined.
        interval: Time between polls.
        wait: Whether to wait for all results.
        abandon: Whether to cancel all jobs, collect what they have done, and submit nothing.
        limit: Largest number of new entities to ask about.
        trial: Whether the first job holds few entities, and the others follow once it is collected.
        keep_going: Whether to go on although most of the first answers are not valid.
    """

    _waits_for_notes = False

    def __init__(
        self,
        services: RunServices,
        *,
        connect: Callable[[], BatchConnection],
        any_open: Callable[[], bool],
        reserve: JobReserve,
        joint: JointTexts,
        rounds: int,
        interval: PollInterval,
        wait: bool,
        abandon: bool,
        limit: int | None,
        trial: bool = False,
        keep_going: bool = False,
    ) -> None:
        super().__init__(services)
        self._connect = connect
        self._any_open = any_open
        self._reserve = reserve
        self._joint = joint
        self._rounds = rounds
        self._interval = interval
        self._wait = wait
        self._abandon = abandon
        self._new_left = limit
        self._first_answers = None if keep_going else FirstAnswers(re_asks=False)
        self._judged: dict[str, int] = {}
        """Answers that were counted of notes without a valid one, by input hash."""
        self._trial_left = _TRIAL if trial else None
        """Entities that the job of a trial still takes; None if there is no trial, or it is over."""
        self._room_left = _ROOM_TRIAL if wait and not keep_going else None
        """Entities that may still be asked about in this job with room that is tried; None without trials."""
        self._room_tried = 0
        """Largest room of requests that tried one."""
        self._connection: BatchConnection | None = None
        self._deferred_requests = 0
        self._failed_requests: dict[str, list[FailedRequest]] = {}
        """Requests without an answer for the notes of the current slice."""
        self._unaffordable: float | None = None
        """Largest cost in USD of the first request that did not fit into the budget in this round."""

    async def main(self) -> GenerationReport:
        """Run to the end; see :meth:`GenerationRun.main`."""
        try:
            return await super().main()
        finally:
            if self._connection is not None:
                with contextlib.suppress(StoreError):
                    await self._connection.submitter.close()
                await self._connection.close()

    @property
    def _spent(self) -> UsageTotals | None:
        return None if self._connection is None else self._connection.spent

    @property
    def _left_to_ask(self) -> int | None:
        return self._new_left

    @property
    def _incomplete(self) -> bool:
        return self._deferred_requests > 0 or (self._batch_texts is not None and self._batch_texts.left > 0)

    @property
    def _batch_texts(self) -> BatchTexts | None:
        """Embeds texts by batch jobs; None if they are embedded directly."""
        return self._texts if isinstance(self._texts, BatchTexts) else None

    @property
    def _embeds_again(self) -> bool:  # type: ignore[override]
        return self._batch_texts is not None

    @property
    def _sides(self) -> list[BatchConnection | BatchTexts]:
        """Those that have jobs: the LLM, once it is connected, and the embedder."""
        return [side for side in (self._connection, self._batch_texts) if side is not None]

    def _details(self) -> dict[str, Detail]:
        details = super()._details()
        looks = [look for side in self._sides for look in side.collector.statuses.values()]
        if not looks:
            return details
        said = ", ".join(sorted({look.said for look in looks}))
        done, total = sum(look.done or 0 for look in looks), sum(look.total or 0 for look in looks)
        jobs = f"{len(looks)} jobs {said}" if len(looks) > 1 else said
        return {**details, "batch": f"{jobs} {done}/{total}" if total else jobs}

    # -- rounds -----------------------------------------------------------------------------------------------------

    async def _find_work(self) -> None:
        texts = self._batch_texts
        if self._any_open():
            await self._connected().submitter.resume()
            if self._abandon:
                collector = self._connected().collector
                collector.expect_cancelled()
                await collector.abandon()
        if texts is not None:
            await texts.submitter.resume()
            if self._abandon:
                await texts.abandon()
        deferred = idle_passes = 0
        fresh, first, wait = True, True, SHORTEST_WAIT
        while True:
            ended = moved = False
            for side in self._sides:
                if not first:  # the owner of an unfinished submission may have ended meanwhile
                    await side.submitter.resume()
                any_ended, any_moved = await side.collector.poll()
                ended, moved = ended or any_ended, moved or any_moved
                if any_ended and side is self._connection:
                    self._trial_left = None
                    self._room_left = None if self._room_left is None else _ROOM_TRIAL
            if fresh or ended or deferred:
                before, deferred = deferred, await self._round(first=first)
                fresh = first = False
                wait = SHORTEST_WAIT if deferred != before else min(wait * 2, LONGEST_WAIT)
                idle_passes = 0 if deferred != before else idle_passes + 1
            is_open = self._any_job()
            if deferred and (self._wait or idle_passes < _MAX_IDLE_PASSES):
                await asyncio.sleep(wait)
            elif not is_open or not self._wait:
                break
            else:
                await asyncio.sleep(self._interval.next(moved=moved or ended))
        for cost in (self._unaffordable, None if texts is None else texts.unaffordable):
            if cost is not None and not is_open:
                await self._raise_over_budget(cost)

    async def _raise_over_budget(self, cost: float) -> None:
        """Raise the error that no request fits into the budget.

        Raises:
            BudgetError: Always.
        """
        budget = self._reserve.budget
        if budget.fits(cost):  # it would fit without the open jobs of other endpoints
            reserved = await self._in_thread(self._journal.batch_jobs.reserved_cost)
            raise BudgetError(
                f"stopped at [llm] max_cost: batch jobs at other endpoints can still cost {reserved:.6f} USD, and the"
                f" next request here {cost:.6f} USD",
                hint="collect those jobs by the configuration that submitted them, or raise max_cost",
            )
        await budget.reserve(cost)

    async def _round(self, *, first: bool) -> int:
        """Survey all entities once, store answers, submit requests; return the number to revisit soon."""
        self._deferred_requests = 0
        self._unaffordable = None
        self._reserve.refresh()
        texts = self._batch_texts
        if texts is not None:
            texts.begin_pass()
        deferred = await self._survey_all(first=first)
        if self._first_answers is not None:
            self._first_answers.check_all(None if self._spent is None else self._spent.calls)
        if self._connection is not None:
            await self._connection.submitter.send()
        if texts is not None:
            # A pass after this one must find what is stored, and no text but once in the jobs.
            await self._stage.drain()
            await self._embed_joint(texts, complete=bool(deferred or texts.submitter.writing or self._any_job()))
            await texts.end_pass()
            deferred += texts.busy
        return deferred

    def _any_job(self) -> bool:
        return any(side.collector.open_jobs() for side in self._sides)

    async def _embed_joint(self, texts: BatchTexts, *, complete: bool) -> None:
        """Embed joint texts; if others of their parts may be stored later, only those that are complete."""
        chunks = self._joint.chunks(texts.size, complete=complete)
        while (chunk := await self._in_thread(next, chunks, None)) is not None:
            outcomes = await texts.embed([one.text for one in chunk])
            await self._in_thread(self._joint.settle, chunk, outcomes)

    def _connected(self) -> BatchConnection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    async def _claim(self, rows: Sequence[ToAsk]) -> KnownSlice:
        known = await super()._claim(rows)
        # Read after the claim: a note whose job has just ended is answered by now, or came back without an answer.
        self._failed_requests = await self._in_thread(self._journal.batch_jobs.failed_requests, list(known.claimed))
        return known

    async def _take_entity(self, kind: Kind, rows: Sequence[ToAsk], known: KnownSlice, entity: EntityState) -> bool:
        to_ask = []
        revisit = False
        for row in rows:
            if row.input_hash in known.taken:
                # One of several equal prompts is asked; its answer serves the others too.
                entity.pending = True
                continue
            if not self._is_free(row, known, entity):
                revisit = True
                continue
            case, status = settle(kind, row, known.paid)
            self._count_answer(case, status)
            past = self._failed_requests.get(case.input_hash, [])
            failure = _failure(past, self._rounds) if status == "ask_again" else None
            if status == "ask_again" and failure is None:
                to_ask.append(case)
                continue
            entity.take(case.key.aspect)
            leave_claims(case, rows)
            if status == "valid":
                is_new = case.at >= self.counts.started
                if case.cut_offs and self._room_tried:
                    self._connected().submitter.room.leave(Trial(self._room_tried, counts=False), valid=True)
                await self._store_answer(case, is_new=is_new)
            elif failure is not None:
                reason, transient = failure
                # Once it is asked about again, its rounds count from zero.
                await asyncio.wrap_future(self._journal.batch_jobs.clear_failed_requests([case.input_hash]))
                await self._quarantine(case, reason, transient=transient)
            else:
                await self._quarantine(case, case.error, transient=False)
        if to_ask:
            await self._write(to_ask, known, entity)
        return revisit

    def _count_answer(self, case: EntityTask, status: AnswerStatus) -> None:
        """Count the last answer about a note, if this run has collected it."""
        is_new = case.answer_count > self._judged.get(case.input_hash, 0) and case.at >= self.counts.started
        if self._first_answers is None or not is_new:
            return
        self._first_answers.count(call_version([case]), case, status)
        if status == "ask_again":
            self._judged[case.input_hash] = case.answer_count
        else:
            self._judged.pop(case.input_hash, None)

    # -- writing ----------------------------------------------------------------------------------------------------

    async def _write(self, cases: Sequence[EntityTask], known: KnownSlice, entity: EntityState) -> None:
        """Add the notes of an entity to the next job, in a group if that is configured."""
        asked_before = [bool(case.answer_count or self._failed_requests.get(case.input_hash)) for case in cases]
        is_new = not any(asked_before)
        connection = self._connection
        congested = connection is not None and (connection.collector.queue_full or connection.submitter.queue_full)
        waits = is_new and 0 in (self._new_left, self._trial_left)
        if self._abandon or congested or waits or not self._has_room(cases):
            entity.unfinished = True
            await self._defer(cases)
            return
        if is_new and self._new_left is not None:
            self._new_left -= 1
        if is_new and self._trial_left is not None:
            self._trial_left -= 1
        entity.pending = True
        asked = {case.input_hash for case in cases}
        known.taken.update(asked)
        # The job replaces the claim on what it asks for; a later round decides about the requests that may follow.
        self._journal.unclaim([input_hash for case in cases for input_hash in case.claims if input_hash not in asked])
        for was_asked in (False, True):
            some = [case for case, before in zip(cases, asked_before, strict=True) if before == was_asked]
            for bundle in bundles(some):
                await self._grouping.add(bundle, asked_before=was_asked)

    def _has_room(self, cases: Sequence[EntityTask]) -> bool:
        """Check whether an entity may be asked about now: of those whose room for thought is tried, few are at once."""
        if self._room_left is None:
            return True
        room, cut_offs = self._connected().submitter.room, max(case.cut_offs for case in cases)
        if not room.needs_trial(cut_offs):
            return True
        if self._room_left == 0:
            return False
        self._room_left -= 1
        self._room_tried = max(self._room_tried, room.tokens(cut_offs))
        return True

    async def _request(self, group: list[EntityTask]) -> None:
        if self._unaffordable is not None:
            await self._withdraw(group)
            return
        try:
            await self._connected().submitter.write(group)
        except OverBudgetError as short:
            # Open jobs may cost less than was reserved for them: the rest is tried again once they are collected.
            self._unaffordable = short.max_cost
            await self._withdraw(group)
        except RequestTooLargeError:
            parts = list(by_entity(group).values())
            if len(parts) == 1:
                parts = [[case] for case in group]
            if len(parts) > 1:
                for part in parts:
                    await self._request(part)
                return
            await self._quarantine(group[0], _TOO_LARGE, transient=False, pending=True)

    async def _ask_note(self, task: EntityTask) -> NoteFailure | None:
        jobs = self._journal.batch_jobs
        past = await self._in_thread(jobs.failed_requests, [task.input_hash])
        failure = _failure(past.get(task.input_hash, []), self._rounds)
        if failure is not None:
            await asyncio.wrap_future(jobs.clear_failed_requests([task.input_hash]))
            return NoteFailure(*failure)
        connection = self._connection
        congested = connection is not None and (connection.collector.queue_full or connection.submitter.queue_full)
        if self._abandon or congested or self._unaffordable is not None:
            await self._defer([task])
            return None
        try:
            await self._connected().submitter.write([task])
        except OverBudgetError as short:
            self._unaffordable = short.max_cost
            await self._defer([task])
        except RequestTooLargeError:
            return NoteFailure(_TOO_LARGE, transient=False)
        return None

    async def _withdraw(self, group: list[EntityTask]) -> None:
        """Defer entities that count as pending."""
        self._tally.withdrawn(case.key for case in group)
        await self._defer(group)

    async def _defer(self, cases: Sequence[EntityTask]) -> None:
        """Defer notes; a later round or run asks for them."""
        self._deferred_requests += len(cases)
        await asyncio.wrap_future(self._journal.unclaim([input_hash for case in cases for input_hash in case.claims]))


def _failure(past: Sequence[FailedRequest], rounds: int) -> tuple[str, bool] | None:
    """Return why an entity is not asked about again and whether the failure is transient; None if it is asked."""
    failure = permanent_failure(past, rounds)
    return failure if failure is None or failure[1] else (refusal_reason(failure[0]), False)
