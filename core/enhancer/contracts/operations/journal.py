"""Where the journal of paid completions is kept: by default a file beside the store, or a database that machines share.

The journal itself is the harness's. It writes SQL in the part of SQLite's dialect that others can follow:

- ``?`` marks a parameter, and no other ``?`` occurs;
- tables are made by ``CREATE TABLE [IF NOT EXISTS]`` with the types TEXT, INTEGER, REAL (of 64 bits) and BLOB, followed
  by ``STRICT`` or ``STRICT, WITHOUT ROWID``, which others leave out;
- ``json_each(…)`` in a FROM clause has one row and a column ``value`` for each text in a JSON array;
- rows are replaced by ``ON CONFLICT (…) DO UPDATE`` or ``DO NOTHING``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

R = TypeVar("R")


class JournalCursor(Protocol):
    """Result of a statement."""

    @property
    def rowcount(self) -> int:
        """Number of rows that the statement changed."""

    def fetchone(self) -> Any:
        """Return the next row, a tuple; None after the last."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows."""


class JournalConnection(Protocol):
    """A transaction that writes."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> JournalCursor:
        """Execute a statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object:
        """Execute a statement for each of many rows."""


class JournalDatabase(ABC):
    """Database of one journal, used by many threads and processes, and by other machines if it can be reached there.

    Transactions that write are done one after the other, whoever begins them: the next number of a row is that of the
    last plus one.
    """

    lease: ClassVar[float] = 60.0
    """Seconds after its last renewal at which the claim of another machine may be taken over. Longer than ``write`` and
    ``read`` wait for a database out of reach."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name for messages, without secrets."""

    @abstractmethod
    def prepare(self, schema: str, version: int) -> None:
        """Create the tables, if there are none.

        Args:
            schema: Statements with a semicolon after each but the last.
            version: Version of the schema, to be kept beside the tables.

        Raises:
            StoreError: They have another version, or cannot be created.
        """

    @abstractmethod
    def write(self, work: Callable[[JournalConnection], R]) -> R:
        """Call ``work`` in a transaction, which is on disk when the call returns. Called by one thread at a time.

        If the connection is lost, the transaction is done again, unless it turns out to have been committed.

        Raises:
            StoreError: The transaction failed. It has changed nothing.
        """

    @abstractmethod
    def read(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        """Return all rows of a query. Any thread may call it.

        Raises:
            StoreError: The query failed.
        """

    @abstractmethod
    def has_table(self, table: str) -> bool:
        """Return whether a table exists."""

    @abstractmethod
    def shared_time(self, connection: JournalConnection) -> float | None:
        """Return the time in seconds by a clock that all machines share; None if the clock is that of this machine."""

    @abstractmethod
    def close(self) -> None:
        """Release connections. May be called twice."""
