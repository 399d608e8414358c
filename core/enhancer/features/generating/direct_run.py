"""Run ``generate`` with direct LLM calls.

::

    survey (thread) ──> claims ──> journal ──┬─ paid already ──────────────┐
                                             └─> groups ──> Generator ──> answered ──> EmbeddingStage (thread) ──> store
                                                               └────────> failed ──> quarantine
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from enhancer.contracts.record import PROFILE_ASPECT, Key
from enhancer.features.generating.generation_run import LONGEST_WAIT, SHORTEST_WAIT, GenerationRun
from enhancer.harness.answers.entity_task import EntityTask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.features.generating.connections import LLMConnection
    from enhancer.features.generating.generation_run import RunServices
    from enhancer.features.kind_spec import KindSpec
    from enhancer.features.surveying.survey import ToAsk
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

    async def answered(self, case: EntityTask) -> None:
        """Store a valid answer."""
        await self._store_answer(case, is_new=True)

    async def failed(self, case: EntityTask, reason: str, transient: bool) -> None:
        """Quarantine an entity without a valid answer."""
        await self._quarantine(case, reason, transient=transient)

    @property
    def _spent(self) -> UsageTotals | None:
        return self._connection.spent if self._connection is not None else None

    @property
    def _incomplete(self) -> bool:
        return self._limit_reached

    @property
    def _limit_reached(self) -> bool:
        return self._left == 0

    def _details(self) -> dict[str, Detail]:
        details = super()._details()
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
            await asyncio.sleep(wait)

    async def _take_slice(self, spec: KindSpec, rows: Sequence[ToAsk]) -> int:
        assert spec.ask is not None
        rows = await self._without_pending(await self._without_quarantined(spec, rows))
        hashes = list(dict.fromkeys(row.input_hash for row in rows))
        claimed = await asyncio.wrap_future(self._journal.claim(hashes))
        deferred = 0
        asked: set[str] = set()
        # Read after the claim: a process that held it before has written its answer by now.
        paid = await self._in_thread(self._journal.paid_answers, list(claimed))
        for row in rows:
            if row.input_hash not in claimed or row.input_hash in asked:
                # One of several equal prompts is asked; the next pass finds its answer for the others.
                deferred += 1
                continue
            case = EntityTask(Key(spec.kind, row.id, PROFILE_ASPECT), row.input_hash, row.prompt, spec.ask)
            verdict = case.receive_all(paid.get(row.input_hash, ()))
            if verdict == "valid":
                self.counts.cached += 1
                await self._store_answer(case, is_new=False)
            elif verdict != "ask_again":
                await self._quarantine(case, case.error, transient=False)
            elif self._left == 0:
                self._journal.unclaim([row.input_hash])
            else:
                self._left = None if self._left is None else self._left - 1
                asked.add(row.input_hash)
                await self._ask(case)
        return deferred

    async def _ask(self, case: EntityTask) -> None:
        if self._generating is None:
            self._connection = self._connect(self)
            self._generating = asyncio.create_task(self._generate(self._connection.generator))
        await self._grouping.add(case, asked_before=bool(case.answer_count))

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
