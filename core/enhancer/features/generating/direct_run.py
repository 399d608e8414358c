"""One run of ``generate``: a scout finds work, workers ask, a stage embeds and stores; all at once, all bounded.

::

    scout (thread) ──> claims ──> journal ──┬─ paid already ──────────────┐
                                            └─> groups ──> Generator ──> answered ──> EmbeddingStage (thread) ──> store
                                                              └────────> failed ──> quarantine

The scout reads the tables as often as it takes: an entity that another process is asking about just now is passed over
and looked at again in the next pass, so that nothing has to be remembered about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from enhancer.contracts.record import PROFILE_ASPECT, Key
from enhancer.errors import StoreError
from enhancer.features.generating.counts import Tally
from enhancer.features.generating.grouping import Grouping
from enhancer.features.generating.survey import survey
from enhancer.features.storing.embedding import EmbeddingStage
from enhancer.features.storing.records import embedded_anew, profile_record, text_record
from enhancer.harness.answers.case import Case
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.record import Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.generating.reports import GenerationReport
    from enhancer.features.generating.survey import Surveyed, ToAsk, ToEmbed, Work
    from enhancer.features.storing.records import Unembedded
    from enhancer.harness.calls.spending import Spent
    from enhancer.harness.generator import Generator
    from enhancer.harness.journal.journal import Journal
    from enhancer.progress import Listener

T = TypeVar("T")
_log = logging.getLogger(__name__)
GRACE_SECONDS = 5.0
"""How long calls in flight may still take after the first Ctrl-C."""
_TICK = 0.1
_SHORTEST_WAIT = 0.1
_LONGEST_WAIT = 3.0
_NAMED = 5
"""Entities without text that are named."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The part of a run that calls an LLM; made when the first call is due."""

    generator: Generator
    spent: Spent
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What every run works with, whether it calls the LLM directly or by offline batches."""

    works: Sequence[Work]
    """What is wanted of each kind of entity."""
    store: FeatureStore
    journal: Journal
    embedder: Embedder
    items_per_request: int
    concurrency: int
    listener: Listener
    on_record: Callable[[Record], None] | None
    """Told of each record once it is on disk."""
    retry_quarantined: bool
    """Whether to ask again about entities that failed with the same input before."""
    total: int | None
    """Entities in all, where they have been counted."""


class Run:
    """Made for one run and one event loop.

    Args:
        parts: What it works with.
        make_asking: Opens the way to the LLM, when the first call is due.
        limit: Entities that are asked about at most.
    """

    def __init__(self, parts: Parts, *, make_asking: Callable[[Run], Asking], limit: int | None) -> None:
        self._works = parts.works
        self._store = parts.store
        self._journal = parts.journal
        self._embedder = parts.embedder
        self._fingerprint = parts.embedder.fingerprint
        self._make_asking = make_asking
        self._slice = max(64, 2 * parts.concurrency * parts.items_per_request)
        self._listener = parts.listener
        self._on_record = parts.on_record
        self._retry_quarantined = parts.retry_quarantined
        self._left = limit
        self._total = parts.total
        self.tally = Tally()
        self._textless: list[str] = []
        self._asking: Asking | None = None
        self._generating: asyncio.Task[None] | None = None
        self._groups: asyncio.Queue[list[Case] | None] = asyncio.Queue(max(4, parts.concurrency // 2))
        self._grouping = Grouping(parts.items_per_request, self._ask_together)
        self._stage: EmbeddingStage
        self._error: BaseException | None = None
        self._stopped = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "enhancer-scout")

    # -- the whole --------------------------------------------------------------------------------------------------

    async def main(self) -> GenerationReport:
        """Do the work.

        Raises:
            EnhancerError: What stopped the run; its ``report`` says what had been done.
        """
        self._stage = EmbeddingStage(self._embedder, self._store, stored=self._stored, broken=self._stop)
        ticker = asyncio.create_task(self._tick())
        scout = asyncio.create_task(self._scout())
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({scout, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not scout.done():
                scout.cancel()
            await asyncio.gather(scout, return_exceptions=True)
            if not scout.cancelled() and (error := scout.exception()) is not None:
                self._stop(error)
            if self._generating is not None:
                await self._offer_end()
                await self._generating
            await self._stage.finish()
        finally:
            stopped.cancel()
            ticker.cancel()
            self._thread.shutdown(wait=False, cancel_futures=True)
            if self._asking is not None:
                await self._asking.close()
            with contextlib.suppress(StoreError):  # a full disk was reported already; claims run out by themselves
                await asyncio.wrap_future(self._journal.unclaim())
        self._tell()
        if self._textless:
            _log.warning("%s", _without_text(self._textless, self.tally.without_text))
        report = self.report()
        if self._error is not None:
            if hasattr(self._error, "report"):
                self._error.report = report
            raise self._error
        return report

    def interrupt(self, times: int) -> None:
        """End soon: nothing new is begun, and calls in flight may be answered; the second time they are cancelled."""
        self._stage.discard()
        self._stop(None)
        if self._asking is None:
            return
        generator = self._asking.generator
        if times > 1:
            generator.abort()
        else:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, generator.abort)

    def report(self) -> GenerationReport:
        """What was done so far."""
        stopped = self._error is not None or self._stopped.is_set() or self._left == 0
        return self.tally.report(self._spent, finished=not stopped)

    @property
    def _spent(self) -> Spent | None:
        return self._asking.spent if self._asking is not None else None

    def _stop(self, error: BaseException | None) -> None:
        if error is not None and self._error is None:
            self._error = error
        self._stopped.set()
        if self._asking is not None:
            self._asking.generator.stop()

    # -- finding work -----------------------------------------------------------------------------------------------

    async def _scout(self) -> None:
        wait = _SHORTEST_WAIT
        first, before = True, 0
        while True:
            self.tally.quarantined = self.tally.pending = 0
            put_aside = 0
            for work in self._works:
                chunks = survey(work, self._store, self._fingerprint)
                while (found := await self._in_thread(next, chunks, None)) is not None:
                    put_aside += await self._take(found, first=first)
                await self._grouping.close()
                if self._left == 0:
                    return
            if not put_aside:
                return
            # Another process, or a worker of ours, is asking about the same; its answer will serve here too.
            wait = _SHORTEST_WAIT if put_aside != before else min(wait * 2, _LONGEST_WAIT)
            first, before = False, put_aside
            await asyncio.sleep(wait)

    async def _take(self, found: Surveyed, *, first: bool) -> int:
        """Hand on the work of one chunk; gives how many entities are to be looked at again later."""
        work, tally = found.work, self.tally
        if first:
            tally.entities += found.entities
            text_alone = work.ask is None
            changed = sum(row.changed for row in found.to_embed) + len(found.empty_texts)
            tally.passed += found.entities - (changed if text_alone else len(found.to_ask))
            await self._reembed(work, found.to_reembed)
            for row in found.to_embed:
                # A text beside a profile is not counted as an entity of its own.
                await self._hand_on(text_record(work, row, is_new=text_alone and row.changed))
        rows = [row for row in found.to_ask if not row.empty]
        if first:
            await self._pass_over(work, [*(row for row in found.to_ask if row.empty), *found.empty_texts])
        put_aside = 0
        for start in range(0, len(rows), self._slice):
            put_aside += await self._take_slice(work, rows[start : start + self._slice])
            if self._left == 0:
                break
        return put_aside

    async def _pass_over(self, work: Work, rows: Sequence[ToAsk | ToEmbed]) -> None:
        """Count entities that there is nothing to ask about, and take them out of quarantine."""
        self.tally.without_text += len(rows)
        self._textless += [row.id for row in rows[: max(0, _NAMED - len(self._textless))]]
        if rows and work.ask is not None:
            known = await self._in_thread(self._journal.quarantined, work.kind, [row.id for row in rows])
            if settled := [(Key(work.kind, one.id, PROFILE_ASPECT), one.input_hash) for one in known.values()]:
                await asyncio.wrap_future(self._journal.release_quarantine(settled, forget_answers=False))

    async def _take_slice(self, work: Work, rows: Sequence[ToAsk]) -> int:
        """Claim entities, look whether they were paid for meanwhile, and pass the rest to the workers."""
        assert work.ask is not None
        rows = await self._leave_out(await self._leave_quarantined(work, rows))
        hashes = list(dict.fromkeys(row.input_hash for row in rows))
        ours = await asyncio.wrap_future(self._journal.claim(hashes))
        put_aside = 0
        asked: set[str] = set()
        # Only after the claim: whoever held it before has written their answer by now.
        paid = await self._in_thread(self._journal.paid, list(ours))
        for row in rows:
            if row.input_hash not in ours or row.input_hash in asked:
                # Of equal questions one is asked; its answer will be there for the others in the next pass.
                put_aside += 1
                continue
            case = Case(Key(work.kind, row.id, PROFILE_ASPECT), row.input_hash, row.prompt, work.ask)
            verdict = case.review(paid.get(row.input_hash, ()))
            if verdict == "answered":
                self.tally.passed += 1
                await self._embed(case, is_new=False)
            elif verdict != "again":
                await self._failed(case, case.error, transient=False)
            elif self._left == 0:
                self._journal.unclaim([row.input_hash])
            else:
                self._left = None if self._left is None else self._left - 1
                asked.add(row.input_hash)
                await self._ask(case)
        return put_aside

    async def _leave_quarantined(self, work: Work, rows: Sequence[ToAsk]) -> list[ToAsk]:
        """Sort out those that failed before with the very same input."""
        ids = [row.id for row in rows]
        there = await self._in_thread(self._journal.quarantined, work.kind, ids)
        if not there:
            return list(rows)
        kept, again, stale = [], [], []
        for row in rows:
            known = there.get(row.id)
            key = Key(work.kind, row.id, PROFILE_ASPECT)
            if known is None:
                kept.append(row)
            elif known.input_hash == row.input_hash and known.at >= self.tally.started:
                self.tally.quarantined += 1
            elif known.input_hash != row.input_hash or known.transient:
                stale.append((key, known.input_hash))
                kept.append(row)
            elif self._retry_quarantined:
                again.append((key, row.input_hash))
                kept.append(row)
            else:
                self.tally.quarantined += 1
        if stale:
            await asyncio.wrap_future(self._journal.release_quarantine(stale, forget_answers=False))
        if again:
            await asyncio.wrap_future(self._journal.release_quarantine(again, forget_answers=True))
        return kept

    async def _leave_out(self, rows: Sequence[ToAsk]) -> list[ToAsk]:
        """Sort out those that are out in an offline batch: they are paid for, and ``--batch`` collects them."""
        out = await self._in_thread(self._journal.jobs.out, [row.input_hash for row in rows])
        kept = [row for row in rows if row.input_hash not in out]
        self.tally.pending += len(rows) - len(kept)
        return kept

    async def _ask(self, case: Case) -> None:
        if self._generating is None:
            self._asking = self._make_asking(self)
            self._generating = asyncio.create_task(self._generate(self._asking.generator))
        await self._grouping.add(case, asked_before=bool(case.heard))

    async def _ask_together(self, group: list[Case]) -> None:
        await self._groups.put(group)

    async def _pull(self) -> list[Case] | None:
        group = await self._groups.get()
        if group is None:
            self._groups.put_nowait(None)
        return group

    async def _offer_end(self) -> None:
        """Tell the workers that nothing more comes; they may have stopped, with the queue full."""
        while self._generating is not None and not self._generating.done():
            try:
                self._groups.put_nowait(None)
            except asyncio.QueueFull:
                await asyncio.wait({self._generating}, timeout=0.02)
            else:
                return

    async def _generate(self, generator: Generator) -> None:
        try:
            await generator.run(self._pull)
        except BaseException as error:  # noqa: BLE001 - raised by main, once everything has been tidied up
            self._stop(error)

    async def _reembed(self, work: Work, ids: Sequence[str]) -> None:
        if not ids:
            return
        get = self._store.get
        for record in await self._in_thread(lambda: get(ids, kind=work.kind, aspect=PROFILE_ASPECT)):
            if record is not None:
                await self._hand_on(embedded_anew(record))

    # -- what came out ----------------------------------------------------------------------------------------------

    async def answered(self, case: Case) -> None:
        """A worker has a valid answer."""
        await self._embed(case, is_new=True)

    async def failed(self, case: Case, reason: str, transient: bool) -> None:
        """A worker has given up."""
        await self._failed(case, reason, transient=transient)

    async def _failed(self, case: Case, reason: str, *, transient: bool) -> None:
        await self._quarantine(case.key, case.input_hash, reason, case.raw, transient=transient)
        self._journal.unclaim([case.input_hash])

    async def _quarantine(self, key: Key, hash_: str, reason: str, raw: str, *, transient: bool = False) -> None:
        written = self._journal.quarantine(key, hash_, reason=reason, raw=raw, transient=transient)
        await asyncio.wrap_future(written)
        self.tally.quarantined += 1
        self.tally.newly_quarantined += 1

    async def _embed(self, case: Case, *, is_new: bool) -> None:
        await self._hand_on(profile_record(case, is_new=is_new))

    async def _hand_on(self, one: Unembedded) -> None:
        self.tally.handed_on += 1
        self.tally.answered += one.is_new
        await self._stage.put(one)

    def _stored(self, batch: Sequence[Unembedded]) -> None:
        self.tally.embedded += len(batch)
        self.tally.generated += sum(one.is_new for one in batch)
        if hashes := [one.input_hash for one in batch if one.input_hash is not None]:
            self._journal.unclaim(hashes)
        if self._on_record is not None:
            for one in batch:
                try:
                    self._on_record(one.record)
                except Exception:  # noqa: BLE001 - an observer may raise anything
                    # An observer's error must not stop the run; it is logged once, not for each record.
                    self._on_record = None
                    _log.exception("an observer of stored records failed and is told of no more of them")
                    break

    # -- telling ----------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        renewed = time.monotonic()
        while True:
            self._tell()
            if time.monotonic() - renewed > self._journal.lease / 4:
                renewed = time.monotonic()
                self._journal.renew()
            await asyncio.sleep(_TICK)

    def _tell(self) -> None:
        tally = self.tally
        try:
            detail = tally.detail(self._spent)
            if self._asking is not None and (slowed := self._asking.generator.slowed):
                detail["slowed"] = slowed
            self._listener(Progress("generate", tally.done, self._total, detail))
            if tally.handed_on:
                self._listener(Progress("embed", tally.embedded, tally.handed_on, {}))
        except Exception as error:  # noqa: BLE001 - raised by main, once everything has been tidied up
            self._listener = silent
            self._stop(error)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args))


def _without_text(named: Sequence[str], count: int) -> str:
    more = "" if count <= len(named) else ", …"
    return (
        f"{count} without text: there is nothing to describe them by, so they get no profile"
        f" ({', '.join(map(repr, named))}{more})"
    )
