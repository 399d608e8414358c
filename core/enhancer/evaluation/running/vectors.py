"""Types of semantic vectors, and the shuffling that makes a placebo of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.training import SemanticVectors

    FloatMatrix = NDArray[np.float32]
    """float32 ``[n, dim]``, one vector per row."""
    Features = Callable[[tuple[Input, ...]], SemanticVectors]
    """Function from the names of embedded inputs to the vectors of users (None if they have none of their own) and
    items."""
    Spread = Callable[[Sequence[Input]], NDArray[np.float32]]
    """Function from the names of embedded inputs to the variance of the samples of each item, ``[n_items, inputs]``."""


def shuffled(vectors: FloatMatrix, seed: int, *, like: FloatMatrix | None = None) -> FloatMatrix:
    """Give every row that has a vector the vector of another such row.

    The rows are permuted along one cycle drawn from ``seed``, so no row keeps its own vector unless it is the only one.
    Rows without a vector (all zero) stay zero.

    Args:
        vectors: float32 ``[n, dim]``.
        seed: Seed of the permutation.
        like: float32 ``[n, d]``: vectors that decide which rows have one; by default ``vectors``.

    Returns:
        float32 ``[n, dim]``, a copy.
    """
    rows = np.flatnonzero((vectors if like is None else like).any(axis=1))
    cycle = np.random.default_rng([seed, len(rows)]).permutation(rows)
    out = vectors.copy()
    out[cycle] = vectors[np.roll(cycle, 1)]
    return out
