"""Base of one run of ``generate``: a survey finds work, answers are embedded and stored; all at once, all bounded.

The survey reads the tables repeatedly: an entity that another process is asking about is skipped and comes up again in
the next pass, so nothing about it has to be kept in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from enhancer.contracts.record import Key
from enhancer.errors import StoreError
from enhancer.features.generating.condensing import FilledRows, NoteFailure, ReviewCondenser
from enhancer.features.generating.grouping import Grouping
from enhancer.features.generating.known_answers import all_hashes, quarantined_rows, settle
from enhancer.features.generating.run_counts import RunCounts
from enhancer.features.generating.tally import EntityTally
from enhancer.features.generating.text_quarantine import TextQuarantine
from enhancer.features.storing.embedding_stage import EmbeddingStage
from enhancer.features.storing.records import note_record
from enhancer.features.surveying.survey import rows_by_entity, survey
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.record import Kind, Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.generating.reports import GenerationReport
    from enhancer.features.generating.tally import EntityState
    from enhancer.features.kind_spec import KindSpec
    from enhancer.features.storing.records import UnembeddedRecord
    from enhancer.features.surveying.survey import SurveyChunk, ToAsk
    from enhancer.harness.answers.entity_task import EntityTask
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.harness.embedding.batch_texts import BatchTexts
    from enhancer.harness.embedding.local_texts import LocalTexts
    from enhancer.harness.embedding.remote_texts import RemoteTexts
    from enhancer.harness.generator import Generator
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.harness.journal.journal import Journal
    from enhancer.progress import Detail, Listener

T = TypeVar("T")
_log = logging.getLogger(__name__)
_PROGRESS_INTERVAL = 0.1
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 3.0
"""Seconds between two passes over the tables."""
_NAMED = 5
"""Entities without text that the warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunServices:
    """Objects and options that every run uses."""

    specs: Sequence[KindSpec]
    """Specification of each kind of entity."""
    store: FeatureStore
    journal: Journal
    embedder: Embedder
    texts: Callable[[], LocalTexts | RemoteTexts | BatchTexts]
    """Makes what embeds texts; called once, in the event loop of the run."""
    group_size: int
    """Entities in one request."""
    concurrency: int
    listener: Listener
    warn: Callable[[str], None]
    """Gives a warning, once if pipelines of one project give the same."""
    on_record: Callable[[Record], None] | None
    """Called with each record that is on disk."""
    retry_quarantined: bool
    """Whether to ask again for notes that failed with the same input."""
    total: int | None
    """Number of all entities, if it is known."""
    to_embed: int | None = None
    """Number of records to embed, if it is known."""


class KnownSlice(NamedTuple):
    """State of the notes of a slice in the journal."""

    claimed: set[str]
    """Input hashes that this run has claimed."""
    paid: dict[str, list[PaidAnswer]]
    """Paid answers of each of them that has any."""
    taken: set[str]
    """Input hashes that an entity of the slice is asked about already."""


class GenerationRun(ABC):
    """One run. Belongs to one event loop.

    Subclasses find the work (:meth:`_find_work`), decide about the notes that are not current (:meth:`_take_entity`),
    and ask for groups of them (:meth:`_request`).

    Args:
        services: Objects and options of the run.
    """

    _waits_for_notes = True
    """Whether notes on reviews are answered while the run waits for them."""
    _embeds_again = False
    """Whether passes after the first one embed texts, too."""

    def __init__(self, services: RunServices) -> None:
        self._specs = services.specs
        self._store = services.store
        self._journal = services.journal
        self._make_texts = services.texts
        self._texts: LocalTexts | RemoteTexts | BatchTexts | None = None
        self._fingerprint = services.embedder.fingerprint
        self._slice = max(64, 2 * services.concurrency * services.group_size)
        self._listener = services.listener
        self._warn = services.warn
        self._on_record = services.on_record
        self._retry_quarantined = services.retry_quarantined
        self._total = services.total
        self._to_embed = services.to_embed
        self.counts = RunCounts()
        self.counts.notes = 0 if any(len(spec.notes) > 1 for spec in services.specs) else None
        self._tally = EntityTally(self.counts)
        self._text_quarantine = TextQuarantine(self._journal, self.counts, self._tally)
        notes = next((spec.reviews for spec in services.specs if spec.reviews is not None), None)
        self._condenser: ReviewCondenser | None = None
        if notes is not None:
            self._condenser = ReviewCondenser(
                self._journal,
                notes,
                ask=self._ask_note,
                waits=self._waits_for_notes,
                generator=lambda: self._generator,
                retry=self._retry_quarantined,
                started=self.counts.started,
            )
        self._textless: list[str] = []
        self._grouping = Grouping(services.group_size, self._request)
        self._stage: EmbeddingStage
        self._error: BaseException | None = None
        self._stopped = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "enhancer-survey")

    async def main(self) -> GenerationReport:
        """Run to the end.

        Raises:
            EnhancerError: The error that stopped the run; its ``report`` holds the counts so far.
        """
        self._texts = self._make_texts()
        self._stage = EmbeddingStage(
            self._texts,
            self._store,
            on_stored=self._count_stored,
            on_failed=self._text_quarantine.add,
            on_later=self._text_quarantine.postpone,
            on_error=self._stop,
        )
        ticker = asyncio.create_task(self._tick())
        finder = asyncio.create_task(self._find_work())
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({finder, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not finder.done():
                finder.cancel()
            await asyncio.gather(finder, return_exceptions=True)
            if not finder.cancelled() and (error := finder.exception()) is not None:
                self._stop(error)
            await self._finish_requests()
            self._to_embed = self.counts.to_embed  # no more will come
            await self._stage.finish()
        finally:
            stopped.cancel()
            ticker.cancel()
            self._thread.shutdown(wait=False, cancel_futures=True)
            await self._close()
            with contextlib.suppress(StoreError):  # a full disk was reported already, and claims expire
                await asyncio.wrap_future(self._journal.unclaim())
        self._report_progress()
        if self._condenser is not None and self._condenser.left_out:
            self._warn(self._condenser.left_out_words())
        if self._textless:
            self._warn(self.counts.textless_words(self._textless))
        report = self.report()
        if self._error is not None:
            if hasattr(self._error, "report"):
                self._error.report = report
            raise self._error
        return report

    def interrupt(self, times: int) -> None:
        """End soon: begin nothing new. At the second call, cancel what is in flight."""
        del times
        self._stage.discard()
        self._stop(None)

    def report(self) -> GenerationReport:
        """Return the counts so far."""
        stopped = self._error is not None or self._stopped.is_set() or self._incomplete
        report = self.counts.report(self._spent, finished=not stopped, embedding=self._embedding)
        report = replace(report, truncated=0 if self._texts is None else self._texts.truncated)
        return report if self._condenser is None else replace(report, review_notes=self._condenser.written)

    # -- for subclasses ---------------------------------------------------------------------------------------------

    @abstractmethod
    async def _find_work(self) -> None:
        """Survey the tables until nothing is left to ask about."""

    @abstractmethod
    async def _take_entity(self, kind: Kind, rows: Sequence[ToAsk], known: KnownSlice, entity: EntityState) -> bool:
        """Use answers that were paid for, and ask for the other notes of an entity.

        Args:
            kind: Kind of the entity.
            rows: Its notes that are neither in quarantine nor in an open batch job.
            known: What the journal knows about the slice.
            entity: State of the entity.

        Returns:
            Whether the entity is to be revisited in the next pass.
        """

    @abstractmethod
    async def _request(self, group: list[EntityTask]) -> None:
        """Ask for notes that share a request."""

    @property
    @abstractmethod
    def _spent(self) -> UsageTotals | None:
        """Tokens and cost of the calls so far; None without calls."""

    @property
    @abstractmethod
    def _incomplete(self) -> bool:
        """Whether entities were left for another run."""

    @property
    def _left_to_ask(self) -> int | None:
        """Largest number of entities that may still be asked about; None without a limit."""
        return None

    @property
    def _limit_reached(self) -> bool:
        """Whether the survey may stop, because no more entities may be asked about."""
        return False

    @abstractmethod
    async def _ask_note(self, task: EntityTask) -> NoteFailure | None:
        """Ask for a note on reviews; return why it cannot be written, if that is known at once."""

    @property
    def _generator(self) -> Generator | None:
        """Generator whose answers to :meth:`_ask_note` are waited for; None if there is none yet."""
        return None

    def _stop(self, error: BaseException | None) -> None:
        if error is not None and self._error is None:
            self._error = error
        self._stopped.set()

    async def _finish_requests(self) -> None:
        """Wait for requests in flight."""

    async def _close(self) -> None:
        """Close connections."""

    def _details(self) -> dict[str, Detail]:
        """Return the details of progress events."""
        return self.counts.details(self._spent, self._embedding)

    @property
    def _embedding(self) -> UsageTotals | None:
        """Tokens and cost of a remote embedder; None without one."""
        return None if self._texts is None else self._texts.usage

    # -- finding work -----------------------------------------------------------------------------------------------

    async def _survey_all(self, *, first: bool) -> int:
        """Survey all entities once; return the number of entities to revisit in the next pass."""
        self._tally.begin_pass()
        if self._embeds_again:
            self.counts.texts_pending = 0
        deferred = 0
        for spec in self._specs:
            chunks = survey(spec, self._store, self._fingerprint)
            while (found := await self._in_thread(next, chunks, None)) is not None:
                deferred += await self._take(found, first=first)
            await self._grouping.close()
            if self._limit_reached:
                break
        return deferred

    async def _take(self, found: SurveyChunk, *, first: bool) -> int:
        """Pass on the work of one chunk; return the number of entities to revisit in the next pass."""
        spec, counts = found.spec, self.counts
        if first:
            counts.entities += found.entities
            text_only = not spec.notes
            changed = sum(row.changed for row in found.to_embed) + len(found.empty_texts)
            counts.cached += found.entities - (changed if text_only else sum(1 for _ in found.asks()))
            await self._skip_empty(spec, found)
        if first or self._embeds_again:
            async for one in self._text_quarantine.released(found, self._store, self._in_thread):
                await self._embed(one)
        if self._embeds_again:  # an entity with a text without a vector is known as such before its notes count
            await self._stage.drain()
        entities = [rows for own in found.asks() if (rows := [row for row in own if not row.empty])]
        deferred = 0
        for start in range(0, len(entities), self._slice):
            deferred += await self._take_slice(spec.kind, entities[start : start + self._slice])
            if self._limit_reached:
                break
        return deferred

    async def _take_slice(self, kind: Kind, entities: Sequence[Sequence[ToAsk]]) -> int:
        """Claim notes and decide about them; return the number of entities to revisit in the next pass."""
        rows = [row for own in entities for row in own]
        open_rows, failed = await self._without_quarantined(kind, rows)
        open_rows, pending = await self._without_pending(open_rows)
        known = await self._claim(open_rows)
        filled = FilledRows(open_rows, {}, {}, {})
        if self._condenser is not None and kind == "item":
            filled = await self._condenser.fill(open_rows, known.claimed, known.paid, self._left_to_ask)
        asked = {own[0].id: own for own in rows_by_entity(filled.rows)}
        deferred = 0
        for id_ in (own[0].id for own in entities):
            entity = self._tally.open(kind, id_)
            try:
                entity.failed = entity.failed or id_ in failed
                entity.pending = id_ in pending
                if id_ in asked:
                    deferred += await self._take_entity(kind, asked[id_], known, entity)
                if id_ in filled.later:
                    entity.unfinished = True
                    self._journal.unclaim(all_hashes(filled.later[id_]))
                    deferred += 1
                if id_ in filled.pending:
                    entity.pending = True
                    self._journal.unclaim(all_hashes(filled.pending[id_]))
                failure, rows = filled.failed.get(id_, (None, []))
                for row in rows:
                    assert failure is not None
                    entity.take(row.spec.note.aspect)
                    await self._quarantine(
                        settle(kind, row, known.paid)[0], failure.reason, transient=failure.transient
                    )
            finally:
                self._tally.close(kind, id_)
        return deferred

    def _is_free(self, row: ToAsk, known: KnownSlice, entity: EntityState) -> bool:
        """Check whether this run may decide about a note now; if not, the next pass does."""
        if known.claimed.issuperset(row.hashes) and known.taken.isdisjoint(row.hashes):
            return True
        if row.spec.note.aspect not in entity.in_flight:
            # Another run asks, or another note whose request is or may become the same is asked for: its answer will
            # serve here too.
            entity.unfinished = True
            self._journal.unclaim(known.claimed.intersection(row.hashes) - known.taken)
        return False

    async def _claim(self, rows: Sequence[ToAsk]) -> KnownSlice:
        """Claim the input hashes of rows, and read what the journal knows about them."""
        claimed = await asyncio.wrap_future(self._journal.claim(all_hashes(rows)))
        # Read after the claim: a process that held it before has written its answer by now.
        return KnownSlice(claimed, await self._in_thread(self._journal.paid_answers, list(claimed)), set())

    async def _skip_empty(self, spec: KindSpec, found: SurveyChunk) -> None:
        """Count entities without text or history, and release them from quarantine."""
        empty = [own[0].id for own in found.asks() if all(row.empty for row in own)]
        empty += [row.id for row in found.empty_texts]
        self.counts.without_text += len(empty)
        self._textless += empty[: max(0, _NAMED - len(self._textless))]
        rows = [row for row in found.to_ask if row.empty]
        known = await self._in_thread(quarantined_rows, self._journal, spec.kind, rows) if rows else {}
        if settled := [(Key(spec.kind, *place), one.input_hash) for place, one in known.items()]:
            await asyncio.wrap_future(self._journal.release_quarantine(settled, forget_answers=False))

    async def _without_quarantined(self, kind: Kind, rows: Sequence[ToAsk]) -> tuple[list[ToAsk], set[str]]:
        """Return the notes that are not in quarantine for the same input, and the entities of the others."""
        quarantined = await self._in_thread(quarantined_rows, self._journal, kind, rows)
        if not quarantined:
            return list(rows), set()
        kept: list[ToAsk] = []
        again: list[tuple[Key, str]] = []
        stale: list[tuple[Key, str]] = []
        failed: set[str] = set()
        # With a limit, no more leave quarantine than are asked about now.
        left, may_ask = self._left_to_ask, set[str]()
        for row in rows:
            key = Key(kind, row.id, row.spec.note.aspect)
            known = quarantined.get((key.id, key.aspect))
            if known is not None and known.input_hash in row.hashes:
                is_new = known.at >= self.counts.started
                released = self._retry_quarantined and (left is None or row.id in may_ask or len(may_ask) < left)
                if is_new or not (known.transient or released):
                    failed.add(row.id)
                    continue
                (stale if known.transient else again).append((key, known.input_hash))
            elif known is not None:
                stale.append((key, known.input_hash))
            kept.append(row)
            may_ask.add(row.id)
        if stale:
            await asyncio.wrap_future(self._journal.release_quarantine(stale, forget_answers=False))
        if again:
            await asyncio.wrap_future(self._journal.release_quarantine(again, forget_answers=True))
        return kept, failed

    async def _without_pending(self, rows: Sequence[ToAsk]) -> tuple[list[ToAsk], set[str]]:
        """Return the notes that are in no open batch job, and the entities of the others.

        ``--batch`` collects the answers of the jobs.
        """
        outstanding = await self._in_thread(self._journal.batch_jobs.outstanding, all_hashes(rows))
        kept = [row for row in rows if outstanding.isdisjoint(row.hashes)]
        return kept, {row.id for row in rows if not outstanding.isdisjoint(row.hashes)}

    # -- results ----------------------------------------------------------------------------------------------------

    async def _store_answer(self, case: EntityTask, *, is_new: bool) -> None:
        self._tally.answered(case.key, is_new=is_new)
        await self._embed(note_record(case, is_new=is_new))

    async def _embed(self, one: UnembeddedRecord) -> None:
        self.counts.to_embed += 1
        self.counts.answered += one.is_new and not one.claims
        await self._stage.put(one)

    def _count_stored(self, chunk: Sequence[UnembeddedRecord]) -> None:
        self.counts.embedded += len(chunk)
        self.counts.show(one.record for one in chunk if one.is_new)
        self.counts.generated += sum(one.is_new and not one.claims for one in chunk)
        if self.counts.notes is not None:
            self.counts.notes += sum(one.is_new and bool(one.claims) for one in chunk)
        for one in chunk:
            if one.claims:
                self._tally.stored(one.record.key)
        if hashes := [input_hash for one in chunk for input_hash in one.claims]:
            self._journal.unclaim(hashes)
        if self._on_record is not None:
            for one in chunk:
                try:
                    self._on_record(one.record)
                except Exception:  # noqa: BLE001 - an observer may raise anything
                    # An observer's error must not stop the run; it is logged once, not for each record.
                    self._on_record = None
                    _log.exception("an observer of stored records failed and is called no more")
                    break

    async def _quarantine(self, case: EntityTask, reason: str, *, transient: bool, pending: bool = False) -> None:
        """Put a note into quarantine; ``pending`` says that it counts as written to a batch job."""
        written = self._journal.quarantine(case.key, case.input_hash, reason=reason, raw=case.raw, transient=transient)
        await asyncio.wrap_future(written)
        self._tally.failed(case.key, pending=pending)
        self._journal.unclaim(case.claims)

    # -- progress ---------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Report progress and renew claims until cancelled."""
        renewed = time.monotonic()
        while True:
            self._report_progress()
            if time.monotonic() - renewed > self._journal.lease / 4:
                renewed = time.monotonic()
                self._journal.renew()
            await asyncio.sleep(_PROGRESS_INTERVAL)

    def _report_progress(self) -> None:
        counts = self.counts
        try:
            self._listener(Progress("generate", counts.done, self._total, self._details(), latest=(*counts.latest,)))
            if counts.to_embed:
                done = counts.embedded + counts.not_embedded
                total = max(counts.to_embed, self._to_embed or 0)
                self._listener(Progress("embed", done, total, {}, growing=self._to_embed is None))
        except Exception as error:  # noqa: BLE001 - raised by main, after cleaning up
            self._listener = silent
            self._stop(error)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args))
