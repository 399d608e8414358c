"""Records out of a damaged SQLite file, read as plain bytes: SQLite itself stops where a page that leads on is broken.

Every page is looked at by itself, whether or not the tree still leads to it, and those that only the log has yet. That
is safe because each value carries a checksum over its key and itself: what passes was once written under that very key.
Of several states of a record the newest counts. The index of keys lists what should be there, and so what is lost.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Final

from enhancer.contracts.store import Fault
from enhancer.storekit import codec
from enhancer_plugins.stores._repair import made_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC: Final = b"SQLite format 3\x00"
_INDEX_BRANCH, _INDEX_LEAF, _TABLE_LEAF = 2, 10, 13
_HEADER: Final = 100
"""Bytes before the first page's own."""
_LARGEST: Final = 1 << 30
_LOG_HEADER, _FRAME_HEADER = 32, 24
_PAGE_SIZES: Final = (8192, 4096, 16384, 32768, 65536, 2048, 1024, 512)
"""Ours first: where the file's header is gone, they are tried in turn."""
_Cell = tuple[list[bytes | int], int]
"""Columns of a cell, and its row number."""


class Salvage:
    """Reads one file.

    Args:
        path: The file; neither it nor its log is changed.
        application: What the header of a store says whose file it is.

    Attributes:
        is_ours: Whether the file's header says that it is a store.
    """

    def __init__(self, path: Path, application: int) -> None:
        self._path = path
        with path.open("rb") as file:
            self._file = file.read(_HEADER)
        self.is_ours = self._file.startswith(MAGIC) and self._file[68:72] == application.to_bytes(4, "big")
        self._made: dict[bytes, tuple[str, int]] = {}
        self._listed: set[bytes] = set()

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and sound values. A key that comes more than once is best given last."""
        named = int.from_bytes(self._file[16:18], "big")
        named = 65536 if named == 1 else named
        sizes = (named,) if self._file.startswith(MAGIC) and named in _PAGE_SIZES else _PAGE_SIZES
        for size in sizes:
            with contextlib.closing(_Pages(self._path, size)) as pages:
                yield from self._of(pages)
            if self._made or self._listed:
                return

    def lost(self) -> list[Fault]:
        """Records that the index of keys knows, and that were not found sound."""
        return [Fault(codec.describe_key(key), "damaged") for key in sorted(self._listed - self._made.keys())]

    def _of(self, pages: _Pages) -> Iterator[tuple[bytes, bytes]]:
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
                made = made_at(key, value) if isinstance(value, bytes) else None
                if made is not None and isinstance(value, bytes) and self._made.get(key, ("", 0)) <= (made, row):
                    self._made[key] = (made, row)
                    yield key, value


class _Pages:
    """Pages by number, from 1: the log's where it has them, or else the file's."""

    def __init__(self, path: Path, size: int) -> None:
        self._size = size
        self._file = path.open("rb")
        self._length = path.stat().st_size
        self._log = path.with_name(path.name + "-wal")
        self._frames = self._committed()
        # The last page of a truncated file may be there in part.
        self.count = max([-(-self._length // size), *self._frames])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _committed(self) -> dict[int, bytes]:
        """What the log's transactions wrote, of those that were committed."""
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
            if log[at + 8 : at + 16] != log[16:24]:  # of an earlier use of the log
                break
            waiting[number] = log[at + _FRAME_HEADER : at + _FRAME_HEADER + self._size]
            if committed:
                frames |= waiting
                waiting = {}
        return frames

    def _page(self, number: int) -> bytes:
        """Zeros where the file has been cut."""
        page = self._frames.get(number)
        if page is None:
            self._file.seek((number - 1) * self._size)
            page = self._file.read(self._size).ljust(self._size, b"\0")
        return page

    def free(self) -> set[int]:
        """Pages that are not in use, as far as the header leads to their lists."""
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
        """Kind of a page, and what its cells hold as far as that can be read."""
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
        """Columns of a cell.

        Raises:
            ValueError: It makes no sense.
            IndexError: It leads beyond its page.
        """
        length, at = _varint(page, at)
        row = 0
        if table:
            row, at = _varint(page, at)
        if length > _LARGEST:
            raise ValueError(length)
        # How much of it is on the page itself: see "B-tree Cell Format" in the description of SQLite's file format.
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
    """Columns of a record: those that are bytes, and 0 for each of another kind."""
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
    """A number of one to nine bytes, and where it ends."""
    number = 0
    for place in range(at, at + 8):
        byte = content[place]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + 1
    return number << 8 | content[at + 8], at + 9
