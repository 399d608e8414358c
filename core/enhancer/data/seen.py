"""Which ids came before, and with what: sixteen bytes an id, so that a catalogue of millions leaves memory alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FRESH = 1 << 16
"""Ids that are kept as they come before they are sorted away."""


class Seen:
    """A map from id to a hash of its content, which only grows.

    Ids are known by 64 bits of Python's own hash, which is drawn anew for each process: among a million ids two are
    taken for one with a chance of less than one in ten million, and nobody can choose ids that are.

    >>> seen = Seen()
    >>> seen.add(["a", "b", "a"], ["text", "text", "text"])
    [None, None, True]
    >>> seen.add(["a", "c"], ["other", "text"])
    [False, None]
    """

    def __init__(self) -> None:
        self._fresh: dict[int, int] = {}
        self._runs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def __len__(self) -> int:
        return len(self._fresh) + sum(len(keys) for keys, _ in self._runs)

    def add(self, ids: Sequence[str], contents: Sequence[str]) -> list[bool | None]:
        """Note ids with their contents.

        Returns:
            For each None when it is new; else whether it came with equal content before (which is kept).
        """
        keys, values = list(map(hash, ids)), list(map(hash, contents))
        before = self._sorted_away(keys)
        told: list[bool | None] = []
        fresh = self._fresh
        if not before and fresh.keys().isdisjoint(keys) and len(set(keys)) == len(keys):
            # All of them new, as nearly always.
            fresh.update(zip(keys, values, strict=True))
            if len(fresh) >= _FRESH:
                self._sort_away()
            return [None] * len(keys)
        for place, (key, value) in enumerate(zip(keys, values, strict=True)):
            known = before.get(place, fresh.get(key))
            if known is None:
                fresh[key] = value
            told.append(None if known is None else known == value)
        if len(fresh) >= _FRESH:
            self._sort_away()
        return told

    def _sorted_away(self, keys: Sequence[int]) -> dict[int, int]:
        """Of the ids that are in a run: their place in ``keys``, and what came with them."""
        found: dict[int, int] = {}
        wanted = np.array(keys, np.int64)
        for run, values in self._runs:
            at = np.minimum(run.searchsorted(wanted), len(run) - 1)
            for place in np.flatnonzero(run[at] == wanted).tolist():
                found[place] = int(values[at[place]])
        return found

    def _sort_away(self) -> None:
        count = len(self._fresh)
        keys = np.fromiter(self._fresh.keys(), np.int64, count)
        values = np.fromiter(self._fresh.values(), np.int64, count)
        self._fresh.clear()
        # Runs of about equal length become one, so that there are never more than a few.
        while self._runs and len(self._runs[-1][0]) <= 2 * len(keys):
            older = self._runs.pop()
            keys, values = np.concatenate([older[0], keys]), np.concatenate([older[1], values])
        order = np.argsort(keys)
        self._runs.append((keys[order], values[order]))
