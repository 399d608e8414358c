"""Access an SQLite file with a single writer thread that groups operations into transactions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from concurrent.futures import Future, InvalidStateError
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from enhancer.errors import StoreCorruptError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

P = TypeVar("P")
R = TypeVar("R")
_LOCK_TIMEOUT = 60.0
"""Seconds to wait for a lock of another connection."""
_MAX_OPERATIONS = 4096
"""Maximum number of operations per transaction."""


class _Queued(NamedTuple):
    """An operation waiting for the writer thread.

    ``operation`` is called with a connection and the payloads of consecutive entries with the same operation. It
    returns one result per payload.
    """

    operation: Callable[[sqlite3.Connection, list[Any]], Sequence[Any]]
    payload: Any
    future: Future[Any] | asyncio.Future[Any]


class Database:
    """SQLite file that is safe to use from several threads and processes.

    It uses a write-ahead log with ``synchronous=FULL``, so committed transactions survive a power failure.

    Args:
        path: Path of the file, which is created if it does not exist.
        schema: SQL that creates the tables.
        application_id: SQLite application id of files of this kind.
        version: Version of the schema.
        tables: Names of the required tables.
        migrations: SQL that migrates each supported earlier version to the next.

    Raises:
        StoreCorruptError: The file is empty, damaged, of another kind or of an unknown version.
        StoreError: The file cannot be created.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        *,
        application_id: int,
        version: int,
        tables: frozenset[str],
        migrations: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self._migrations = migrations
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._closed = False
        if not path.exists():
            self._create(schema, application_id, version)
        self._check(application_id, version, tables)

    def submit(self, operation: Callable[[sqlite3.Connection], Any]) -> Future[Any]:
        """Run ``operation`` in the next transaction. The future is done when the transaction is on disk."""
        future: Future[Any] = Future()
        self._put(_Queued(lambda connection, _: [operation(connection)], None, future))
        return future

    def append(
        self,
        operation: Callable[[sqlite3.Connection, list[P]], Sequence[R]],
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
                raise StoreError(f"{self.path} is closed")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="enhancer-journal", daemon=True)
                self._writer.start()
            self._queue.put(queued)

    def read(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        """Return all rows of a query, using the connection of the current thread."""
        try:
            return self._connect().execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._convert_error(error) from None

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
        for connection in self._connections:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _create(self, schema: str, application_id: int, version: int) -> None:
        """Create the file under a temporary name and link it, so an incomplete file is never visible."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {self.path}: {error}", hint="choose another [store] path") from None
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            connection = sqlite3.connect(temporary, isolation_level=None)
            try:
                connection.execute(f"PRAGMA application_id={application_id}")
                connection.executescript(schema)
                connection.execute(f"PRAGMA user_version={version}")
            finally:
                connection.close()
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self.path)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot create {self.path}: {error}") from None
        finally:
            temporary.unlink(missing_ok=True)

    def _check(self, application_id: int, version: int, tables: frozenset[str]) -> None:
        """Check that the file is a journal of a supported version.

        Raises:
            StoreCorruptError: It is empty, damaged, or not a journal.
        """
        hint = (
            f"move {self.path} away to continue: profiles in the store are kept, answers only in the journal are lost"
        )
        if self.path.stat().st_size == 0:
            raise StoreCorruptError(f"the journal {self.path} is empty: it was truncated", hint=hint)
        rows = self.read("SELECT * FROM pragma_application_id, pragma_user_version", ())
        if rows[0][0] != application_id:
            raise StoreCorruptError(f"{self.path} is not a journal of enhancer", hint=hint)
        if rows[0][1] < version and rows[0][1] in self._migrations:
            self._migrate(version)
        elif rows[0][1] != version:
            raise StoreCorruptError(
                f"the journal {self.path} has version {rows[0][1]}, but this enhancer supports version {version}",
                hint="use the version of enhancer that wrote it",
            )
        existing = {row[0] for row in self.read("SELECT name FROM sqlite_master WHERE type='table'", ())}
        if not tables <= existing:
            raise StoreCorruptError(f"the journal {self.path} is missing a table", hint=hint)

    def _migrate(self, version: int) -> None:
        """Migrate an older file in one transaction. If several processes try, one of them does it."""
        connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                while (found := connection.execute("PRAGMA user_version").fetchone()[0]) < version:
                    # executescript() would commit first.
                    for statement in self._migrations[found].split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={found + 1}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._convert_error(error) from None

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # close() is called by another thread than the reader.
            connection = sqlite3.connect(
                self.path, isolation_level=None, timeout=_LOCK_TIMEOUT, check_same_thread=False
            )
            try:
                _to_wal(connection)
                connection.execute("PRAGMA synchronous=FULL")
            except sqlite3.OperationalError as error:
                connection.close()
                if not self._is_readable_unlocked(error):
                    raise
                connection = sqlite3.connect(
                    f"file:{quote(str(self.path.absolute()))}?immutable=1",
                    uri=True,
                    isolation_level=None,
                    check_same_thread=False,
                )
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection

    def _is_readable_unlocked(self, error: sqlite3.OperationalError) -> bool:
        """Check whether the file is on a read-only medium without a pending log, so it can be read without locks."""
        code = getattr(error, "sqlite_errorname", "") or ""
        log = self.path.with_name(f"{self.path.name}-wal")
        return code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")) and not (log.exists() and log.stat().st_size)

    def _convert_error(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return StoreCorruptError(
                f"the journal {self.path} is damaged: {error}",
                hint="move it away to continue: profiles in the store are kept, other answers are lost",
            )
        if code.startswith("SQLITE_FULL") or "disk is full" in str(error):
            return StoreError(f"the disk is full: cannot write {self.path}", hint="free some space and run again")
        hint = None
        if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            hint = "make its folder writable, or copy the project to a writable folder"
        return StoreError(f"cannot use the journal {self.path}: {error}", hint=hint)

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
        results: list[Any] = []
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                for operation, alike in groupby(queued_operations, key=lambda queued: queued.operation):
                    results.extend(operation(connection, [queued.payload for queued in alike]))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            failure: BaseException = self._convert_error(error)
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


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log, retrying while another connection does the same: SQLite does not wait here."""
    until = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
