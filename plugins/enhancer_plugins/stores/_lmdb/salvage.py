"""Records out of a damaged LMDB file, read as plain bytes: liblmdb would die of what it is handed.

Every page of the file is looked at, whether or not a tree still leads to it. That is safe because each value carries a
checksum over its key and itself: what passes was once written under that very key. Pages that were given back may hold
former states of a record, so whatever the tree still leads to comes first, and of others the newest.
"""

from __future__ import annotations

import os
import struct
from typing import IO, TYPE_CHECKING, Final

from enhancer.contracts.store import Fault
from enhancer.storekit import codec
from enhancer_plugins.stores._lmdb.pages import META_BYTES, NOWHERE, parse_states
from enhancer_plugins.stores._repair import made_at

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

_MAGIC: Final = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BIG_DATA: Final = 1
_NEWER: Final = 24
"""Bytes of a page's header in the format of LMDB 1.0; 16 in that of 0.9."""
_LARGEST: Final = 1 << 30
_PAGE_SIZES: Final = (4096, 8192, 16384, 32768, 65536, 2048, 1024, 512)
_NODE = struct.Struct("=HHHH")
"""Of a node: low and high half of the value's length (in a branch: of the child's page), flags, length of the key."""


class Salvage:
    """Reads one file.

    Args:
        path: The file; it is not changed.

    Attributes:
        lost: What the tree leads to and cannot be kept, by key.
        about: What the file says of itself, under keys that are none of records.
        is_lmdb: Whether any page says what kind of file it is.
        whole: Whether the tree of the newest transaction could be followed to all its ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost: dict[bytes, Fault] = {}
        self.about: dict[bytes, bytes] = {}
        self.is_lmdb = False
        self.whole = False
        self._made: dict[bytes, str] = {}

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and sound values. A key that comes more than once is best given last."""
        with self.path.open("rb") as file:
            self._file: IO[bytes] = file
            self._size = os.fstat(file.fileno()).st_size
            self._header, self._page = self._layout()
            root, entries, certain = self._newest_root()
            reached = yield from self._tree(root)
            self.whole = certain and reached == entries
            if not self.whole:
                yield from self._anywhere(certain=certain)

    # --- what the newest transaction says -------------------------------------------------------------------------

    def _tree(self, root: int | None) -> Generator[tuple[bytes, bytes], None, int]:
        """Follow the tree; gives how many entries it leads to."""
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
                    if key[:1] == b"\x00":  # what is said of the store
                        self.about[key] = value or b""
                    elif value is None or (made := made_at(key, value)) is None:
                        self.lost[key] = Fault(codec.describe_key(key), "damaged")
                    else:
                        self._made[key] = made
                        yield key, value
        return reached

    def _newest_root(self) -> tuple[int | None, int, bool]:
        """Root page and number of entries of the newest transaction, and whether it is known to be the newest.

        Transactions write both meta pages by turns: one whose head is damaged is believed where its number is the other
        one's neighbour.
        """
        found: list[tuple[int, int | None, int]] = []
        sound: list[tuple[int, int | None, int]] = []
        for number in (0, 1):
            meta = self._at(number * self._page + self._header, META_BYTES)
            magic = meta[:4] == _MAGIC.to_bytes(4, "little")
            self.is_lmdb |= magic
            for state in parse_states([meta]):
                root, entries = state.records.root, state.records.entries
                # Parity is what tells the pages apart; an empty table has no root.
                if state.transaction % 2 == number and (2 <= root < 1 << 48 or (root == NOWHERE and not entries)):
                    found.append((state.transaction, None if root == NOWHERE else root, entries))
                    sound += found[-1:] if magic else []
        if len(found) == 2 and abs(found[0][0] - found[1][0]) == 1:
            return (*max(found, key=_transaction)[1:], True)
        return (*max(sound, key=_transaction)[1:], False) if sound else (None, 0, False)

    # --- whatever is anywhere -------------------------------------------------------------------------------------

    def _anywhere(self, *, certain: bool) -> Iterator[tuple[bytes, bytes]]:
        """Records of pages that no tree leads to any more; oldest first.

        Where the tree was of the newest transaction for certain, what it has led to is not looked for.
        """
        newest: dict[bytes, str] = {}
        for number in range(self._size // self._page + 1):
            page = self._read(number)
            if page is None or self._kind(page) != _LEAF:
                continue
            for key, value in self._nodes(page):
                known = self._made.get(key)
                if value is None or (certain and known is not None) or key[:1] == b"\x00":
                    continue
                made = made_at(key, value)
                if made is None or (known is not None and made <= known):
                    continue
                if newest.get(key, "") <= made:
                    newest[key] = made
                    yield key, value

    # --- pages ----------------------------------------------------------------------------------------------------

    def _layout(self) -> tuple[int, int]:
        """Bytes of a page's header and of a page; by the pages themselves where no meta page is left to say."""
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
        """A page, as far as the file has it."""
        page = self._at(number * self._page, self._page)
        if len(page) < self._header + 8 or int.from_bytes(page[:8], "little") != number:
            return None
        return page

    def _kind(self, page: bytes) -> int:
        (flags,) = struct.unpack_from("=H", page, self._header - 6)
        return int(flags) & (_BRANCH | _LEAF | _OVERFLOW | _META)

    def _places(self, page: bytes) -> list[int]:
        """Where nodes begin, as far as that can be."""
        (lower,) = struct.unpack_from("=H", page, self._header - 4)
        # In the newer format places are counted from the end of the header.
        base = self._header if self._header == 24 else 0
        end = min(lower + base, len(page))
        found = struct.unpack_from(f"={max(0, end - self._header) // 2}H", page, self._header)
        return [base + place for place in found if self._header <= base + place <= len(page) - _NODE.size]

    def _children(self, page: bytes) -> Iterator[int]:
        for place in self._places(page):
            low, high, top, _ = _NODE.unpack_from(page, place)
            yield low | high << 16 | top << 32

    def _nodes(self, page: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and values of a leaf; None for a value whose pages are not there."""
        for place in self._places(page):
            low, high, flags, length = _NODE.unpack_from(page, place)
            key_at = place + _NODE.size
            key = page[key_at : key_at + length]
            # The newer format sets values at even places.
            value_at, size = key_at + length + (length % 2 if self._header == _NEWER else 0), low | high << 16
            if len(key) < max(length, 1) or size > _LARGEST:
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
