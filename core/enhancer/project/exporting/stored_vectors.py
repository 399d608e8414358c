"""Stored vectors of profiles and texts as a table to export."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.config.inputs import aspect_of, stored_inputs
from enhancer.contracts.operations.exporter import ExportBatch
from enhancer.errors import StoreError
from enhancer.features.reading.table import input_vectors
from enhancer.project.exporting.factor_table import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.project.exporting.factor_table import Payloads


class StoredVectors:
    """Vectors of ``[embedder] input``, side by side as training reads them; see :class:`VectorTable` of the contracts.

    Args:
        name: Name of the table.
        kind: Kind of the entities.
        store: Store of the vectors.
        inputs: Inputs that the vectors come from.
        samples: Largest number of samples of a note.
        source: Origin, for the target.
        payloads: Returns what is known about some entities.

    Raises:
        StoreError: The store has no such vectors.
    """

    def __init__(
        self,
        *,
        name: str,
        kind: Kind,
        store: FeatureStore,
        inputs: Sequence[Input],
        samples: int,
        source: dict[str, Any],
        payloads: Payloads,
    ) -> None:
        self.name, self.kind, self.source = name, kind, source
        self._store, self._inputs, self._samples, self._payloads = store, inputs, samples, payloads
        stored = (store.keys(kind=kind, aspect=aspect_of(one)) for one in stored_inputs(inputs))
        self._ids = list(dict.fromkeys(key.id for keys in stored for key in keys))
        if not self._ids:
            raise StoreError(
                f"the store has no vectors of {kind}s by {' + '.join(inputs)}", hint="run `enhancer generate` first"
            )

    @property
    def rows(self) -> int:
        """Number of entities with a vector."""
        return len(self._ids)

    @cached_property
    def _widths(self) -> list[int]:
        """Number of columns of each input; 0 for one that no entity has."""
        return [next((found.shape[1] for found in self._blocks(name) if found.shape[1]), 0) for name in self._inputs]

    def _blocks(self, name: Input) -> Iterator[NDArray[np.float32]]:
        for ids in self._chunks():
            yield input_vectors(self._store, ids, self.kind, name, samples=self._samples)

    def _chunks(self) -> Iterator[list[str]]:
        for start in range(0, len(self._ids), BATCH):
            yield self._ids[start : start + BATCH]

    @property
    def width(self) -> int:
        """Sum of the columns of all inputs."""
        return sum(self._widths)

    def batches(self) -> Iterator[ExportBatch]:
        """Stream all rows. The part of a row for an input that the entity lacks is zero."""
        for ids in self._chunks():
            parts = []
            for name, width in zip(self._inputs, self._widths, strict=True):
                found = input_vectors(self._store, ids, self.kind, name, samples=self._samples)
                parts.append(found if found.shape[1] == width else np.zeros((len(ids), width), np.float32))
            yield ExportBatch(ids, np.hstack(parts), self._payloads(ids, self.kind))
