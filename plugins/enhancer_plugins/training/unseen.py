"""Rows of users and items that training never saw.

Where the fuser can place them by their semantic vector, it does. What cannot be placed gets the mean of the trained
rows and a trace of noise: such items score like an average item, and among themselves their order is random. Without
the noise they would tie, and ties are broken by row number, which in many catalogues goes with age or popularity: a
model that knows nothing would seem to know something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts import Dense, Placement
from enhancer.errors import FusionError

if TYPE_CHECKING:
    from numpy.typing import NDArray


_NOISE = 1e-3
"""Noise of unplaced rows, in standard deviations of the trained ones."""


def fill(
    rows: NDArray[np.float32],
    trained: NDArray[np.bool_],
    vectors: NDArray[np.float32] | None,
    placement: Placement | None,
    *,
    seed: int,
    placed: NDArray[np.bool_] | None = None,
) -> None:
    """Write the untrained rows of ``rows``, in place.

    Args:
        rows: float32 ``[n, k]``.
        trained: bool ``[n]``.
        vectors: float32 ``[n, ds]``; zero rows cannot be placed.
        placement: ``ds`` to ``k``.
        seed: Draws the noise.
        placed: bool ``[n]``: rows to be left as they are.
    """
    unseen = ~trained if placed is None else ~(trained | placed)
    if not unseen.any():
        return
    noise = np.random.default_rng([seed & 0xFFFFFFFF, len(rows)]).standard_normal((int(unseen.sum()), rows.shape[1]))
    rows[unseen] = rows[trained].mean(0) + _NOISE * rows[trained].std(0) * noise
    if placement is not None and vectors is not None:
        known = unseen & np.any(vectors != 0, axis=1)
        if known.any():
            rows[known] = placement(vectors[known])


def beside(placement: Placement, neutral: NDArray[np.float32], scale: float) -> Placement:
    """A placement into widening columns, set beside a neutral embedding.

    Args:
        placement: ``ds`` to ``w``.
        neutral: float32 ``[d]``.
        scale: Multiplies the placed columns.

    Returns:
        ``ds`` to ``d + w``: ``[neutral; scale * placed]``.

    Raises:
        FusionError: The placement rescales its rows, which can no longer be said of a part of a row.
    """
    if placement.norm is not None:
        raise FusionError("a fuser that widens the input must place without `norm`: the backbone scales the columns")
    width, d = placement.layers[-1].outputs, len(neutral)
    weight = np.zeros((width, d + width), np.float32)
    weight[:, d:] = np.eye(width, dtype=np.float32) * np.float32(scale)
    bias = np.concatenate([neutral, np.zeros(width, np.float32)]).astype(np.float32)
    last = placement.layers[-1]
    if isinstance(last, Dense) and last.activation == "none":  # one layer less to carry and to multiply
        merged = Dense(last.weight @ weight, last.bias @ weight + bias)
        return Placement((*placement.layers[:-1], merged))
    return Placement((*placement.layers, Dense(weight, bias)))
