"""Recover records from a damaged LMDB file by reading its pages as bytes, because liblmdb crashes on damaged pages.

All pages are read, whether or not the tree still refers to them. This is safe because each value has a checksum that
includes its key: a record that passes was once written under that key. Free pages may contain old versions of a record.
Records that the tree refers to have priority; of the others, the newest version is used.
"""

from __future__ import annotations

import os
import struct
from typing import IO, TYPE_CHECKING, Final

from enhancer.contracts.store import Fault
from enhancer.storekit import codec
from enhancer_plugins.stores._lmdb.pages import META_BYTES, NO_ROOT, parse_meta_pages
from enhancer_plugins.stores._repair import creation_time

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

_MAGIC: Final = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BIG_DATA: Final = 1
_LMDB_1_HEADER: Final = 24
"""Bytes of a page header in the format of LMDB 1.0; 16 in that of 0.9."""
_MAX_VALUE_BYTES: Final = 1 << 30
_PAGE_SIZES: Final = (4096, 8192, 16384, 32768, 65536, 2048, 1024, 512)
_NODE = struct.Struct("=HHHH")
"""Fields of a node: low and high half of the value's length (in a branch: of the child's page), flags, key length."""


class Salvage:
    """Recovers the records of one file.

    Args:
        path: The file, which is not modified.

    Attributes:
        lost: Damaged records that the tree refers to, by key.
        metadata: Values of keys that are not records.
        is_lmdb: Whether a meta page identifies the file as an LMDB file.
        complete: Whether all entries of the newest transaction were found through its tree.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost: dict[bytes, Fault] = {}
        self.metadata: dict[bytes, bytes] = {}
        self.is_lmdb = False
        self.complete = False
        self._created: dict[bytes, str] = {}

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and valid values. Of several values of a key, the last one is the best."""
        with self.path.open("rb") as file:
            self._file: IO[bytes] = file
            self._size = os.fstat(file.fileno()).st_size
            self._header, self._page = self._layout()
            root, entries, certain = self._newest_root()
            reached = yield from self._tree(root)
            self.complete = certain and reached == entries
            if not self.complete:
                yield from self._scan_pages(certain=certain)

    # --- the newest transaction ------------------------------------------------------------------------------------

    def _tree(self, root: int | None) -> Generator[tuple[bytes, bytes], None, int]:
        """Yield the records of the tree, and return the number of entries found."""
        reached = 0
        waiting = [] if root is None else [root]
        seen: set[int] = set()
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            page = self._read(number)
            if page is None:
                continue
            kind = self._kind(page)
            if kind == _BRANCH:
                waiting += [child for child in self._children(page) if 2 <= child <= self._size // self._page]
            elif kind == _LEAF:
                for key, value in self._nodes(page):
                    reached += 1
                    if key[:1] == b"\x00":  # metadata of the store
                        self.metadata[key] = value or b""
                    elif value is None or (created := creation_time(key, value)) is None:
                        self.lost[key] = Fault(codec.describe_key(key), "damaged")
                    else:
                        self._created[key] = created
                        yield key, value
        return reached

    def _newest_root(self) -> tuple[int | None, int, bool]:
        """Return root page and number of entries of the newest transaction, and whether it is certainly the newest.

        Transactions write the two meta pages alternately. A meta page with a damaged header is trusted if its number
        is consecutive to that of the other one.
        """
        found: list[tuple[int, int | None, int]] = []
        intact: list[tuple[int, int | None, int]] = []
        for number in (0, 1):
            meta = self._at(number * self._page + self._header, META_BYTES)
            magic = meta[:4] == _MAGIC.to_bytes(4, "little")
            self.is_lmdb |= magic
            for parsed in parse_meta_pages([meta]):
                root, entries = parsed.records.root, parsed.records.entries
                # The parity of the transaction identifies the meta page. An empty tree has no root.
                if parsed.transaction % 2 == number and (2 <= root < 1 << 48 or (root == NO_ROOT and not entries)):
                    found.append((parsed.transaction, None if root == NO_ROOT else root, entries))
                    intact += found[-1:] if magic else []
        if len(found) == 2 and abs(found[0][0] - found[1][0]) == 1:
            return (*max(found, key=_transaction)[1:], True)
        return (*max(intact, key=_transaction)[1:], False) if intact else (None, 0, False)

    # --- other pages -----------------------------------------------------------------------------------------------

    def _scan_pages(self, *, certain: bool) -> Iterator[tuple[bytes, bytes]]:
        """Yield records of pages that the tree does not refer to, oldest versions first.

        Args:
            certain: Whether the tree was certainly that of the newest transaction, so that its records are final.
        """
        newest: dict[bytes, str] = {}
        for number in range(self._size // self._page + 1):
            page = self._read(number)
            if page is None or self._kind(page) != _LEAF:
                continue
            for key, value in self._nodes(page):
                known = self._created.get(key)
                if value is None or (certain and known is not None) or key[:1] == b"\x00":
                    continue
                created = creation_time(key, value)
                if created is None or (known is not None and created <= known):
                    continue
                if newest.get(key, "") <= created:
                    newest[key] = created
                    yield key, value

    # --- pages ----------------------------------------------------------------------------------------------------

    def _layout(self) -> tuple[int, int]:
        """Return the bytes of a page header and of a page; guessed from the pages if no meta page is intact."""
        head = self._at(0, 64)
        header = next((at for at in (16, 24) if head[at : at + 4] == _MAGIC.to_bytes(4, "little")), 16)
        meta = self._at(header, 28)
        size = int.from_bytes(meta[24:28], "little") if meta[:4] == _MAGIC.to_bytes(4, "little") else 0
        if size in _PAGE_SIZES:
            return header, size
        for header in (16, 24):
            for size in _PAGE_SIZES:
                second = self._at(size + header, 4)
                if second == _MAGIC.to_bytes(4, "little"):
                    return header, size
        return 16, 4096

    def _at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def _read(self, number: int) -> bytes | None:
        """Read a page, possibly truncated; return None if its number is wrong."""
        page = self._at(number * self._page, self._page)
        if len(page) < self._header + 8 or int.from_bytes(page[:8], "little") != number:
            return None
        return page

    def _kind(self, page: bytes) -> int:
        (flags,) = struct.unpack_from("=H", page, self._header - 6)
        return int(flags) & (_BRANCH | _LEAF | _OVERFLOW | _META)

    def _offsets(self, page: bytes) -> list[int]:
        """Return the valid offsets of nodes in a page."""
        (lower,) = struct.unpack_from("=H", page, self._header - 4)
        # In the format of LMDB 1.0, offsets are relative to the end of the header.
        base = self._header if self._header == 24 else 0
        end = min(lower + base, len(page))
        found = struct.unpack_from(f"={max(0, end - self._header) // 2}H", page, self._header)
        return [base + place for place in found if self._header <= base + place <= len(page) - _NODE.size]

    def _children(self, page: bytes) -> Iterator[int]:
        for place in self._offsets(page):
            low, high, top, _ = _NODE.unpack_from(page, place)
            yield low | high << 16 | top << 32

    def _nodes(self, page: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield keys and values of a leaf; None for a value whose pages are missing."""
        for place in self._offsets(page):
            low, high, flags, length = _NODE.unpack_from(page, place)
            key_at = place + _NODE.size
            key = page[key_at : key_at + length]
            # Values have even offsets in the format of LMDB 1.0.
            value_at, size = key_at + length + (length % 2 if self._header == _LMDB_1_HEADER else 0), low | high << 16
            if len(key) < max(length, 1) or size > _MAX_VALUE_BYTES:
                continue
            if not flags & _BIG_DATA:
                yield key, page[value_at : value_at + size]
                continue
            number = int.from_bytes(page[value_at : value_at + 8], "little")
            if number * self._page + self._header + size > self._size:
                yield key, None
            else:
                yield key, self._at(number * self._page + self._header, size)


def _transaction(found: tuple[int, int | None, int]) -> int:
    return found[0]
