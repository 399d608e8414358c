"""Store id tables as arrays that can be memory-mapped: UTF-8 bytes, offsets and a sorted order."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from enhancer.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_DICT_AFTER = 20_000
"""Look-ups after which building a dictionary pays off."""
_KEPT_AT_MOST = 200_000
"""Largest table of which ``warm`` keeps strings and dictionary; that takes a fraction of a second."""
_SUGGEST_FROM_ALL = 5_000
"""Largest table whose ids are all compared to find the nearest one."""
_NEIGHBOURS = 50
"""Ids on either side, in sorted order, that are compared in larger tables."""


def check_id(id_: str) -> None:
    """Check that an id is a string: tables often hold numbers, and 42 would not match "42".

    Raises:
        DataError: The id is not a string.
    """
    if not isinstance(id_, str):
        raise DataError(f"ids are strings, not {id_!r}", hint=f"write {str(id_)!r}")


def pack_strings(strings: Sequence[str], prefix: str) -> dict[str, NDArray[np.generic]]:
    """Return strings as arrays ``PREFIX.bytes`` (uint8) and ``PREFIX.offsets`` (int64 ``[n + 1]``)."""
    raw = [text.encode("utf-8", "surrogatepass") for text in strings]
    offsets = np.zeros(len(raw) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in raw], out=offsets[1:])
    return {f"{prefix}.bytes": np.frombuffer(b"".join(raw), dtype=np.uint8), f"{prefix}.offsets": offsets}


def pack_ids(ids: Sequence[str], prefix: str) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of :func:`pack_strings` and ``PREFIX.order`` (int32 ``[n]``): rows sorted by the ids' bytes."""
    raw = [text.encode("utf-8", "surrogatepass") for text in ids]
    order = np.array(sorted(range(len(raw)), key=raw.__getitem__), dtype=np.int32)
    return {**pack_strings(ids, prefix), f"{prefix}.order": order}


def pack_aliases(aliases: Mapping[str, str], ids: Sequence[str], prefix: str) -> dict[str, NDArray[np.generic]]:
    """Return other spellings of ids as arrays ``PREFIX.aliases.*``: those of :func:`pack_ids`, and rows, int32 ``[a]``.

    Args:
        aliases: Known id of each other spelling. Those of ids that are not there are left out, and so is a spelling
            that is an id itself.
        ids: Ids by row.
        prefix: Name of the table of ids.

    Returns:
        The arrays; none if there are no other spellings.
    """
    row_of = {id_: row for row, id_ in enumerate(ids)} if aliases else {}
    rows = {alias: row_of[id_] for alias, id_ in aliases.items() if id_ in row_of and alias not in row_of}
    if not rows:
        return {}
    packed = pack_ids(list(rows), f"{prefix}.aliases")
    return {**packed, f"{prefix}.aliases.rows": np.array(list(rows.values()), dtype=np.int32)}


def _shared(one: str, other: str) -> int:
    """Return the length of the common beginning of two strings."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


class StringTable:
    """Strings by row number, decoded on access."""

    def __init__(self, prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self._bytes = arrays[f"{prefix}.bytes"]
        self._offsets = arrays[f"{prefix}.offsets"]
        self._strings: list[str] | None = None

    def warm(self) -> None:
        """Decode a small table now, so that reading a row takes no time."""
        if len(self) <= _KEPT_AT_MOST:
            self._strings = self.decoded()

    @property
    def kept(self) -> list[str] | None:
        """All strings by row, if :meth:`warm` has decoded them."""
        return self._strings

    def decoded(self) -> list[str]:
        """Return all strings by row."""
        content, ends = self._bytes.tobytes(), self._offsets.tolist()
        return [content[start:end].decode("utf-8", "surrogatepass") for start, end in itertools.pairwise(ends)]

    def __len__(self) -> int:
        return max(len(self._offsets) - 1, 0)

    def raw(self, row: int) -> bytes:
        """Return the UTF-8 bytes of a row's string."""
        return self._bytes[int(self._offsets[row]) : int(self._offsets[row + 1])].tobytes()

    def __getitem__(self, row: int) -> str:
        return self.raw(row).decode("utf-8", "surrogatepass") if self._strings is None else self._strings[row]


class IdTable(StringTable):
    """Ids by row number, and row numbers by id, in any spelling that the artifact knows."""

    def __init__(self, prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        super().__init__(prefix, arrays)
        self._order = arrays[f"{prefix}.order"]
        self._lookups = 0
        self._search_only = False
        self._rows: dict[str, int] | None = None
        self._aliases: IdTable | None = None
        if f"{prefix}.aliases.rows" in arrays:
            self._aliases = IdTable(f"{prefix}.aliases", arrays)
            self._alias_rows = arrays[f"{prefix}.aliases.rows"]

    def warm(self) -> None:
        """Prepare for look-ups by many threads, so that none of them waits for a dictionary to be built.

        A small table builds its dictionary now. A large one never does: binary search takes about 20 microseconds and
        no memory.
        """
        super().warm()
        self._search_only = self._strings is None
        if not self._search_only:
            self._build()
        if self._aliases is not None:
            self._aliases.warm()

    def row(self, id_: str) -> int | None:
        """Return the row number of an id or of another spelling of it, or None if it is unknown."""
        row = self._own_row(id_)
        if row is not None or self._aliases is None:
            return row
        alias = self._aliases.row(id_)
        return None if alias is None else int(self._alias_rows[alias])

    def _own_row(self, id_: str) -> int | None:
        if self._rows is not None:
            return self._rows.get(id_)
        self._lookups += 1
        if self._lookups > _DICT_AFTER and not self._search_only:
            return self._build().get(id_)
        position = self._position(id_)
        if position < len(self):
            row = int(self._order[position])
            if self.raw(row) == id_.encode("utf-8", "surrogatepass"):
                return row
        return None

    def nearest(self, id_: str) -> str | None:
        """Return a hint that names the known id most similar to an unknown one.

        Raises:
            DataError: The id is not a string.
        """
        check_id(id_)
        if len(self) <= _SUGGEST_FROM_ALL:
            positions = range(len(self))
        else:
            position = self._position(id_)
            positions = range(max(position - _NEIGHBOURS, 0), min(position + _NEIGHBOURS, len(self)))
        known = [self[int(self._order[position])] for position in positions]
        hint = did_you_mean(id_, known)
        if hint is None or not hint.startswith("known"):
            return hint
        return f"known ids look like {', '.join(repr(one) for one in known[:3])}"

    def beside(self, id_: str) -> str | None:
        """Return the known id that shares the longest beginning with an unknown one, if that is half of it or more.

        Takes one binary search, unlike :meth:`nearest`.

        Raises:
            DataError: The id is not a string.
        """
        position = self._position(id_)
        around = [self[int(self._order[at])] for at in (position - 1, position) if 0 <= at < len(self)]
        shared = [_shared(id_, one) for one in around]
        longest = max(shared, default=0)
        return around[shared.index(longest)] if longest and 2 * longest >= len(id_) else None

    def _build(self) -> dict[str, int]:
        strings = self.decoded() if self._strings is None else self._strings
        rows = dict(zip(strings, range(len(strings)), strict=True))
        self._rows = rows
        return rows

    def _position(self, id_: str) -> int:
        check_id(id_)
        raw = id_.encode("utf-8", "surrogatepass")
        return bisect_left(range(len(self)), raw, key=lambda position: self.raw(int(self._order[position])))


class ItemIds(Sequence[str]):
    """Ids of trained and added items by row number."""

    def __init__(self, trained: IdTable, added: Sequence[str]) -> None:
        self._trained, self._added, self._n_trained = trained, added, len(trained)

    def __len__(self) -> int:
        return self._n_trained + len(self._added)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        return self._trained[row] if row < self._n_trained else self._added[row - self._n_trained]
