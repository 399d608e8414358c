"""Embed and store records in chunks while LLM calls are in flight."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from enhancer.harness.embedding.outcomes import LaterVector, NoVector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.record import Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.storing.records import UnembeddedRecord
    from enhancer.harness.embedding.batch_texts import BatchTexts
    from enhancer.harness.embedding.local_texts import LocalTexts
    from enhancer.harness.embedding.remote_texts import RemoteTexts

_LEAST_WAITING = 512
"""Smallest limit of waiting records."""
_MOST_WRITTEN = 1024
"""Largest number of records in one call of the store."""
_FILL_SECONDS = 0.25
"""Seconds to wait for a chunk to fill up."""


class EmbeddingStage:
    """Embeds records and stores them. Belongs to one event loop.

    A chunk is embedded while earlier ones are being stored; a server embeds several at once.

    Args:
        texts: Makes the vectors.
        store: Receives the records.
        on_stored: Called in the event loop with records that are on disk.
        on_failed: Called with a record whose text has no vector, and the reason.
        on_later: Called with a record that is to be embedded by a later pass or run, and whether it is in a batch job.
        on_error: Called once if embedding or storing fails. Later records are dropped; their answers are in the
            journal.
    """

    def __init__(
        self,
        texts: LocalTexts | RemoteTexts | BatchTexts,
        store: FeatureStore,
        *,
        on_stored: Callable[[Sequence[UnembeddedRecord]], None],
        on_failed: Callable[[UnembeddedRecord, str], None],
        on_later: Callable[[UnembeddedRecord, bool], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._texts = texts
        self._store = store
        self._on_stored = on_stored
        self._on_failed = on_failed
        self._on_later = on_later
        self._on_error = on_error
        self._most_waiting = max(_LEAST_WAITING, 2 * texts.size * texts.parallel)
        self._waiting: list[UnembeddedRecord] = []
        self._embedded: list[UnembeddedRecord] = []
        """Records with a vector that are to be stored."""
        self._storing = False
        self._ended = self._draining = False
        # Set when a record waits, when a chunk need not fill up any further, when there is room for more records, and
        # when there are records to store.
        self._some, self._full, self._room, self._ready = (asyncio.Event() for _ in range(4))
        self._chunks: set[asyncio.Task[None]] = set()
        self._thread = ThreadPoolExecutor(1, "enhancer-store")
        self._discard = False
        self._storer = asyncio.create_task(self._store_all())
        self._task = asyncio.create_task(self._embed_all())

    async def put(self, one: UnembeddedRecord) -> None:
        """Add a record; wait while too many are waiting."""
        while len(self._waiting) + len(self._embedded) >= self._most_waiting and not self._discard:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(one)
        if len(self._waiting) == 1:
            self._some.set()
        if len(self._waiting) >= self._texts.size:
            self._full.set()

    def discard(self) -> None:
        """Drop the waiting records, to end an interrupted run quickly; the next run embeds them from the journal.

        Chunks that are being embedded are stored if that takes no longer than their time of grace.
        """
        self._discard = True
        self._full.set()
        self._room.set()
        asyncio.get_running_loop().call_later(self._texts.grace, self._give_up)

    def _give_up(self) -> None:
        for task in self._chunks:
            task.cancel()

    async def drain(self) -> None:
        """Wait until all records so far are stored or passed on."""
        self._draining = True
        self._full.set()
        while (self._waiting or self._chunks or self._embedded or self._storing) and not self._discard:
            self._room.clear()
            await self._room.wait()
        self._draining = False

    async def finish(self) -> None:
        """Wait until all records are stored."""
        self._ended = True
        self._some.set()
        self._full.set()
        await self._task
        self._ready.set()
        await self._storer
        self._thread.shutdown()
        with contextlib.suppress(Exception):  # the connections are of no further use
            await self._texts.aclose()

    async def _embed_all(self) -> None:
        while True:
            while len(self._chunks) >= self._texts.parallel:
                await asyncio.wait(self._chunks, return_when=asyncio.FIRST_COMPLETED)
            chunk = await self._next_chunk()
            if not chunk:
                break
            if self._discard:
                continue
            task = asyncio.create_task(self._embed(chunk))
            self._chunks.add(task)
            task.add_done_callback(self._chunk_done)
        if self._chunks:
            await asyncio.wait(self._chunks)

    def _chunk_done(self, task: asyncio.Task[None]) -> None:
        self._chunks.discard(task)
        self._room.set()

    async def _next_chunk(self) -> list[UnembeddedRecord]:
        """Return the records of the next chunk; empty at the end."""
        while not self._waiting and not self._ended:
            self._some.clear()
            await self._some.wait()
        size = self._texts.size
        if len(self._waiting) < size and not (self._ended or self._discard or self._draining):
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FILL_SECONDS):
                    await self._full.wait()
        if self._discard:
            size = len(self._waiting)
        chunk, self._waiting = self._waiting[:size], self._waiting[size:]
        self._room.set()
        return chunk

    async def _embed(self, chunk: Sequence[UnembeddedRecord]) -> None:
        try:
            outcomes = await self._texts.embed([one.text for one in chunk])
            fingerprint = self._texts.fingerprint
            for one, outcome in zip(chunk, outcomes, strict=True):
                if isinstance(outcome, LaterVector):
                    self._on_later(one, outcome.in_job)
                    continue
                if isinstance(outcome, NoVector):
                    self._on_failed(one, outcome.reason)
                    continue
                one.record.vector, one.record.embedder = outcome, fingerprint
                self._embedded.append(one)
            self._ready.set()
        except asyncio.CancelledError:
            pass  # given up after an interrupt
        except Exception as error:  # noqa: BLE001 - raised again by the run
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._discard:
            self._discard = True
            self._full.set()
            self._room.set()
            asyncio.get_running_loop().call_later(self._texts.grace, self._give_up)
            self._on_error(error)

    async def _store_all(self) -> None:
        """Store what is embedded, all that has gathered meanwhile at once."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._embedded and not self._task.done():
                self._ready.clear()
                await self._ready.wait()
            if not self._embedded:
                return
            chunk, self._embedded = self._embedded[:_MOST_WRITTEN], self._embedded[_MOST_WRITTEN:]
            records: list[Record] = [one.record for one in chunk]
            self._storing = True
            try:
                await loop.run_in_executor(self._thread, self._store.put, records)
            except Exception as error:  # noqa: BLE001 - raised again by the run
                self._fail(error)
            else:
                self._on_stored(chunk)
            self._storing = False
            self._room.set()
