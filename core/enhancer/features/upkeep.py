"""Looking after what a store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore

_BATCH = 512
"""Ids in one call."""


def collect_garbage(store: FeatureStore, kind: Kind, known: Container[str]) -> int:
    """Remove the records of entities that are not known any more.

    Args:
        store: Where from.
        kind: Items or users.
        known: Ids of the entities that there are.

    Returns:
        How many records were removed.
    """
    gone: dict[str, list[str]] = {}
    for record in store.scan(kind=kind):
        if record.id not in known:
            gone.setdefault(record.aspect, []).append(record.id)
    return sum(
        store.delete(ids[start : start + _BATCH], kind=kind, aspect=aspect)
        for aspect, ids in gone.items()
        for start in range(0, len(ids), _BATCH)
    )
