"""Embed and store records in chunks, in a thread of its own, while LLM calls are in flight."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.storing.records import UnembeddedRecord

CHUNK = 128
"""Records that fill a chunk."""
_MAX_WAITING = 4 * CHUNK
"""Largest number of waiting records; all of them enter the next chunk."""
_INTERRUPT_GRACE = 1.0
"""Seconds to wait for the current chunk after an interrupt: loading a model can take much longer."""
_FILL_SECONDS = 0.25
"""Seconds to wait for a chunk to fill up."""


class EmbeddingStage:
    """Embeds records and stores them. Belongs to one event loop.

    Args:
        embedder: Makes the vectors.
        store: Receives the records.
        on_stored: Called in the event loop with each chunk that is on disk.
        on_error: Called once if embedding or storing fails. Later records are dropped; their answers are in the
            journal.
    """

    def __init__(
        self,
        embedder: Embedder,
        store: FeatureStore,
        *,
        on_stored: Callable[[Sequence[UnembeddedRecord]], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._on_stored = on_stored
        self._on_error = on_error
        self._waiting: list[UnembeddedRecord] = []
        self._ended = False
        # Set when a record waits, when a chunk need not fill up any further, and when there is room for more records.
        self._some, self._full, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "enhancer-embed")
        self._discard = False
        self._grace_over = asyncio.Event()
        self._abandoned = False
        self._storing = threading.Lock()
        self._task = asyncio.create_task(self._run())

    async def put(self, one: UnembeddedRecord) -> None:
        """Add a record; wait while too many are waiting."""
        while len(self._waiting) >= _MAX_WAITING:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(one)
        if len(self._waiting) == 1:
            self._some.set()
        if len(self._waiting) == CHUNK:
            self._full.set()

    def discard(self) -> None:
        """Drop the waiting records, to end an interrupted run quickly; the next run embeds them from the journal."""
        self._discard = True
        self._full.set()
        asyncio.get_running_loop().call_later(_INTERRUPT_GRACE, self._grace_over.set)

    async def finish(self) -> None:
        """Wait until all records are stored."""
        self._ended = True
        self._some.set()
        self._full.set()
        await self._task
        self._thread.shutdown(wait=not self._abandoned)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while chunk := await self._next_chunk():
            if self._discard:
                continue
            try:
                work = loop.run_in_executor(self._thread, self._embed_and_store, chunk)
                if await self._is_stored(work):
                    self._on_stored(chunk)
            except Exception as error:  # noqa: BLE001 - raised again by the run
                self._discard = True
                self._on_error(error)

    async def _is_stored(self, work: asyncio.Future[None]) -> bool:
        """Wait for the current chunk. Returns False if the run was interrupted and the chunk took too long."""
        grace_over = asyncio.ensure_future(self._grace_over.wait())
        either: set[asyncio.Future[Any]] = {work, grace_over}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            grace_over.cancel()
        if not work.done():
            with self._storing:  # let a write that has begun finish: afterwards the store may be closed
                self._abandoned = not work.done()
        if self._abandoned:
            work.cancel()
            return False
        await work
        return True

    async def _next_chunk(self) -> list[UnembeddedRecord]:
        """Return the records of the next chunk; empty at the end."""
        while not self._waiting and not self._ended:
            self._some.clear()
            await self._some.wait()
        if len(self._waiting) < CHUNK and not self._ended and not self._discard:
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FILL_SECONDS):
                    await self._full.wait()
        chunk, self._waiting = self._waiting, []
        self._room.set()
        return chunk

    def _embed_and_store(self, chunk: Sequence[UnembeddedRecord]) -> None:
        vectors = self._embedder.encode([one.text for one in chunk])
        if vectors.shape[0] != len(chunk):
            raise StoreError(f"the embedder returned {vectors.shape[0]} vectors for {len(chunk)} texts")
        fingerprint = self._embedder.fingerprint
        for one, vector in zip(chunk, vectors, strict=True):
            one.record.vector = np.ascontiguousarray(vector, np.float32)
            one.record.embedder = fingerprint
        with self._storing:
            if not self._abandoned:
                self._store.put([one.record for one in chunk])
