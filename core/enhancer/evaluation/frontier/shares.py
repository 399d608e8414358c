"""Shares of the catalogue: which items keep their generated texts, as if those of the others had not been bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Order = Literal["rarest", "commonest", "random"]
"""Which items come first: those with the fewest training interactions, with the most, or any."""
_SEED = 20_010
"""Seed of the random order and of ties, the same for every split and seed, so that shares of one order are nested."""


@dataclass(frozen=True, slots=True)
class CatalogueShare:
    """A share of the catalogue, from one end of an order. Shares of one order are nested.

    >>> CatalogueShare("rarest", 0.5).kept(np.array([9, 0, 3, 7]))
    array([False,  True,  True, False])
    """

    order: Order
    share: float
    """Between 0 and 1."""

    def kept(self, popularity: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which items keep their generated texts.

        Args:
            popularity: int64 ``[n_items]``: training interactions of each item. Items held out of training have none,
                so they are the rarest, as new items are.

        Returns:
            bool ``[n_items]``.
        """
        n = len(popularity)
        ties = np.random.default_rng(_SEED).permutation(n)
        first = {"rarest": popularity, "commonest": -popularity, "random": np.zeros(n, np.int64)}[self.order]
        kept = np.zeros(n, np.bool_)
        kept[np.lexsort((ties, first))[: round(self.share * n)]] = True
        return kept
