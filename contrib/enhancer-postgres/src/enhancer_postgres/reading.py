"""Base class with the reading half of the store, shared by the store and its snapshots."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from psycopg.pq import TransactionStatus

from enhancer.contracts import Fault, FeatureStore, Key, Record, Stamp, StoreStats, codec
from enhancer.contracts.record import PROFILE_ASPECT, Kind
from enhancer.errors import StoreCorruptError, StoreError, StoreMismatchError
from enhancer_postgres import rows, wire
from enhancer_postgres.rows import DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from psycopg.sql import Composed

    from enhancer_postgres.schema import Layout
    from enhancer_postgres.server import Connection, Pinned, Server

_PAGE: Final = 500
"""Rows of a scan per query."""
_KEYS_PAGE: Final = 10_000
_LOOKUP: Final = 10_000
"""Ids per query. More ids take several queries in one transaction."""
_KINDS: Final[tuple[Kind, ...]] = ("item", "user")

_ASKED: Final = "unnest(%b::bytea[]) WITH ORDINALITY AS asked (key, place) JOIN {table} AS t USING (key)"
_VECTORS: Final = f"SELECT asked.place, t.vector_crc, t.vector FROM {_ASKED}"  # noqa: S608 - constant text
_STAMPS: Final = f"SELECT asked.place, t.input_hash, t.embedder, t.exact FROM {_ASKED} WHERE NOT t.damaged"  # noqa: S608
_COLUMNS: Final = ", ".join(f"t.{name}" for name in rows.COLUMNS)
_RECORDS: Final = f"SELECT asked.place, {_COLUMNS} FROM {_ASKED}"  # noqa: S608
_RANGE: Final = "FROM {table} AS t WHERE t.key >= %b AND t.key < %b ORDER BY t.key LIMIT %s"
_WALK: Final = f"SELECT {_COLUMNS} {_RANGE}"
_KEYS: Final = f"SELECT t.key, t.kind, t.id, t.aspect, t.exact {_RANGE}"
# The prefix of a key determines kind and aspect. Grouped by it, since `min(bytea)` needs PostgreSQL 18.
_STATS: Final = """
SELECT substring(key FROM 1 FOR CASE WHEN length(key) < 2 THEN 2 ELSE 2 + get_byte(key, 1) % 255 END) AS place,
    dim, embedder, damaged, count(*)
FROM {table} GROUP BY place, dim, embedder, damaged
"""


class Reading(FeatureStore):
    """Reading methods of the store and of its snapshots."""

    _server: Server | Pinned

    @abstractmethod
    def _find_table(self) -> Layout | None:
        """Return the table; None if it does not exist yet."""

    @abstractmethod
    def _mark_damaged(self, damaged: DamagedError) -> None:
        """Mark a row whose checksum is wrong."""

    @contextlib.contextmanager
    def _marking_damage(self) -> Iterator[None]:
        try:
            yield
        except DamagedError as error:
            self._mark_damaged(error)
            raise

    def _fetch(
        self, layout: Layout, query: str, keys: Sequence[bytes], consume: Callable[[int, list[Any]], None]
    ) -> None:
        """Run ``query`` for the keys in chunks, without collecting the rows.

        Args:
            layout: The table.
            query: Query with one parameter, the keys of a chunk. Its first column is the position of the key, from 1.
            keys: The keys.
            consume: Called with the position before the first key of a chunk, and the rows of the chunk. If the
                connection drops, all chunks are passed again.
        """
        sql = layout.query(query)

        def work(line: Connection) -> None:
            with line.cursor(binary=True) as cursor:
                transaction = len(keys) > _LOOKUP and line.info.transaction_status == TransactionStatus.IDLE
                if transaction:  # one state of the table for all chunks
                    cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                for start in range(0, len(keys), _LOOKUP):
                    chunk = wire.Keys.of(keys[start : start + _LOOKUP])
                    if found := cursor.execute(sql, (chunk,)).fetchall():
                        consume(start - 1, found)
                if transaction:
                    cursor.execute("COMMIT")

        with self._marking_damage():
            self._server.run(work)

    # --- reading --------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Record | None]:
        """See :meth:`FeatureStore.get`."""
        keys = codec.encode_keys(ids, kind, aspect)
        records: list[Record | None] = [None] * len(keys)
        if keys and (layout := self._find_table()) is not None:

            def consume(before: int, found: list[Any]) -> None:
                for place, *row in found:
                    records[before + place] = rows.decode(tuple(row), pgvector=layout.pgvector)

            self._fetch(layout, _RECORDS, keys, consume)
        return records

    def stamps(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Stamp | None]:
        """See :meth:`FeatureStore.stamps`.

        A record marked as damaged counts as missing, so that it is created again. Vectors and profiles are not read, so
        that damage to them is not detected here.
        """
        keys = codec.encode_keys(ids, kind, aspect)
        stamps: list[Stamp | None] = [None] * len(keys)
        if keys and (layout := self._find_table()) is not None:

            def consume(before: int, found: list[Any]) -> None:
                for place, input_hash, embedder, exact in found:
                    with contextlib.suppress(ValueError):  # a damaged value of `exact`: no stamp
                        stamps[before + place] = Stamp(
                            rows.exact_text(input_hash, exact, "input_hash"),
                            rows.exact_text(embedder, exact, "embedder"),
                        )

            self._fetch(layout, _STAMPS, keys, consume)
        return stamps

    def vectors(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NDArray[np.float32]:
        """See :meth:`FeatureStore.vectors`. The shape is ``[len(ids), 0]`` if no id has a record."""
        keys = codec.encode_keys(ids, kind, aspect)
        table = np.empty((len(keys), 0), dtype=np.float32)
        if keys and (layout := self._find_table()) is not None:

            def consume(before: int, found: list[Any]) -> None:
                nonlocal table
                table = _fill(table, keys, before, found, pgvector=layout.pgvector)

            self._fetch(layout, _VECTORS, keys, consume)
        return table.astype(np.float32, copy=False)

    def scan(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Record]:
        """See :meth:`FeatureStore.scan`. The order is by kind, aspect and id.

        The stream reads page by page and holds no transaction between pages. The caller may write meanwhile; records
        written ahead are included.
        """
        for one in _KINDS if kind is None else (kind,):
            for layout, row in self._walk(codec.key_prefix(one, aspect)):
                with self._marking_damage():
                    record = rows.decode(row, pgvector=layout.pgvector)
                yield record

    def keys(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Key]:
        """See :meth:`FeatureStore.keys`. Reads neither profiles nor vectors."""
        for one in _KINDS if kind is None else (kind,):
            for _, (key, kind_, id_, aspect_, exact) in self._walk(codec.key_prefix(one, aspect), _KEYS, _KEYS_PAGE):
                try:
                    yield Key(kind_, rows.exact_text(id_, exact, "id"), rows.exact_text(aspect_, exact, "aspect"))
                except ValueError:
                    raise StoreCorruptError(
                        f"record {codec.describe_key(key)}: its id cannot be read", hint="run `enhancer store verify`"
                    ) from None

    def _walk(self, prefix: bytes, query: str = _WALK, limit: int = _PAGE) -> Iterator[tuple[Layout, tuple[Any, ...]]]:
        """Yield the rows whose key, the first column, has this prefix, in key order."""
        start, end = prefix, _next_prefix(prefix)
        while (layout := self._find_table()) is not None:
            page = self._server.run(_select(layout.query(query), (start, end, limit)))
            for row in page:
                yield layout, row
            if len(page) < limit:
                return
            start = page[-1][0] + b"\x00"  # the next possible key

    # --- maintenance ----------------------------------------------------------------------------------------------

    def stats(self) -> StoreStats:
        """See :meth:`FeatureStore.stats`. Records marked as damaged have the kind ``damaged``."""
        if (layout := self._find_table()) is None:
            return StoreStats(0, bytes_on_disk=0)
        kinds: dict[str, int] = {}
        dims: dict[int, int] = {}
        embedders: dict[str, int] = {}
        groups = self._server.run(
            lambda line: line.cursor(binary=True).execute(layout.query(_STATS)).fetchall()
        )  # fmt: skip
        for place, dim, embedder, damaged, count in groups:
            name = "damaged" if damaged else codec.describe_kind(place) if len(place) > 1 else "unknown"
            kinds[name] = kinds.get(name, 0) + count
            if not damaged:
                dims[dim] = dims.get(dim, 0) + count
                embedders[embedder] = embedders.get(embedder, 0) + count
        size = self._server.run(
            lambda line: line.execute(
                "SELECT pg_total_relation_size(%s::regclass)", (layout.table.as_string(line),)
            ).fetchone()
        )
        return StoreStats(
            records=sum(kinds.values()),
            by_kind=dict(sorted(kinds.items())),
            dims=dict(sorted(dims.items())),
            embedders=dict(sorted(embedders.items())),
            bytes_on_disk=size[0] if size else None,
        )

    def verify(self) -> list[Fault]:
        """See :meth:`FeatureStore.verify`. Damaged records are marked, so that the next run creates them again."""
        faults = []
        try:
            for layout, row in self._walk(b""):
                try:
                    with self._marking_damage():
                        record = rows.decode(row, pgvector=layout.pgvector)
                        codec.check_vector(record.vector, codec.describe_key(row[0]))
                except StoreError as error:
                    faults.append(Fault(codec.describe_key(row[0]), error.message))
        except StoreCorruptError as error:  # PostgreSQL cannot read its own pages
            faults.append(Fault(self._server.name, error.message))
        return faults


def _select(query: Composed, values: tuple[Any, ...]) -> Callable[[Connection], list[Any]]:
    return lambda line: line.cursor(binary=True).execute(query, values).fetchall()


def _fill(
    table: NDArray[np.float32], keys: Sequence[bytes], before: int, found: list[Any], *, pgvector: bool
) -> NDArray[np.float32]:
    """Copy vectors into the matrix, which is allocated when their dimension is first known.

    Raises:
        StoreMismatchError: The vectors differ in dimension.
        DamagedError: A checksum is wrong.
    """
    places = [before + row[0] for row in found]
    values = [row[2] for row in found]
    dims = {len(value) for value in values}
    dim = table.shape[1] or wire.dim_of(len(values[0]), pgvector=pgvector)
    if dims != {4 * dim + (4 if pgvector else 0)}:
        _raise_for(keys, places, found, dim, pgvector=pgvector)
    if not table.shape[1]:
        table = np.full((len(keys), dim), np.nan, dtype="<f4")
    table[places] = wire.matrix_of(values, pgvector=pgvector)
    view, width = table.reshape(-1).view(np.uint8).data, 4 * dim
    crc = rows.vector_crc
    for place, (_, seen, _) in zip(places, found, strict=True):
        if crc(keys[place], view[place * width : (place + 1) * width]) != seen & 0xFFFFFFFF:
            raise DamagedError(keys[place], seen & 0xFFFFFFFF)
    return table


def _raise_for(keys: Sequence[bytes], places: Sequence[int], found: list[Any], dim: int, *, pgvector: bool) -> None:
    """Raise the error for vectors of different lengths.

    Raises:
        DamagedError: A vector is damaged.
        StoreMismatchError: No vector is damaged, but one has another dimension.
    """
    other: tuple[bytes, int] | None = None
    for place, (_, seen, value) in zip(places, found, strict=True):
        length = wire.dim_of(len(value), pgvector=pgvector)
        row = wire.matrix_of([value], pgvector=pgvector).astype("<f4").tobytes() if length else b""
        if rows.vector_crc(keys[place], row) != seen & 0xFFFFFFFF:
            raise DamagedError(keys[place], seen & 0xFFFFFFFF)
        if length != dim:
            other = other or (keys[place], length)
    assert other is not None
    raise StoreMismatchError(
        f"vectors differ in dimension: some records have {dim}, record {codec.describe_key(other[0])} has {other[1]}",
        hint="run `enhancer generate` to embed all of them with the configured embedder",
    )


def _next_prefix(prefix: bytes) -> bytes:
    """Return a key that sorts after all keys with this prefix."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\xff" * 400  # longer than any key
