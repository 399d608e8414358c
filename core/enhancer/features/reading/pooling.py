"""Pool the vectors of users from those of the items that they took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pool(
    item_vectors: NDArray[np.float32], users: NDArray[np.int32], items: NDArray[np.int32], n_users: int
) -> NDArray[np.float32]:
    """Return the normalised mean vector of each user's items.

    Args:
        item_vectors: float32 ``[n_items, d]``; items with a zero row have no vector and are left out.
        users: int32 ``[n]``: user row of each training interaction.
        items: int32 ``[n]``: item row of each training interaction.
        n_users: Number of users.

    Returns:
        float32 ``[n_users, d]`` with rows of unit L2 length, or zero for users without any item vector.
    """
    width = item_vectors.shape[1]
    total = np.zeros((n_users, width), np.float64)
    # Sum and mean have the same direction, and the length is normalised below. A loop over users is several times as
    # fast as one reduceat over all rows, whose copy has to be in float64. Steps bound the memory of a user's rows.
    order = np.argsort(users, kind="stable")
    owners, first = np.unique(users[order], return_index=True)
    ends = np.append(first, len(order))[1:]
    step = max(1, (1 << 22) // max(width, 1))
    for owner, begin, end in zip(owners.tolist(), first.tolist(), ends.tolist(), strict=True):
        for start in range(begin, end, step):
            rows = items[order[start : min(start + step, end)]]
            total[owner] += np.add.reduce(item_vectors[rows], axis=0, dtype=np.float64)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    # Opposite vectors cancel up to rounding errors, whose direction means nothing.
    safe = np.where(length > 1e-9, length, np.inf)
    return (total / safe).astype(np.float32)
