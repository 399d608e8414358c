"""Remember the rows of a table whose records were all current, so that an unchanged row need not be rendered again.

A row is remembered by a hash of its cells as they are in the file. What else decides whether its records are current is
in :attr:`RowMemory.state` (settings, prompts, model, embedder) and in the revision of the store. The file beside the
store may be deleted at any time; the next survey then reads every row in full.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from enhancer.files import atomic_replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.contracts.store import Revision

_FORMAT = 1
_SEPARATOR = "\x1f"
"""Stands between the cells of a row before it is hashed."""
_HEAD = 4096
"""Bytes of the description at the beginning of the file."""
_TABLES = (("hashes", "<u8", 2), ("first", "<u8", 1), ("rows", "<u4", 1), ("ids", "<u8", 1), ("id_rows", "<u4", 1))
"""Arrays of the file: hashes in the order of the table, first halves sorted with their rows, hashes of ids likewise."""

Hashes = "NDArray[np.uint64]"


class _Tables(NamedTuple):
    """Arrays of a memory; see :data:`_TABLES`."""

    hashes: NDArray[np.uint64]
    first: NDArray[np.uint64]
    rows: NDArray[np.uint32]
    ids: NDArray[np.uint64]
    id_rows: NDArray[np.uint32]


def _no_tables() -> _Tables:
    return _Tables(*(np.empty((0, width) if width > 1 else 0, np.dtype(kind)) for _, kind, width in _TABLES))


class RowMemory:
    """Rows of one table whose records were current at a revision of the store.

    Args:
        path: The file. It is read now, and written by :meth:`save`.
        state: Hash of everything else that decides whether a record is current.
        revision: Revision of the store now.

    Attributes:
        dim: Length of all vectors of the store; None if it is not known that they are of one length.
    """

    def __init__(self, path: Path, state: str, revision: Revision) -> None:
        self.path = path
        self.state = state
        self.dim: int | None = None
        self._revision = revision
        self.names: list[str] | None = None
        """Names of the columns of the table."""
        self._tables = _no_tables()
        self._latest: MemoryPass | None = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self._load()

    def __len__(self) -> int:
        return len(self._tables.hashes)

    @property
    def is_valid(self) -> bool:
        """Whether the file was there, and described this state and revision."""
        return bool(len(self))

    def begin(self, recheck: Callable[[], None]) -> MemoryPass:
        """Begin a pass over the table.

        Args:
            recheck: Reads the whole table in full, and raises an error if an id occurs with different texts.
        """
        return MemoryPass(self, self._tables, recheck)

    def finish(self, done: MemoryPass) -> None:
        """Keep what a complete pass has found, for :meth:`save`."""
        self._latest = done

    def save(self, revision: Revision | None, own_writes: int) -> None:
        """Write what the last complete pass found, if nothing but this run has written to the store since it began.

        Args:
            revision: Revision of the store now.
            own_writes: Transactions by which this run has written since the memory was opened.
        """
        done = self._latest
        if done is None or revision is None or revision.number - self._revision.number != own_writes:
            return
        if done.found_nothing_new and self.is_valid and revision == self._revision:
            return
        hashes, ids = done.entries()
        first, by_id = np.argsort(hashes[:, 0], kind="stable"), np.argsort(ids, kind="stable")
        tables = _Tables(hashes, hashes[first, 0], first.astype("<u4"), ids[by_id], by_id.astype("<u4"))
        with contextlib.suppress(OSError):  # the memory saves time and nothing else
            self._write(revision, tables, done.names)

    def _write(self, revision: Revision, tables: _Tables, names: Sequence[str] | None) -> None:
        about = {
            "format": _FORMAT,
            "state": self.state,
            "revision": list(revision),
            "names": names,
            "rows": len(tables.hashes),
            "dim": self.dim,
            "check": _checksum(tables),
        }
        with atomic_replace(self.path) as draft, draft.open("wb") as file:
            head = json.dumps(about).encode()
            if len(head) > _HEAD:  # thousands of columns: not worth it
                raise OSError("the description is too long")
            file.write(head.ljust(_HEAD))
            for table in tables:
                np.ascontiguousarray(table).tofile(file)

    def _load(self) -> None:
        with self.path.open("rb") as file:
            about = json.loads(file.read(_HEAD))
        if (about["format"], about["state"], tuple(about["revision"])) != (_FORMAT, self.state, tuple(self._revision)):
            return
        n, offset, found = int(about["rows"]), _HEAD, []
        for _, kind, width in _TABLES:
            shape = (n, width) if width > 1 else (n,)
            table = np.memmap(self.path, np.dtype(kind), "r", offset, shape)
            found.append(table)
            offset += table.nbytes
        tables = _Tables(*found)
        if about["check"] != _checksum(tables) or offset != self.path.stat().st_size:
            return
        self._tables, self.dim, self.names = tables, about["dim"], about["names"]


class MemoryPass:
    """One pass over a table: chooses the rows that must be read in full, and collects those whose records are current.

    Args:
        memory: The memory.
        tables: Its arrays.
        recheck: See :meth:`RowMemory.begin`.
    """

    def __init__(self, memory: RowMemory, tables: _Tables, recheck: Callable[[], None]) -> None:
        self._memory = memory
        self._tables = tables
        self._recheck: Callable[[], None] | None = recheck
        self._place = np.full(len(tables.hashes), -1, np.int64)
        """Row of the table in which each remembered row was met; -1 if it was not."""
        self._replaced = np.zeros(len(tables.hashes), np.bool_)
        """Whether another row with the id of a remembered row was met."""
        self._cursor = 0
        self._row = 0
        self._known: list[str] = []
        self._pending: dict[str, tuple[int, bytes]] = {}
        self._new_places: list[int] = []
        self._new_hashes: list[bytes] = []
        self._new_ids: list[bytes] = []
        self._dropped = False
        self.names: list[str] | None = None
        """Names of the columns, that of the ids first."""

    def _forget(self) -> None:
        self._tables = _no_tables()
        self._place, self._replaced = np.empty(0, np.int64), np.empty(0, np.bool_)

    def wanted(
        self, names: Sequence[str], ids: Sequence[str], columns: Sequence[Sequence[str]]
    ) -> Sequence[bool] | None:
        """Return for each row of a block whether it must be read; None for all. A ``RowFilter`` of the entities."""
        if self.names is None:
            self.names = list(names)
            if self.names != self._memory.names:  # a text names its columns
                self._forget()
        elif self.names != list(names):
            self._pending.clear()
            return None
        start = self._row
        self._row += len(ids)
        self._pending.clear()
        hashes = row_hashes(ids, columns)
        if hashes is None:
            return None
        if not len(self._tables.hashes):
            self._remember_pending(range(len(ids)), start, ids, hashes)
            return None
        numbers = np.frombuffer(b"".join(hashes), "<u8").reshape(-1, 2)
        found = self._find(numbers)
        known = np.flatnonzero(found >= 0)
        if self._replaced[found[known]].any():
            self._check_once()
        known = known[np.sort(np.unique(found[known], return_index=True)[1])]  # equal rows count once
        known = known[(self._place[found[known]] < 0) & ~self._replaced[found[known]]]
        self._place[found[known]] = start + known
        unknown = np.flatnonzero(found < 0)
        wanted = np.zeros(len(ids), np.bool_)
        wanted[unknown] = True
        if len(unknown):
            self._drop_repeated(wanted, unknown, [ids[row].strip() for row in unknown.tolist()])
        self._known += [ids[row].strip() for row in known.tolist()]
        self._remember_pending(np.flatnonzero(wanted).tolist(), start, ids, hashes)
        chosen: list[bool] = wanted.tolist()
        return chosen

    def take_known(self) -> list[str]:
        """Return the ids of the rows that were recognised since the last call."""
        known, self._known = self._known, []
        return known

    def add(self, ids: Sequence[str], outdated: Collection[str]) -> None:
        """Remember those rows of the last block whose records are current.

        Args:
            ids: Ids of entities that were compared with the store.
            outdated: Those that lack a current record.
        """
        for id_ in ids:
            if id_ not in outdated and (found := self._pending.get(id_)) is not None:
                self._new_places.append(found[0])
                self._new_hashes.append(found[1])
                self._new_ids.append(_id_hash(id_))

    @property
    def found_nothing_new(self) -> bool:
        """Whether the pass met exactly the remembered rows, in their order."""
        return (
            not self._new_places
            and not self._dropped
            and bool((self._place[:-1] < self._place[1:]).all())
            and bool(not len(self._place) or self._place[0] >= 0)
        )

    def entries(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the hashes of rows ``[n, 2]`` and of ids ``[n]`` in the order of the table."""
        met = np.flatnonzero((self._place >= 0) & ~self._replaced)
        own_ids = np.empty(len(self._place), np.uint64)
        own_ids[self._tables.id_rows] = self._tables.ids
        hashes = np.concatenate(
            [self._tables.hashes[met], np.frombuffer(b"".join(self._new_hashes), "<u8").reshape(-1, 2)]
        )
        ids = np.concatenate([own_ids[met], np.frombuffer(b"".join(self._new_ids), "<u8")])
        order = np.argsort(np.concatenate([self._place[met], np.array(self._new_places, np.int64)]), kind="stable")
        return hashes[order], ids[order]

    def _find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the remembered row of each hash; -1 if there is none. Rows mostly follow each other as before."""
        tables, n = self._tables, len(hashes)
        found = np.full(n, -1, np.int64)
        expected = tables.hashes[self._cursor : self._cursor + n]
        same = np.flatnonzero((hashes[: len(expected)] == expected).all(axis=1))
        found[same] = self._cursor + same
        rest = np.flatnonzero(found < 0)
        if len(rest):
            at = np.minimum(np.searchsorted(tables.first, hashes[rest, 0]), len(tables.first) - 1)
            rows = tables.rows[at].astype(np.int64)
            equal = (tables.hashes[rows] == hashes[rest]).all(axis=1)
            found[rest[equal]] = rows[equal]
        met = found[found >= 0]
        # Changed rows keep their places; where rows came or went, the last one that is known tells where to go on.
        last = np.flatnonzero(found >= 0)
        self._cursor = int(met[-1]) + n - int(last[-1]) if len(met) else self._cursor + n
        return found

    def _drop_repeated(self, wanted: NDArray[np.bool_], rows: NDArray[np.int64], ids: Sequence[str]) -> None:
        """Note which remembered rows the new ones replace; leave out those that repeat a row that was met."""
        own = np.frombuffer(b"".join(map(_id_hash, ids)), "<u8")
        at = np.minimum(np.searchsorted(self._tables.ids, own), len(self._tables.ids) - 1)
        earlier = self._tables.id_rows[at].astype(np.int64)
        has = self._tables.ids[at] == own
        repeated = has & (self._place[earlier] >= 0)
        if repeated.any():
            self._check_once()  # raises an error unless the texts are equal
            wanted[rows[repeated]] = False
        self._replaced[earlier[has & ~repeated]] = True

    def _check_once(self) -> None:
        self._dropped = True
        if self._recheck is not None:
            recheck, self._recheck = self._recheck, None
            recheck()

    def _remember_pending(
        self, rows: Sequence[int] | range, start: int, ids: Sequence[str], hashes: list[bytes]
    ) -> None:
        self._pending = {ids[row].strip(): (start + row, hashes[row]) for row in rows}


def row_hashes(ids: Sequence[str], columns: Sequence[Sequence[str]]) -> list[bytes] | None:
    """Return a 128-bit hash of the cells of each row; None if a cell is no text, or holds the separator.

    >>> row_hashes(["1"], [["Heat"]]) == row_hashes(["1"], [["Alien"]])
    False
    """
    try:
        rows = list(map(_SEPARATOR.join, zip(ids, *columns, strict=True)))
    except TypeError:  # a cell that is no text
        return None
    if "".join(rows).count(_SEPARATOR) != len(rows) * len(columns):
        return None
    new = hashlib.blake2b
    return [new(row.encode("utf-8", "surrogatepass"), digest_size=16).digest() for row in rows]


def state_hash(parts: Mapping[str, object]) -> str:
    """Return a hash of everything but rows and store that decides whether a record is current."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _id_hash(id_: str) -> bytes:
    return hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _checksum(tables: _Tables) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for table in tables:
        digest.update(np.ascontiguousarray(table).data)
    return digest.hexdigest()
