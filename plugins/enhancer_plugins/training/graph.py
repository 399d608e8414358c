"""The graph of users and items, and propagation over it.

The adjacency of the bipartite graph is normalised symmetrically, ``A = D^-1/2 [[0, R], [R', 0]] D^-1/2`` (He et al.
2020, "LightGCN", eq. 7-8). As ``A`` is symmetric, so is every polynomial of it: the backward pass of propagation is
propagation.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from enhancer_plugins.training import kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class BipartiteGraph:
    """Users are nodes ``0 … n_users - 1``, items follow. Nodes without an interaction have an empty row.

    Args:
        n_users: Number of users.
        n_items: Number of items.
        users: int ``[n]``: user of each interaction; pairs are unique.
        items: int ``[n]``: its item.
        device: Where propagation runs: numba kernels on ``"cpu"``, torch's sparse product elsewhere.
        reference: Use torch's sparse product on the CPU too.
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        *,
        device: str = "cpu",
        reference: bool = False,
    ) -> None:
        self.n_users, self.n_items, self.n = n_users, n_items, n_users + n_items
        left = np.asarray(users, np.int64)
        right = np.asarray(items, np.int64) + n_users
        rows, columns = np.concatenate([left, right]), np.concatenate([right, left])
        order = np.lexsort((columns, rows))
        degrees = np.bincount(rows, minlength=self.n)
        self.indptr: NDArray[np.int64] = np.zeros(self.n + 1, np.int64)
        np.cumsum(degrees, out=self.indptr[1:])
        self.indices: NDArray[np.int32] = columns[order].astype(np.int32)
        scale = 1.0 / np.sqrt(np.maximum(degrees, 1))
        self.values: NDArray[np.float32] = (scale[rows[order]] * scale[columns[order]]).astype(np.float32)
        # A row costs its non-zeros and a little for itself.
        cost = np.cumsum(degrees + 4)
        cuts = np.searchsorted(cost, np.linspace(0, cost[-1] if self.n else 0, kernels.CHUNKS + 1)[1:-1])
        self._bounds = np.concatenate([[0], cuts, [self.n]]).astype(np.int64)
        self._matrix: torch.Tensor | None = None
        if reference or not device.startswith("cpu"):
            with warnings.catch_warnings():  # torch calls its CSR layout a beta
                warnings.simplefilter("ignore", UserWarning)
                self._matrix = torch.sparse_csr_tensor(
                    torch.from_numpy(self.indptr),
                    torch.from_numpy(self.indices.astype(np.int64)),
                    torch.from_numpy(self.values),
                    (self.n, self.n),
                ).to(device)

    def apply(self, x: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
        """``sum_k weights[k] * A^k @ x`` for ``x`` float ``[n, d]``, without gradient.

        In Horner's form, ``h <- A h + weights[k] x``, no layer has to be kept.
        """
        *lower, top = weights
        if self._matrix is not None:
            hidden = top * x
            for weight in reversed(lower):
                hidden = self._matrix.to(x.dtype) @ hidden + weight * x
            return hidden
        x = x.detach().contiguous()
        if not lower:
            return top * x
        kernel = kernels.spmm(x.shape[1])
        source = x.numpy()
        hidden_rows, beta = source, float(top)
        buffers = [torch.empty_like(x), torch.empty_like(x)]
        for turn, weight in enumerate(reversed(lower)):
            target = buffers[turn % 2].numpy()
            kernel(
                self.indptr,
                self.indices,
                self.values,
                hidden_rows,
                source,
                float(weight),
                beta,
                self._bounds,
                target,
            )
            hidden_rows, beta = target, 1.0
        return buffers[(len(lower) - 1) % 2]


class _Propagate(torch.autograd.Function):
    """Propagation is linear and symmetric: its vector-Jacobian product is itself."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, graph: BipartiteGraph, weights: tuple[float, ...]) -> torch.Tensor:
        ctx.graph, ctx.weights = graph, weights
        return graph.apply(x, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return ctx.graph.apply(gradients[0], ctx.weights), None, None


def propagate(x: torch.Tensor, graph: BipartiteGraph, weights: Sequence[float]) -> torch.Tensor:
    """``sum_k weights[k] * A^k @ x``, with gradient.

    Args:
        x: float ``[n, d]``: users' rows, then items'.
        graph: The graph.
        weights: Weight of each layer, the input's own first: ``1 / (layers + 1)`` each in LightGCN (eq. 4).
    """
    result: torch.Tensor = _Propagate.apply(x, graph, tuple(weights))  # type: ignore[no-untyped-call]
    return result
