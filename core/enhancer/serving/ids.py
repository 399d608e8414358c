"""Ids by the million, opened in no time: UTF-8 bytes, offsets and a sorted order, all of them memory-mapped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from enhancer.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_DICT_AFTER = 20_000
"""Look-ups after which a dictionary pays for itself."""
_SMALL = 200_000
"""Ids of which a dictionary is built in a fraction of a second."""
_SUGGEST_ALL = 5_000
_NEIGHBOURS = 50


def check_id(id_: str) -> None:
    """Refuse an id that is no string: tables often hold numbers, and 42 would silently not be "42".

    Raises:
        DataError: It is something else.
    """
    if not isinstance(id_, str):
        raise DataError(f"ids are strings, not {id_!r}", hint=f"write {str(id_)!r}")


def pack_strings(strings: Sequence[str], prefix: str) -> dict[str, NDArray[np.generic]]:
    """Strings as arrays: ``PREFIX.bytes`` (uint8) and ``PREFIX.offsets`` (int64 ``[n + 1]``)."""
    raw = [text.encode("utf-8", "surrogatepass") for text in strings]
    offsets = np.zeros(len(raw) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in raw], out=offsets[1:])
    return {f"{prefix}.bytes": np.frombuffer(b"".join(raw), dtype=np.uint8), f"{prefix}.offsets": offsets}


def pack_ids(ids: Sequence[str], prefix: str) -> dict[str, NDArray[np.generic]]:
    """Ids as arrays: those of :func:`pack_strings`, and ``PREFIX.order`` (int32): row numbers in order of the bytes."""
    raw = [text.encode("utf-8", "surrogatepass") for text in ids]
    order = np.array(sorted(range(len(raw)), key=raw.__getitem__), dtype=np.int32)
    return {**pack_strings(ids, prefix), f"{prefix}.order": order}


class StringTable:
    """Strings by row number."""

    def __init__(self, prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self._bytes = arrays[f"{prefix}.bytes"]
        self._offsets = arrays[f"{prefix}.offsets"]

    def __len__(self) -> int:
        return max(len(self._offsets) - 1, 0)

    def raw(self, row: int) -> bytes:
        """The UTF-8 bytes of one string."""
        return self._bytes[int(self._offsets[row]) : int(self._offsets[row + 1])].tobytes()

    def __getitem__(self, row: int) -> str:
        return self.raw(row).decode("utf-8", "surrogatepass")


class IdTable(StringTable):
    """Ids by row number, and row numbers by id."""

    def __init__(self, prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        super().__init__(prefix, arrays)
        self._order = arrays[f"{prefix}.order"]
        self._asked = 0
        self._lean = False
        self._rows: dict[str, int] | None = None

    def warm(self) -> None:
        """Get ready for many look-ups by many threads, none of which shall wait for a dictionary to be built.

        A small table builds it now. A large one is searched for good: that takes some 20 microseconds, and no memory.
        """
        self._lean = len(self) > _SMALL
        if not self._lean:
            self._build()

    def row(self, id_: str) -> int | None:
        """The row number of an id, or None."""
        if self._rows is not None:
            return self._rows.get(id_)
        self._asked += 1
        if self._asked > _DICT_AFTER and not self._lean:
            return self._build().get(id_)
        place = self._place(id_)
        if place < len(self):
            row = int(self._order[place])
            if self.raw(row) == id_.encode("utf-8", "surrogatepass"):
                return row
        return None

    def nearest(self, id_: str) -> str | None:
        """A hint that names the id most like an unknown one.

        Raises:
            DataError: What is asked for is no string.
        """
        check_id(id_)
        if len(self) <= _SUGGEST_ALL:
            rows = range(len(self))
        else:
            place = self._place(id_)
            rows = range(max(place - _NEIGHBOURS, 0), min(place + _NEIGHBOURS, len(self)))
        known = [self[int(self._order[row])] for row in rows]
        hint = did_you_mean(id_, known)
        if hint is None or not hint.startswith("known"):
            return hint
        return f"such as {', '.join(repr(one) for one in known[:3])}"

    def _build(self) -> dict[str, int]:
        rows = {self[row]: row for row in range(len(self))}
        self._rows = rows
        return rows

    def _place(self, id_: str) -> int:
        check_id(id_)
        raw = id_.encode("utf-8", "surrogatepass")
        return bisect_left(range(len(self)), raw, key=lambda place: self.raw(int(self._order[place])))


class ItemIds(Sequence[str]):
    """Ids of trained items and of those added since, by row number."""

    def __init__(self, trained: IdTable, added: Sequence[str]) -> None:
        self._trained, self._added, self._known = trained, added, len(trained)

    def __len__(self) -> int:
        return self._known + len(self._added)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        return self._trained[row] if row < self._known else self._added[row - self._known]
