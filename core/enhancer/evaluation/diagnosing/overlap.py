"""Compare the aspects of the same entity: do they say different things?

The notes of one entity are about the same thing and so have something in common. How much is too much is judged against
chance (notes of two different entities) and against equality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.geometry import unit_rows
from enhancer.evaluation.diagnosing.wording import words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_ENTITIES = 20
"""Fewer entities with both aspects are not compared."""


@dataclass(frozen=True, slots=True)
class AspectOverlap:
    """Similarity of two aspects of an entity, and of two aspects of different entities."""

    aspects: tuple[str, str]
    entities: int
    """Entities that have both."""
    cosine: float | None
    """Mean cosine of the vectors of the same entity; None without vectors."""
    chance_cosine: float | None
    """Mean cosine of the vectors of different entities."""
    words: float
    """Mean share of the words of the shorter note that are in the other one of the same entity."""
    chance_words: float
    """The same for notes of different entities."""

    @property
    def excess(self) -> float:
        """The larger of both likenesses beyond chance, as a share of the way from chance to equality."""
        found = [_beyond(self.words, self.chance_words)]
        if self.cosine is not None and self.chance_cosine is not None:
            found.append(_beyond(self.cosine, self.chance_cosine))
        return max(found)


def aspect_overlap(
    names: tuple[str, str],
    notes: tuple[Sequence[str], Sequence[str]],
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    *,
    seed: int = 0,
) -> AspectOverlap | None:
    """Compare two aspects.

    Args:
        names: Names of the aspects.
        notes: Notes of both, in the order of the entities; an empty one is missing.
        vectors: float32 ``[n, d]`` each, in the same order, with rows of zeros for missing vectors. Without, words
            alone are compared.
        seed: Seed of the pairs of different entities.

    Returns:
        None if fewer than :data:`MIN_ENTITIES` entities have both notes.
    """
    both = np.array([row for row, pair in enumerate(zip(*notes, strict=True)) if all(pair)], np.int64)
    if len(both) < MIN_ENTITIES:
        return None
    # A cyclic shift of a random order pairs every entity with another one.
    order = np.random.default_rng(seed).permutation(len(both))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    one, other = ([frozenset(words_of(side[row])) for row in both.tolist()] for side in notes)
    cosine = chance = None
    if vectors is not None:
        a, b = (unit_rows(table[both]) for table in vectors)
        able = a.any(axis=1) & b.any(axis=1)
        if able.all() and a.shape[1] == b.shape[1]:
            cosine = float(np.einsum("ij,ij->i", a, b).mean())
            chance = float(np.einsum("ij,ij->i", a, b[others]).mean())
    return AspectOverlap(
        aspects=names,
        entities=len(both),
        cosine=cosine,
        chance_cosine=chance,
        words=float(np.mean([_shared(a, b) for a, b in zip(one, other, strict=True)])),
        chance_words=float(np.mean([_shared(a, other[row]) for a, row in zip(one, others.tolist(), strict=True)])),
    )


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(min(len(one), len(other)), 1)


def _beyond(value: float, chance: float) -> float:
    return (value - chance) / (1 - chance) if chance < 1 else 0.0
