"""Keep which ranks of a ranking hit a relevant item: enough to compute any metric of it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Hits:
    """Hits of each user's list, a bit for each rank."""

    packed: NDArray[np.uint8]
    """uint8 ``[n, ceil(k / 8)]``: bits by rank, the first rank highest."""
    relevant: NDArray[np.int32]
    """int32 ``[n]``: relevant items of each user, at least 1."""
    length: NDArray[np.int32]
    """int32 ``[n]``: items in each list, which is shorter than ``k`` if too few candidates are left."""

    @classmethod
    def of(cls, hits: NDArray[np.bool_], relevant: NDArray[np.integer], length: NDArray[np.integer]) -> Hits:
        """Pack a mask ``[n, k]`` of ranks that hit."""
        return cls(np.packbits(hits, axis=1), relevant.astype(np.int32), length.astype(np.int32))

    def up_to(self, k: int) -> NDArray[np.bool_]:
        """Return the hits up to rank ``k``, bool ``[n, k]``."""
        known = np.unpackbits(self.packed, axis=1, count=min(k, 8 * self.packed.shape[1])).astype(np.bool_)
        return known if known.shape[1] == k else np.pad(known, ((0, 0), (0, k - known.shape[1])))
