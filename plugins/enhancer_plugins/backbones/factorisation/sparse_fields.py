"""Products of the sparse matrix of side features with embeddings, with gradient."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import SideFeatures


class SparseFields:
    """Side features ``X`` ``[n, w]`` of users or of items; every column is a field.

    Args:
        features: Side features of all entities.
        trained: bool ``[n]``: entities with a training interaction.
        device: Device of the run.
    """

    def __init__(self, features: SideFeatures, trained: NDArray[np.bool_], device: str) -> None:
        self.width = features.width
        rows, columns = features.rows, features.indices.astype(np.int64)
        self.seen = np.bincount(columns[trained[rows]], minlength=self.width) > 0
        """bool ``[w]``: columns with an entry of a trained entity."""
        self.known = np.diff(features.indptr) > 0
        """bool ``[n]``: entities with at least one entry."""
        values = features.values
        shape = features.n, self.width
        self._plain = _Matrix(rows, columns, values, shape, device)
        self._squared = _Matrix(rows, columns, values**2, shape, device)
        self._pattern = _Matrix(columns, rows, np.ones_like(values), shape[::-1], device).forward

    def times(self, table: torch.Tensor) -> torch.Tensor:
        """Return ``X @ table``, ``[n, k]``, with gradient; ``table`` is ``[w, k]``."""
        product: torch.Tensor = _Product.apply(table, self._plain)  # type: ignore[no-untyped-call]
        return product

    def squares(self, table: torch.Tensor) -> torch.Tensor:
        """Return ``sum_f x_f² |v_f|²`` of each entity, ``[n]``, with gradient; ``table`` is ``[w, k]``."""
        lengths = table.square().sum(1, keepdim=True)
        product: torch.Tensor = _Product.apply(lengths, self._squared)  # type: ignore[no-untyped-call]
        return product.squeeze(1)

    def draws(self, counts: torch.Tensor) -> torch.Tensor:
        """Count how often each column is drawn, ``[w]``, from the count of each entity, ``[n]``."""
        return (self._pattern @ counts.to(self._pattern.device).unsqueeze(1)).squeeze(1).to(counts.device)


class _Matrix:
    """Sparse matrix and its transpose, in torch's CSR format."""

    def __init__(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.float32],
        shape: tuple[int, ...],
        device: str,
    ) -> None:
        self.forward = _compressed(rows, columns, values, (shape[0], shape[1]), device)
        self.backward = _compressed(columns, rows, values, (shape[1], shape[0]), device)


def _compressed(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float32],
    shape: tuple[int, int],
    device: str,
) -> torch.Tensor:
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    with warnings.catch_warnings():  # torch warns that its CSR layout is in beta
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts.astype(np.int64)),
            torch.from_numpy(columns[order]),
            torch.from_numpy(values[order].astype(np.float32)),
            shape,
        ).to(device)


class _Product(torch.autograd.Function):
    """``X @ table`` as an autograd function; its backward pass is ``X' @ gradient``."""

    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, matrix: _Matrix) -> torch.Tensor:
        ctx.matrix = matrix
        return matrix.forward @ table

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return ctx.matrix.backward @ gradients[0].contiguous(), None
