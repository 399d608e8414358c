"""Side features: what tables say of users and items beside their text, as sparse rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class SideFeatures:
    """The features of all users, or of all items: a sparse matrix ``X`` ``[n, width]`` in compressed rows.

    A number is one column, standardised. A category is one column a value, with 1 where the entity has it. Tags are one
    column a tag, with ``1/m`` for each of an entity's ``m`` tags, so that ``X @ V`` holds the mean of their embeddings.
    What is missing has no entry.

    >>> import numpy as np
    >>> features = SideFeatures.of(np.array([[1, 0, 0.5], [0, 1, 0]], np.float32), ["kind=a", "kind=b", "age"])
    >>> features.n, features.width, features.values.tolist()
    (2, 3, [1.0, 0.5, 1.0])
    """

    indptr: NDArray[np.int64]
    """int64 ``[n + 1]``: the entries of entity r are those from ``indptr[r]`` to ``indptr[r + 1]``."""
    indices: NDArray[np.int32]
    """int32 ``[m]``: column of each entry; ascending within a row, each once."""
    values: NDArray[np.float32]
    """float32 ``[m]``: finite, not 0."""
    names: tuple[str, ...]
    """What each column is, such as ``age``, ``gender=F`` or ``genres=Drama``."""

    @property
    def n(self) -> int:
        """Entities."""
        return len(self.indptr) - 1

    @property
    def width(self) -> int:
        """Columns."""
        return len(self.names)

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 ``[m]``: the entity of each entry."""
        return np.repeat(np.arange(self.n), np.diff(self.indptr))

    def arrays(self) -> Iterator[NDArray[np.generic]]:
        """All that a result can depend on, for a hash."""
        yield from (self.indptr, self.indices, self.values, np.array([self.width]))

    def dense(self) -> NDArray[np.float32]:
        """``X`` itself, float32 ``[n, width]``: for tests and small tables."""
        out = np.zeros((self.n, self.width), np.float32)
        out[self.rows, self.indices] = self.values
        return out

    @classmethod
    def of(cls, table: NDArray[np.floating], names: list[str] | None = None) -> SideFeatures:
        """From ``X`` itself, ``[n, width]``."""
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
    """The side features of both kinds; None where there are none."""

    users: SideFeatures | None = None
    items: SideFeatures | None = None
