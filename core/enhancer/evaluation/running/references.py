"""Fit the reference lines of an experiment: backbones without vectors, tuned on validation and tested once.

A reference line is a run like that of an arm, of a backbone whose class declares one
(:attr:`enhancer.contracts.Backbone.reference`). It is not tuned on the test part, and finished runs are remembered.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.backbone import Factors
from enhancer.contracts.fuser import Fuser, Fusion
from enhancer.contracts.options import Context, Options
from enhancer.errors import ConfigError, EnhancerError
from enhancer.evaluation.measuring.label_metrics import evaluate_labelled
from enhancer.evaluation.measuring.metrics import direction, parse_metric
from enhancer.evaluation.measuring.panels import measure
from enhancer.evaluation.measuring.views import labels_of
from enhancer.evaluation.running.arms import Arm
from enhancer.evaluation.running.fitting import TrainingMonitor
from enhancer.evaluation.running.prepared_run import PreparedRun
from enhancer.evaluation.running.runs import ArmRun, RunRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import TrainingData
    from enhancer.evaluation.measuring.panels import ScoresByStratum
    from enhancer.evaluation.measuring.ranking import Pairs
    from enhancer.evaluation.running.experiment import Experiment, Reference
    from enhancer.evaluation.running.run_cache import RunCache

_log = logging.getLogger(__name__)
_PRIOR_STRENGTHS = (10.0, 3.0, 30.0)
"""Prior strengths of :func:`rates`; the first one without a validation part."""
_SEED = 0
_MOST_FITS = 16
"""Largest number of fits that tune one reference line."""
_BEYOND = 4
"""Largest number of values tried beyond either end of those that a plugin lists."""


def measure_references(
    experiment: Experiment, cache: RunCache | None = None, *, tune: bool = True
) -> dict[str, ScoresByStratum]:
    """Tune and measure the reference lines of an experiment.

    With metrics of labelled pairs, also measure the rates of users and items, the only line that gives probabilities.
    A backbone that cannot be fitted, for example for lack of memory, is left out with a warning.

    Args:
        experiment: Split, metrics, and the backbones.
        cache: Finished fits, which are not repeated.
        tune: Whether to fit what tuning needs. Otherwise the best of the options in the cache, or else the defaults,
            are taken.

    Returns:
        Metrics of each user, by name of the reference line and stratum.
    """
    # The scores of these lines are not logits, so log loss is undefined for them.
    scored = [text for text in experiment.metrics if parse_metric(text).name != "logloss"]
    measured: dict[str, ScoresByStratum] = {}
    for name, reference in experiment.references.items() if scored else ():
        line = _Line(name, reference, experiment, scored, cache, fits=tune)
        try:
            measured[name] = line.measure()
        except EnhancerError as error:
            _log.warning("the reference line %r is left out: %s", name, error)
    views = experiment.views
    labels = labels_of(views.split.train)
    if labels is not None and any(parse_metric(text).uses_labels for text in experiment.metrics):
        fitted = [
            rates(views.split.train, labels, views.n_users, views.n_items, prior_strength=strength)
            for strength in _PRIOR_STRENGTHS
        ]
        validation = views.labelled_validation
        best = 0
        if len(validation.labels):
            losses = [evaluate_labelled(factors, validation, ["logloss"])["logloss"] for factors in fitted]
            best = int(np.argmin(losses))
        measured["rates"] = measure(fitted[best], experiment.panels, views, experiment.metrics)[0]
    return measured


class WithoutVectors(Fuser):
    """Adds nothing to a backbone. Core has a fuser of its own because it names no plugin."""

    uses_semantics = False

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return a fusion without any part."""
        del data, dim, seed, device
        return Fusion()


class _Line:
    """One reference line, and the fits that tune it."""

    def __init__(
        self,
        name: str,
        reference: Reference,
        experiment: Experiment,
        metrics: list[str],
        cache: RunCache | None,
        *,
        fits: bool,
    ) -> None:
        self._name, self._reference, self._cache, self._fits = name, reference, cache, fits
        self._experiment = replace(
            experiment,
            make_backbone=lambda arm: reference.make(arm.backbone_options),
            make_fuser=lambda arm: WithoutVectors(Options(), Context()),  # noqa: ARG005 - a protocol
            metrics=metrics,
            sides=None,
        )

    def measure(self) -> ScoresByStratum:
        """Choose the options on validation, and return the metrics of the test part."""
        metric, views = self._experiment.metrics[0], self._experiment.views
        labelled = parse_metric(metric).uses_labels
        validated = len(views.labelled_validation.users if labelled else views.warm_validation.users) > 0
        options: Mapping[str, Any] = {}
        if validated and self._reference.grid:
            defaults = self._reference.make({}).options
            options = tune(
                self._reference.grid, {name: getattr(defaults, name) for name in self._reference.grid}, self._validate
            )
        prepared = self._prepared(options, trial=None)
        scores = (prepared.load() or self._train(prepared)).scores
        _log.info("reference line %s: %s", self._name, dict(options) or "its defaults")
        return scores

    def _validate(self, options: Mapping[str, Any]) -> float | None:
        """Return the validation metric with these options, higher is better; None if they cannot be fitted."""
        try:
            prepared = self._prepared(options, trial=0)
            run = prepared.load() or (self._train(prepared) if self._fits else None)
            value = None if run is None else run.validation
        except ConfigError:  # an option that the data do not go with, such as a half-life without times
            if not options:
                raise
            return None
        return None if value is None else direction(self._experiment.metrics[0]) * value

    def _prepared(self, options: Mapping[str, Any], trial: int | None) -> PreparedRun:
        arm = Arm(self._name, "none", semantic=False, backbone_options=dict(options))
        return PreparedRun.of(self._experiment, RunRequest(arm, _SEED, trial), self._cache)

    def _train(self, prepared: PreparedRun) -> ArmRun:
        monitor = TrainingMonitor(self._experiment.views, self._experiment.metrics[0], run=f"reference/{self._name}")
        return prepared.train(monitor)


@dataclass
class _Climb:
    """Options tried so far."""

    evaluate: Callable[[Mapping[str, Any]], float | None]
    defaults: Mapping[str, Any]
    values: dict[tuple[tuple[str, Any], ...], float | None] = field(default_factory=dict)

    def __call__(self, options: Mapping[str, Any]) -> float:
        """Return the value of options, minus infinity if they failed or there were too many fits."""
        changes = {name: value for name, value in options.items() if value != self.defaults[name]}
        key = tuple(sorted(changes.items()))
        if key not in self.values:
            if len(self.values) >= _MOST_FITS:
                return -np.inf
            self.values[key] = self.evaluate(changes)
        found = self.values[key]
        return -np.inf if found is None else found


def tune(
    grid: Mapping[str, Sequence[Any]],
    defaults: Mapping[str, Any],
    evaluate: Callable[[Mapping[str, Any]], float | None],
) -> dict[str, Any]:
    """Climb from the defaults to better options, one option at a time, until none of their neighbours is better.

    If the first or last listed value is the best, values beyond it are tried, in the ratio of the last two, unless they
    are whole numbers, such as sizes.

    Args:
        grid: Values of each option, in ascending or descending order.
        defaults: Value of each option to start from, one of the listed ones.
        evaluate: Returns a quality of options that differ from the defaults, higher is better; None if they fail.

    Returns:
        The best options found, as far as they differ from the defaults.
    """
    value_of = _Climb(evaluate, defaults)
    best, options = value_of(defaults), dict(defaults)
    improved = True
    while improved:
        improved = False
        for name, listed in grid.items():
            for onwards in (True, False):
                values = list(listed) if onwards else list(listed)[::-1]
                gained = False
                while (following := _following(values, options[name])) is not None:
                    value = value_of({**options, name: following})
                    if not value > best:
                        break
                    best, options[name], gained = value, following, True
                improved |= gained
                if gained:
                    break
    return {name: value for name, value in options.items() if value != defaults[name]}


def _following(values: list[Any], current: Any) -> Any:
    """Return the value after ``current``, beyond the listed ones if there is a ratio; None if there is none."""
    if current in values[:-1]:
        return values[values.index(current) + 1]
    last = values[-2:]
    if len(last) < 2 or not all(isinstance(value, float) and value > 0 for value in last):
        return None
    ratio = last[1] / last[0]
    beyond = current * ratio
    limit = last[1] * ratio**_BEYOND
    return None if (beyond > limit if ratio > 1 else beyond < limit) else beyond


def rates(train: Pairs, labels: NDArray[np.float32], n_users: int, n_items: int, *, prior_strength: float) -> Factors:
    r"""Score pairs by the smoothed log-odds of positive interactions of the user and of the item.

    :math:`s_{ui} = \ell(r_u) + \ell(r_i) - \ell(r)`, with :math:`\ell` the log-odds, :math:`r` the overall share of
    positive interactions, and :math:`r_u = (g_u + k r) / (n_u + k)` for a user with :math:`g_u` positive ones among
    :math:`n_u`; likewise for items. Scores are logits of a model without user-item interactions.

    Args:
        train: Labelled interactions.
        labels: float32 ``[n]``: 1 or 0; both must occur.
        n_users: Number of user rows.
        n_items: Number of item rows.
        prior_strength: :math:`k`, in interactions.
    """
    overall = float(np.clip(labels.mean(dtype=np.float64), 1e-6, 1 - 1e-6))

    def log_odds(share: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log(share) - np.log1p(-share), np.float64)

    def smoothed(rows: NDArray[np.int32], n: int) -> NDArray[np.float32]:
        positive = np.bincount(rows, weights=labels, minlength=n)
        share = (positive + prior_strength * overall) / (np.bincount(rows, minlength=n) + prior_strength)
        return log_odds(share).astype(np.float32)

    ones_u, ones_i = np.ones(n_users, np.float32), np.ones(n_items, np.float32)
    level = np.float32(log_odds(np.array(overall)))
    return Factors(
        np.stack([smoothed(train.users, n_users) - level, ones_u], axis=1),
        np.stack([ones_i, smoothed(train.items, n_items)], axis=1),
    )
