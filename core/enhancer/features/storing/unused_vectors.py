"""Find the paid vectors in the journal that no record of the store has any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from enhancer.contracts.record import holds_note
from enhancer.features.stored_hash import plain_hash
from enhancer.features.storing.records import embedding_text
from enhancer.harness.calls.cache_key import text_hash
from enhancer.harness.journal.journal import Journal
from enhancer.harness.journal.paid_vectors import vector_key

if TYPE_CHECKING:
    from enhancer.contracts.record import Record
    from enhancer.contracts.store import FeatureStore


class UnusedVectors(NamedTuple):
    """Paid vectors of the journal, and those that were removed, or would be."""

    vectors: int
    """All of them, before any was removed."""
    unused: int
    """Those of no record."""
    removed: int


def remove_unused_vectors(store: FeatureStore, *, max_share: float, dry_run: bool = False) -> UnusedVectors:
    """Remove the paid vectors of no record: of texts that have changed, and of former embedders.

    Args:
        store: The store.
        max_share: Largest share to remove. Above it none is removed: the store may be a new one, which is yet to be
            filled from the journal.
        dry_run: Remove none, and return what would be removed.
    """
    if (found := Journal.find(store)) is None:
        return UnusedVectors(0, 0, 0)
    with found as journal:
        vectors = journal.vectors.count()
        if not vectors:
            return UnusedVectors(0, 0, 0)
        unused = journal.vectors.remove_all_but(map(_key, store.scan()), dry_run=True)
        if unused > max_share * vectors:
            return UnusedVectors(vectors, unused, 0)
        removed = unused if dry_run else journal.vectors.remove_all_but(map(_key, store.scan()))
        return UnusedVectors(vectors, unused, removed)


def _key(record: Record) -> bytes:
    if holds_note(record.aspect):
        return vector_key(record.embedder, text_hash(embedding_text(record.profile, record.tags)))
    return vector_key(record.embedder, plain_hash(record.input_hash))  # the hash of the text, which is not kept
