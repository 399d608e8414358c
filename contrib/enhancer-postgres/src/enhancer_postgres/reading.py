"""Everything that reads the table: the store's own half, and all of a snapshot."""

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
"""Rows of a scan in memory at once."""
_KEYS_PAGE: Final = 10_000
_LOOKUP: Final = 10_000
"""Ids in one round trip. More of them are one transaction all the same."""
_KINDS: Final[tuple[Kind, ...]] = ("item", "user")

_ASKED: Final = "unnest(%b::bytea[]) WITH ORDINALITY AS asked (key, place) JOIN {table} AS t USING (key)"
_VECTORS: Final = f"SELECT asked.place, t.vector_crc, t.vector FROM {_ASKED}"  # noqa: S608 - our own text
_STAMPS: Final = f"SELECT asked.place, t.input_hash, t.embedder, t.exact FROM {_ASKED} WHERE NOT t.damaged"  # noqa: S608
_COLUMNS: Final = ", ".join(f"t.{name}" for name in rows.COLUMNS)
_RECORDS: Final = f"SELECT asked.place, {_COLUMNS} FROM {_ASKED}"  # noqa: S608
_RANGE: Final = "FROM {table} AS t WHERE t.key >= %b AND t.key < %b ORDER BY t.key LIMIT %s"
_WALK: Final = f"SELECT {_COLUMNS} {_RANGE}"
_KEYS: Final = f"SELECT t.key, t.kind, t.id, t.aspect, t.exact {_RANGE}"
# What a key begins with, which names kind and aspect: by its bytes, since `min(bytea)` came with PostgreSQL 18 alone.
_STATS: Final = """
SELECT substring(key FROM 1 FOR CASE WHEN length(key) < 2 THEN 2 ELSE 2 + get_byte(key, 1) % 255 END) AS place,
    dim, embedder, damaged, count(*)
FROM {table} GROUP BY place, dim, embedder, damaged
"""


class Reading(FeatureStore):
    """What a store and its snapshot have in common."""

    _server: Server | Pinned

    @abstractmethod
    def _look(self) -> Layout | None:
        """The table; None while nobody has written to it."""

    @abstractmethod
    def _note(self, damaged: DamagedError) -> None:
        """Remember a row whose checksum does not hold."""

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except DamagedError as error:
            self._note(error)
            raise

    def _fetch(
        self, layout: Layout, query: str, keys: Sequence[bytes], consume: Callable[[int, list[Any]], None]
    ) -> None:
        """Hand over what ``query`` finds of the keys, chunk by chunk: nothing is gathered on the way.

        Args:
            layout: The table.
            query: With one parameter, the keys of a chunk; its first column counts them from one.
            keys: Any number of them.
            consume: Gets the place before a chunk's first key, and its rows. Where a connection drops, all is handed
                over again.
        """
        sql = layout.query(query)

        def work(line: Connection) -> None:
            with line.cursor(binary=True) as cursor:
                transaction = len(keys) > _LOOKUP and line.info.transaction_status == TransactionStatus.IDLE
                if transaction:  # one state of the table for all of them
                    cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                for start in range(0, len(keys), _LOOKUP):
                    chunk = wire.Keys.of(keys[start : start + _LOOKUP])
                    if found := cursor.execute(sql, (chunk,)).fetchall():
                        consume(start - 1, found)
                if transaction:
                    cursor.execute("COMMIT")

        with self._noting():
            self._server.run(work)

    # --- reading --------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Record | None]:
        """See :meth:`FeatureStore.get`."""
        keys = codec.encode_keys(ids, kind, aspect)
        records: list[Record | None] = [None] * len(keys)
        if keys and (layout := self._look()) is not None:

            def consume(before: int, found: list[Any]) -> None:
                for place, *row in found:
                    records[before + place] = rows.decode(tuple(row), pgvector=layout.pgvector)

            self._fetch(layout, _RECORDS, keys, consume)
        return records

    def stamps(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Stamp | None]:
        """See :meth:`FeatureStore.stamps`.

        A record in which somebody has noticed damage has none, so that it is made again. Damage to a vector or a
        profile that nobody has read yet is not noticed here: neither is read.
        """
        keys = codec.encode_keys(ids, kind, aspect)
        stamps: list[Stamp | None] = [None] * len(keys)
        if keys and (layout := self._look()) is not None:

            def consume(before: int, found: list[Any]) -> None:
                for place, input_hash, embedder, exact in found:
                    with contextlib.suppress(ValueError):  # `exact` is damaged: there is no stamp
                        stamps[before + place] = Stamp(
                            rows.exact_text(input_hash, exact, "input_hash"),
                            rows.exact_text(embedder, exact, "embedder"),
                        )

            self._fetch(layout, _STAMPS, keys, consume)
        return stamps

    def vectors(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NDArray[np.float32]:
        """See :meth:`FeatureStore.vectors`; of shape ``[len(ids), 0]`` where no id has a record."""
        keys = codec.encode_keys(ids, kind, aspect)
        table = np.empty((len(keys), 0), dtype=np.float32)
        if keys and (layout := self._look()) is not None:

            def consume(before: int, found: list[Any]) -> None:
                nonlocal table
                table = _fill(table, keys, before, found, pgvector=layout.pgvector)

            self._fetch(layout, _VECTORS, keys, consume)
        return table.astype(np.float32, copy=False)

    def scan(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Record]:
        """See :meth:`FeatureStore.scan`: by kind, aspect and id.

        The stream asks for one page after the other and holds no transaction between them: its user may write
        meanwhile, and what is written ahead of it is seen.
        """
        for one in _KINDS if kind is None else (kind,):
            for layout, row in self._walk(codec.key_prefix(one, aspect)):
                with self._noting():
                    record = rows.decode(row, pgvector=layout.pgvector)
                yield record

    def keys(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Key]:
        """See :meth:`FeatureStore.keys`; neither profiles nor vectors are read."""
        for one in _KINDS if kind is None else (kind,):
            for _, (key, kind_, id_, aspect_, exact) in self._walk(codec.key_prefix(one, aspect), _KEYS, _KEYS_PAGE):
                try:
                    yield Key(kind_, rows.exact_text(id_, exact, "id"), rows.exact_text(aspect_, exact, "aspect"))
                except ValueError:
                    raise StoreCorruptError(
                        f"record {codec.describe_key(key)}: its id cannot be read", hint="run `enhancer store verify`"
                    ) from None

    def _walk(self, prefix: bytes, query: str = _WALK, limit: int = _PAGE) -> Iterator[tuple[Layout, tuple[Any, ...]]]:
        """Rows whose key, their first column, begins so, in the order of keys."""
        start, end = prefix, _next_prefix(prefix)
        while (layout := self._look()) is not None:
            page = self._server.run(_asking(layout.query(query), (start, end, limit)))
            for row in page:
                yield layout, row
            if len(page) < limit:
                return
            start = page[-1][0] + b"\x00"  # no key sorts between the two

    # --- looking after it -----------------------------------------------------------------------------------------

    def stats(self) -> StoreStats:
        """See :meth:`FeatureStore.stats`; records in which damage was noticed count as ``damaged``."""
        if (layout := self._look()) is None:
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
        """See :meth:`FeatureStore.verify`; what is found is noted, so that the next run makes it again."""
        faults = []
        try:
            for layout, row in self._walk(b""):
                try:
                    with self._noting():
                        record = rows.decode(row, pgvector=layout.pgvector)
                        codec.check_vector(record.vector, codec.describe_key(row[0]))
                except StoreError as error:
                    faults.append(Fault(codec.describe_key(row[0]), error.message))
        except StoreCorruptError as error:  # PostgreSQL cannot read its own pages
            faults.append(Fault(self._server.name, error.message))
        return faults


def _asking(query: Composed, values: tuple[Any, ...]) -> Callable[[Connection], list[Any]]:
    return lambda line: line.cursor(binary=True).execute(query, values).fetchall()


def _fill(
    table: NDArray[np.float32], keys: Sequence[bytes], before: int, found: list[Any], *, pgvector: bool
) -> NDArray[np.float32]:
    """Put what was found into the table, which is made when the length of the vectors is first known.

    Raises:
        StoreMismatchError: The vectors are not all of one length.
        DamagedError: A checksum does not hold.
    """
    places = [before + row[0] for row in found]
    values = [row[2] for row in found]
    dims = {len(value) for value in values}
    dim = table.shape[1] or wire.dim_of(len(values[0]), pgvector=pgvector)
    if dims != {4 * dim + (4 if pgvector else 0)}:
        _refuse(keys, places, found, dim, pgvector=pgvector)
    if not table.shape[1]:
        table = np.full((len(keys), dim), np.nan, dtype="<f4")
    table[places] = wire.table_of(values, pgvector=pgvector)
    view, width = table.reshape(-1).view(np.uint8).data, 4 * dim
    crc = rows.vector_crc
    for place, (_, seen, _) in zip(places, found, strict=True):
        if crc(keys[place], view[place * width : (place + 1) * width]) != seen & 0xFFFFFFFF:
            raise DamagedError(keys[place], seen & 0xFFFFFFFF)
    return table


def _refuse(keys: Sequence[bytes], places: Sequence[int], found: list[Any], dim: int, *, pgvector: bool) -> None:
    """Name one vector that is damaged or, if none is, one of another length.

    Raises:
        DamagedError: As it says.
        StoreMismatchError: Likewise.
    """
    other: tuple[bytes, int] | None = None
    for place, (_, seen, value) in zip(places, found, strict=True):
        length = wire.dim_of(len(value), pgvector=pgvector)
        row = wire.table_of([value], pgvector=pgvector).astype("<f4").tobytes() if length else b""
        if rows.vector_crc(keys[place], row) != seen & 0xFFFFFFFF:  # be it the first one, which set the length
            raise DamagedError(keys[place], seen & 0xFFFFFFFF)
        if length != dim:
            other = other or (keys[place], length)
    assert other is not None
    raise StoreMismatchError(
        f"vectors of different length: some records have {dim}, record {codec.describe_key(other[0])} has {other[1]}",
        hint="run `enhancer generate` to embed all of them with the embedder now configured",
    )


def _next_prefix(prefix: bytes) -> bytes:
    """A key that sorts after every key that begins with ``prefix``."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\xff" * 400  # longer than any key
