"""Tell the items that the LLM knows best from the others: by probes, or by what its notes say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.config.inputs import aspect_of
from enhancer.evaluation.judging.memory import KnownItems
from enhancer.project.notes.memory import read_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enhancer.contracts.store import FeatureStore
    from enhancer.project.parts import ProjectParts

_CHUNK = 1024
_ENOUGH = 0.5
"""Share of the items from which probes are preferred to the notes' own confidence."""
Known = list[bool | None]


def known_items(parts: ProjectParts) -> KnownItems | None:
    """Return the items that the LLM knows best, and the others.

    If at least half of the items were probed (``diagnose --memory``), those of which title and year were right are
    known, as far as both were asked. Else those are known whose notes all say that their confidence is high; if no note
    says so, the items that were probed are told apart.

    Returns:
        None if no LLM writes notes of items, or nothing tells them apart.
    """
    names = parts.settings.notes("item")
    if not names:
        return None
    ids = parts.split.train.item_ids
    memory = read_memory(parts.store.directory)
    probed: Known = [] if memory is None else [memory.known(id_) for id_ in ids]
    source = "" if memory is None else f"the titles and years that {memory.model} recalls"
    if _covered(probed) < _ENOUGH * len(ids):
        sure = _confidence(parts.read_store, ids, [aspect_of(name) for name in names])
        if any(one is not None for one in sure):
            probed, source = sure, "its own confidence in its notes"
    known = np.array([one is True for one in probed], np.bool_)
    unknown = np.array([one is False for one in probed], np.bool_)
    return KnownItems(known, unknown, source) if known.any() and unknown.any() else None


def _covered(known: Known) -> int:
    return sum(one is not None for one in known)


def _confidence(store: FeatureStore, ids: Sequence[str], aspects: Sequence[str]) -> Known:
    """Return whether all notes of an item say that their confidence is high; None if none says how sure it is."""
    found: Known = []
    for chunk in _chunks(ids):
        said: list[set[str]] = [set() for _ in chunk]
        for aspect in aspects:
            for row, record in enumerate(store.get(chunk, kind="item", aspect=aspect)):
                if record is not None and record.confidence:
                    said[row].add(record.confidence)
        found += [one == {"high"} if one else None for one in said]
        if not _covered(found):  # notes that were not asked how sure they are: the rest would say nothing, either
            return []
    return found


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
