"""Factors of the serving artifact as a table to export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from enhancer.contracts.operations.exporter import ExportBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.record import Kind

    Payloads = Callable[[Sequence[str], Kind], list[dict[str, Any]]]
    """Returns what is known about some entities."""

BATCH: Final = 4096
"""Rows read at once, to bound memory."""


@dataclass(frozen=True, kw_only=True)
class FactorTable:
    """Rows of one matrix of the artifact; see :class:`enhancer.contracts.VectorTable`."""

    name: str
    kind: Kind
    ids: Sequence[str]
    """Id of each row; read one by one."""
    matrix: NDArray[np.float32]
    source: dict[str, Any]
    payloads: Payloads
    new: NDArray[np.bool_] | None = None
    """Which rows training has not seen, so that they were placed by their vectors; None if that is not known."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.matrix)

    @property
    def width(self) -> int:
        """Length of each row, a dimension for biases included."""
        return int(self.matrix.shape[1])

    def batches(self) -> Iterator[ExportBatch]:
        """Stream all rows."""
        for start in range(0, self.rows, BATCH):
            stop = min(start + BATCH, self.rows)
            ids = [self.ids[row] for row in range(start, stop)]
            payloads = self.payloads(ids, self.kind)
            for payload, new in zip(payloads, () if self.new is None else self.new[start:stop], strict=False):
                if new:
                    payload["new"] = True
            yield ExportBatch(ids, np.ascontiguousarray(self.matrix[start:stop], np.float32), payloads)
