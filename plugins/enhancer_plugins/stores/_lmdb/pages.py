"""Check the pages of an LMDB file before liblmdb reads them, because damaged pages crash the process.

liblmdb asserts that each page has the expected type, and follows offsets and lengths without checks. One damaged page
ends the process with SIGABRT or SIGBUS. The checks here cover the assumptions of liblmdb. Look-ups by key go from the
root to one leaf, so that checking the branch pages and the last few leaves of the file suffices, about 1% of all pages.
Cursors visit all leaves.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Read = Callable[[int, int], bytes]

_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG_DATA, _SUBTREE = 1, 2
_NODE: Final = 8
"""Bytes of a node before its key: length of the value (in a branch: number of the child), flags, length of the key."""
_MAX_DEPTH: Final = 32
_MAX_KEY_BYTES: Final = 511
_LMDB_1_HEADER: Final = 24
"""Bytes of a page header in the format of LMDB 1.0; 16 in that of 0.9."""
NO_ROOT: Final = (1 << 64) - 1
"""Root of an empty tree."""
_BLOCK: Final = 2048
"""Pages checked at once."""
_TAIL: Final = 64
"""Last pages of a file, from which a damaged leaf may lead beyond its end: offsets and lengths have 16 bits."""
_MAX_FAULTS: Final = 50
"""Maximum number of faults in a list."""
_META = struct.Struct("=4xI16x4xHH5Q4xHH5QQQ")
"""Fields of a meta page: format; for the trees of free pages and of records each flags, depth, branch, leaf and
overflow pages, entries, root; then last page and transaction.
"""
META_BYTES: Final = _META.size


@dataclass(frozen=True)
class TreeInfo:
    """Root and size of a B+ tree of pages."""

    flags: int
    depth: int
    root: int
    entries: int


@dataclass(frozen=True)
class MetaPage:
    """State of the file after one transaction."""

    transaction: int
    pages: int
    """Number of pages; all page numbers are less."""
    free: TreeInfo
    """Tree of free pages."""
    records: TreeInfo
    """Tree of records."""


def read_meta_pages(read: Read, page_size: int, header: int) -> list[MetaPage]:
    """Read both meta pages; a missing one is omitted.

    Args:
        read: Returns bytes of the file, given offset and length.
        page_size: Bytes of a page.
        header: Bytes of a page header.
    """
    return parse_meta_pages(read(number * page_size + header, META_BYTES) for number in (0, 1))


def parse_meta_pages(metas: Iterable[bytes]) -> list[MetaPage]:
    """Parse meta pages without their headers; truncated ones are omitted."""
    found = []
    for meta in metas:
        if len(meta) == META_BYTES:
            fields = _META.unpack(meta)
            free, records = (TreeInfo(one[0], one[1], one[6], one[5]) for one in (fields[1:8], fields[8:15]))
            found.append(MetaPage(fields[16], fields[15] + 1, free, records))
    return found


class PageTree:
    """The pages of one transaction.

    Args:
        read: Returns bytes of the file, given offset and length.
        page_size: Bytes of a page.
        header: Bytes of a page header: 16 in the format of LMDB 0.9, 24 in that of 1.0.
        meta: Meta page of the transaction.
    """

    def __init__(self, read: Read, page_size: int, header: int, meta: MetaPage) -> None:
        self._read = read
        self._size = page_size
        self._header = header
        # In the format of LMDB 1.0, offsets are relative to the end of the header.
        self._base = header if header == _LMDB_1_HEADER else 0
        self._meta = meta
        self._faults: list[str] = []

    def faults(self, *, leaves: bool, values: bool = False, free: bool = False) -> list[str]:
        """Check the pages and return descriptions of all faults.

        Args:
            leaves: Whether to check every leaf, as needed for cursors; otherwise the pages needed for look-ups by key.
            values: Whether to check the first page of each large value, which reads much of the file.
            free: Whether to check the tree of free pages, as needed for writing.
        """
        self._faults = []
        if self._meta.records.flags:
            self._faults.append(f"the tree of records has flags {self._meta.records.flags:#x}, which stores do not use")
            return self._faults
        self._check_tree(self._meta.records, 2, leaves=leaves, values=values)
        if free:
            self._check_tree(self._meta.free, 1, leaves=True, values=False)
        more = len(self._faults) - _MAX_FAULTS
        return self._faults if more <= 0 else [*self._faults[:_MAX_FAULTS], f"… and {more:,} more"]

    def _check_tree(self, tree: TreeInfo, min_entries: int, *, leaves: bool, values: bool) -> None:
        if tree.root == NO_ROOT:
            return
        if not 1 <= tree.depth <= _MAX_DEPTH or not 2 <= tree.root < self._meta.pages:
            self._faults.append(f"a tree of {tree.depth} levels begins at page {tree.root}")
            return
        level = np.array([tree.root], dtype=np.int64)
        seen = np.zeros(self._meta.pages, dtype=bool)
        before = len(self._faults)
        for _ in range(tree.depth - 1):
            seen[level] = True
            below = [np.zeros(0, np.int64)]
            below += [self._children(*block) for block in self._pages(level, _BRANCH, min_entries)]
            level = np.sort(np.concatenate(below))
            repeated = seen[level]
            repeated[1:] |= level[1:] == level[:-1]
            self._report(level[repeated], "has several parents")
            level = level[~repeated]
        if not leaves:
            if len(self._faults) > before:
                return
            level = level[level >= self._meta.pages - _TAIL]
            # liblmdb itself raises an error for a page that is not a leaf.
            level = level[self._is_leaf(level)]
        found = [self._values(*block) for block in self._pages(level, _LEAF, 1)]
        if values and found:
            self._check_value_pages(np.sort(np.concatenate(found)))

    # --- pages ----------------------------------------------------------------------------------------------------

    def _pages(
        self, numbers: NDArray[np.int64], kind: int, min_entries: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield blocks of pages with valid headers: numbers ``[n]`` and bytes ``[n, page_size]``."""
        half = self._header // 2
        name = {_BRANCH: "branch", _LEAF: "leaf"}[kind]
        for start in range(0, len(numbers), _BLOCK):
            wanted = numbers[start : start + _BLOCK]
            present, pages = self._load(wanted)
            self._report(wanted[~present], "is beyond the end of the file")
            wanted = wanted[present]
            heads = pages.view("<u2")
            own = pages[:, :8].copy().view("<u8").reshape(-1)
            flags, lower, upper = (heads[:, half - back].astype(np.int64) for back in (3, 2, 1))
            other = (own != wanted.astype(np.uint64)) | (flags != kind)
            self._report(wanted[other], f"is not a {name} page, as expected")
            bounds = (lower % 2 != 0) | (lower < self._header - self._base + 2 * min_entries)
            bounds |= (lower > upper) | (upper > self._size - self._base)
            self._report(wanted[bounds & ~other], "has invalid bounds")
            sound = ~(other | bounds)
            yield wanted[sound], pages[sound]

    def _is_leaf(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        places = (int(number) * self._size + self._header - 6 for number in numbers)
        return np.array([bool(int.from_bytes(self._read(place, 1), "little") & _LEAF) for place in places], dtype=bool)

    def _load(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Return which of the pages (in ascending order) the file has, and their content."""
        parts, present = [], np.zeros(len(numbers), dtype=bool)
        edges = np.flatnonzero(np.diff(numbers) != 1) + 1
        for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(numbers)], strict=True):
            content = self._read(int(numbers[first]) * self._size, (last - first) * self._size)
            whole = len(content) // self._size
            present[first : first + whole] = True
            parts.append(content[: whole * self._size])
        return present, np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, self._size)

    def _nodes(self, numbers: NDArray[np.int64], pages: NDArray[np.uint8]) -> tuple[NDArray[np.int64], ...]:
        """Return all nodes that lie within their page.

        Returns:
            For each node: row of its page, offset, low and high half of the length, flags, and length of the key.
        """
        words = pages.view("<u2")
        half = self._header // 2
        lower, upper = words[:, half - 2].astype(np.int64), words[:, half - 1].astype(np.int64)
        counts = (lower - (self._header - self._base)) // 2
        rows = np.repeat(np.arange(len(pages)), counts)
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = words[rows, half + columns].astype(np.int64) + self._base
        wrong = (places % 2 != 0) | (places < upper[rows] + self._base) | (places + _NODE > self._size)
        self._report(numbers[rows[wrong]], "has an entry outside of the page")
        rows, places = rows[~wrong], places[~wrong]
        low, high, flags, length = (words[rows, places // 2 + field].astype(np.int64) for field in range(4))
        wrong = (length > _MAX_KEY_BYTES) | (places + _NODE + length > self._size)
        self._report(numbers[rows[wrong]], "has a key that exceeds the page")
        return tuple(field[~wrong] for field in (rows, places, low, high, flags, length))

    def _children(self, numbers: NDArray[np.int64], pages: NDArray[np.uint8]) -> NDArray[np.int64]:
        rows, _, low, high, flags, _ = self._nodes(numbers, pages)
        children = low | high << 16 | flags << 32
        wrong = (children < 2) | (children >= self._meta.pages)
        self._report(numbers[rows[wrong]], "refers to pages beyond the end of the file")
        return children[~wrong]

    def _values(self, numbers: NDArray[np.int64], pages: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Check the values of leaves and return the first pages of large values."""
        rows, places, low, high, flags, length = self._nodes(numbers, pages)
        self._report(
            numbers[rows[(length < 1) | (flags & ~_BIG_DATA & ~_SUBTREE != 0)]], "has an entry of an unknown type"
        )
        sizes = low | high << 16
        starts = places + _NODE + length
        if self._base:  # values have even offsets in the format of LMDB 1.0
            starts += length % 2
        big = flags & _BIG_DATA != 0
        room = np.where(big, 24 if self._base else 8, sizes)
        wrong = starts + room > self._size
        self._report(numbers[rows[wrong]], "has a value that exceeds the page")
        big &= ~wrong
        rows, starts, sizes = rows[big], starts[big], sizes[big]
        firsts = pages[rows[:, None], starts[:, None] + np.arange(8)].view("<u8").reshape(-1)
        needed = (self._header - 1 + sizes) // self._size + 1
        wrong = (firsts < 2) | (firsts >= self._meta.pages)
        first = np.where(wrong, 0, firsts).astype(np.int64)
        wrong |= first + needed > self._meta.pages
        self._report(numbers[rows[wrong]], "has a value beyond the end of the file")
        kept: NDArray[np.int64] = first[~wrong]
        return kept

    def _check_value_pages(self, numbers: NDArray[np.int64]) -> None:
        """Check the headers of the first pages of large values."""
        for start in range(0, len(numbers), _BLOCK):
            wanted = numbers[start : start + _BLOCK]
            heads = [self._read(int(number) * self._size, self._header) for number in wanted]
            table = np.frombuffer(b"".join(head.ljust(self._header, b"\0") for head in heads), np.uint8)
            table = table.reshape(-1, self._header)
            own = table[:, :8].copy().view("<u8").reshape(-1)
            flags = table.view("<u2")[:, self._header // 2 - 3]
            self._report(
                wanted[(own != wanted.astype(np.uint64)) | (flags != _OVERFLOW)], "is not the first page of a value"
            )

    def _report(self, numbers: NDArray[Any], what: str) -> None:
        self._faults += [f"page {number} {what}" for number in np.unique(numbers).tolist()]
