"""Row numbers of users and items, and the checks of what is asked for."""

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
"""Query numbers and item rows."""


def pairs_of(spans: Sequence[NDArray[np.integer[Any]]]) -> Pairs:
    """Query numbers and item rows of all spans."""
    queries = np.repeat(np.arange(len(spans)), [len(span) for span in spans])
    return queries, np.concatenate([np.empty(0, np.int64), *spans])


def checked(vectors: NDArray[np.float32], placement: Placement, kind: str, ids: Sequence[str]) -> NDArray[np.float32]:
    """Semantic vectors that can be placed.

    Raises:
        DataError: They cannot.
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
    """As many of ``count`` items as there can be in an answer: nobody's ``k`` decides how much memory is taken.

    Raises:
        DataError: It is no whole number, or below one.
    """
    if not isinstance(k, int | np.integer) or isinstance(k, bool):
        raise DataError(f"k must be a whole number, not {k!r}")
    if k < 1:
        raise DataError(f"k must be at least 1, not {k}")
    return min(int(k), max(count, 1))


def check_ids(ids: Sequence[str], kind: str) -> None:
    """Refuse what is not a list of strings, before an answer is kept under it."""
    if isinstance(ids, str):
        raise DataError(f"{kind} ids must be a list of ids, not the string {ids!r}")
    for id_ in ids:
        check_id(id_)


def inverse_norms(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """One over the length of each row; 0 for a row of zeros, which is like nothing."""
    length = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    inverse: NDArray[np.float32] = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return inverse


def among(
    chosen: NDArray[np.int64],
    masked: Pairs | None,
    banned: NDArray[np.int64] | None,
) -> tuple[Pairs | None, NDArray[np.int64] | None]:
    """Item rows as places among the chosen ones; those that were not chosen fall away."""

    def places(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        found = np.searchsorted(chosen, rows)
        inside = (
            np.zeros(len(rows), dtype=bool) if not len(chosen) else chosen[np.minimum(found, len(chosen) - 1)] == rows
        )
        return found, inside

    if masked is not None:
        found, inside = places(masked[1])
        masked = masked[0][inside], found[inside]
    if banned is not None:
        found, inside = places(banned)
        banned = found[inside]
    return masked, banned
