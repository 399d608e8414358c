"""Rows of users and items without a training interaction.

Such a row is placed by its semantic vector if the fuser can. Otherwise it gets the mean of the trained rows plus a
little noise: it then scores like an average item, and unplaced items rank in random order. Without the noise they would
tie, and ties are broken by row number, which often correlates with age or popularity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts import Dense, Placement
from enhancer.errors import PluginError

if TYPE_CHECKING:
    from numpy.typing import NDArray


_NOISE = 1e-3
"""Noise of unplaced rows, in standard deviations of the trained rows."""
_BLOCK = 8192
"""Rows that are copied at once."""


def fill(
    rows: NDArray[np.float32],
    trained: NDArray[np.bool_],
    vectors: NDArray[np.float32] | None,
    placement: Placement | None,
    *,
    seed: int,
    placed: NDArray[np.bool_] | None = None,
    trust: NDArray[np.float32] | None = None,
) -> None:
    """Write the rows of untrained entities in place.

    Args:
        rows: float32 ``[n, k]``.
        trained: bool ``[n]``: entities with a training interaction.
        vectors: float32 ``[n, ds]``: semantic vectors; zero rows cannot be placed.
        placement: Maps ``ds`` to ``k`` columns.
        seed: Seed of the noise.
        placed: bool ``[n]``: untrained rows that are already placed and stay as they are.
        trust: float32 ``[n]``: distance of placed rows from the mean of trained rows, as a share of where they are
            placed; None to leave them there.
    """
    unseen = ~trained if placed is None else ~(trained | placed)
    if not unseen.any():
        return
    noise = np.random.default_rng([seed & 0xFFFFFFFF, len(rows)]).standard_normal((int(unseen.sum()), rows.shape[1]))
    mean, deviation = _moments(rows, np.flatnonzero(trained))
    rows[unseen] = mean + _NOISE * deviation * noise
    if placement is not None and vectors is not None:
        known = unseen & np.any(vectors != 0, axis=1)
        if known.any():
            rows[known] = placement(vectors[known])
            if trust is not None:
                rows[known] = mean + trust[known, None] * (rows[known] - mean)


def _moments(rows: NDArray[np.float32], places: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of some rows, float64 ``[k]`` each, without a copy of all of them."""
    total, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for first in range(0, len(places), _BLOCK):
        part = rows[places[first : first + _BLOCK]].astype(np.float64)
        total += part.sum(0)
        squares += np.square(part).sum(0)
    mean = total / len(places)
    return mean, np.sqrt(np.maximum(squares / len(places) - np.square(mean), 0))


def beside(placement: Placement, neutral: NDArray[np.float32], scale: float, *, fuser: str) -> Placement:
    """Put a placement of widening columns beside a fixed embedding.

    Args:
        placement: Maps ``ds`` to ``w`` columns.
        neutral: float32 ``[d]``: the embedding, such as the mean of the trained ones.
        scale: Factor for the placed columns.
        fuser: Name of the fuser for the error message, such as ``fuser 'concat'``.

    Returns:
        A map from ``ds`` to ``d + w`` columns, ``[neutral; scale * placed]``.

    Raises:
        PluginError: The placement rescales its rows, which cannot be done for a part of a row.
    """
    if placement.norm is not None:
        raise PluginError(
            f"{fuser} widens the input, so its placement must not set norm: the backbone scales the columns"
        )
    width, d = placement.layers[-1].outputs, len(neutral)
    weight = np.zeros((width, d + width), np.float32)
    weight[:, d:] = np.eye(width, dtype=np.float32) * np.float32(scale)
    bias = np.concatenate([neutral, np.zeros(width, np.float32)]).astype(np.float32)
    last = placement.layers[-1]
    if isinstance(last, Dense) and last.activation == "none":  # merge two linear layers into one
        merged = Dense(last.weight @ weight, last.bias @ weight + bias)
        return Placement((*placement.layers[:-1], merged))
    return Placement((*placement.layers, Dense(weight, bias)))
