"""Run ``generate`` with direct LLM calls.

::

    survey (thread) ──> claims ──> journal ──┬─ paid already ──────────────┐
                                             └─> groups ──> Generator ──> answered ──> EmbeddingStage (thread) ──> store
                                                               └────────> failed ──> quarantine
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from enhancer.features.generating.generation_run import LONGEST_WAIT, SHORTEST_WAIT, GenerationRun
from enhancer.features.generating.grouping import bundles
from enhancer.features.generating.known_answers import leave_claims, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.features.generating.condensing import NoteFailure
    from enhancer.features.generating.connections import LLMConnection
    from enhancer.features.generating.generation_run import KnownSlice, RunServices
    from enhancer.features.generating.tally import EntityState
    from enhancer.features.surveying.survey import ToAsk
    from enhancer.harness.answers.entity_task import EntityTask
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.harness.generator import Generator
    from enhancer.progress import Detail

GRACE_SECONDS = 5.0
"""Time that calls in flight may take after the first Ctrl-C."""


class DirectRun(GenerationRun):
    """One run that calls the LLM directly.

    Args:
        services: Objects and options of the run.
        connect: Opens the connection to the LLM; called at the first call.
        limit: Largest number of entities to ask about.
    """

    def __init__(
        self, services: RunServices, *, connect: Callable[[DirectRun], LLMConnection], limit: int | None
    ) -> None:
        super().__init__(services)
        self._connect = connect
        self._left = limit
        self._connection: LLMConnection | None = None
        self._generating: asyncio.Task[None] | None = None
        self._groups: asyncio.Queue[list[EntityTask] | None] = asyncio.Queue(max(4, services.concurrency // 2))

    def interrupt(self, times: int) -> None:
        """End soon: calls in flight may still be answered. At the second call, cancel them."""
        super().interrupt(times)
        if self._connection is None:
            return
        generator = self._connection.generator
        if times > 1:
            generator.abort()
        else:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, generator.abort)

    async def answered(self, case: EntityTask) -> EntityTask | None:
        """Store a valid answer; return the task to ask next if its confidence is too low."""
        if self._condenser is not None and self._condenser.answered(case):
            return None
        follow_up = case.follow_up
        if follow_up is None:
            await self._store_answer(case, is_new=True)
            return None
        status = follow_up.receive_all(case.paid_follow_ups)
        if status == "ask_again":
            return follow_up
        if status == "valid":
            await self._store_answer(follow_up, is_new=True)
        else:
            await self._quarantine(follow_up, follow_up.error, transient=False)
        return None

    async def failed(self, case: EntityTask, reason: str, transient: bool) -> None:
        """Quarantine an entity without a valid answer."""
        if self._condenser is not None and self._condenser.failed(case, reason, transient=transient):
            return
        await self._quarantine(case, reason, transient=transient)

    async def excused(self, case: EntityTask, reason: str) -> None:
        """Have the next run ask again for a note in quarantine: its text was not the cause."""
        key = case.key
        known = self._journal.quarantined(key.kind, [key.id], key.aspect).get(key.id)
        if known is not None and known.input_hash == case.input_hash:
            written = self._journal.quarantine(key, case.input_hash, reason=reason, raw=case.raw, transient=True)
            await asyncio.wrap_future(written)

    @property
    def _spent(self) -> UsageTotals | None:
        return self._connection.spent if self._connection is not None else None

    @property
    def _incomplete(self) -> bool:
        return self._limit_reached

    @property
    def _limit_reached(self) -> bool:
        return self._left == 0

    @property
    def _left_to_ask(self) -> int | None:
        return self._left

    @property
    def _generator(self) -> Generator | None:
        return None if self._connection is None else self._connection.generator

    def _details(self) -> dict[str, Detail]:
        details = super()._details()
        if self._connection is not None and (in_flight := self._connection.generator.in_flight):
            details["in_flight"] = in_flight
        if self._connection is not None and (slowed := self._connection.generator.throttling):
            details["slowed"] = slowed
        return details

    def _stop(self, error: BaseException | None) -> None:
        super()._stop(error)
        if self._connection is not None:
            self._connection.generator.stop()

    async def _find_work(self) -> None:
        wait = SHORTEST_WAIT
        first, before = True, 0
        while True:
            deferred = await self._survey_all(first=first)
            if self._limit_reached or not deferred:
                return
            # Another process, or a worker of this one, is asking about the same; its answer will serve here too.
            wait = SHORTEST_WAIT if deferred != before else min(wait * 2, LONGEST_WAIT)
            first, before = False, deferred
            held = [] if self._generator is None else self._generator.undecided
            if self._generator is not None and held and len(held) == self._tally.unanswered:
                # No answer that could decide about them is out, and notes with the same prompt wait for them.
                await self._generator.decide()
            await asyncio.sleep(wait)

    async def _take_entity(self, kind: Kind, rows: Sequence[ToAsk], known: KnownSlice, entity: EntityState) -> bool:
        to_ask = []
        revisit = False
        for row in rows:
            if not self._is_free(row, known, entity):
                revisit = True
                continue
            case, status = settle(kind, row, known.paid)
            if status == "ask_again" and self._left == 0:
                entity.unfinished = True
                self._journal.unclaim(case.claims)
                continue
            entity.take(case.key.aspect)
            if status != "ask_again":
                leave_claims(case, rows)
            if status == "valid":
                await self._store_answer(case, is_new=False)
            elif status == "ask_again":
                to_ask.append(case)
                known.taken.update(case.claims)
            else:
                await self._quarantine(case, case.error, transient=False)
        if to_ask:
            self._left = None if self._left is None else self._left - 1
            for bundle in bundles(to_ask):
                await self._ask(bundle)
        return revisit

    def _begin_asking(self) -> None:
        if self._generating is None:
            self._connection = self._connect(self)
            self._generating = asyncio.create_task(self._generate(self._connection.generator))

    async def _ask_note(self, task: EntityTask) -> NoteFailure | None:
        self._begin_asking()
        await self._groups.put([task])
        return None

    async def _ask(self, bundle: list[EntityTask]) -> None:
        self._begin_asking()
        await self._grouping.add(bundle, asked_before=bool(bundle[0].answer_count))

    async def _request(self, group: list[EntityTask]) -> None:
        await self._groups.put(group)

    async def _next_group(self) -> list[EntityTask] | None:
        group = await self._groups.get()
        if group is None:
            self._groups.put_nowait(None)
        return group

    async def _generate(self, generator: Generator) -> None:
        try:
            await generator.run(self._next_group)
        except BaseException as error:  # noqa: BLE001 - raised by main, after cleaning up
            self._stop(error)

    async def _finish_requests(self) -> None:
        if self._generating is not None:
            await self._end_queue(self._generating)
            await self._generating

    async def _end_queue(self, generating: asyncio.Task[None]) -> None:
        """Put the end mark into the queue; the workers may have stopped while it is full."""
        while not generating.done():
            try:
                self._groups.put_nowait(None)
            except asyncio.QueueFull:
                await asyncio.wait({generating}, timeout=0.02)
            else:
                return

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
