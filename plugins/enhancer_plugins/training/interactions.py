"""Counts of training interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind


def interaction_counts(data: TrainingData) -> dict[Kind, NDArray[np.int64]]:
    """Return the number of training interactions of each user, int64 ``[n_users]``, and item, int64 ``[n_items]``."""
    return {
        "user": np.bincount(data.users, minlength=data.n_users),
        "item": np.bincount(data.items, minlength=data.n_items),
    }


def trained(data: TrainingData) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which users and items have a training interaction: bool ``[n_users]`` and bool ``[n_items]``."""
    counts = interaction_counts(data)
    return counts["user"] > 0, counts["item"] > 0
