"""Steps of BPR on propagated embeddings, by kernels alone: for a CPU and a fuser without a loss.

Loss and gradient are those of :func:`~enhancer_plugins.training.losses.bpr.bpr_reference` over
:func:`~enhancer_plugins.training.graph.propagate`. As the adjacency matrix is symmetric, the gradient by the embeddings
is the propagation of the gradient by the final rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer_plugins.training.compiled import kernels
from enhancer_plugins.training.graph import aligned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer_plugins.training.graph import BipartiteGraph, RowSubset

Columns = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]
"""Users, positives and negatives of a step, int64 ``[b]`` each."""
_NODES_PER_TRIPLE = 8
"""Nodes per triple above which a step may need a part of the last layer only."""


@dataclass(frozen=True, eq=False)
class StepGradient:
    """Loss and gradient of a step."""

    loss: float
    """Mean BPR loss of the triples, without the penalty."""
    rows: NDArray[np.float32]
    """float32 ``[n, d]``: gradient of ``loss`` by the embeddings. The next step overwrites it."""
    decay: NDArray[np.float32]
    """float32 ``[n]``: draws of each node times ``regularisation / b``. The next step overwrites it."""


class BprSteps:
    """Loss and gradient of successive steps, computed in the same memory.

    Args:
        graph: Graph to propagate over.
        weights: Weight of each layer, the input first; one weight for no propagation.
        width: Length ``d`` of an embedding.
        regularisation: Weight of the L2 penalty on the embeddings that a step draws.
        constant_columns: float32 ``[n, w]``: columns of the final rows that are not trained; None without any.
    """

    def __init__(
        self,
        graph: BipartiteGraph,
        weights: Sequence[float],
        width: int,
        regularisation: float,
        constant_columns: NDArray[np.float32] | None = None,
    ) -> None:
        self._graph, self._weights, self._regularisation = graph, tuple(weights), regularisation
        self._scores, self._gradients = kernels.bpr_scores(width), kernels.bpr_gradients(width)
        # Both passes share two buffers: the final rows are no longer needed when the backward pass begins.
        self._buffers: tuple[NDArray[np.float32], NDArray[np.float32]]
        self._buffers = aligned((graph.n, width)), aligned((graph.n, width))
        self._by_final: NDArray[np.float32] = aligned((graph.n, width))
        self._counts = np.empty(graph.n, np.float32)
        self._constant = None if constant_columns is None else np.split(constant_columns, [graph.n_users])

    def gradient(self, embeddings: NDArray[np.float32], columns: Columns) -> StepGradient:
        """Return loss and gradient of one step.

        Args:
            embeddings: float32 ``[n, d]``, C-contiguous.
            columns: Users, positives and negatives of the step.
        """
        graph, n_users, b = self._graph, self._graph.n_users, len(columns[0])
        kernels.count_draws(*columns, n_users, self._counts)
        drawn = graph.subset(self._counts > 0) if b * _NODES_PER_TRIPLE < graph.n else None
        final = self._propagated(embeddings, drawn, backward=False)
        users, items = final[:n_users], final[n_users:]
        losses, slopes, extra = np.empty(b, np.float32), np.empty(b, np.float32), np.zeros(b, np.float32)
        if self._constant is not None:
            kernels.row_differences(*self._constant, *columns, extra)
        self._scores(users, items, *columns, extra, losses, slopes)
        by_final = self._by_final
        self._gradients(users, items, *columns, slopes, 1 / b, by_final[:n_users], by_final[n_users:])
        rows = self._propagated(by_final, drawn, backward=True)
        self._counts *= np.float32(self._regularisation / b)
        return StepGradient(float(losses.mean(dtype=np.float64)), rows, self._counts)

    def _propagated(self, rows: NDArray[np.float32], drawn: RowSubset | None, *, backward: bool) -> NDArray[np.float32]:
        if len(self._weights) == 1:
            return np.multiply(rows, np.float32(self._weights[0]), out=self._buffers[0])
        subset = {"nonzero": drawn} if backward else {"only": drawn}
        return self._graph.apply_rows(rows, self._weights, self._buffers, **subset)
