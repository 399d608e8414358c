"""The pages of an LMDB file, looked at before liblmdb walks them: it dies of one that is not what it should be.

liblmdb asserts that each page it steps onto is of the kind it expects, and follows offsets and lengths wherever they
lead, so that one zeroed or garbled page ends the process (SIGABRT, SIGBUS). What is looked at here is what it takes for
granted. Look-ups by key go from the root to one leaf: for them the branch pages and the last few leaves of the file are
enough, a hundredth of all pages. Cursors step over all leaves.
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
_BIG_DATA, _TABLE = 1, 2
_NODE: Final = 8
"""Bytes of a node before its key: length of the value (in a branch: the child's number) and of the key, flags."""
_DEEPEST: Final = 32
_LONGEST_KEY: Final = 511
_NEWER: Final = 24
NOWHERE: Final = (1 << 64) - 1
"""Root of a table without entries."""
_BLOCK: Final = 2048
_TAIL: Final = 64
"""Pages at the end of a file from which a garbled leaf may lead beyond it: an offset and a length are 16 bits each."""
_MOST: Final = 50
"""Faults that are listed."""
_META = struct.Struct("=4xI16x4xHH5Q4xHH5QQQ")
"""Format; of the table of free pages and of that of records: flags, depth, branch, leaf and overflow pages, entries,
root; last page, transaction.
"""
META_BYTES: Final = _META.size


@dataclass(frozen=True)
class Table:
    """A tree of pages."""

    flags: int
    depth: int
    root: int
    entries: int


@dataclass(frozen=True)
class State:
    """What one transaction left."""

    transaction: int
    pages: int
    """Pages that the file has had so far: every number is less."""
    free: Table
    records: Table


def read_states(read: Read, page_size: int, header: int) -> list[State]:
    """What both meta pages say, as far as they are there.

    Args:
        read: Gives bytes of the file: from where, and how many.
        page_size: Bytes of a page.
        header: Bytes of a page's header.
    """
    return parse_states(read(number * page_size + header, META_BYTES) for number in (0, 1))


def parse_states(metas: Iterable[bytes]) -> list[State]:
    """What meta pages say, given what follows their headers; those that are cut short say nothing."""
    found = []
    for meta in metas:
        if len(meta) == META_BYTES:
            fields = _META.unpack(meta)
            free, records = (Table(one[0], one[1], one[6], one[5]) for one in (fields[1:8], fields[8:15]))
            found.append(State(fields[16], fields[15] + 1, free, records))
    return found


class Tree:
    """The pages of one transaction.

    Args:
        read: Gives bytes of the file: from where, and how many.
        page_size: Bytes of a page.
        header: Bytes of a page's header: 16 in the format of LMDB 0.9, 24 in that of 1.0.
        state: The transaction's.
    """

    def __init__(self, read: Read, page_size: int, header: int, state: State) -> None:
        self._read = read
        self._size = page_size
        self._header = header
        # In the newer format places are counted from the end of the header.
        self._base = header if header == _NEWER else 0
        self._state = state
        self._faults: list[str] = []

    def faults(self, *, leaves: bool, values: bool = False, free: bool = False) -> list[str]:
        """What is wrong.

        Args:
            leaves: Look at every leaf, as cursors do; otherwise at as much as look-ups by key need.
            values: Also at the head of each value that has pages of its own, which is to read much of the file.
            free: Also at the tree of free pages, which is for those who write.
        """
        self._faults = []
        if self._state.records.flags:
            self._faults.append(f"its table of records has flags {self._state.records.flags:#x}, which no store's has")
            return self._faults
        self._walk(self._state.records, 2, leaves=leaves, values=values)
        if free:
            self._walk(self._state.free, 1, leaves=True, values=False)
        more = len(self._faults) - _MOST
        return self._faults if more <= 0 else [*self._faults[:_MOST], f"… and {more:,} more"]

    def _walk(self, table: Table, fewest: int, *, leaves: bool, values: bool) -> None:
        if table.root == NOWHERE:
            return
        if not 1 <= table.depth <= _DEEPEST or not 2 <= table.root < self._state.pages:
            self._faults.append(f"a tree of {table.depth} levels begins at page {table.root}")
            return
        level = np.array([table.root], dtype=np.int64)
        seen = np.zeros(self._state.pages, dtype=bool)
        before = len(self._faults)
        for _ in range(table.depth - 1):
            seen[level] = True
            below = [np.zeros(0, np.int64)]
            below += [self._children(*block) for block in self._pages(level, _BRANCH, fewest)]
            level = np.sort(np.concatenate(below))
            twice = seen[level]
            twice[1:] |= level[1:] == level[:-1]
            self._say(level[twice], "is led to more than once")
            level = level[~twice]
        if not leaves:
            if len(self._faults) > before:
                return
            level = level[level >= self._state.pages - _TAIL]
            # What is no leaf at all liblmdb itself refuses, if that very page is asked for.
            level = level[self._is_leaf(level)]
        found = [self._values(*block) for block in self._pages(level, _LEAF, 1)]
        if values and found:
            self._heads(np.sort(np.concatenate(found)))

    # --- pages ----------------------------------------------------------------------------------------------------

    def _pages(
        self, numbers: NDArray[np.int64], kind: int, fewest: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Blocks of pages whose head is as it should be: numbers ``[n]`` and bytes ``[n, page_size]``."""
        half = self._header // 2
        name = {_BRANCH: "branch", _LEAF: "leaf"}[kind]
        for start in range(0, len(numbers), _BLOCK):
            wanted = numbers[start : start + _BLOCK]
            there, pages = self._load(wanted)
            self._say(wanted[~there], "is beyond the end of the file")
            wanted = wanted[there]
            heads = pages.view("<u2")
            own = pages[:, :8].copy().view("<u8").reshape(-1)
            flags, lower, upper = (heads[:, half - back].astype(np.int64) for back in (3, 2, 1))
            other = (own != wanted.astype(np.uint64)) | (flags != kind)
            self._say(wanted[other], f"is not the {name} page that it should be")
            bounds = (lower % 2 != 0) | (lower < self._header - self._base + 2 * fewest)
            bounds |= (lower > upper) | (upper > self._size - self._base)
            self._say(wanted[bounds & ~other], "has bounds that make no sense")
            sound = ~(other | bounds)
            yield wanted[sound], pages[sound]

    def _is_leaf(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        places = (int(number) * self._size + self._header - 6 for number in numbers)
        return np.array([bool(int.from_bytes(self._read(place, 1), "little") & _LEAF) for place in places], dtype=bool)

    def _load(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Which of the pages (ascending) are there, and these."""
        parts, there = [], np.zeros(len(numbers), dtype=bool)
        edges = np.flatnonzero(np.diff(numbers) != 1) + 1
        for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(numbers)], strict=True):
            content = self._read(int(numbers[first]) * self._size, (last - first) * self._size)
            whole = len(content) // self._size
            there[first : first + whole] = True
            parts.append(content[: whole * self._size])
        return there, np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, self._size)

    def _nodes(self, numbers: NDArray[np.int64], pages: NDArray[np.uint8]) -> tuple[NDArray[np.int64], ...]:
        """All nodes that lie within their page.

        Returns:
            For each: row of its page, place, low and high half of the length, flags, and length of the key.
        """
        words = pages.view("<u2")
        half = self._header // 2
        lower, upper = words[:, half - 2].astype(np.int64), words[:, half - 1].astype(np.int64)
        counts = (lower - (self._header - self._base)) // 2
        rows = np.repeat(np.arange(len(pages)), counts)
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = words[rows, half + columns].astype(np.int64) + self._base
        wrong = (places % 2 != 0) | (places < upper[rows] + self._base) | (places + _NODE > self._size)
        self._say(numbers[rows[wrong]], "has an entry outside of itself")
        rows, places = rows[~wrong], places[~wrong]
        low, high, flags, length = (words[rows, places // 2 + field].astype(np.int64) for field in range(4))
        wrong = (length > _LONGEST_KEY) | (places + _NODE + length > self._size)
        self._say(numbers[rows[wrong]], "has a key that is longer than there is room")
        return tuple(field[~wrong] for field in (rows, places, low, high, flags, length))

    def _children(self, numbers: NDArray[np.int64], pages: NDArray[np.uint8]) -> NDArray[np.int64]:
        rows, _, low, high, flags, _ = self._nodes(numbers, pages)
        children = low | high << 16 | flags << 32
        wrong = (children < 2) | (children >= self._state.pages)
        self._say(numbers[rows[wrong]], "leads to pages that the file does not have")
        return children[~wrong]

    def _values(self, numbers: NDArray[np.int64], pages: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Check the values of leaves; gives the first pages of those that have pages of their own."""
        rows, places, low, high, flags, length = self._nodes(numbers, pages)
        self._say(numbers[rows[(length < 1) | (flags & ~_BIG_DATA & ~_TABLE != 0)]], "has an entry of another kind")
        sizes = low | high << 16
        starts = places + _NODE + length
        if self._base:  # the newer format sets values at even places
            starts += length % 2
        big = flags & _BIG_DATA != 0
        room = np.where(big, 24 if self._base else 8, sizes)
        wrong = starts + room > self._size
        self._say(numbers[rows[wrong]], "has a value that is longer than there is room")
        big &= ~wrong
        rows, starts, sizes = rows[big], starts[big], sizes[big]
        firsts = pages[rows[:, None], starts[:, None] + np.arange(8)].view("<u8").reshape(-1)
        needed = (self._header - 1 + sizes) // self._size + 1
        wrong = (firsts < 2) | (firsts >= self._state.pages)
        first = np.where(wrong, 0, firsts).astype(np.int64)
        wrong |= first + needed > self._state.pages
        self._say(numbers[rows[wrong]], "has a value on pages that the file does not have")
        kept: NDArray[np.int64] = first[~wrong]
        return kept

    def _heads(self, numbers: NDArray[np.int64]) -> None:
        """Check the heads of pages that values begin on."""
        for start in range(0, len(numbers), _BLOCK):
            wanted = numbers[start : start + _BLOCK]
            heads = [self._read(int(number) * self._size, self._header) for number in wanted]
            table = np.frombuffer(b"".join(head.ljust(self._header, b"\0") for head in heads), np.uint8)
            table = table.reshape(-1, self._header)
            own = table[:, :8].copy().view("<u8").reshape(-1)
            flags = table.view("<u2")[:, self._header // 2 - 3]
            self._say(wanted[(own != wanted.astype(np.uint64)) | (flags != _OVERFLOW)], "is not the page of a value")

    def _say(self, numbers: NDArray[Any], what: str) -> None:
        self._faults += [f"page {number} {what}" for number in np.unique(numbers).tolist()]
