"""Dense matrices of a linear item-item model: histories, Gram matrix, and the weights that its inverse gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

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
    user_starts, user_items, item_starts, item_users = _grouped(users, items, n_users, n_items)
    gram = np.zeros((n_items, n_items), np.float32)
    _count(user_starts, user_items, item_starts, item_users, gram)
    return gram


def dense_histories(
    users: NDArray[np.int32], items: NDArray[np.int32], n_users: int, n_items: int
) -> NDArray[np.float32]:
    """Return the binary matrix of users and items, float32 ``[n_users, n_items]``; arguments as above."""
    user_starts, user_items, _, _ = _grouped(users, items, n_users, n_items)
    histories = np.empty((n_users, n_items), np.float32)
    _write(user_starts, user_items, histories)
    return histories


@numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _write(user_starts: Any, user_items: Any, histories: Any) -> None:  # pragma: no cover - compiled
    for user in numba.prange(histories.shape[0]):
        histories[user, :] = np.float32(0)
        for entry in range(user_starts[user], user_starts[user + 1]):
            histories[user, user_items[entry]] = np.float32(1)


def _grouped(
    users: NDArray[np.int32], items: NDArray[np.int32], n_users: int, n_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Return start of each user in the items by user, these items, and likewise for items."""
    item_starts, user_starts = _starts(items, n_items), _starts(users, n_users)
    item_users, user_items = np.empty(len(items), np.int32), np.empty(len(items), np.int32)
    _group(users, items, item_starts, item_users, user_starts, user_items)
    return user_starts, user_items, item_starts, item_users


def _starts(rows: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    starts = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=starts[1:])
    return starts


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _group(
    users: Any, items: Any, item_starts: Any, item_users: Any, user_starts: Any, user_items: Any
) -> None:  # pragma: no cover - compiled
    """Sort the pairs by item, and from there by user, so that the items of a user ascend."""
    place = item_starts.copy()
    for pair in range(len(users)):
        item_users[place[items[pair]]] = users[pair]
        place[items[pair]] += 1
    place = user_starts.copy()
    for item in range(len(item_starts) - 1):
        for entry in range(item_starts[item], item_starts[item + 1]):
            user = item_users[entry]
            user_items[place[user]] = item
            place[user] += 1


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
