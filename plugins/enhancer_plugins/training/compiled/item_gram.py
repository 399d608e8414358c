"""Gram matrix of items, and the item weights that its inverse gives, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from enhancer_plugins.training.compiled.least_squares import sparse_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNKS = 64
"""Parts of the rows that threads share. Rows of a part are far apart, so that parts take about equally long."""
_TILE = 64
"""Rows and columns of a tile that is written on both sides of the diagonal."""


def item_gram(users: NDArray[np.int32], items: NDArray[np.int32], n_users: int, n_items: int) -> NDArray[np.float32]:
    """Count the users that took both of two items.

    Args:
        users: int32 ``[nnz]``: user of each pair; pairs are unique.
        items: int32 ``[nnz]``: item of each pair.
        n_users: Number of users.
        n_items: Number of items.

    Returns:
        float32 ``[n_items, n_items]``, C-contiguous: counts on and above the diagonal, zeros below.
    """
    order = np.argsort(items, kind="stable")
    by_user = sparse_rows(users[order], items[order], n_users)  # items of a user ascend
    by_item = sparse_rows(items, users, n_items)
    gram = np.zeros((n_items, n_items), np.float32)
    _count(by_user.starts, by_user.columns, by_item.starts, by_item.columns, gram)
    return gram


@numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _count(
    user_starts: Any, user_items: Any, item_starts: Any, item_users: Any, gram: Any
) -> None:  # pragma: no cover - compiled
    n = gram.shape[0]
    for chunk in numba.prange(_CHUNKS):
        for item in range(chunk, n, _CHUNKS):
            for place in range(item_starts[item], item_starts[item + 1]):
                user = item_users[place]
                for entry in range(user_starts[user + 1] - 1, user_starts[user] - 1, -1):
                    other = user_items[entry]
                    if other < item:
                        break
                    gram[item, other] += np.float32(1)


@numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def weights_from_inverse(inverse: Any) -> None:  # pragma: no cover - compiled
    """Replace the upper triangle of a symmetric matrix ``P`` by the full matrix ``-P / diag(P)[:, None]``.

    The diagonal becomes zero.

    Args:
        inverse: float32 ``[n, n]``, C-contiguous, changed in place; entries below the diagonal are ignored.
    """
    n = inverse.shape[0]
    scale = np.empty(n, np.float32)
    for row in range(n):
        scale[row] = -np.float32(1) / inverse[row, row]
        inverse[row, row] = 0
    tiles = (n + _TILE - 1) // _TILE
    for chunk in numba.prange(_CHUNKS):
        for tile in range(chunk, tiles, _CHUNKS):
            first = tile * _TILE
            last = min(first + _TILE, n)
            for low in range(first, n, _TILE):
                high = min(low + _TILE, n)
                for row in range(first, last):
                    for column in range(max(low, row + 1), high):
                        value = inverse[row, column]
                        inverse[row, column] = value * scale[row]
                        inverse[column, row] = value * scale[column]
