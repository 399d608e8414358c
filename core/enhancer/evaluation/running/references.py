"""The reference lines of an experiment: measured like every arm, tuned on validation, and never compared by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from enhancer.evaluation.measuring.label_metrics import over_labels
from enhancer.evaluation.measuring.metrics import evaluate, of_rankings, parse_metric
from enhancer.evaluation.measuring.panels import measure
from enhancer.evaluation.measuring.views import labels_of
from enhancer.evaluation.running.baselines import als, als_fits, ease, ease_fits, popularity, rates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.measuring.panels import ScoresByStratum
    from enhancer.evaluation.running.experiment import Experiment

T = TypeVar("T")
_PRIOR_STRENGTHS = (10.0, 3.0, 30.0)
"""Of rates: how many interactions of the average kind each user and item begins with."""
_EASE = (300.0, 100.0, 1000.0)
_ALS = tuple((share * weight, weight) for share in (10.0, 3.0, 1.0) for weight in (2.0, 1.0, 5.0))
"""Regularisation and weight of an interaction; the first where there is no validation part."""


def references(experiment: Experiment) -> dict[str, ScoresByStratum]:
    """Popularity; EASE where it is cheap; ALS where ``implicit`` is installed.

    With metrics of labels also the rates of users and items, which alone of them give probabilities.
    """
    views = experiment.views
    train, n_users, n_items = views.good_train, views.n_users, views.n_items
    lines = {"popularity": popularity(train, n_users, n_items)}
    if ease_fits(n_users, n_items):
        lines["ease"] = _best(experiment, _EASE, lambda value: ease(train, n_users, n_items, regularisation=value))
    if als_fits(len(train.users)):
        lines["als"] = _best(
            experiment,
            _ALS,
            lambda values: als(train, n_users, n_items, regularisation=values[0], weight=values[1]),
        )
    # Only the order of the lines' scores means anything: they are no probabilities, which log loss would need.
    scored = [text for text in experiment.metrics if parse_metric(text).name != "logloss"]
    found = {name: measure(factors, experiment.panels, views, scored)[0] for name, factors in lines.items() if scored}
    labels = labels_of(views.split.train)
    if labels is not None and any(parse_metric(text).of_labels for text in experiment.metrics):
        fitted = [
            rates(views.split.train, labels, n_users, n_items, prior_strength=strength) for strength in _PRIOR_STRENGTHS
        ]
        validation = views.labelled_validation
        best = 0
        if len(validation.labels):
            best = int(np.argmin([over_labels(one, validation, ["logloss"])["logloss"] for one in fitted]))
        found["rates"] = measure(fitted[best], experiment.panels, views, experiment.metrics)[0]
    return found


def _best(experiment: Experiment, grid: Sequence[T], fit: Callable[[T], Factors]) -> Factors:
    """The one that is best on validation by the first metric of a ranking, or by NDCG@10 where none is asked for."""
    views = experiment.views
    if not len(views.warm_validation.users):
        return fit(grid[0])
    fitted = [fit(value) for value in grid]
    metric = next(iter(of_rankings(experiment.metrics)), "ndcg@10")
    found = [
        evaluate(
            one, views.warm_validation, seen=views.seen_validating, candidates=views.warm_items, metrics=(metric,)
        ).mean(metric)
        for one in fitted
    ]
    return fitted[int(np.argmax(found))]
