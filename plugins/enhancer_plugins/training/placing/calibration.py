"""Calibrate the placement of unseen items, so that they compete fairly with trained ones.

A regression from vectors to embeddings says where an unseen item lies, but not whether its scores can be compared with
those of trained items. Validation tells: some trained items are ranked by the rows at which they would be placed by a
regression that has not seen them, among the trained rows of all other items.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts import Dense, Factors, Placement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.fuser import Judge

    Weigh = Callable[[Sequence[NDArray[np.int64]], Judge], Placement | None]

_SCALES = (1.3, 1.15, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Factors of placed rows to try. Of equally good ones the first is kept."""
_OFFSETS = (0.0, -0.25, 0.25, -0.5, 0.5)
"""Constants to try to add to scores of placed items, in standard deviations of the scores of trained items."""
_ROUNDS = 3
"""Maximum number of searches of the factor and of the constant, each given the other."""
_FOLDS = 2
_SHARE = 5
"""One of so many trained items is placed in each fold."""
_LARGEST_FOLD = 4096
_SMALLEST_FOLD = 8
_SCORED_USERS = 512
"""Number of users whose scores give their standard deviation."""


def calibrate(
    placement: Placement,
    factors: Factors,
    known: NDArray[np.bool_],
    left_out: Callable[[NDArray[np.int64]], NDArray[np.float32] | None],
    validate: Callable[[Factors], float | None],
    *,
    seed: int,
    weigh: Weigh | None = None,
) -> Placement:
    """Weigh the views of unseen items, scale their rows, and shift their scores, by what is best on validation.

    Args:
        placement: Maps vectors to rows of items. One with a fixed length keeps it.
        factors: Trained factors.
        known: bool ``[n_items]``: trained items with a vector.
        left_out: Returns the rows at which trained items would be placed without having been seen, float32 ``[r, d]``
            without the constant tail of ``placement``; None if that is unknown.
        validate: Returns the validation metric, higher is better; None without a validation part.
        seed: Draws the items that are placed.
        weigh: Returns a better placement, given folds of trained items and what judges their rows; None to keep it.

    Returns:
        The calibrated placement; ``placement`` itself if there is nothing to calibrate it by.
    """
    rows = np.flatnonzero(known)
    size = min(len(rows) // _SHARE, _LARGEST_FOLD)
    if (placement.norm is not None and weigh is None) or size < _SMALLEST_FOLD or validate(factors) is None:
        return placement
    drawn = np.random.default_rng([seed & 0xFFFFFFFF, 7]).permutation(rows)[: _FOLDS * size]
    chosen = None if weigh is None else weigh(np.split(drawn, _FOLDS), _judge(placement, factors, validate))
    if chosen is not None:
        placement = replace(placement, layers=chosen.layers, norm=chosen.norm)
    placed = None if placement.norm is not None else left_out(drawn)
    if placed is None:
        return placement
    if placement.tail:
        placed = np.concatenate([placed, np.tile(np.asarray(placement.tail, np.float32), (len(placed), 1))], axis=1)
    own = placed.shape[1] - len(placement.tail)
    direction, deviation = _constant_score(factors, rows)

    @functools.cache
    def value(scale: float, offset: float) -> float:
        total = 0.0
        shift = (offset * deviation * direction).astype(np.float32)
        for fold in range(_FOLDS):
            here = slice(fold * size, (fold + 1) * size)
            items = factors.items.copy()
            items[drawn[here], :own] = placed[here, :own] * np.float32(scale)
            items[drawn[here], own:] = placed[here, own:]
            items[drawn[here]] += shift
            total += validate(Factors(factors.users, items)) or 0.0
        return total

    scale, offset = 1.0, 0.0
    for _ in range(_ROUNDS):
        scale = max(_SCALES, key=functools.partial(value, offset=offset))
        before, offset = offset, max(_OFFSETS, key=functools.partial(value, scale))
        if offset == before:
            break
    return _moved(placement, scale, (offset * deviation * direction).astype(np.float32))


def _judge(placement: Placement, factors: Factors, validate: Callable[[Factors], float | None]) -> Judge:
    """Return what validates placed rows, ranked among themselves, above the trained rows of all other items.

    Among trained rows, few placed ones enter a list, and the metric would hardly tell one placement from another.
    """
    tail = np.asarray(placement.tail, np.float32)
    users = np.concatenate([factors.users, np.ones((len(factors.users), 1), np.float32)], axis=1)
    longest = float(np.linalg.norm(factors.users, axis=1).max())

    def judge(rows: NDArray[np.int64], placed: NDArray[np.float32]) -> float:
        if placement.norm is not None:
            lengths = np.linalg.norm(placed, axis=1, keepdims=True)
            placed = placed * np.float32(placement.norm) / np.maximum(lengths, np.float32(1e-12))
        items = np.zeros((len(factors.items), users.shape[1]), np.float32)
        items[rows, : placed.shape[1]] = placed
        items[rows, placed.shape[1] : -1] = tail
        # One column lifts them above all others, whose scores are zero.
        items[rows, -1] = 2 * longest * float(np.linalg.norm(items[rows], axis=1).max())
        return validate(Factors(users, items)) or 0.0

    return judge


def _constant_score(factors: Factors, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Return the row whose score is nearest to 1 for all users, and the deviation of the scores of trained items."""
    users = factors.users.astype(np.float64)
    gram = users.T @ users
    gram[np.diag_indices_from(gram)] += 1e-6 * max(float(np.trace(gram)) / len(gram), 1e-12)
    some = np.linspace(0, len(users) - 1, min(len(users), _SCORED_USERS)).astype(np.int64)
    return np.linalg.solve(gram, users.sum(0)), float((users[some] @ factors.items[rows].T).std())


def _moved(placement: Placement, scale: float, shift: NDArray[np.float32]) -> Placement:
    """Return the placement with scaled rows and a constant row added to them."""
    own = len(shift) - len(placement.tail)
    factor, last = np.float32(scale), placement.layers[-1]
    if isinstance(last, Dense) and last.activation == "none":
        layers = (*placement.layers[:-1], Dense(last.weight * factor, last.bias * factor + shift[:own]))
    else:
        layers = (*placement.layers, Dense(np.eye(own, dtype=np.float32) * factor, shift[:own]))
    tail = tuple(float(value + more) for value, more in zip(placement.tail, shift[own:], strict=True))
    return replace(placement, layers=layers, tail=tail)
