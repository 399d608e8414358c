"""Steps of BPR over propagated embeddings without torch: what an epoch on a CPU is made of when no fuser adds a loss.

The loss and its gradient are those of :func:`~enhancer_plugins.training.losses.bpr.bpr_reference` over
:func:`~enhancer_plugins.training.graph.propagate`, written out: as the graph's matrix is symmetric, the gradient by the
embeddings is the propagation of the gradient by the final rows.
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

    from enhancer_plugins.training.graph import BipartiteGraph, Some

Columns = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]
"""Users, positives and negatives of a step, int64 ``[b]`` each."""
_WORTH_LOOKING = 8
"""A step of fewer triples than a share 1/8 of the nodes may leave most of the graph's last layer untouched."""


@dataclass(frozen=True, eq=False)
class Gradient:
    """What a step finds."""

    loss: float
    """Mean BPR loss of its triples, without the penalty."""
    rows: NDArray[np.float32]
    """float32 ``[n, d]``: gradient of ``loss`` by the embeddings; memory that the next step overwrites."""
    decay: NDArray[np.float32]
    """float32 ``[n]``: how often each node is drawn, times ``regularisation / b``: the penalty's slope per row."""


class BprSteps:
    """Computes loss and gradient of one step after another, in the same memory.

    Args:
        graph: What is propagated over.
        weights: Weight of each layer, the input's own first (one weight: no propagation).
        width: ``d``.
        regularisation: Weight of the L2 penalty on what a step draws.
        spread: float32 ``[n, w]``: further columns of every final row that are not trained; None for none.
    """

    def __init__(
        self,
        graph: BipartiteGraph,
        weights: Sequence[float],
        width: int,
        regularisation: float,
        spread: NDArray[np.float32] | None = None,
    ) -> None:
        self._graph, self._weights, self._regularisation = graph, tuple(weights), regularisation
        self._scores, self._gradients = kernels.bpr_scores(width), kernels.bpr_gradients(width)
        # Forward and backward may share two buffers: the final rows are read before the backward pass begins.
        self._buffers: tuple[NDArray[np.float32], NDArray[np.float32]]
        self._buffers = aligned((graph.n, width)), aligned((graph.n, width))
        self._slopes_of: NDArray[np.float32] = aligned((graph.n, width))
        self._counts = np.empty(graph.n, np.float32)
        self._spread = None if spread is None else (spread[: graph.n_users], spread[graph.n_users :])

    def gradient(self, embeddings: NDArray[np.float32], columns: Columns) -> Gradient:
        """Loss and gradient of one step.

        Args:
            embeddings: float32 ``[n, d]``, C-contiguous.
            columns: The step's triples.
        """
        graph, n_users, b = self._graph, self._graph.n_users, len(columns[0])
        kernels.count_draws(*columns, n_users, self._counts)
        some = graph.some(self._counts > 0) if b * _WORTH_LOOKING < graph.n else None
        final = self._propagated(embeddings, some, backward=False)
        users, items = final[:n_users], final[n_users:]
        losses, slopes, extra = np.empty(b, np.float32), np.empty(b, np.float32), np.zeros(b, np.float32)
        if self._spread is not None:
            kernels.row_differences(*self._spread, *columns, extra)
        self._scores(users, items, *columns, extra, losses, slopes)
        by_final = self._slopes_of
        self._gradients(users, items, *columns, slopes, 1 / b, by_final[:n_users], by_final[n_users:])
        rows = self._propagated(by_final, some, backward=True)
        self._counts *= np.float32(self._regularisation / b)
        return Gradient(float(losses.mean(dtype=np.float64)), rows, self._counts)

    def _propagated(self, rows: NDArray[np.float32], some: Some | None, *, backward: bool) -> NDArray[np.float32]:
        if len(self._weights) == 1:
            return np.multiply(rows, np.float32(self._weights[0]), out=self._buffers[0])
        sparse = {"given": some} if backward else {"only": some}
        return self._graph.apply_rows(rows, self._weights, self._buffers, **sparse)
