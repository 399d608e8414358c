"""The linear fit of a machine's levels on dense columns that never change: what depends on them alone, done once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from enhancer_plugins.training.compiled.kernels import CHUNKS

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


class ConstantFit:
    """Ridge regressions of several targets on the same columns (see :mod:`enhancer_plugins.training.regression`).

    Args:
        columns: float32 ``[n, w]``, C-contiguous, on the CPU; kept as :attr:`columns`.
        ridge: Penalty, in parts of the mean squared length of a centred column.
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

    def __call__(self, levels: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
        """Slope ``[w]`` and level of the line through ``levels`` float32 ``[n]``."""
        middle = float(levels.mean(dtype=np.float64))
        by_columns = _products(self.columns.numpy(), levels - middle, self._centre).sum(0)
        slope = np.linalg.solve(self._gram, by_columns)
        return slope, middle - float(self._centre @ slope)


@numba.njit(parallel=True, fastmath={"contract"}, cache=True)  # type: ignore[untyped-decorator]
def _products(columns: Any, values: Any, centre: Any) -> Any:  # pragma: no cover - compiled
    """``(X - centre)' y`` in float64 ``[CHUNKS, w]``, to be summed; pieces do not depend on the threads."""
    n, width = columns.shape
    out = np.zeros((CHUNKS, width), np.float64)
    for chunk in numba.prange(CHUNKS):
        for row in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            value = np.float64(values[row])
            for k in range(width):
                out[chunk, k] += (np.float64(columns[row, k]) - centre[k]) * value
    return out
