"""The graph of users and items, and propagation over it.

The adjacency of the bipartite graph is normalised symmetrically, ``A = D^-1/2 [[0, R], [R', 0]] D^-1/2`` (He et al.
2020, "LightGCN", eq. 7-8). As ``A`` is symmetric, so is every polynomial of it: the backward pass of propagation is
propagation.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from enhancer_plugins.training.compiled import kernels
from enhancer_plugins.training.pairs import both, kernels_too

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray


_LINE = 64
"""Bytes of a cache line."""


def aligned(shape: tuple[int, ...], kind: DTypeLike = np.float32) -> NDArray[Any]:
    """Memory that begins where a cache line does, contents undefined.

    Numpy's own begins anywhere, and to fill a vector register from two lines costs twice: up to a quarter of a product.
    Torch's does not ask for large pages, as numpy's does, without which rows of a large table cost more to be found.
    """
    size = math.prod(shape) * np.dtype(kind).itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(kind).reshape(shape)


@dataclass(frozen=True, eq=False)
class Some:
    """Some nodes of a graph, cut into pieces of even work."""

    rows: NDArray[np.int64]
    """int64 ``[m]``, ascending."""
    filled: NDArray[np.bool_]
    """bool ``[n]``: the same as a mask."""
    bounds: NDArray[np.int64]
    """int64 ``[chunks + 1]``: places in ``rows``."""


class BipartiteGraph:
    """Users are nodes ``0 … n_users - 1``, items follow. Nodes without an interaction have an empty row.

    Args:
        n_users: Number of users.
        n_items: Number of items.
        users: int ``[n]``: user of each interaction; pairs are unique.
        items: int ``[n]``: its item.
        device: Where propagation runs: numba kernels on ``"cpu"``, torch's sparse product elsewhere.
        reference: Use torch's sparse product on the CPU too.
        halves: Fetch rows of even width as bfloat16 where kernels propagate float32; sums stay float32. Memory has half
            as much to bring, and each number that is fetched is off by up to a part in 512.
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
        halves: bool = False,
    ) -> None:
        self._halves = halves
        self._fetched = np.empty((0, 0), np.uint32)
        self.n_users, self.n_items, self.n = n_users, n_items, n_users + n_items
        by_item = kernels.stable_order(np.asarray(items), n_items)
        order = by_item[kernels.stable_order(np.asarray(users)[by_item], n_users)]
        left = np.asarray(users, np.int32)[order]
        right = np.asarray(items, np.int32)[order]
        degrees = np.concatenate([np.bincount(left, minlength=n_users), np.bincount(right, minlength=n_items)])
        self.indptr: NDArray[np.int64] = np.zeros(self.n + 1, np.int64)
        np.cumsum(degrees, out=self.indptr[1:])
        self.indices: NDArray[np.int32] = np.concatenate(
            [right + np.int32(n_users), left[kernels.stable_order(right, n_items)]]
        )
        scale = (1.0 / np.sqrt(np.maximum(degrees, 1))).astype(np.float32)
        self.values: NDArray[np.float32] = np.repeat(scale, degrees) * scale[self.indices]
        # A row costs its non-zeros and a little for itself.
        self._cost = degrees + 4
        self._bounds = _chunks(self._cost)
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
        buffers = torch.empty_like(x), torch.empty_like(x)
        return torch.from_numpy(self.apply_rows(x.numpy(), weights, (buffers[0].numpy(), buffers[1].numpy())))

    def apply_rows(
        self,
        x: NDArray[np.float32],
        weights: Sequence[float],
        buffers: tuple[NDArray[np.float32], NDArray[np.float32]],
        *,
        only: Some | None = None,
        given: Some | None = None,
    ) -> NDArray[np.float32]:
        """:meth:`apply` by kernels, in numpy, into memory of the caller's.

        Args:
            x: float32 ``[n, d]``, C-contiguous.
            weights: Weight of each layer, the input's own first; two at least.
            buffers: Two arrays like ``x``, overwritten.
            only: Compute these rows alone; the others of the result are undefined.
            given: All rows of ``x`` but these are zero.

        Returns:
            One of the buffers.
        """
        *lower, top = weights
        matrix = (self.indptr, self.indices, self.values)
        width, last = x.shape[1], len(lower) - 1
        hidden, beta = x, float(top)
        for turn, weight in enumerate(reversed(lower)):
            target = buffers[turn % 2]
            sparse = given is not None and turn == 0
            factors = (hidden if sparse else self._fetchable(hidden), x, float(weight), beta)
            if given is not None and turn == 0:
                kernels.spmm_sparse(width)(*matrix, *factors, given.filled, self._bounds, target)
            elif only is not None and turn == last:
                kernels.spmm_rows(width)(*matrix, *factors, only.rows, only.bounds, target)
            elif kernels_too():
                self._product_in_pieces(width, (*matrix, *factors), target)
            else:
                kernels.spmm(width)(*matrix, *factors, self._bounds, target)
            hidden, beta = target, 1.0
        return hidden

    def _product_in_pieces(self, width: int, given: tuple[Any, ...], target: NDArray[np.float32]) -> None:
        """All rows of a product, one half of the chunks in each of two threads of Python's."""
        product, middle = kernels.spmm(width, parallel=False), len(self._bounds) // 2
        both(
            lambda: product(*given, self._bounds[: middle + 1], target),
            lambda: product(*given, self._bounds[middle:], target),
        )

    def _fetchable(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        """The rows as products fetch them."""
        n, width = rows.shape
        if not self._halves or rows.dtype != np.float32 or width % 2:
            return rows
        if self._fetched.shape != (n, width // 2):
            self._fetched = aligned((n, width // 2), np.uint32)
        kernels.halve(rows.view(np.uint32), self._fetched)
        return self._fetched

    def some(self, filled: NDArray[np.bool_], most: float = 0.5) -> Some | None:
        """The rows marked in ``filled``, bool ``[n]``; None where they cost more than the share ``most`` of all."""
        rows = np.flatnonzero(filled)
        cost = self._cost[rows]
        return Some(rows, filled, _chunks(cost)) if cost.sum() < most * self._cost.sum() else None


def _chunks(cost: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bounds of :data:`~enhancer_plugins.training.compiled.kernels.CHUNKS` runs of rows that cost about the same."""
    total = np.cumsum(cost)
    even = np.linspace(0, total[-1] if len(total) else 0, kernels.CHUNKS + 1)[1:-1]
    return np.concatenate([[0], np.searchsorted(total, even), [len(cost)]]).astype(np.int64)


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
