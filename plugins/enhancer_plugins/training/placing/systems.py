"""Penalised linear systems whose residuals of left-out rows have a closed form, in numpy.

Both solve a weighted ridge regression with an intercept. The inputs :math:`A` are centred by their weighted mean, and
each row is multiplied by the root of its weight, as are the targets :math:`R`. The residual of a row that is left out
is its residual divided by :math:`1 - h`, with :math:`h` the diagonal of the hat matrix (Golub, Heath & Wahba 1979,
"Generalized cross-validation as a method for choosing a good ridge parameter", Technometrics, eq. 1.4), which needs no
further fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_KEPT_BYTES = 1 << 28
"""Memory for factors of systems with different penalties."""
_MOST_KEPT = 4
_REPAIRS = range(-12, -2)
"""Powers of ten of the mean diagonal element that are added to the diagonal of an indefinite matrix, in turn."""
_SMALL_FACTOR = 128
"""Rows of a triangle that is inverted at once."""
_LEAST_SLACK = 1e-6
"""Lower bound of ``1 - h``."""
_BLOCK_ROWS = 4096


def inverse_factor(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse ``L⁻¹`` of the Cholesky factor of a matrix ``L Lᵀ``, both ``[n, n]``.

    If rounding errors make the matrix indefinite, the smallest power of ten of its mean diagonal element that helps is
    added to the diagonal.
    """
    factor = np.asarray(_factor(matrix), np.float64)
    _invert_triangle(factor)
    return factor


def _factor(matrix: NDArray[np.float64]) -> NDArray[np.floating]:
    for power in _REPAIRS:
        try:
            return np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            matrix = matrix.copy()
            matrix[np.diag_indices_from(matrix)] += 10.0**power * np.trace(matrix) / len(matrix)
    return np.linalg.cholesky(matrix)


def _invert_triangle(factor: NDArray[np.float64]) -> None:
    """Invert a lower triangle in place, by halves, so that nearly all work is in products of matrices."""
    n = len(factor)
    if n <= _SMALL_FACTOR:
        factor[:] = np.tril(np.linalg.inv(factor))
        return
    half = n // 2
    _invert_triangle(factor[:half, :half])
    _invert_triangle(factor[half:, half:])
    factor[half:, :half] = -(factor[half:, half:] @ factor[half:, :half]) @ factor[:half, :half]


class System(ABC):
    """A system that is factored once for each penalty.

    Args:
        matrix: float64 ``[m, m]``: the matrix that penalties are added to the diagonal of.
        shares: float64 ``[n]``: weights of the rows, which sum to one.

    Attributes:
        trace: Sum of the diagonal of the matrix.
    """

    def __init__(self, matrix: NDArray[np.float64], shares: NDArray[np.float64]) -> None:
        self._matrix, self._shares = matrix, shares
        self.trace = float(np.trace(matrix))
        self._kept: dict[float, NDArray[np.float64]] = {}
        self._slack: dict[float, NDArray[np.float64]] = {}

    def _inverse(self, penalty: float) -> NDArray[np.float64]:
        if penalty not in self._kept:
            while self._kept and (len(self._kept) + 1 > max(min(_KEPT_BYTES // self._matrix.nbytes, _MOST_KEPT), 1)):
                self._kept.pop(next(iter(self._kept)))
            whole = self._matrix.copy()
            whole[np.diag_indices_from(whole)] += penalty
            self._kept[penalty] = inverse_factor(whole)
        return self._kept[penalty]

    @property
    @abstractmethod
    def sample(self) -> NDArray[np.int64]:
        """int64 ``[s]``: rows whose errors choose a penalty."""

    @abstractmethod
    def solve(self, target: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        """Return the coefficients of a target ``[n, k]``, float64 ``[m, k]``."""

    @abstractmethod
    def residuals(
        self, target: NDArray[np.float64], solution: NDArray[np.float64], penalty: float, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the residuals of some rows, float64 ``[r, k]``, given the result of :meth:`solve`."""

    @abstractmethod
    def slack(self, penalty: float, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``1 - h`` of some rows, float64 ``[r]``."""

    def left_out(
        self, target: NDArray[np.float64], solution: NDArray[np.float64], penalty: float, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the residuals of some rows when each is left out, float64 ``[r, k]``."""
        slack = np.maximum(self.slack(penalty, rows), _LEAST_SLACK)
        return self.residuals(target, solution, penalty, rows) / slack[:, None]


class Dual(System):
    """One equation for each row: ``(A Aᵀ + λ) a = R``. The matrix may be that of any kernel, centred and weighted."""

    @property
    def sample(self) -> NDArray[np.int64]:
        """All rows."""
        return np.arange(len(self._shares))

    def solve(self, target: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        """Return the coefficients of a target ``[n, k]``, float64 ``[n, k]``."""
        inverse = self._inverse(penalty)
        return np.asarray(inverse.T @ (inverse @ target), np.float64)

    def residuals(
        self, target: NDArray[np.float64], solution: NDArray[np.float64], penalty: float, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the residuals of some rows, which are the penalty times their coefficients."""
        del target
        return penalty * solution[rows]

    def slack(self, penalty: float, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``1 - h`` of some rows, float64 ``[r]``."""
        if penalty not in self._slack:
            self._slack[penalty] = penalty * np.square(self._inverse(penalty)).sum(0) - self._shares
        return self._slack[penalty][rows]


class Primal(System):
    """One equation for each column: ``(Aᵀ A + λ) b = Aᵀ R``. Rows are read in blocks.

    Args:
        rows: Returns rows of ``A`` by their numbers, float64 ``[r, m]``.
        shares: float64 ``[n]``: weights of the rows, which sum to one.
        columns: ``m``.
        most: Largest number of rows whose errors choose a penalty, spread evenly.
    """

    def __init__(
        self,
        rows: Callable[[NDArray[np.int64]], NDArray[np.float64]],
        shares: NDArray[np.float64],
        columns: int,
        *,
        most: int,
    ) -> None:
        self._rows = rows
        matrix = np.zeros((columns, columns))
        for places in blocks(len(shares)):
            part = rows(places)
            matrix += part.T @ part
        super().__init__(matrix, shares)
        self._sample = np.linspace(0, len(shares) - 1, min(len(shares), most)).astype(np.int64)

    @property
    def sample(self) -> NDArray[np.int64]:
        """Some rows, spread evenly."""
        return self._sample

    def solve(self, target: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        """Return the coefficients of a target ``[n, k]``, float64 ``[m, k]``."""
        products = np.zeros((len(self._matrix), target.shape[1]))
        for places in blocks(len(target)):
            products += self._rows(places).T @ target[places]
        inverse = self._inverse(penalty)
        return np.asarray(inverse.T @ (inverse @ products), np.float64)

    def residuals(
        self, target: NDArray[np.float64], solution: NDArray[np.float64], penalty: float, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the residuals of some rows, float64 ``[r, k]``."""
        del penalty
        found = target[rows]
        for places in blocks(len(rows)):
            found[places] -= self._rows(rows[places]) @ solution
        return found

    def slack(self, penalty: float, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``1 - h`` of some rows, float64 ``[r]``; that of each row is computed once."""
        known = self._slack.setdefault(penalty, np.full(len(self._shares), np.nan))
        missing = rows[np.isnan(known[rows])]
        inverse = self._inverse(penalty)
        for places in blocks(len(missing)):
            here = missing[places]
            known[here] = 1 - np.square(self._rows(here) @ inverse.T).sum(1) - self._shares[here]
        return known[rows]


def blocks(n: int) -> list[NDArray[np.int64]]:
    """Return the numbers below ``n`` in blocks, in order."""
    return [np.arange(start, min(start + _BLOCK_ROWS, n)) for start in range(0, n, _BLOCK_ROWS)]
