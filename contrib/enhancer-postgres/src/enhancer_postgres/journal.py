"""Journal of paid completions in a schema of the database, so that several machines share one project."""

from __future__ import annotations

import logging
import re
import uuid
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from psycopg import RawCursor, errors, sql as compose
from psycopg.adapt import Loader

from enhancer.contracts.operations.journal import JournalDatabase
from enhancer.errors import StoreError
from enhancer_postgres.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from psycopg.abc import Buffer

    from enhancer.contracts.operations.journal import JournalConnection
    from enhancer_postgres.options import PostgresOptions
    from enhancer_postgres.server import Connection

R = TypeVar("R")
_PATIENCE: Final = 120.0
"""Least time in seconds for which a database out of reach is waited for."""
_LONG_STATEMENT: Final = 300.0
"""Least time limit in seconds of a statement, which may wait for the transactions of other machines."""
_TYPES: Final = (
    (re.compile(r"\) STRICT(, WITHOUT ROWID)?"), ")"),
    (re.compile(r" REFERENCES \w+\(\w+\)"), ""),
    (re.compile(r"\bINTEGER\b"), "bigint"),
    (re.compile(r"\bREAL\b"), "double precision"),
    (re.compile(r"\bBLOB\b"), "bytea"),
    (re.compile(r"\bTEXT\b"), 'text COLLATE "C"'),
)
_ARRAY: Final = re.compile(r"\bjson_each\((\$\d+|\w+)\)")


@lru_cache(maxsize=256)
def translate(statement: str) -> bytes:
    """Return a statement of the journal in PostgreSQL's dialect; see :mod:`enhancer.contracts.operations.journal`."""
    if statement.startswith("CREATE "):
        for pattern, ours in _TYPES:
            statement = pattern.sub(ours, statement)
    first, *others = statement.split("?")
    numbered = first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))
    return _ARRAY.sub(r"json_array_elements_text(\1::json)", numbered).encode()


class PostgresJournal(JournalDatabase):
    """Tables of the journal in one schema.

    A transaction that writes holds an advisory lock, so that there is one at a time. It notes its own number: if the
    connection is lost at a commit, the number tells whether it was committed. The lock is held until that is certain.

    Args:
        options: Options of the store, with ``journal``.
    """

    lease: ClassVar[float] = 180.0

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._schema = options.journal
        self._lock_number = zlib.crc32(f"enhancer journal {self._schema}".encode())
        self._writer = uuid.uuid4().hex
        self._number = 0
        self._tables: set[str] = set()
        self._reading = _JournalServer(options)
        self._writing: _JournalServer | None = None

    @property
    def name(self) -> str:
        """Host, database and schema."""
        return f"the journal {self._reading.name}"

    def prepare(self, schema: str, version: int) -> None:
        """Create the schema and its tables, if there are none.

        Raises:
            StoreError: The tables have another version, or cannot be created.
        """
        if not self.has_table("journal_format"):
            self._writable().run(lambda line: self._create(line, schema, version))
        found = self.read("SELECT version FROM journal_format", ())
        if found != [(version,)]:
            versions = ", ".join(str(row[0]) for row in found) or "none"
            raise StoreError(
                f"{self.name} has version {versions}, but this enhancer supports version {version}",
                hint="use the version of enhancer that wrote it, or name another schema in [store] journal",
            )

    def _create(self, line: Connection, schema: str, version: int) -> None:
        line.execute("BEGIN")
        # CREATE SCHEMA IF NOT EXISTS fails if two transactions do it at once.
        line.execute(f"SELECT pg_advisory_xact_lock({self._lock_number})")
        if line.execute("SELECT to_regclass(%s)", (self._qualified("journal_format"),)).fetchone() == (None,):
            line.execute(compose.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(compose.Identifier(self._schema)))
            for statement in schema.split(";"):
                if statement.strip():
                    line.execute(translate(statement.strip()))
            line.execute("CREATE TABLE journal_writers (writer text PRIMARY KEY, number bigint NOT NULL)")
            line.execute("CREATE TABLE journal_format (version bigint NOT NULL)")
            line.execute("INSERT INTO journal_format VALUES (%s)", (version,))
        line.execute("COMMIT")

    def write(self, work: Callable[[JournalConnection], R]) -> R:
        """Call ``work`` in a transaction; see :meth:`JournalDatabase.write`."""
        self._number += 1
        results: list[R] = []

        def attempt(line: Connection) -> R:
            line.execute("BEGIN")
            line.execute(f"SELECT pg_advisory_xact_lock({self._lock_number})")
            if results:
                # The lost connection has ended, since the lock is free: its commit was done, or never will be.
                noted = line.execute("SELECT number FROM journal_writers WHERE writer = %s", (self._writer,)).fetchone()
                if noted == (self._number,):
                    line.execute("COMMIT")
                    return results[0]
                results.clear()
            result = work(_Transaction(line))
            line.execute(
                "INSERT INTO journal_writers VALUES (%s, %s)"
                " ON CONFLICT (writer) DO UPDATE SET number = excluded.number",
                (self._writer, self._number),
            )
            results.append(result)
            line.execute("COMMIT")
            return result

        return self._writable().run(attempt)

    def read(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        """Return all rows of a query."""
        query, values = translate(sql), _clean(parameters)
        return self._reading.run(lambda line: RawCursor(line).execute(query, values).fetchall())

    def has_table(self, table: str) -> bool:
        """Return whether a table exists."""
        if table not in self._tables:
            rows = self.read("SELECT to_regclass(?)::text", (self._qualified(table),))
            if rows[0][0] is None:
                return False
            self._tables.add(table)
        return True

    def shared_time(self, connection: JournalConnection) -> float:
        """Return the time of the server."""
        return float(connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()[0])

    def close(self) -> None:
        """Close the connections. May be called twice."""
        if self._writing is not None:
            self._writing.close()
        self._reading.close()

    def _writable(self) -> _JournalServer:
        if self._writing is None:
            self._writing = _JournalServer(self._options)
        return self._writing

    def _qualified(self, table: str) -> str:
        return f'"{self._schema}".{table}'


class _Transaction:
    """A transaction of the journal.

    Args:
        line: The connection.
    """

    def __init__(self, line: Connection) -> None:
        self._line = line

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        """Execute a statement."""
        return RawCursor(self._line).execute(translate(sql), _clean(parameters))

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> None:
        """Execute a statement for each of many rows."""
        with RawCursor(self._line) as cursor:
            cursor.executemany(translate(sql), map(_clean, parameters))


class _JournalServer(Server):
    """Connection that finds the tables of the journal first, and waits for a database that is out of reach."""

    def __init__(self, options: PostgresOptions) -> None:
        patient = {
            "reconnect": max(options.reconnect, _PATIENCE),
            "statement_timeout": max(options.statement_timeout, _LONG_STATEMENT),
        }
        super().__init__(options.model_copy(update=patient))
        self.name = f"{self.name.rpartition(' ')[0]} {options.journal}"

    def _prepare(self, connection: Connection) -> None:
        super()._prepare(connection)
        connection.adapters.register_loader("numeric", _WholeNumber)
        path = compose.SQL("SET search_path = {}, pg_catalog").format(compose.Identifier(self._options.journal))
        connection.execute(path)

    def _begin_waiting(self, failure: StoreError) -> None:
        del failure
        logging.getLogger("enhancer").warning(
            "the journal %s is out of reach: waiting up to %.0f s for it", self.name, self._options.reconnect
        )

    def _translate(self, error: Any) -> StoreError:
        if isinstance(error, errors.InsufficientPrivilege):
            return StoreError(
                f"{self.name}: {self._message(error)}",
                hint="GRANT this role CREATE on the database, or else CREATE and USAGE on the schema of the journal",
            )
        return super()._translate(error)


class _WholeNumber(Loader):
    """Loads sums of whole numbers, which PostgreSQL computes as ``numeric``."""

    def load(self, data: Buffer) -> int:
        """Return the number."""
        return int(bytes(data))


def _clean(parameters: Sequence[Any]) -> list[Any]:
    """Escape what PostgreSQL's text cannot hold: lone surrogates and NUL."""
    return [
        value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00") if isinstance(value, str) else value
        for value in parameters
    ]
