"""Keep the tables of the journal in an SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from enhancer.contracts.operations.journal import JournalDatabase
from enhancer.errors import StoreCorruptError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from enhancer.contracts.operations.journal import JournalConnection

R = TypeVar("R")
_LOCK_TIMEOUT = 60.0
"""Seconds to wait for a lock of another connection."""


class SqliteFile(JournalDatabase):
    """SQLite file that is safe to use from several threads and processes.

    It uses a write-ahead log with ``synchronous=FULL``, so committed transactions survive a power failure.

    Args:
        path: Path of the file, which is created if it does not exist.
        application_id: SQLite application id of files of this kind.
        tables: Names of the required tables.
        migrations: SQL that migrates each supported earlier version to the next.
    """

    def __init__(
        self,
        path: Path,
        *,
        application_id: int,
        tables: frozenset[str],
        migrations: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self._migrations = migrations
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._application_id = application_id
        self._tables = tables

    @property
    def name(self) -> str:
        """Path of the file."""
        return str(self.path)

    def prepare(self, schema: str, version: int) -> None:
        """Create the file if it does not exist; migrate a file of an earlier version.

        Args:
            schema: SQL that creates the tables.
            version: Version of the schema.

        Raises:
            StoreCorruptError: The file is empty, damaged, of another kind or of an unknown version.
            StoreError: The file cannot be created.
        """
        if not self.path.exists():
            self._create(schema, self._application_id, version)
        self._check(self._application_id, version, self._tables)

    def read(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        """Return all rows of a query, using the connection of the current thread."""
        try:
            return self._connect().execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._convert_error(error) from None

    def has_table(self, table: str) -> bool:
        """Return whether a table exists."""
        return bool(self.read("SELECT 1 FROM sqlite_master WHERE type='table' AND name=?", (table,)))

    def shared_time(self, connection: JournalConnection) -> None:
        """Return None: processes of one machine share its monotonic clock."""
        del connection

    def close(self) -> None:
        """Close the connections. Can be called twice."""
        for connection in self._connections:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def write(self, work: Callable[[JournalConnection], R]) -> R:
        """Call ``work`` in a transaction, which is on disk when the call returns."""
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._convert_error(error) from None
        return result

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
