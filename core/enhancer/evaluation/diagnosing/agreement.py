"""Compare neighbours by vectors with neighbours by interactions, before any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.geometry import neighbours, unit_rows
from enhancer.evaluation.judging.significance import bootstrap
from enhancer.evaluation.measuring.metrics import PairList
from enhancer.evaluation.measuring.ranking import CSR
from enhancer.evaluation.running.vectors import shuffled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.ranking import Pairs

NEIGHBOURS = 10
"""Number of neighbours compared."""
MIN_INTERACTIONS = 5
"""Minimum number of interactions of an entity that is compared."""
QUERIES, CANDIDATES = 1_000, 20_000
"""Maximum numbers of query entities and of candidate neighbours; of more, samples are drawn."""
_CO_ENTITIES, _CO_INTERACTIONS = 500, 500_000
"""Maximum numbers of an entity's users (for items; of a user's items), and of their interactions; of more, samples."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Overlap of neighbours by vectors and neighbours by interactions."""

    overlap: float
    """Mean share of common neighbours."""
    shuffled: float
    """The same with the vectors shuffled among entities."""
    interval: tuple[float, float] | None
    """95% bootstrap interval of the difference, over entities."""
    queries: int
    candidates: int

    @property
    def lift(self) -> float | None:
        """``overlap / shuffled``; None if ``shuffled`` is 0."""
        return self.overlap / self.shuffled if self.shuffled else None


def measure_agreement(
    vectors: NDArray[np.float32], columns: tuple[NDArray[np.int32], NDArray[np.int32]], n_others: int, *, seed: int = 0
) -> Agreement | None:
    """Compare the nearest neighbours of entities by vectors with those by interactions.

    The similarity by interactions of two items is their number of common users, divided by the square root of the
    product of their numbers of users; for two users the same with items. Memory is linear in interactions.

    Args:
        vectors: float32 ``[n, d]``; rows of zeros are entities without a vector, which are left out.
        columns: Training interactions: rows of the entities and rows of the other side, int32 ``[m]`` each.
        n_others: Number of entities of the other side.
        seed: Seed of samples, of tie-breaking and of the shuffled vectors.

    Returns:
        None if fewer than ``3 * NEIGHBOURS`` entities have a vector and :data:`MIN_INTERACTIONS` interactions.
    """
    own, others = columns
    n = len(vectors)
    counts = np.bincount(own, minlength=n)
    able = np.flatnonzero(vectors.any(axis=1) & (counts >= MIN_INTERACTIONS))
    if len(able) < 3 * NEIGHBOURS:
        return None
    rng = np.random.default_rng(seed)
    if len(able) > CANDIDATES:
        able = np.sort(rng.choice(able, CANDIDATES, replace=False))
    queries = np.arange(len(able))
    if len(queries) > QUERIES:
        queries = np.sort(rng.choice(queries, QUERIES, replace=False))
    by_interactions = neighbours_by_interactions(able, queries, (own, others), counts, n_others, rng, NEIGHBOURS)
    directions = unit_rows(vectors[able])
    overlaps = [
        _overlap(neighbours(table, queries, NEIGHBOURS), by_interactions)
        for table in (directions, shuffled(directions, seed))
    ]
    return Agreement(
        overlap=float(overlaps[0].mean()),
        shuffled=float(overlaps[1].mean()),
        interval=bootstrap((overlaps[0] - overlaps[1])[:, None])[0],
        queries=len(queries),
        candidates=len(able),
    )


def neighbours_by_interactions(
    able: NDArray[np.int64],
    queries: NDArray[np.int64],
    columns: tuple[NDArray[np.int32], NDArray[np.int32]],
    counts: NDArray[np.int64],
    n_others: int,
    rng: np.random.Generator,
    k: int,
) -> NDArray[np.int64]:
    """Return the ``k`` nearest entities by the cosine of co-occurrence.

    Args:
        able: Rows of the entities that are compared, ascending, more than ``k``.
        queries: Indices into ``able`` of the query entities.
        columns: Training interactions: rows of the entities and rows of the other side.
        counts: Number of interactions of every entity.
        n_others: Number of entities of the other side.
        rng: Draws samples of large neighbourhoods, and breaks ties.
        k: Number of neighbours.

    Returns:
        int64 ``[q, k]``: indices into ``able``, nearest first.
    """
    own, others = columns
    place = np.full(len(counts), -1, np.int64)
    place[able] = np.arange(len(able))
    keep = place[own] >= 0
    pairs = PairList(place[own[keep]].astype(np.int32), others[keep])
    by_entity = CSR.of((pairs,), len(able))
    by_other = CSR.of((PairList(pairs.items, pairs.users),), n_others)
    weight = 1.0 / np.sqrt(counts[able])
    noise = rng.random(len(able)) * 1e-9  # breaks the many ties at random, not by the order of the table
    out = np.empty((len(queries), k), np.int64)
    for number, query in enumerate(queries):
        others_of_query = by_entity.indices[by_entity.indptr[query] : by_entity.indptr[query + 1]]
        if len(others_of_query) > _CO_ENTITIES:
            others_of_query = rng.choice(others_of_query, _CO_ENTITIES, replace=False)
        _, co_occurring = by_other.rows(others_of_query)
        if len(co_occurring) > _CO_INTERACTIONS:
            co_occurring = rng.choice(co_occurring, _CO_INTERACTIONS, replace=False)
        score = np.bincount(co_occurring, minlength=len(able)) * weight + noise
        score[query] = -1.0
        best = np.argpartition(-score, k - 1)[:k]
        out[number] = best[np.argsort(-score[best])]
    return out


def _overlap(some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of common elements of each pair of rows."""
    found: NDArray[np.float64] = (some[:, :, None] == others[:, None, :]).any(axis=2).mean(axis=1)
    return found


def interaction_columns(train: Pairs, kind: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return interactions as rows of ``kind`` and rows of the other side."""
    return (train.items, train.users) if kind == "item" else (train.users, train.items)
