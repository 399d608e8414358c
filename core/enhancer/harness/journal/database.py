"""An SQLite file with one writing thread: what arrives while it commits goes into its next transaction."""

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
_PATIENCE = 60.0
"""Seconds to wait for another connection's lock."""
_MOST = 4096
"""Operations in one transaction."""


class _Queued(NamedTuple):
    """What waits for the writer: ``operation`` takes a connection and the payloads of its like, and answers each."""

    operation: Callable[[sqlite3.Connection, list[Any]], Sequence[Any]]
    payload: Any
    future: Future[Any] | asyncio.Future[Any]


class Database:
    """Safe for several threads and processes. WAL, ``synchronous=FULL``: what is committed survives a power cut.

    Args:
        path: The file; made where there is none.
        schema: SQL that makes its tables.
        application_id: Marks files of this kind.
        version: Of the schema.
        tables: What must be there.
        migrations: SQL that makes the next version of each earlier one that is still understood.

    Raises:
        StoreCorruptError: The file is empty, damaged, of another kind or of an unknown version.
        StoreError: It cannot be made.
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
        """Have the writer run ``operation`` in its next transaction; the future is done when that is on disk."""
        future: Future[Any] = Future()
        self._put(_Queued(lambda connection, _: [operation(connection)], None, future))
        return future

    def append(
        self,
        operation: Callable[[sqlite3.Connection, list[P]], Sequence[R]],
        payload: P,
        future: Future[R] | asyncio.Future[R],
    ) -> None:
        """Like :meth:`submit`, for what comes by the thousand: ``operation`` is given all payloads that wait together.

        Each statement gives the interpreter's lock away and has to win it back from a busy event loop, which may take
        milliseconds: a few statements of many rows are far quicker than many of one row.

        Args:
            operation: Writes many payloads; its results are in their order. The same object each time.
            payload: What is to be written.
            future: Done when it is on disk. One of asyncio: its loop wakes once for all that were committed.
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
        """All rows of a query, on a connection of this thread's own."""
        try:
            return self._connect().execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._typed(error) from None

    def close(self) -> None:
        """Finish what is queued and close; closing twice is fine."""
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
        """Build it under another name and link it: nobody ever sees half a journal, so an empty one is a fault."""
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
        """Refuse a file that is not the journal it should be.

        Raises:
            StoreCorruptError: It is empty, damaged, or no journal.
        """
        hint = f"move {self.path} away to go on: profiles in the store are kept, answers only in the journal are lost"
        if self.path.stat().st_size == 0:
            raise StoreCorruptError(f"the journal {self.path} is empty: something truncated it", hint=hint)
        rows = self.read("SELECT * FROM pragma_application_id, pragma_user_version", ())
        if rows[0][0] != application_id:
            raise StoreCorruptError(f"{self.path} is not a journal of enhancer", hint=hint)
        if rows[0][1] < version and rows[0][1] in self._migrations:
            self._migrate(version)
        elif rows[0][1] != version:
            raise StoreCorruptError(
                f"the journal {self.path} has version {rows[0][1]}, and this enhancer knows version {version}",
                hint="use the version of enhancer that wrote it",
            )
        there = {row[0] for row in self.read("SELECT name FROM sqlite_master WHERE type='table'", ())}
        if not tables <= there:
            raise StoreCorruptError(f"the journal {self.path} lacks a table", hint=hint)

    def _migrate(self, version: int) -> None:
        """Bring an older file up to date, all at once or not at all; of several processes one does it."""
        connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                while (there := connection.execute("PRAGMA user_version").fetchone()[0]) < version:
                    # Not executescript(), which would commit first.
                    for statement in self._migrations[there].split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={there + 1}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._typed(error) from None

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # Closed by another thread than the one that reads, at the end.
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=_PATIENCE, check_same_thread=False)
            try:
                _to_wal(connection)
                connection.execute("PRAGMA synchronous=FULL")
            except sqlite3.OperationalError as error:
                connection.close()
                if not self._rests(error):
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

    def _rests(self, error: sqlite3.OperationalError) -> bool:
        """Whether the file is where nobody can write, and no log beside it holds more than it does: it can be read."""
        code = getattr(error, "sqlite_errorname", "") or ""
        log = self.path.with_name(f"{self.path.name}-wal")
        return code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")) and not (log.exists() and log.stat().st_size)

    def _typed(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return StoreCorruptError(
                f"the journal {self.path} is damaged: {error}",
                hint="move it away to go on: profiles in the store are kept, answers that are only in it are lost",
            )
        if code.startswith("SQLITE_FULL") or "disk is full" in str(error):
            return StoreError(f"the disk is full: cannot write {self.path}", hint="make room and run again")
        hint = None
        if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            hint = "its folder must be writable; copy the project to where you may write"
        return StoreError(f"the journal {self.path}: {error}", hint=hint)

    def _write(self) -> None:
        """The writer thread: everything that waits goes into one transaction."""
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            last = False
            with contextlib.suppress(queue.Empty):
                while len(batch) < _MOST:
                    more = self._queue.get_nowait()
                    if more is None:
                        last = True
                        break
                    batch.append(more)
            self._transact(batch)
            if last:
                return

    def _transact(self, batch: list[_Queued]) -> None:
        results: list[Any] = []
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                for operation, alike in groupby(batch, key=lambda queued: queued.operation):
                    results.extend(operation(connection, [queued.payload for queued in alike]))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            failure: BaseException = self._typed(error)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
            failure = error
        else:
            _tell(batch, results, failed=False)
            return
        if len(batch) > 1 and not isinstance(failure, StoreError):
            # One bad operation spoils only itself.
            for one in batch:
                self._transact([one])
            return
        _tell(batch, [failure] * len(batch), failed=True)


def _tell(batch: Sequence[_Queued], outcomes: Sequence[Any], *, failed: bool) -> None:
    """Set the futures; those of an event loop all at once, in that loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for queued, outcome in zip(batch, outcomes, strict=True):
        future = queued.future
        if isinstance(future, asyncio.Future):
            loops.setdefault(future.get_loop(), []).append((future, outcome))
            continue
        # Whoever asked may have been cancelled meanwhile; what was paid for is written all the same.
        with contextlib.suppress(InvalidStateError):
            if failed:
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
    for loop, pairs in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(_tell_loop, pairs, failed)


def _tell_loop(pairs: Sequence[tuple[asyncio.Future[Any], Any]], failed: bool) -> None:
    for future, outcome in pairs:
        if future.done():
            continue
        if failed:
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. SQLite does not wait by itself where another connection is about to do the same."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
