"""Popularity: every user gets the items that most users took, or took lately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from enhancer.contracts import Backbone, Options
from enhancer_plugins.training.closed_form import Attempts, finish
from enhancer_plugins.training.interactions import recency_weights, trained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.contracts import Fitted, Fuser, Monitor, TrainingData

_HALF_LIVES: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Half-lives that ``"auto"`` tries after equal weights, in this order."""


class PopularityOptions(Options):
    """``[backbone] use = "popularity"``."""

    half_life: Annotated[float, Field(gt=0)] | Literal["auto", "none"] = "auto"
    """Age at which an interaction counts half, as a share of the time that the training interactions span; none: all
    count the same; auto: shorter ones are tried as long as validation improves, and none without timestamps."""


class Popularity(Backbone):
    r"""Score every item by the logarithm of its number of interactions, for all users alike.

    The score of item i is :math:`\log(1 + \sum_{u \in U_i} w_{ui})`. The weights :math:`w` are 1, or halve with the age
    of the interaction. The logarithm does not change the order; a fuser predicts it better than a count.
    """

    options_class = PopularityOptions
    options: PopularityOptions
    accepts = frozenset({"served"})
    personalised = False
    candidates: ClassVar[tuple[Mapping[str, object], ...]] = ({},)
    reference: ClassVar[Mapping[str, Sequence[object]] | None] = {}

    def ignores_seed(self, data: TrainingData) -> bool:
        """Return True: items and users that training has not seen are not placed at random either."""
        del data
        return True

    def memory(self, data: TrainingData) -> int:
        """Estimate the peak memory of :meth:`fit`, in bytes."""
        return 24 * len(data.users) + 24 * (data.n_users + data.n_items)

    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Count interactions; with ``half_life = "auto"``, keep the half-life that is best on validation."""
        fusion = fuser.build_checked(data, 1, seed=seed)
        _, known = trained(data)

        def fit(half_life: float | None) -> Fitted:
            weights = None if half_life is None else recency_weights(data, half_life)
            counts = np.bincount(data.items, weights, minlength=data.n_items)
            scores = np.log1p(counts).astype(np.float32)[:, None]
            fitted = finish(fusion, data, np.ones((data.n_users, 1), np.float32), scores, seed=seed)
            if fitted.place_items is None:  # nobody took these items: they are not average ones
                fitted.factors.items[~known] = 0
            return fitted

        attempts = Attempts(fit, monitor, lambda value: {} if value is None else {"half_life": value})
        chosen = self.options.half_life
        metric = attempts.attempt(None if isinstance(chosen, str) else chosen)
        if chosen == "auto" and metric is not None and data.timestamps is not None:
            for value in _HALF_LIVES:  # shorter and shorter, as long as that helps: the best of all would be noise
                before, metric = metric, attempts.attempt(value)
                if metric is None or metric <= before:
                    break
        return attempts.result()
