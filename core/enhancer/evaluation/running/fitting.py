"""One training run: what the backbone learns from, how it is watched, and how good it became."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from enhancer.evaluation.measuring.label_metrics import over_labels
from enhancer.evaluation.measuring.metrics import direction, evaluate, of_rankings, parse_metric
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.running.preconditions import check_task
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from enhancer.contracts.backbone import Backbone, Factors, Fitted, TrainingData
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation.measuring.views import SplitLike
    from enhancer.progress import Detail, Listener

    OnEpoch = Callable[[str, int, float, float | None], None]
    """Called with run, epoch, loss and validation metric: the hook ``epoch_finished``."""


class TrainingMonitor:
    """The monitor of one run: computes the validation metric and reports progress."""

    def __init__(
        self,
        views: Views,
        metric: str,
        *,
        run: str,
        listener: Listener = silent,
        on_epoch: OnEpoch | None = None,
        checkpoint: Path | None = None,
        stage: str = "train",
        runs_done: int | None = None,
        runs: int | None = None,
    ) -> None:
        """Watch one run.

        Args:
            views: The split.
            metric: What validation measures.
            run: Name of the run, such as ``align/seed0``.
            listener: Told after each epoch.
            on_epoch: Told after each epoch.
            checkpoint: A file where the backbone may keep its state.
            stage: The stage that progress is reported as.
            runs_done: Runs finished before this one; None reports epochs instead of runs.
            runs: Runs in all.
        """
        self.checkpoint = checkpoint
        parse_metric(metric)
        self._views, self._metric, self._run = views, metric, run
        self._listener, self._on_epoch = listener, on_epoch
        self._stage, self._runs_done, self._runs = stage, runs_done, runs
        self._detail: dict[str, Detail] = {"run": run}
        self._complete = False

    def validate(self, factors: Factors) -> float | None:
        """The metric over warm validation pairs, with training masked, so that more is better; None without any."""
        if parse_metric(self._metric).of_labels:
            pairs = self._views.labelled_validation
            if not len(pairs.labels):
                return None
            return direction(self._metric) * over_labels(factors, pairs, (self._metric,))[self._metric]
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
        return scores.mean(self._metric)

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        """Pass on that an epoch ended, with the metric as it is."""
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
        """Tell that a single run is over. One that stopped early is done all the same: what it took is the whole."""
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
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> tuple[Fitted, dict[str, float]]:
    """Train once and test on the warm part of the split.

    Args:
        backbone: What is trained.
        fuser: How semantics enter.
        data: See :func:`~enhancer.evaluation.measuring.views.training_data`.
        split: Validation stops training early by the first metric; the test part is ranked once, at the end.
        metrics: Such as ``ndcg@10``.
        seed: Initialisation, sampling.
        run: Name of the run for listeners.
        listener: Told after each epoch, and at the end with ``done == total``, stopped early or not.
        on_epoch: Told after each epoch.
        checkpoint: A file where the backbone may keep its state, to resume after a kill.

    Returns:
        What training gives, and the mean of each metric: NaN where no test pair is of a warm item and user.

    Raises:
        FusionError: The two cannot work together; raised before training.
        ConfigError: An unknown metric, or one that does not go with backbone and data.
    """
    fuser.check(backbone)
    views = Views(split)
    check_task(backbone, data, views, metrics)
    monitor = TrainingMonitor(views, metrics[0], run=run, listener=listener, on_epoch=on_epoch, checkpoint=checkpoint)
    fitted = backbone.fit(data, fuser, seed=seed, monitor=monitor)
    monitor.finished(fitted.epochs)
    found = dict.fromkeys(metrics, math.nan)
    if (rankings := of_rankings(metrics)) and len(views.warm_test.users):
        scores = evaluate(
            fitted.factors,
            views.warm_test,
            seen=views.seen_testing,
            candidates=views.warm_items,
            metrics=rankings,
        )
        found |= scores.means()
    if len(views.labelled_test.labels):
        found |= over_labels(fitted.factors, views.labelled_test, metrics)
    return fitted, found
