"""Bipartite graph of users and items, and propagation over it.

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
from enhancer_plugins.training.compiled.worker import run_both, splits_kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray


_LINE = 64
"""Bytes in a cache line."""


def aligned(shape: tuple[int, ...], kind: DTypeLike = np.float32) -> NDArray[Any]:
    """Allocate an uninitialised array that starts at a cache line.

    Arrays of numpy are not aligned to cache lines, and loading a vector register from two lines takes up to a quarter
    more time in a product. Torch aligns its memory, but does not request large pages, which makes random access slower.
    """
    size = math.prod(shape) * np.dtype(kind).itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(kind).reshape(shape)


@dataclass(frozen=True, eq=False)
class RowSubset:
    """Some nodes of a graph, divided into chunks of equal cost."""

    rows: NDArray[np.int64]
    """int64 ``[m]``: nodes, ascending."""
    filled: NDArray[np.bool_]
    """bool ``[n]``: the nodes as a mask."""
    bounds: NDArray[np.int64]
    """int64 ``[chunks + 1]``: first position of each chunk in ``rows``."""


class BipartiteGraph:
    """Normalised adjacency matrix. Users are nodes ``0`` to ``n_users - 1``; items follow.

    Args:
        n_users: Number of users.
        n_items: Number of items.
        users: int ``[n]``: user of each interaction; pairs are unique.
        items: int ``[n]``: item of each interaction.
        device: Device of the propagation: numba kernels on ``"cpu"``, torch's sparse product elsewhere.
        reference: Use torch's sparse product on the CPU, too.
        half_precision: Read rows of even width as bfloat16 if kernels propagate float32; sums stay float32. This halves
            the memory traffic; each value that is read has a relative error of up to 1/512.
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
        half_precision: bool = False,
    ) -> None:
        self._half_precision = half_precision
        self._packed = np.empty((0, 0), np.uint32)
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
        # Cost of a row: its non-zeros, plus a constant.
        self._cost = degrees + 4
        self._bounds = _chunks(self._cost)
        self._matrix: torch.Tensor | None = None
        if reference or not device.startswith("cpu"):
            with warnings.catch_warnings():  # torch warns that its CSR layout is in beta
                warnings.simplefilter("ignore", UserWarning)
                self._matrix = torch.sparse_csr_tensor(
                    torch.from_numpy(self.indptr),
                    torch.from_numpy(self.indices.astype(np.int64)),
                    torch.from_numpy(self.values),
                    (self.n, self.n),
                ).to(device)

    def apply(self, x: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
        """Return ``sum_k weights[k] * A^k @ x`` for ``x`` float ``[n, d]``, without gradient.

        In Horner's form, ``h <- A h + weights[k] x``, no layer has to be stored.
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
        only: RowSubset | None = None,
        nonzero: RowSubset | None = None,
    ) -> NDArray[np.float32]:
        """Compute :meth:`apply` by kernels, in numpy, into given buffers.

        Args:
            x: float32 ``[n, d]``, C-contiguous.
            weights: Weight of each layer, the input first; at least two.
            buffers: Two arrays of the shape of ``x``, overwritten.
            only: Rows to compute; all other rows of the result are undefined. None for all rows.
            nonzero: Rows of ``x`` that may be non-zero. None for all rows.

        Returns:
            One of the buffers.
        """
        *lower, top = weights
        matrix = (self.indptr, self.indices, self.values)
        width, last = x.shape[1], len(lower) - 1
        hidden, beta = x, float(top)
        for layer, weight in enumerate(reversed(lower)):
            target = buffers[layer % 2]
            sparse = nonzero is not None and layer == 0
            factors = (hidden if sparse else self._packed_rows(hidden), x, float(weight), beta)
            if nonzero is not None and layer == 0:
                kernels.spmm_sparse(width)(*matrix, *factors, nonzero.filled, self._bounds, target)
            elif only is not None and layer == last:
                kernels.spmm_rows(width)(*matrix, *factors, only.rows, only.bounds, target)
            elif splits_kernels():
                self._product_in_halves(width, (*matrix, *factors), target)
            else:
                kernels.spmm(width)(*matrix, *factors, self._bounds, target)
            hidden, beta = target, 1.0
        return hidden

    def _product_in_halves(self, width: int, arguments: tuple[Any, ...], target: NDArray[np.float32]) -> None:
        """Compute a product, one half of the chunks in the worker thread."""
        product, middle = kernels.spmm(width, parallel=False), len(self._bounds) // 2
        run_both(
            lambda: product(*arguments, self._bounds[: middle + 1], target),
            lambda: product(*arguments, self._bounds[middle:], target),
        )

    def _packed_rows(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        """Return the rows in the precision in which products read them."""
        n, width = rows.shape
        if not self._half_precision or rows.dtype != np.float32 or width % 2:
            return rows
        if self._packed.shape != (n, width // 2):
            self._packed = aligned((n, width // 2), np.uint32)
        kernels.pack_bfloat16(rows.view(np.uint32), self._packed)
        return self._packed

    def subset(self, filled: NDArray[np.bool_], max_share: float = 0.5) -> RowSubset | None:
        """Return the rows of a mask, bool ``[n]``; None if their share of the cost is larger than ``max_share``."""
        rows = np.flatnonzero(filled)
        cost = self._cost[rows]
        return RowSubset(rows, filled, _chunks(cost)) if cost.sum() < max_share * self._cost.sum() else None


def _chunks(cost: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide rows into :data:`~enhancer_plugins.training.compiled.kernels.CHUNKS` runs of about equal cost."""
    total = np.cumsum(cost)
    even = np.linspace(0, total[-1] if len(total) else 0, kernels.CHUNKS + 1)[1:-1]
    return np.concatenate([[0], np.searchsorted(total, even), [len(cost)]]).astype(np.int64)


class _Propagate(torch.autograd.Function):
    """Propagation as an autograd function. It is linear and symmetric, so that its backward pass is itself."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, graph: BipartiteGraph, weights: tuple[float, ...]) -> torch.Tensor:
        ctx.graph, ctx.weights = graph, weights
        return graph.apply(x, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return ctx.graph.apply(gradients[0], ctx.weights), None, None


def propagate(x: torch.Tensor, graph: BipartiteGraph, weights: Sequence[float]) -> torch.Tensor:
    """Return ``sum_k weights[k] * A^k @ x``, with gradient.

    Args:
        x: float ``[n, d]``: rows of users, then of items.
        graph: Normalised adjacency matrix ``A``.
        weights: Weight of each layer, the input first: ``1 / (layers + 1)`` each in LightGCN (eq. 4).
    """
    result: torch.Tensor = _Propagate.apply(x, graph, tuple(weights))  # type: ignore[no-untyped-call]
    return result
