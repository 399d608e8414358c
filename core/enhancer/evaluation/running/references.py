"""Measure the reference lines of an experiment like every arm. They are tuned on validation and not tested."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from enhancer.evaluation.measuring.label_metrics import evaluate_labelled
from enhancer.evaluation.measuring.metrics import evaluate, parse_metric, ranking_metrics
from enhancer.evaluation.measuring.panels import measure
from enhancer.evaluation.measuring.views import labels_of
from enhancer.evaluation.running.baselines import als, als_is_feasible, ease, ease_is_feasible, popularity, rates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.measuring.panels import ScoresByStratum
    from enhancer.evaluation.running.experiment import Experiment

T = TypeVar("T")
_PRIOR_STRENGTHS = (10.0, 3.0, 30.0)
"""Prior strengths of :func:`~enhancer.evaluation.running.baselines.rates`; the first one without a validation part."""
_EASE = (300.0, 100.0, 1000.0)
"""Regularisation strengths of EASE; the first one without a validation part."""
_ALS = tuple((share * weight, weight) for share in (10.0, 3.0, 1.0) for weight in (2.0, 1.0, 5.0))
"""Regularisation and interaction weight of ALS; the first pair without a validation part."""


def measure_references(experiment: Experiment) -> dict[str, ScoresByStratum]:
    """Measure popularity, EASE if it is cheap enough, and ALS if ``implicit`` is installed.

    With metrics of labelled pairs, also measure the rates of users and items, the only reference that gives
    probabilities.

    Returns:
        Metrics of each user, by name of the reference line and stratum.
    """
    views = experiment.views
    train, n_users, n_items = views.positive_train, views.n_users, views.n_items
    lines = {"popularity": popularity(train, n_users, n_items)}
    if ease_is_feasible(n_users, n_items):
        lines["ease"] = _best(experiment, _EASE, lambda value: ease(train, n_users, n_items, regularisation=value))
    if als_is_feasible(len(train.users)):
        lines["als"] = _best(
            experiment,
            _ALS,
            lambda values: als(train, n_users, n_items, regularisation=values[0], weight=values[1]),
        )
    # The scores of these lines are not logits, so log loss is undefined for them.
    scored = [text for text in experiment.metrics if parse_metric(text).name != "logloss"]
    measured: dict[str, ScoresByStratum] = {}
    if scored:
        measured = {name: measure(factors, experiment.panels, views, scored)[0] for name, factors in lines.items()}
    labels = labels_of(views.split.train)
    if labels is not None and any(parse_metric(text).uses_labels for text in experiment.metrics):
        fitted = [
            rates(views.split.train, labels, n_users, n_items, prior_strength=strength) for strength in _PRIOR_STRENGTHS
        ]
        validation = views.labelled_validation
        best = 0
        if len(validation.labels):
            losses = [evaluate_labelled(factors, validation, ["logloss"])["logloss"] for factors in fitted]
            best = int(np.argmin(losses))
        measured["rates"] = measure(fitted[best], experiment.panels, views, experiment.metrics)[0]
    return measured


def _best(experiment: Experiment, grid: Sequence[T], fit: Callable[[T], Factors]) -> Factors:
    """Return the fit that is best on validation by the first ranking metric, or by NDCG@10 if there is none."""
    views = experiment.views
    if not len(views.warm_validation.users):
        return fit(grid[0])
    fitted = [fit(value) for value in grid]
    metric = next(iter(ranking_metrics(experiment.metrics)), "ndcg@10")
    values = [
        evaluate(
            factors, views.warm_validation, seen=views.seen_validating, candidates=views.warm_items, metrics=(metric,)
        ).mean(metric)
        for factors in fitted
    ]
    return fitted[int(np.argmax(values))]
