"""Counts of training interactions, and their weights by age."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import ConfigError

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


def recency_weights(data: TrainingData, half_life: float) -> NDArray[np.float32]:
    r"""Return a weight for each training interaction that halves with its age.

    With :math:`a` the age of an interaction, counted from the latest one, and :math:`T` the time between the earliest
    and the latest, the weight is :math:`2^{-a / (h T)}`, divided by the mean of all weights.

    Args:
        data: Training data with timestamps.
        half_life: :math:`h`, a share of the time that the interactions span, so that it needs no unit.

    Returns:
        float32 ``[n]``, with mean 1. All are 1 if all times are equal.

    Raises:
        ConfigError: There are no timestamps.
    """
    if data.timestamps is None:
        raise ConfigError(
            "[backbone] half_life weighs interactions by their age, but they have no timestamps",
            hint="set [data.columns] timestamp, or remove half_life",
        )
    times = data.timestamps.astype(np.float64)
    age, span = times.max() - times, float(np.ptp(times))
    weights = np.exp2(-age / (half_life * span)) if span else np.ones(len(times))
    return np.asarray(weights / weights.mean(), np.float32)
