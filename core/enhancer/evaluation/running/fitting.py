"""Train a backbone with a fuser, monitor it on the validation part, and measure it on the test part."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from enhancer.evaluation.measuring.label_metrics import evaluate_labelled
from enhancer.evaluation.measuring.metrics import direction, evaluate, parse_metric, ranking_metrics
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.running.preconditions import check_task
from enhancer.evaluation.running.refitting import FitRecord
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Backbone, Factors, Fitted, TrainingData
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation.measuring.views import SplitLike
    from enhancer.progress import Detail, Listener

    EpochCallback = Callable[[str, int, float, float | None], None]
    """Function of run, epoch, loss and validation metric, as the hook ``epoch_finished``."""

_log = logging.getLogger(__name__)
_KEPT = 0.99
"""Share of the validation metric below which factors to serve are worth a warning."""


class TrainingMonitor:
    """The monitor of one run: computes the validation metric and reports progress."""

    def __init__(
        self,
        views: Views,
        metric: str,
        *,
        run: str,
        listener: Listener = silent,
        on_epoch: EpochCallback | None = None,
        checkpoint: Path | None = None,
        stage: str = "train",
        runs_done: int | None = None,
        runs: int | None = None,
        record: FitRecord | None = None,
    ) -> None:
        """Monitor one run.

        Args:
            views: The split.
            metric: The validation metric.
            run: Name of the run, such as ``align/seed0``.
            listener: Called with progress after each epoch.
            on_epoch: Called after each epoch.
            checkpoint: File in which the backbone may keep its state.
            stage: Stage to report progress as.
            runs_done: Number of runs finished before this one; None reports epochs instead of runs.
            runs: Total number of runs.
            record: Filled with what a refit repeats.
        """
        self.checkpoint = checkpoint
        self.repeats: int | None = None
        self._record = FitRecord() if record is None else record
        parse_metric(metric)
        self._views, self._metric, self._run = views, metric, run
        self._listener, self._on_epoch = listener, on_epoch
        self._stage, self._runs_done, self._runs = stage, runs_done, runs
        self._detail: dict[str, Detail] = {"run": run}
        self._complete = False
        self.by_user: NDArray[np.float64] | None = None
        """float64 ``[n]``: metric of each user at the last validation; None for metrics of labelled pairs."""

    def validate(self, factors: Factors) -> float | None:
        """Return the validation metric, with its sign changed if lower is better; None without validation pairs."""
        value = self._validate(factors)
        self._record.validated(value)
        return value

    def _validate(self, factors: Factors) -> float | None:
        if parse_metric(self._metric).uses_labels:
            pairs = self._views.labelled_validation
            if not len(pairs.labels):
                return None
            return direction(self._metric) * evaluate_labelled(factors, pairs, (self._metric,))[self._metric]
        part = self._views.warm_validation
        if not len(part.users):
            return None
        scores = evaluate(
            factors,
            part,
            seen=self._views.seen_validating,
            candidates=self._views.warm_items,
            metrics=(self._metric,),
        )
        self.by_user = scores.values[self._metric]
        return scores.mean(self._metric)

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        """Report the end of an epoch, with the original sign of the metric."""
        self._record.epoch_finished(epoch, metric)
        metric = None if metric is None else direction(self._metric) * metric
        if self._on_epoch is not None:
            self._on_epoch(self._run, epoch, loss, metric)
        detail: dict[str, Detail] = {"run": self._run, "epoch": epoch, "epochs": epochs, "loss": loss, "metric": metric}
        self._detail, self._complete = detail, epoch == epochs
        if self._runs_done is None:
            self._listener(Progress(self._stage, epoch, epochs, detail))
        else:
            self._listener(Progress(self._stage, self._runs_done, self._runs, detail))

    def finished(self, epochs: int) -> None:
        """Report the end of a single run. After early stopping, the total becomes the number of epochs trained."""
        if self._runs_done is None and not self._complete:
            self._listener(Progress(self._stage, epochs, epochs, {**self._detail, "epoch": epochs, "epochs": epochs}))


def fit(
    backbone: Backbone,
    fuser: Fuser,
    data: TrainingData,
    split: SplitLike,
    *,
    metrics: Sequence[str],
    seed: int = 0,
    run: str = "train",
    listener: Listener = silent,
    on_epoch: EpochCallback | None = None,
    checkpoint: Path | None = None,
    record: FitRecord | None = None,
) -> tuple[Fitted, dict[str, float]]:
    """Train once, and measure what will be served on the warm pairs of the test part.

    Args:
        backbone: The backbone to train.
        fuser: The fuser to train it with.
        data: See :func:`~enhancer.evaluation.measuring.views.training_data`.
        split: The validation part is used for early stopping by the first metric, the test part once at the end.
        metrics: Names such as ``ndcg@10``.
        seed: Seed of the initialisation and of sampling.
        run: Name of the run in progress events.
        listener: Called with progress after each epoch, and at the end with ``done == total``.
        on_epoch: Called after each epoch.
        checkpoint: File in which the backbone may keep its state, to resume an interrupted run.
        record: Filled with what a refit repeats.

    Returns:
        The result of training with the factors to serve, and the mean of each metric. A metric is NaN without test
        pairs of warm users and items. If the factors to serve are narrower than those trained, the history's entry of
        the best epoch has their validation metric, too: ``served_metric``.

    Raises:
        FusionError: Backbone and fuser cannot work together. Raised before training.
        ConfigError: A metric is unknown, or undefined for the backbone or the data.
    """
    fuser.check(backbone)
    views = Views(split)
    check_task(backbone, data, views, metrics)
    record = FitRecord() if record is None else record
    monitor = TrainingMonitor(
        views, metrics[0], run=run, listener=listener, on_epoch=on_epoch, checkpoint=checkpoint, record=record
    )
    fitted = backbone.fit_checked(data, fuser, seed=seed, monitor=monitor)
    record.best_epoch = fitted.best_epoch
    monitor.finished(fitted.epochs)
    fitted = _to_serve(fitted, data, monitor, metrics[0], where=backbone.display_name)
    means = dict.fromkeys(metrics, math.nan)
    if (rankings := ranking_metrics(metrics)) and len(views.warm_test.users):
        scores = evaluate(
            fitted.factors,
            views.warm_test,
            seen=views.seen_testing,
            candidates=views.warm_items,
            metrics=rankings,
        )
        means |= scores.means()
    if len(views.labelled_test.labels):
        means |= evaluate_labelled(fitted.factors, views.labelled_test, metrics)
    return fitted, means


def _to_serve(fitted: Fitted, data: TrainingData, monitor: TrainingMonitor, metric: str, *, where: str) -> Fitted:
    """Replace the factors by those to serve, and report what that costs on validation."""
    if fitted.serving is None:
        return fitted
    served = replace(fitted, factors=fitted.serving(), serving=None)
    served.check(data, where=where)
    value = monitor.validate(served.factors)
    best = next((entry for entry in fitted.history if entry["epoch"] == fitted.best_epoch), {})
    if value is None or "metric" not in best:
        return served
    history = [{**entry, "served_metric": value} if entry is best else entry for entry in fitted.history]
    share = value / best["metric"] if best["metric"] > 0 else 1.0
    _log.log(
        logging.INFO if share >= _KEPT else logging.WARNING,
        "%s is served by %d columns in place of %d, which keep %.1f %% of %s on validation (%.4f of %.4f)",
        where,
        served.factors.items.shape[1],
        fitted.factors.items.shape[1],
        100 * share,
        metric,
        value,
        best["metric"],
    )
    return replace(served, history=history)
