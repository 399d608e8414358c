"""Finish a run of a backbone that computes its factors at once, in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts import Factors, Fitted
from enhancer_plugins.training.interactions import trained
from enhancer_plugins.training.unseen import fill

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import Fusion, Placement, TrainingData
    from enhancer.contracts.record import Kind


def finish(
    fusion: Fusion,
    data: TrainingData,
    users: NDArray[np.floating],
    items: NDArray[np.floating],
    *,
    seed: int,
) -> Fitted:
    """Adjust factors by the fusion, and place the entities without a training interaction.

    Args:
        fusion: Built for this run. It may need ``"served"``, or nothing.
        data: Training data.
        users: float ``[n_users, d]``: factors of all users; rows of users without a training interaction are ignored.
        items: float ``[n_items, d]``: factors of all items; rows of items without a training interaction are ignored.
        seed: Seed of the noise on rows that cannot be placed (see :mod:`enhancer_plugins.training.unseen`).

    Returns:
        Adjusted factors with placed rows, and the placements. No history.
    """

    def side(
        kind: Kind, factors: NDArray[np.floating], seen: NDArray[np.bool_], vectors: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], Placement | None]:
        embeddings = np.ascontiguousarray(factors, np.float32)
        placement = fusion.place(kind, embeddings[seen])
        rows = np.array(fusion.settle(kind, embeddings), np.float32)
        fill(rows, seen, vectors, placement, seed=seed)
        return rows, placement

    seen_users, seen_items = trained(data)
    user_rows, place_users = side("user", users, seen_users, data.user_vectors)
    item_rows, place_items = side("item", items, seen_items, data.item_vectors)
    return Fitted(factors=Factors(user_rows, item_rows), place_users=place_users, place_items=place_items)
