"""The catalogue, and models of the directions of its items' factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.valuing.left_out import LeftOutRidge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.running.vectors import FloatMatrix

PRIOR_ITEMS = 3.0
"""Weight ``k`` of a vector, in interactions: the default of the fuser ``prior``."""
_MOST_SCALE = 4.0
"""Largest ``c``: a ridge regression errs towards 0."""
_LEAST_ROWS = 8
"""Smallest number of rows of a group that get a regression of their own."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All items: their factors, groups and interactions."""

    factors: Factors
    directions: NDArray[np.float64]
    """float64 ``[n_items, k]``: factors of unit length; zero where an item has none."""
    names: list[str]
    """Groups but ``new``."""
    group: NDArray[np.int64]
    """int64 ``[n_items]``: number of the group; -1 for new items."""
    popularity: NDArray[np.int64]
    """int64 ``[n_items]``: training interactions."""
    pairs: NDArray[np.int64]
    """int64 ``[n_items]``: validation pairs."""

    @property
    def measurable(self) -> NDArray[np.bool_]:
        """Which items can be measured, bool ``[n_items]``."""
        return (self.pairs > 0) & (self.group >= 0)

    def trust(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weight of items' own factors, beside those of a model."""
        counts = self.popularity[rows]
        return np.asarray(counts / (counts + PRIOR_ITEMS), np.float64)

    def group_of(self, rows: NDArray[np.int64], *, new: bool) -> NDArray[np.int64]:
        """Return the group of each row; stand-ins for new items are all in one."""
        return np.zeros(len(rows), np.int64) if new else self.group[rows]


@dataclass(frozen=True, eq=False)
class Stage:
    """The models of the items that have every vector of an offer."""

    rows: NDArray[np.int64]
    group: NDArray[np.int64]
    """Group of each row, within which vectors may be exchanged."""
    base: NDArray[np.float64]
    """Directions by what is known already."""
    ridge: LeftOutRidge
    """The regression on the rows of all groups."""
    own: list[tuple[NDArray[np.int64], LeftOutRidge]]
    """Positions of the rows of a group, and the regression on these alone."""
    rest: NDArray[np.float64]
    """Remainder of the directions after the base."""

    @classmethod
    def of(
        cls, catalogue: Catalogue, x: FloatMatrix, rows: NDArray[np.int64], base: NDArray[np.float64], *, new: bool
    ) -> Stage:
        """Prepare the regressions on ``x`` of what ``base`` leaves."""
        group = catalogue.group_of(rows, new=new)
        n = int(group.max()) + 1
        trust = np.bincount(group, catalogue.trust(rows), n) / np.maximum(np.bincount(group, minlength=n), 1)
        weights = np.maximum(trust[group], 1e-3)  # equal within a group, so that its vectors may be exchanged
        # The base has the mean of each group, known from all of its items: those bought are too few to learn it from.
        ridge = LeftOutRidge(x, weights, group, intercepts=False)
        parts = [np.flatnonzero(group == number) for number in range(n)]
        own = [
            (part, LeftOutRidge(x[part], weights[part], np.zeros(len(part), np.int64), intercepts=False))
            for part in parts
            if _LEAST_ROWS <= len(part) < len(rows)
        ]
        return cls(rows, group, base, ridge, own, catalogue.directions[rows] - base)

    def predict(self, order: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
        """Return directions by the base and vectors, those of ``order``.

        Vectors may mean something in one group and nothing in the others, whose rows then only blur the regression.
        Each group takes the regression on all rows or that on its own, whichever errs less on left-out rows.
        """
        predicted = self.ridge.predict(self.rest, order)
        n = int(self.group.max()) + 1
        both = np.bincount(self.group, np.einsum("nk,nk->n", predicted, self.rest), n)
        square = np.bincount(self.group, np.einsum("nk,nk->n", predicted, predicted), n)
        # Few rows of a group say little about its scale; all groups together say more.
        predicted *= _scale(both + both.sum(), square + square.sum())[self.group][:, None]
        for part, ridge in self.own:
            rest = self.rest[part]
            alone = ridge.predict(rest, None if order is None else np.searchsorted(part, order[part]))
            alone *= _scale(np.sum(alone * rest), np.sum(np.square(alone)))
            if np.sum(np.square(rest - alone)) < np.sum(np.square(rest - predicted[part])):
                predicted[part] = alone
        return np.asarray(self.base + predicted, np.float64)

    def explained(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of the remainder that a prediction explains, by group, float64 ``[groups]``."""
        n = int(self.group.max()) + 1
        left = self.base + self.rest - predicted
        whole = np.bincount(self.group, np.einsum("nk,nk->n", self.rest, self.rest), n)
        missed = np.bincount(self.group, np.einsum("nk,nk->n", left, left), n)
        return np.asarray(1 - missed / np.maximum(whole, 1e-300), np.float64)


def _scale(both: NDArray[np.float64] | np.float64, square: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """Return ``c`` by least squares, from sums of products and of squares."""
    return np.asarray(np.clip(both / np.maximum(square, 1e-300), 0, _MOST_SCALE), np.float64)
