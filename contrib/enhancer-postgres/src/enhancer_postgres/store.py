"""Feature store ``postgres``: one table that several machines write to."""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import TYPE_CHECKING, Final

from psycopg.sql import SQL, Identifier

from enhancer.contracts import Record, codec
from enhancer.contracts.record import PROFILE_ASPECT, Kind
from enhancer.contracts.store import Repair
from enhancer.errors import StoreError
from enhancer_postgres import rows, schema, wire
from enhancer_postgres.journal import PostgresJournal
from enhancer_postgres.options import PostgresOptions
from enhancer_postgres.reading import Reading
from enhancer_postgres.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import NoReturn

    from enhancer.contracts.options import Context, Options
    from enhancer_postgres.rows import DamagedError
    from enhancer_postgres.schema import Layout
    from enhancer_postgres.server import Connection, Pinned

_DELETE: Final = (
    "DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE key = ANY(%b::bytea[]) ORDER BY key FOR UPDATE)"
)
_MARK_DAMAGED: Final = "UPDATE {table} SET damaged = true WHERE key = %b AND vector_crc = %s"


class PostgresStore(Reading):
    """Feature store in one table of a PostgreSQL database.

    A ``put`` is one transaction: ``COPY`` into a temporary table, then one ``INSERT ... ON CONFLICT DO UPDATE``. If two
    writers write the same record, the later one is kept. No transaction is held between calls.
    """

    options_class = PostgresOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, PostgresOptions)
        self._options = options
        self._directory = context.root / options.path
        self._layout: Layout | None = None
        self._server: Server = Server(options)
        try:
            self._find_table()
        except BaseException:
            self.close()
            raise

    @property
    def directory(self) -> Path:
        """Local folder of the option ``path``, which holds the journal unless the option ``journal`` is set."""
        return self._directory

    @classmethod
    def open_journal_database(cls, options: Options, context: Context) -> PostgresJournal | None:
        """Open the database of the journal; None without the option ``journal``."""
        del context
        assert isinstance(options, PostgresOptions)
        return PostgresJournal(options) if options.journal else None

    def journal_database(self) -> PostgresJournal | None:
        """Open the database of the journal; None without the option ``journal``."""
        return PostgresJournal(self._options) if self._options.journal else None

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    # --- the table ------------------------------------------------------------------------------------------------

    @classmethod
    def exists(cls, options: Options, context: Context) -> bool:
        """Return whether the table exists; see :meth:`FeatureStore.exists`.

        Raises:
            ConfigError: No server is configured.
            StoreError: The server cannot be reached, or the table is not a readable store.
        """
        with cls(options, context) as store:
            return store._find_table() is not None

    def _find_table(self) -> Layout | None:
        """Return the table; None if it does not exist. Does not create it."""
        if self._layout is None:
            self._layout = self._server.run(self.find)
        return self._layout

    def find(self, line: Connection) -> Layout | None:
        """Find the table on a connection."""
        return schema.find(line, self._options, self._server.name)

    def _ensure_table(self) -> Layout:
        """Return the table; create it and the local folder if they do not exist."""
        if (layout := self._find_table()) is None:
            layout = self._server.run(lambda line: schema.create(line, self._options, self._server.name))
            self._layout = layout
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {self._directory}: {error.strerror}", hint="set [store] path") from None
        return layout

    # --- writing --------------------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """See :meth:`FeatureStore.put`. The last of several records with equal keys is written."""
        encoded = dict(map(rows.encode, records))
        if not encoded:
            return
        layout = self._ensure_table()
        lines = [rows.to_copy(key, record, value, pgvector=layout.pgvector) for key, (record, value) in encoded.items()]
        begin = layout.query(
            "BEGIN; CREATE TEMPORARY TABLE IF NOT EXISTS {stage} (LIKE {table} INCLUDING STORAGE) ON COMMIT DELETE ROWS"
        )
        columns = SQL(", ").join(map(Identifier, rows.COLUMNS))
        copy_in = SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(layout.stage, columns)
        upsert = layout.upsert

        def work(line: Connection) -> None:
            line.execute(begin)
            with line.cursor() as cursor, cursor.copy(copy_in) as copy:
                copy.write(wire.COPY_HEAD)
                stream = iter(lines)
                while block := b"".join(islice(stream, 200)):
                    copy.write(block)
                copy.write(wire.COPY_END)
            line.execute(upsert)

        self._server.run(work)

    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> int:
        """See :meth:`FeatureStore.delete`."""
        keys = codec.encode_keys(ids, kind, aspect)
        if not keys or (layout := self._find_table()) is None:
            return 0
        query = layout.query(_DELETE)
        return self._server.run(lambda line: line.execute(query, (wire.Keys.of(keys),)).rowcount)

    # --- maintenance ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """See :meth:`FeatureStore.snapshot`. Holds a transaction on a separate connection.

        The server keeps replaced rows meanwhile. If the connection drops, the snapshot raises a ``StoreError``.
        """
        pinned = self._server.pin()
        try:
            yield PostgresSnapshot(self, pinned)
        finally:
            pinned.close()

    @classmethod
    def repair(cls, options: Options, context: Context) -> Repair:
        """Delete the rows with wrong checksums; see :meth:`FeatureStore.repair`."""
        with cls(options, context) as store:
            if (layout := store._find_table()) is None:
                raise StoreError(f"there is no store {store._server.name}", hint="`enhancer generate` creates one")
            if lost := store.verify():
                store._server.run(lambda line: line.execute(layout.query("DELETE FROM {table} WHERE damaged")))
            return Repair(kept=store.stats().records, lost=tuple(lost))

    def _mark_damaged(self, damaged: DamagedError) -> None:
        """Set the flag ``damaged`` of a row, unless the row was replaced meanwhile."""
        if (layout := self._layout) is not None:
            seen = damaged.seen - (1 << 32) if damaged.seen >= 1 << 31 else damaged.seen
            with contextlib.suppress(StoreError):  # the role may be read-only
                self._server.run(lambda line: line.execute(layout.query(_MARK_DAMAGED), (damaged.key, seen)))


class PostgresSnapshot(Reading):
    """State of the store at the time of the snapshot.

    Args:
        store: The store.
        pinned: Connection that sees this state.
    """

    def __init__(self, store: PostgresStore, pinned: Pinned) -> None:
        self._store = store
        self._server = pinned
        self._layout = pinned.run(store.find)

    @property
    def directory(self) -> Path:
        """Local folder of the store."""
        return self._store.directory

    def journal_database(self) -> PostgresJournal | None:
        """Open the database of the journal of the store."""
        return self._store.journal_database()

    def _find_table(self) -> Layout | None:
        return self._layout

    def _mark_damaged(self, damaged: DamagedError) -> None:
        self._store._mark_damaged(damaged)  # noqa: SLF001 - the snapshot is part of the store

    def put(self, records: Sequence[Record]) -> NoReturn:
        """Raise an error, since snapshots are read-only.

        Raises:
            StoreError: Always.
        """
        del records
        raise StoreError(f"the snapshot of {self._server.name} is read-only")

    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NoReturn:
        """Raise an error, since snapshots are read-only.

        Raises:
            StoreError: Always.
        """
        del ids, kind, aspect
        raise StoreError(f"the snapshot of {self._server.name} is read-only")
