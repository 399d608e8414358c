"""Do vectors and behaviour agree? Neighbours by meaning against neighbours by interactions, before any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.geometry import neighbours, unit
from enhancer.evaluation.judging.significance import bootstrap
from enhancer.evaluation.measuring.metrics import PairList
from enhancer.evaluation.measuring.ranking import CSR
from enhancer.evaluation.running.vectors import shuffled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.ranking import Pairs

NEIGHBOURS = 10
"""Neighbours compared."""
LEAST = 5
"""Interactions that an entity needs, to have neighbours by behaviour at all."""
QUERIES, CANDIDATES = 1_000, 20_000
"""Entities asked about, and entities that may be their neighbours; of more, that many are drawn."""
_PEOPLE, _TOUCHES = 500, 500_000
"""Of an entity's users, and of their interactions, that many are looked at."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of an entity's nearest by vectors are among its nearest by behaviour."""

    overlap: float
    """Mean share in common."""
    shuffled: float
    """The same with every entity given the vector of another."""
    interval: tuple[float, float] | None
    """95% of their difference, over entities."""
    queries: int
    candidates: int

    @property
    def lift(self) -> float | None:
        """Overlap by overlap of shuffled vectors; None where that is 0."""
        return self.overlap / self.shuffled if self.shuffled else None


def agreement(
    vectors: NDArray[np.float32], columns: tuple[NDArray[np.int32], NDArray[np.int32]], n_others: int, *, seed: int = 0
) -> Agreement | None:
    """Compare the neighbours of entities by vectors with those by who interacted with them.

    Neighbours by behaviour have the largest cosine of co-occurrence: users in common, over the root of the product of
    both numbers of users. Memory is linear in interactions.

    Args:
        vectors: float32 ``[n, d]``; zero rows have none and take no part.
        columns: Training interactions: the entity's row and the other side's row of each, int32 ``[m]``.
        n_others: Rows of the other side.
        seed: Draws samples, ties and the shuffled vectors.

    Returns:
        None where too few entities have a vector and :data:`LEAST` interactions.
    """
    own, others = columns
    n = len(vectors)
    counts = np.bincount(own, minlength=n)
    able = np.flatnonzero(vectors.any(axis=1) & (counts >= LEAST))
    if len(able) < 3 * NEIGHBOURS:
        return None
    rng = np.random.default_rng(seed)
    if len(able) > CANDIDATES:
        able = np.sort(rng.choice(able, CANDIDATES, replace=False))
    queries = np.arange(len(able))
    if len(queries) > QUERIES:
        queries = np.sort(rng.choice(queries, QUERIES, replace=False))
    behaviour = by_behaviour(able, queries, (own, others), counts, n_others, rng, NEIGHBOURS)
    directions = unit(vectors[able])
    reached = [
        _shared(neighbours(table, queries, NEIGHBOURS), behaviour) for table in (directions, shuffled(directions, seed))
    ]
    return Agreement(
        overlap=float(reached[0].mean()),
        shuffled=float(reached[1].mean()),
        interval=bootstrap((reached[0] - reached[1])[:, None])[0],
        queries=len(queries),
        candidates=len(able),
    )


def by_behaviour(
    able: NDArray[np.int64],
    queries: NDArray[np.int64],
    columns: tuple[NDArray[np.int32], NDArray[np.int32]],
    counts: NDArray[np.int64],
    n_others: int,
    rng: np.random.Generator,
    k: int,
) -> NDArray[np.int64]:
    """The ``k`` entities that the same people took most, by cosine of co-occurrence.

    Args:
        able: Rows of the entities that take part, ascending, more than ``k``.
        queries: Places in ``able`` that are asked about.
        columns: Training interactions: the entity's row and the other side's row of each.
        counts: Interactions of every entity.
        n_others: Rows of the other side.
        rng: Draws samples, where people or their interactions are too many, and breaks ties.
        k: How many.

    Returns:
        int64 ``[q, k]``: places in ``able``, nearest first.
    """
    own, others = columns
    place = np.full(len(counts), -1, np.int64)
    place[able] = np.arange(len(able))
    keep = place[own] >= 0
    pairs = PairList(place[own[keep]].astype(np.int32), others[keep])
    by_entity = CSR.of((pairs,), len(able))
    by_other = CSR.of((PairList(pairs.items, pairs.users),), n_others)
    weight = 1.0 / np.sqrt(counts[able])
    noise = rng.random(len(able)) * 1e-9  # ties are many: no order of the table may decide them
    out = np.empty((len(queries), k), np.int64)
    for number, query in enumerate(queries):
        people = by_entity.indices[by_entity.indptr[query] : by_entity.indptr[query + 1]]
        if len(people) > _PEOPLE:
            people = rng.choice(people, _PEOPLE, replace=False)
        _, touched = by_other.rows(people)
        if len(touched) > _TOUCHES:
            touched = rng.choice(touched, _TOUCHES, replace=False)
        score = np.bincount(touched, minlength=len(able)) * weight + noise
        score[query] = -1.0
        best = np.argpartition(-score, k - 1)[:k]
        out[number] = best[np.argsort(-score[best])]
    return out


def _shared(some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share in common, row by row."""
    found: NDArray[np.float64] = (some[:, :, None] == others[:, None, :]).any(axis=2).mean(axis=1)
    return found


def side_of(train: Pairs, kind: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Interactions as rows of ``kind`` and rows of the other side."""
    return (train.items, train.users) if kind == "item" else (train.users, train.items)
