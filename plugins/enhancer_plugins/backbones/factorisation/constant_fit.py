"""Ridge regression of biases on constant dense columns, whose Gram matrix is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from enhancer_plugins.training.compiled.kernels import CHUNKS

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


class ConstantFit:
    """Ridge regressions of several targets on the same columns.

    See :mod:`enhancer_plugins.training.placing.regression`.

    Args:
        columns: float32 ``[n, w]``, C-contiguous, on the CPU; kept as :attr:`columns`.
        ridge: Penalty, as a multiple of the mean squared length of a centred column.
    """

    def __init__(self, columns: torch.Tensor, *, ridge: float) -> None:
        self.columns = columns
        rows = columns.numpy()
        self._centre = rows.mean(0, dtype=np.float64)
        gram = np.zeros((rows.shape[1], rows.shape[1]))
        for some in np.array_split(rows, max(len(rows) // 4096, 1)):
            moved = some - self._centre
            gram += moved.T @ moved
        gram[np.diag_indices_from(gram)] += ridge * max(float(np.trace(gram)) / len(gram), 1e-12)
        self._gram = gram

    def __call__(self, target: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
        """Fit ``target`` float32 ``[n]``; return slope ``[w]`` and intercept."""
        mean = float(target.mean(dtype=np.float64))
        products = _products(self.columns.numpy(), target - mean, self._centre).sum(0)
        slope = np.linalg.solve(self._gram, products)
        return slope, mean - float(self._centre @ slope)


@numba.njit(parallel=True, fastmath={"contract"}, cache=True)  # type: ignore[untyped-decorator]
def _products(columns: Any, values: Any, centre: Any) -> Any:  # pragma: no cover - compiled
    """Return ``(X - centre)' y`` per chunk of rows, float64 ``[CHUNKS, w]``; chunks do not depend on the threads."""
    n, width = columns.shape
    out = np.zeros((CHUNKS, width), np.float64)
    for chunk in numba.prange(CHUNKS):
        for row in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            value = np.float64(values[row])
            for k in range(width):
                out[chunk, k] += (np.float64(columns[row, k]) - centre[k]) * value
    return out
