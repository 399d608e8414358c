"""Explain recommendations: the item of the user's history that each is nearest to, and by which note."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import StoreError
from enhancer.features.reading.table import input_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.store import FeatureStore

_MAX_HISTORY = 5000
"""Largest number of items of a history that are compared."""
_MAX_OTHERS = 1000
"""Largest number of items of the catalogue that tell what is usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """The item of a user's history that a recommended item is nearest to, by one of its notes."""

    item_id: str
    """The item of the history."""
    title: str | None
    by: Input
    """The note, such as ``audience``; ``text`` for the raw text."""
    similarity: float
    """Cosine of the two vectors."""

    def __str__(self) -> str:
        return f"beside {self.title or self.item_id} by {self.by}"

    def to_json(self) -> dict[str, Any]:
        """Return the reason as JSON values; the title where it is known."""
        title = {"title": self.title} if self.title else {}
        return {"item_id": self.item_id, **title, "by": self.by, "similarity": self.similarity}


def reasons(
    store: FeatureStore,
    recommended: Sequence[str],
    history: Sequence[str],
    inputs: Sequence[Input],
    title: Callable[[str], str | None],
    *,
    catalogue: Sequence[str],
    samples: int = 1,
) -> list[Reason | None]:
    """Return the reason for each recommended item; None for one without a vector, or beside an empty history.

    Cosines of different notes are not comparable: all raw texts may resemble each other, and no two plots. So each
    cosine is taken relative to those of its note between the history and the catalogue, in standard deviations from
    their mean. The reason of an item does not depend on the other items that are recommended.

    Args:
        store: Store of the vectors.
        recommended: Ids of items.
        history: Ids of the user's items, of which the first 5,000 are compared.
        inputs: Notes to compare by.
        title: Returns the title of an item; None where it is unknown.
        catalogue: Ids of all items, of which at most 1,000 at even distances are read.
        samples: Largest number of samples of a note.

    Raises:
        StoreError: The store has no vectors of any of these items.
    """
    history = list(history)[:_MAX_HISTORY]
    others = _others(catalogue, set(history))
    best: list[tuple[float, Reason] | None] = [None] * len(recommended)
    found_any = False
    for name in inputs:
        wanted = _unit(input_vectors(store, recommended, "item", name, samples=samples))
        known = _unit(input_vectors(store, history, "item", name, samples=samples))
        found_any |= bool(wanted.size)
        if not wanted.size or not known.size:
            continue
        there = known.any(axis=1)
        usual = _unit(input_vectors(store, others, "item", name, samples=samples))
        cosines = usual[usual.any(axis=1)] @ known[there].T if usual.size else np.zeros(0, np.float32)
        mean, spread = (float(cosines.mean()), float(cosines.std())) if cosines.size else (0.0, 0.0)
        for row, vector in enumerate(wanted):
            if not vector.any() or not there.any():
                continue
            own = np.where(there, known @ vector, -np.inf)  # row by row: rounding must not depend on other items
            column = int(own.argmax())
            value = (float(own[column]) - mean) / (spread if spread > 0 else 1.0)
            if (known_best := best[row]) is None or value > known_best[0]:
                id_ = history[column]
                reason = Reason(item_id=id_, title=title(id_), by=name, similarity=float(own[column]))
                best[row] = (value, reason)
    if recommended and not found_any:
        raise StoreError(
            "the store has no vectors of these items, so nothing explains them", hint="run `enhancer generate` first"
        )
    return [None if one is None else one[1] for one in best]


def _others(catalogue: Sequence[str], history: set[str]) -> list[str]:
    """Return items at even distances that are not in the history."""
    step = max(1, -(-len(catalogue) // _MAX_OTHERS))
    return [id_ for id_ in (catalogue[row] for row in range(0, len(catalogue), step)) if id_ not in history]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(length, 1e-12)
    return unit
