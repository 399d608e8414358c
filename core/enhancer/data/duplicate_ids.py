"""Find ids that occur more than once in a stream, in sixteen bytes of memory per id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MAX_UNSORTED = 1 << 16
"""Ids kept in a dictionary before they are moved to a sorted array."""


class DuplicateIndex:
    """Append-only map from an id to a hash of its content.

    Ids are identified by the 64 bits of Python's own hash, which is seeded anew for each process. Among a million ids
    the chance of a collision is less than one in ten million, and a data file cannot provoke one.

    >>> index = DuplicateIndex()
    >>> index.add(["a", "b", "a"], ["text", "text", "text"])
    [None, None, True]
    >>> index.add(["a", "c"], ["other", "text"])
    [False, None]
    """

    def __init__(self) -> None:
        self._unsorted: dict[int, int] = {}
        self._sorted_arrays: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def __len__(self) -> int:
        return len(self._unsorted) + sum(len(keys) for keys, _ in self._sorted_arrays)

    def add(self, ids: Sequence[str], contents: Sequence[str]) -> list[bool | None]:
        """Add ids with their contents; the content of a known id is not replaced.

        Returns:
            For each id None if it is new, else whether its content equals the first one.
        """
        keys, values = list(map(hash, ids)), list(map(hash, contents))
        earlier = self._find_sorted(keys)
        result: list[bool | None] = []
        unsorted = self._unsorted
        if not earlier and unsorted.keys().isdisjoint(keys) and len(set(keys)) == len(keys):
            # The common case: every id is new.
            unsorted.update(zip(keys, values, strict=True))
            if len(unsorted) >= _MAX_UNSORTED:
                self._sort()
            return [None] * len(keys)
        for position, (key, value) in enumerate(zip(keys, values, strict=True)):
            known = earlier.get(position, unsorted.get(key))
            if known is None:
                unsorted[key] = value
            result.append(None if known is None else known == value)
        if len(unsorted) >= _MAX_UNSORTED:
            self._sort()
        return result

    def _find_sorted(self, keys: Sequence[int]) -> dict[int, int]:
        """Look up keys in the sorted arrays. Return content hashes by position in ``keys``."""
        found: dict[int, int] = {}
        wanted = np.array(keys, np.int64)
        for sorted_keys, values in self._sorted_arrays:
            at = np.minimum(sorted_keys.searchsorted(wanted), len(sorted_keys) - 1)
            for position in np.flatnonzero(sorted_keys[at] == wanted).tolist():
                found[position] = int(values[at[position]])
        return found

    def _sort(self) -> None:
        count = len(self._unsorted)
        keys = np.fromiter(self._unsorted.keys(), np.int64, count)
        values = np.fromiter(self._unsorted.values(), np.int64, count)
        self._unsorted.clear()
        # Arrays of similar length are merged, which keeps their number logarithmic.
        while self._sorted_arrays and len(self._sorted_arrays[-1][0]) <= 2 * len(keys):
            older = self._sorted_arrays.pop()
            keys, values = np.concatenate([older[0], keys]), np.concatenate([older[1], values])
        order = np.argsort(keys)
        self._sorted_arrays.append((keys[order], values[order]))
