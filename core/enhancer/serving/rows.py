"""Check arguments of rankers, and convert between row numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import DataError
from enhancer.serving.ids import check_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.placement import Placement

Pairs = tuple["NDArray[np.int64]", "NDArray[np.int64]"]
"""Query number and item row of each excluded pair: int64 ``[n]`` each."""


def pairs_of(item_rows: Sequence[NDArray[np.integer[Any]]]) -> Pairs:
    """Return the pairs of each query with each of its item rows."""
    queries = np.repeat(np.arange(len(item_rows)), [len(rows) for rows in item_rows])
    return queries, np.concatenate([np.empty(0, np.int64), *item_rows])


def check_vectors(
    vectors: NDArray[np.float32], placement: Placement, kind: str, ids: Sequence[str]
) -> NDArray[np.float32]:
    """Return semantic vectors as float32 ``[len(ids), ds]`` after checking that they can be placed.

    Raises:
        DataError: The shape is wrong, or a vector is zero or not finite.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    width = placement.layers[0].inputs if placement.layers else vectors.shape[-1]
    if vectors.shape != (len(ids), width):
        raise DataError(f"vectors of shape {vectors.shape} for {len(ids)} {kind}s; expected [n, {width}]")
    bad = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    if bad.any():
        raise DataError(f"the vector of {kind} {ids[int(np.flatnonzero(bad)[0])]!r} is zero or not finite")
    return vectors


def check_k(k: int, count: int) -> int:
    """Return ``k``, capped at the number of items so that a huge ``k`` allocates no memory.

    Raises:
        DataError: ``k`` is not a whole number, or is below 1.
    """
    if not isinstance(k, int | np.integer) or isinstance(k, bool):
        raise DataError(f"k must be a whole number, not {k!r}")
    if k < 1:
        raise DataError(f"k must be at least 1, not {k}")
    return min(int(k), max(count, 1))


def check_ids(ids: Sequence[str], kind: str) -> None:
    """Raise :class:`DataError` if the ids are not a list of strings."""
    if isinstance(ids, str):
        raise DataError(f"{kind} ids must be a list of ids, not the string {ids!r}")
    for id_ in ids:
        check_id(id_)


def inverse_norms(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one over the L2 norm of each row: float32 ``[n]``; 0 for a row of zeros."""
    length = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    inverse: NDArray[np.float32] = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return inverse


def restrict_to(
    candidates: NDArray[np.int64],
    masked: Pairs | None,
    banned: NDArray[np.int64] | None,
) -> tuple[Pairs | None, NDArray[np.int64] | None]:
    """Convert item rows to positions in ``candidates`` (sorted item rows); rows that are not candidates are dropped."""

    def positions(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        found = np.searchsorted(candidates, rows)
        inside = np.zeros(len(rows), dtype=bool)
        if len(candidates):
            inside = candidates[np.minimum(found, len(candidates) - 1)] == rows
        return found, inside

    if masked is not None:
        found, inside = positions(masked[1])
        masked = masked[0][inside], found[inside]
    if banned is not None:
        found, inside = positions(banned)
        banned = found[inside]
    return masked, banned
