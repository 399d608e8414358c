"""Group the operations that write to a journal into transactions, by a single thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from concurrent.futures import Future, InvalidStateError
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from enhancer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.operations.journal import JournalConnection, JournalDatabase

P = TypeVar("P")
R = TypeVar("R")
_MAX_OPERATIONS = 4096
"""Maximum number of operations per transaction."""


class _Queued(NamedTuple):
    """An operation waiting for the writer thread.

    ``operation`` is called with a connection and the payloads of consecutive entries with the same operation. It
    returns one result per payload.
    """

    operation: Callable[[JournalConnection, list[Any]], Sequence[Any]]
    payload: Any
    future: Future[Any] | asyncio.Future[Any]


class Database:
    """Database of a journal, safe to use from several threads and processes.

    Args:
        place: Where the tables are.
    """

    def __init__(self, place: JournalDatabase) -> None:
        self._place = place
        self.has_table = place.has_table
        self.read = place.read
        self.shared_time = place.shared_time
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._closed = False

    def submit(self, operation: Callable[[JournalConnection], Any]) -> Future[Any]:
        """Run ``operation`` in the next transaction. The future is done when the transaction is on disk."""
        future: Future[Any] = Future()
        self._put(_Queued(lambda connection, _: [operation(connection)], None, future))
        return future

    def append(
        self,
        operation: Callable[[JournalConnection, list[P]], Sequence[R]],
        payload: P,
        future: Future[R] | asyncio.Future[R],
    ) -> None:
        """Like :meth:`submit`, for frequent operations: ``operation`` is called once with all waiting payloads.

        Each statement releases the interpreter lock and must reacquire it from a busy event loop, which may take
        milliseconds. A few statements of many rows are therefore much faster than many statements of one row.

        Args:
            operation: Writes many payloads and returns a result for each. Must be the same object in every call.
            payload: The payload to write.
            future: Done when the payload is on disk. The event loop of asyncio futures wakes once per transaction.
        """
        self._put(_Queued(operation, payload, future))

    def _put(self, queued: _Queued) -> None:
        with self._lock:
            if self._closed:
                raise StoreError(f"{self._place.name} is closed")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="enhancer-journal", daemon=True)
                self._writer.start()
            self._queue.put(queued)

    def close(self) -> None:
        """Finish queued operations and close. Can be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            writer = self._writer
            self._queue.put(None)
        if writer is not None:
            writer.join()
        self._place.close()

    def _write(self) -> None:
        """Run the writer thread: all waiting operations go into one transaction."""
        while True:
            first = self._queue.get()
            if first is None:
                return
            queued_operations = [first]
            last = False
            with contextlib.suppress(queue.Empty):
                while len(queued_operations) < _MAX_OPERATIONS:
                    more = self._queue.get_nowait()
                    if more is None:
                        last = True
                        break
                    queued_operations.append(more)
            self._transact(queued_operations)
            if last:
                return

    def _transact(self, queued_operations: list[_Queued]) -> None:
        def work(connection: JournalConnection) -> list[Any]:
            results: list[Any] = []
            for operation, alike in groupby(queued_operations, key=lambda queued: queued.operation):
                results.extend(operation(connection, [queued.payload for queued in alike]))
            return results

        try:
            results = self._place.write(work)
        except BaseException as error:  # noqa: BLE001 - passed to the waiting futures
            failure = error
        else:
            _resolve(queued_operations, results, failed=False)
            return
        if len(queued_operations) > 1 and not isinstance(failure, StoreError):
            # Run the operations one by one, so that a failing one does not affect the others.
            for one in queued_operations:
                self._transact([one])
            return
        _resolve(queued_operations, [failure] * len(queued_operations), failed=True)


def _resolve(queued_operations: Sequence[_Queued], outcomes: Sequence[Any], *, failed: bool) -> None:
    """Resolve the futures; those of an event loop are resolved together, in that loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for queued, outcome in zip(queued_operations, outcomes, strict=True):
        future = queued.future
        if isinstance(future, asyncio.Future):
            loops.setdefault(future.get_loop(), []).append((future, outcome))
            continue
        # The caller may have been cancelled meanwhile; its paid answer is written nevertheless.
        with contextlib.suppress(InvalidStateError):
            if failed:
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
    for loop, pairs in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_resolve_in_loop, pairs, failed)


def _resolve_in_loop(pairs: Sequence[tuple[asyncio.Future[Any], Any]], failed: bool) -> None:
    for future, outcome in pairs:
        if future.done():
            continue
        if failed:
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
