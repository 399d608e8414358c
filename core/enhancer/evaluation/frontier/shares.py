"""Shares of the catalogue: which items keep their generated texts, as if those of the others had not been bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from enhancer.config.inputs import TEXT, all_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.training import View

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


def generated(inputs: Sequence[Input]) -> tuple[str, ...]:
    """Return the texts of some inputs that an LLM wrote: all but the raw text.

    >>> generated(["text", "mean(plot,mood)", "plot+text"])
    ('plot', 'mood')
    """
    return tuple(text for text in all_texts(inputs) if text != TEXT)


def needs_text(name: Input) -> bool:
    """Return whether an item without generated texts has the vector of its raw text for this input.

    >>> needs_text("text+plot"), needs_text("plot"), needs_text("text")
    (True, False, False)
    """
    return TEXT in all_texts([name]) and bool(generated([name]))


def without_unbought(
    items: NDArray[np.float32], views: Sequence[View], kept: NDArray[np.bool_], text: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return item vectors in which some items have no generated text.

    Their columns of such inputs are zero; those of an input that joins raw and generated texts are the raw text's.

    Args:
        items: float32 ``[n_items, d]``.
        views: Columns of each input.
        kept: bool ``[n_items]``: items that keep their generated texts.
        text: float32 ``[n_items, dim]``: vectors of raw texts; None if no input needs them.

    Returns:
        float32 ``[n_items, d]``, a copy.
    """
    items, bare = items.copy(), ~kept
    for view in views:
        if not generated([view.name]):
            continue
        fallback = text if needs_text(view.name) else None
        fits = fallback is not None and fallback.shape[1] == view.stop - view.start
        items[bare, view.columns] = fallback[bare] if fallback is not None and fits else 0
    return items
