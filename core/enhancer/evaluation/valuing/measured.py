"""Measure models of bought items by the discounted gain of these items' validation pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.valuing.bounds import Appraisal, ratio_gain
from enhancer.evaluation.valuing.positions import PositionsAmong, PositionsBeside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.metrics import PairList
    from enhancer.evaluation.measuring.views import Views
    from enhancer.evaluation.valuing.bounds import Offer
    from enhancer.evaluation.valuing.models import Catalogue

STRENGTHS = (1.0, 3.0, 10.0, 30.0)
"""Weights of a model to choose from, in interactions."""
_MOST_USERS = 50_000
"""Users whose scores give the mean and spread of an item."""
LEAST = 8
"""Smallest number of bought items with validation pairs that say anything about a group."""


class Measured(ABC):
    """The validation pairs that measure one group.

    Args:
        at: int64 ``[p]``: row of the models of the item of each pair.
        weight: float64 ``[p]``: number of validation pairs that each pair stands for.
    """

    def __init__(self, at: NDArray[np.int64], weight: NDArray[np.float64]) -> None:
        self._at, self._weight = at, weight
        items, self._item = np.unique(at, return_inverse=True)
        self._items = len(items)

    @abstractmethod
    def utilities(self, model: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return the discounted gain of each pair under a model, float64 ``[p]``.

        Args:
            model: float64 ``[n, k]``: directions of the items; None for interactions alone.
        """

    def mean(self, utilities: NDArray[np.float64]) -> float:
        """Return the weighted mean."""
        return float(self._weight @ utilities) / max(float(self._weight.sum()), 1e-300)

    def appraisal(
        self,
        offer: Offer,
        models: Mapping[str, NDArray[np.float64] | None],
        draws: NDArray[np.float64],
        explained: NDArray[np.float64],
    ) -> Appraisal:
        """Compare the model named ``""``, which has the vectors, with all others and with shuffled vectors.

        Args:
            offer: The offer.
            models: Models by name.
            draws: float64 ``[shuffles]``: mean discounted gain with shuffled vectors.
            explained: float64 ``[1 + shuffles]``: share that the vectors explain, then that of shuffled ones.
        """
        if self._items < LEAST:
            return Appraisal(offer, self._items)
        mine = self.utilities(models[""])
        over = {
            name: ratio_gain(mine - self.utilities(model), self._weight, self._item)
            for name, model in models.items()
            if name
        }
        return Appraisal(offer, self._items, len(self._at), over, self.mean(mine), draws, explained)


class WarmItems(Measured):
    """Items with interactions, each ranked alone among all others. A model draws their own directions to itself.

    An item's scores keep their mean over all users: ranked alone, it would otherwise gain by being drawn to what is
    popular, which all items together cannot. Under every model they have the spread of the item's own factors, or that
    of the average item if it is larger: few interactions give short factors, with which no item is ranked high.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        views: Views,
        pairs: PairList,
        at: NDArray[np.int64],
        weight: NDArray[np.float64],
    ) -> None:
        super().__init__(at, weight)
        self._positions = PositionsBeside(catalogue.factors, views, pairs)
        self._rows, first = np.unique(at, return_index=True)
        items = pairs.items[first].astype(np.int64)
        known = np.flatnonzero(views.history > 0)
        known = known[np.linspace(0, len(known) - 1, min(len(known), _MOST_USERS)).astype(np.int64)]
        users = catalogue.factors.users[known].astype(np.float64)
        mean = users.mean(axis=0)
        users = users - mean
        self._spread = users.T @ users / len(users)
        self._users = catalogue.factors.users[pairs.users].astype(np.float64) - mean
        self._factors = catalogue.factors.items[items].astype(np.float64)
        self._level = (self._factors @ mean)[self._item]
        warm = catalogue.factors.items[views.warm_items].astype(np.float64)
        self._deviation = np.maximum(self._deviation_of(self._factors), self._deviation_of(warm).mean())
        self._direction = catalogue.directions[items]
        self._count = catalogue.popularity[items].astype(np.float64)[:, None]

    def utilities(self, model: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """See :meth:`Measured.utilities`."""
        if model is None:
            return self._gains(self._factors)
        # Every model, a shuffled one as well, gets the weight that suits it best.
        tried = [self._gains(self._drawn_to(model[self._rows], strength)) for strength in STRENGTHS]
        return max(tried, key=self.mean)

    def _drawn_to(self, model: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
        own = self._count / (self._count + strength)
        items = own * self._direction + (1 - own) * model
        items *= (self._deviation / np.maximum(self._deviation_of(items), 1e-12))[:, None]
        return items

    def _gains(self, items: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._positions.gains(self._level + np.einsum("pk,pk->p", self._users, items[self._item]))

    def _deviation_of(self, items: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard deviation of items' scores over all users."""
        return np.asarray(np.sqrt(np.maximum(np.einsum("nk,nk->n", items @ self._spread, items), 0)), np.float64)


class StandIns(Measured):
    """Items that stand in for new ones, ranked among themselves. Interactions alone rank them by chance.

    Args:
        rows: int64 ``[n]``: item row of each row of the models.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        views: Views,
        pairs: PairList,
        at: NDArray[np.int64],
        weight: NDArray[np.float64],
        rows: NDArray[np.int64],
    ) -> None:
        super().__init__(at, weight)
        self._positions = PositionsAmong(catalogue.factors.users, views, pairs, at, rows)
        self._shape = (len(rows), catalogue.factors.items.shape[1])

    def utilities(self, model: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """See :meth:`Measured.utilities`."""
        return self._positions.gains(np.zeros(self._shape) if model is None else model)
