"""The reference lines of an experiment: measured like every arm, tuned on validation, and never compared by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from enhancer.evaluation.baselines import als, als_fits, ease, ease_fits, popularity
from enhancer.evaluation.metrics import evaluate
from enhancer.evaluation.panels import Measured, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.experiment import Experiment

T = TypeVar("T")
_EASE = (300.0, 100.0, 1000.0)
_ALS = tuple((share * weight, weight) for share in (10.0, 3.0, 1.0) for weight in (2.0, 1.0, 5.0))
"""Regularisation and weight of an interaction; the first where there is no validation part."""


def references(experiment: Experiment) -> dict[str, Measured]:
    """Popularity; EASE where it is cheap; ALS where ``implicit`` is installed."""
    views = experiment.views
    train, n_users, n_items = views.split.train, views.n_users, views.n_items
    lines = {"popularity": popularity(train, n_users, n_items)}
    if ease_fits(n_users, n_items):
        lines["ease"] = _best(experiment, _EASE, lambda value: ease(train, n_users, n_items, regularisation=value))
    if als_fits(len(train.users)):
        lines["als"] = _best(
            experiment,
            _ALS,
            lambda values: als(train, n_users, n_items, regularisation=values[0], weight=values[1]),
        )
    return {name: measure(factors, experiment.panels, views, experiment.metrics)[0] for name, factors in lines.items()}


def _best(experiment: Experiment, grid: Sequence[T], fit: Callable[[T], Factors]) -> Factors:
    """The one that the first metric on validation prefers."""
    views = experiment.views
    if not len(views.warm_validation.users):
        return fit(grid[0])
    fitted = [fit(value) for value in grid]
    metric = experiment.metrics[0]
    found = [
        evaluate(
            one, views.warm_validation, seen=views.seen_validating, candidates=views.warm_items, metrics=(metric,)
        ).mean(metric)
        for one in fitted
    ]
    return fitted[int(np.argmax(found))]
