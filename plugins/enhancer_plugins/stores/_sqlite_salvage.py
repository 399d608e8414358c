"""Recover records from a damaged SQLite file by reading its pages as bytes, since SQLite stops at damaged pages.

All pages are read, whether or not the tree still refers to them, including those in the write-ahead log. This is safe
because each value has a checksum that includes its key: a record that passes was once written under that key. The
newest of several versions of a record is used. The index of keys shows which records are lost.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Final

from enhancer.contracts.store import Fault
from enhancer.storekit import codec
from enhancer_plugins.stores._repair import creation_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC: Final = b"SQLite format 3\x00"
_INDEX_BRANCH, _INDEX_LEAF, _TABLE_LEAF = 2, 10, 13
_HEADER: Final = 100
"""Bytes of the file header, before the header of the first page."""
_MAX_VALUE_BYTES: Final = 1 << 30
_LOG_HEADER, _FRAME_HEADER = 32, 24
_PAGE_SIZES: Final = (8192, 4096, 16384, 32768, 65536, 2048, 1024, 512)
"""Page sizes to try if the file header is damaged; the one of new stores first."""
_Cell = tuple[list[bytes | int], int]
"""Columns and row number of a cell."""


class Salvage:
    """Recovers the records of one file.

    Args:
        path: The file. Neither it nor its write-ahead log is modified.
        application: Application id in the header of stores.

    Attributes:
        is_store: Whether the file header identifies the file as a store.
    """

    def __init__(self, path: Path, application: int) -> None:
        self._path = path
        with path.open("rb") as file:
            self._file = file.read(_HEADER)
        self.is_store = self._file.startswith(MAGIC) and self._file[68:72] == application.to_bytes(4, "big")
        self._created: dict[bytes, tuple[str, int]] = {}
        self._listed: set[bytes] = set()

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and valid values. Of several values of a key, the last one is the best."""
        named = int.from_bytes(self._file[16:18], "big")
        named = 65536 if named == 1 else named
        sizes = (named,) if self._file.startswith(MAGIC) and named in _PAGE_SIZES else _PAGE_SIZES
        for size in sizes:
            with contextlib.closing(_Pages(self._path, size)) as pages:
                yield from self._records_of(pages)
            if self._created or self._listed:
                return

    def lost(self) -> list[Fault]:
        """Return the records in the index of keys for which no valid value was found."""
        return [Fault(codec.describe_key(key), "damaged") for key in sorted(self._listed - self._created.keys())]

    def _records_of(self, pages: _Pages) -> Iterator[tuple[bytes, bytes]]:
        free = pages.free()
        for number in range(1, pages.count + 1):
            if number in free:
                continue
            kind, cells = pages.cells(number)
            for columns, row in cells:
                key = columns[0] if columns else None
                if not isinstance(key, bytes) or len(columns) != 2:
                    continue
                value = columns[1]
                if kind != _TABLE_LEAF:
                    self._listed.add(key)
                    continue
                created = creation_time(key, value) if isinstance(value, bytes) else None
                if (
                    created is not None
                    and isinstance(value, bytes)
                    and self._created.get(key, ("", 0)) <= (created, row)
                ):
                    self._created[key] = (created, row)
                    yield key, value


class _Pages:
    """Pages by number, from 1, taken from the write-ahead log or else from the file."""

    def __init__(self, path: Path, size: int) -> None:
        self._size = size
        self._file = path.open("rb")
        self._length = path.stat().st_size
        self._log = path.with_name(path.name + "-wal")
        self._frames = self._committed()
        # The last page of a truncated file may be incomplete.
        self.count = max([-(-self._length // size), *self._frames])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _committed(self) -> dict[int, bytes]:
        """Return the pages of committed transactions in the write-ahead log."""
        frames: dict[int, bytes] = {}
        try:
            log = self._log.read_bytes()
        except OSError:
            return frames
        if len(log) < _LOG_HEADER or int.from_bytes(log[8:12], "big") != self._size:
            return frames
        waiting: dict[int, bytes] = {}
        for at in range(_LOG_HEADER, len(log) - _FRAME_HEADER - self._size + 1, _FRAME_HEADER + self._size):
            number, committed = struct.unpack_from(">II", log, at)
            if log[at + 8 : at + 16] != log[16:24]:  # left over from an earlier use of the log
                break
            waiting[number] = log[at + _FRAME_HEADER : at + _FRAME_HEADER + self._size]
            if committed:
                frames |= waiting
                waiting = {}
        return frames

    def _page(self, number: int) -> bytes:
        """Return a page, padded with zeros if the file is truncated."""
        page = self._frames.get(number)
        if page is None:
            self._file.seek((number - 1) * self._size)
            page = self._file.read(self._size).ljust(self._size, b"\0")
        return page

    def free(self) -> set[int]:
        """Return the free pages, as far as their list can be read."""
        free: set[int] = set()
        head = self._page(1)
        if not head.startswith(MAGIC):
            return free
        trunk = int.from_bytes(head[32:36], "big")
        while 1 < trunk <= self.count and trunk not in free:
            free.add(trunk)
            page = self._page(trunk)
            trunk, entries = struct.unpack_from(">II", page)
            if entries > self._size // 4 - 2:
                break
            free |= set(struct.unpack_from(f">{entries}I", page, 8))
        return free

    def cells(self, number: int) -> tuple[int, Iterator[_Cell]]:
        """Return the type of a page and its readable cells."""
        page = self._page(number)
        start = _HEADER if number == 1 else 0
        return page[start], self._cells(page, start)

    def _cells(self, page: bytes, start: int) -> Iterator[_Cell]:
        kind = page[start]
        if kind not in (_INDEX_BRANCH, _INDEX_LEAF, _TABLE_LEAF):
            return
        first = start + (12 if kind == _INDEX_BRANCH else 8)
        count = min(int.from_bytes(page[start + 3 : start + 5], "big"), (self._size - first) // 2)
        for place in struct.unpack_from(f">{count}H", page, first):
            try:
                yield self._cell(page, place + (4 if kind == _INDEX_BRANCH else 0), table=kind == _TABLE_LEAF)
            except (IndexError, ValueError):
                continue

    def _cell(self, page: bytes, at: int, *, table: bool) -> _Cell:
        """Return columns and row number of a cell.

        Raises:
            ValueError: The cell is invalid.
            IndexError: The cell exceeds its page.
        """
        length, at = _varint(page, at)
        row = 0
        if table:
            row, at = _varint(page, at)
        if length > _MAX_VALUE_BYTES:
            raise ValueError(length)
        # Bytes stored in the page itself: see "B-tree Cell Format" in the documentation of SQLite's file format.
        least = (self._size - 12) * 32 // 255 - 23
        most = self._size - 35 if table else (self._size - 12) * 64 // 255 - 23
        local = length
        if length > most:
            local = least + (length - least) % (self._size - 4)
            local = local if local <= most else least
        content = page[at : at + local]
        if local < length:
            content += self._overflow(int.from_bytes(page[at + local : at + local + 4], "big"), length - local)
        if len(content) != length:
            raise ValueError(length)
        return _columns(content), row

    def _overflow(self, number: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            if not 1 < number <= self.count:
                raise ValueError(number)
            page = self._page(number)
            parts.append(page[4 : 4 + length])
            length -= len(parts[-1])
            number = int.from_bytes(page[:4], "big")
        return b"".join(parts)


def _columns(content: bytes) -> list[bytes | int]:
    """Return the columns of a record: bytes, or 0 for a column of another type."""
    end, at = _varint(content, 0)
    columns: list[bytes | int] = []
    body = end
    while at < end:
        kind, at = _varint(content, at)
        size = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]
        columns.append(content[body : body + size] if kind >= 12 and kind % 2 == 0 else 0)
        body += size
    if body != len(content):
        raise ValueError(body)
    return columns


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of one to nine bytes and the offset of its end."""
    number = 0
    for place in range(at, at + 8):
        byte = content[place]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + 1
    return number << 8 | content[at + 8], at + 9
