"""The store ``postgres``: one table that a team's machines write to."""

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
_NOTE: Final = "UPDATE {table} SET damaged = true WHERE key = %b AND vector_crc = %s"


class PostgresStore(Reading):
    """Feature store in one table of a PostgreSQL database.

    A ``put`` is one transaction: ``COPY`` into a temporary table, then one ``INSERT ... ON CONFLICT DO UPDATE``. Of two
    writers of one record the later one's is kept, whole. Calls hold no transaction between them.
    """

    options_class = PostgresOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, PostgresOptions)
        self._options = options
        self._directory = context.root / options.path
        self._layout: Layout | None = None
        self._server: Server = Server(options)
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    @property
    def directory(self) -> Path:
        """The local folder ``path``: what the journal keeps is this machine's, not the server's."""
        return self._directory

    def close(self) -> None:
        """Hang up."""
        self._server.close()

    # --- the table ------------------------------------------------------------------------------------------------

    @classmethod
    def exists(cls, options: Options, context: Context) -> bool:
        """Whether the table is there; see :meth:`FeatureStore.exists`.

        Raises:
            ConfigError: No server is named.
            StoreError: It cannot be reached, or the table is no store that can be read.
        """
        with cls(options, context) as store:
            return store._look() is not None

    def _look(self) -> Layout | None:
        """The table; None while nobody has written to it. Whoever only looks makes nothing."""
        if self._layout is None:
            self._layout = self._server.run(self.find)
        return self._layout

    def find(self, line: Connection) -> Layout | None:
        """Look the table up on a connection."""
        return schema.find(line, self._options, self._server.name)

    def _made(self) -> Layout:
        """The table, made if it is not there; so that another machine's folder and ours begin alike, that too."""
        if (layout := self._look()) is None:
            layout = self._server.run(lambda line: schema.make(line, self._options, self._server.name))
            self._layout = layout
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {self._directory}: {error.strerror}", hint="set [store] path") from None
        return layout

    # --- writing --------------------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """See :meth:`FeatureStore.put`; of records with equal keys in one call the last one counts."""
        encoded = dict(map(rows.encode, records))
        if not encoded:
            return
        layout = self._made()
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
        if not keys or (layout := self._look()) is None:
            return 0
        query = layout.query(_DELETE)
        return self._server.run(lambda line: line.execute(query, (wire.Keys.of(keys),)).rowcount)

    # --- looking after it -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """See :meth:`FeatureStore.snapshot`: a transaction on a connection of its own.

        While it is held the server keeps what is replaced; a dropped connection ends it with a ``StoreError``.
        """
        pinned = self._server.pin()
        try:
            yield PostgresSnapshot(self, pinned)
        finally:
            pinned.close()

    @classmethod
    def repair(cls, options: Options, context: Context) -> Repair:
        """Delete the rows whose checksum does not hold; see :meth:`FeatureStore.repair`."""
        with cls(options, context) as store:
            if (layout := store._look()) is None:
                raise StoreError(f"there is no store {store._server.name}", hint="`enhancer generate` makes one")
            if lost := store.verify():
                store._server.run(lambda line: line.execute(layout.query("DELETE FROM {table} WHERE damaged")))
            return Repair(kept=store.stats().records, lost=tuple(lost))

    def _note(self, damaged: DamagedError) -> None:
        """Set the flag ``damaged`` of the row, unless it was written anew meanwhile."""
        if (layout := self._layout) is not None:
            seen = damaged.seen - (1 << 32) if damaged.seen >= 1 << 31 else damaged.seen
            with contextlib.suppress(StoreError):  # a role that may only read
                self._server.run(lambda line: line.execute(layout.query(_NOTE), (damaged.key, seen)))


class PostgresSnapshot(Reading):
    """The store as it was when the snapshot was taken.

    Args:
        store: Whose.
        pinned: The connection that sees that state.
    """

    def __init__(self, store: PostgresStore, pinned: Pinned) -> None:
        self._store = store
        self._server = pinned
        self._layout = pinned.run(store.find)

    @property
    def directory(self) -> Path:
        """The store's."""
        return self._store.directory

    def _look(self) -> Layout | None:
        return self._layout

    def _note(self, damaged: DamagedError) -> None:
        self._store._note(damaged)  # noqa: SLF001 - two halves of one thing

    def put(self, records: Sequence[Record]) -> NoReturn:
        """Refused.

        Raises:
            StoreError: Always.
        """
        del records
        raise StoreError(f"this is a snapshot of {self._server.name}: it is for reading")

    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NoReturn:
        """Refused.

        Raises:
            StoreError: Always.
        """
        del ids, kind, aspect
        raise StoreError(f"this is a snapshot of {self._server.name}: it is for reading")
