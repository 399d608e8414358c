"""Open the memory of each table for a run, and save it at the end."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from enhancer.features.row_memory import RowMemory, state_hash
from enhancer.features.sources import EntityTable
from enhancer.features.surveying.lengths import with_one_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.record import Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.kind_spec import KindSpec

_PROBE = "probe"
"""Text whose input hash stands for template, model, endpoint and sampling of a note."""


class Memories:
    """The memories of one store, during one run.

    Args:
        store: The store. Without a revision nothing is remembered.
        embedder: The embedder whose vectors are current.
    """

    def __init__(self, store: FeatureStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder
        self._revision = store.revision()
        self._writes = store.own_writes
        self._opened: list[RowMemory] = []
        self._one_length = True

    @property
    def is_current(self) -> bool:
        """Whether the store is as it was when this was made, but for what this run has written."""
        now = self._store.revision()
        own = self._store.own_writes - self._writes
        return now is not None and self._revision is not None and now.number == self._revision.number + own

    def remembering(self, specs: Sequence[KindSpec]) -> list[KindSpec]:
        """Return the specifications with their memories, where rows alone decide what is current."""
        return [self._with_memory(spec) for spec in specs]

    def with_one_length(self) -> FeatureStore:
        """Return the store as :func:`.lengths.with_one_length` does; it need not be read if all rows are remembered."""
        if self._opened and all(memory.is_valid and memory.dim is not None for memory in self._opened):
            return self._store
        dims = tuple(self._store.stats().dims)
        found = with_one_length(self._store, self._embedder, dims)
        for memory in self._opened:
            memory.dim = dims[0] if len(dims) == 1 else None
        return found

    def watch(self, record: Record) -> None:
        """Note the length of a new vector."""
        if any(memory.dim not in (None, len(record.vector)) for memory in self._opened):
            self._one_length = False

    def save(self) -> None:
        """Write what the run has found. Does nothing if another process has written to the store meanwhile."""
        revision, own = self._store.revision(), self._store.own_writes - self._writes
        for memory in self._opened:
            if not self._one_length:
                memory.dim = None
            memory.save(revision, own)

    def _with_memory(self, spec: KindSpec) -> KindSpec:
        table = spec.entities
        if self._revision is None or not isinstance(table, EntityTable) or spec.shows_context or spec.reviews:
            return spec
        state = state_hash(
            {
                "enhancer": version("enhancer"),
                "kind": spec.kind,
                "path": str(table.path),
                "data": table.data.model_dump(mode="json"),
                "notes": [
                    [one.note.aspect, one.keys.of(_PROBE), one.fallback and one.fallback.keys.of(_PROBE)]
                    for one in spec.notes
                ],
                "text": spec.embeds_text,
                "embedder": self._embedder.fingerprint,
            }
        )
        memory = next((one for one in self._opened if one.state == state), None)
        if memory is None:
            memory = RowMemory(self._store.directory / f"rows-{spec.kind}.memory", state, self._revision)
            self._opened.append(memory)
        return replace(spec, memory=memory)
