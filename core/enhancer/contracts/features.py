"""Side features of users and items: numbers, categories and tags from the tables, as sparse rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class SideFeatures:
    """Features of all users or of all items: a sparse matrix ``X`` ``[n, width]`` in CSR format.

    A number is one standardised column. A category is one-hot encoded, with a column for each value. Each tag is
    a column, with the value ``1/m`` for each of an entity's ``m`` tags, so that ``X @ V`` averages their embeddings.
    Missing values have no entry.

    >>> import numpy as np
    >>> features = SideFeatures.of(np.array([[1, 0, 0.5], [0, 1, 0]], np.float32), ["kind=a", "kind=b", "age"])
    >>> features.n, features.width, features.values.tolist()
    (2, 3, [1.0, 0.5, 1.0])
    """

    indptr: NDArray[np.int64]
    """int64 ``[n + 1]``: row ``r`` has the entries ``indptr[r]`` to ``indptr[r + 1]``, exclusive."""
    indices: NDArray[np.int32]
    """int32 ``[m]``: column of each entry, strictly ascending within a row."""
    values: NDArray[np.float32]
    """float32 ``[m]``: value of each entry, finite and not 0."""
    names: tuple[str, ...]
    """Names of the columns, such as ``age``, ``gender=F`` or ``genres=Drama``."""

    @property
    def n(self) -> int:
        """Number of entities."""
        return len(self.indptr) - 1

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.names)

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 ``[m]``: row of each entry."""
        return np.repeat(np.arange(self.n), np.diff(self.indptr))

    def arrays(self) -> Iterator[NDArray[np.generic]]:
        """Yield the arrays that determine results, for hashing."""
        yield from (self.indptr, self.indices, self.values, np.array([self.width]))

    def dense(self) -> NDArray[np.float32]:
        """Return ``X`` as a dense float32 array ``[n, width]``. For tests and small tables."""
        out = np.zeros((self.n, self.width), np.float32)
        out[self.rows, self.indices] = self.values
        return out

    @classmethod
    def of(cls, table: NDArray[np.floating], names: list[str] | None = None) -> SideFeatures:
        """Return the features of a dense array ``[n, width]``."""
        rows, columns = np.nonzero(table)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(table)))]).astype(np.int64)
        return cls(
            indptr=indptr,
            indices=columns.astype(np.int32),
            values=table[rows, columns].astype(np.float32),
            names=tuple(names or (f"column {n}" for n in range(table.shape[1]))),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Sides:
    """Side features of users and of items; None for a kind without features."""

    users: SideFeatures | None = None
    items: SideFeatures | None = None
