"""Prepare, load and train one run. The result depends on the experiment, the arm and the seed alone."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enhancer.errors import EvaluationError
from enhancer.evaluation.measuring.content_baselines import CONTENT_PANEL, baseline_name, measure_ridge
from enhancer.evaluation.measuring.metrics import direction
from enhancer.evaluation.measuring.panels import measure
from enhancer.evaluation.running.runs import ArmRun

if TYPE_CHECKING:
    from enhancer.contracts.backbone import Backbone, Factors, TrainingData
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation.measuring.metrics import Scores
    from enhancer.evaluation.measuring.panels import ScoresByStratum
    from enhancer.evaluation.running.experiment import Experiment
    from enhancer.evaluation.running.fitting import TrainingMonitor
    from enhancer.evaluation.running.run_cache import RunCache
    from enhancer.evaluation.running.runs import RunRequest


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedRun:
    """Training data, backbone, fuser and cache key of one run, each made once."""

    experiment: Experiment
    request: RunRequest
    data: TrainingData
    backbone: Backbone
    fuser: Fuser
    cache: RunCache | None
    key: str
    """Key of the run in ``cache``; empty without a cache."""

    @classmethod
    def of(cls, experiment: Experiment, request: RunRequest, cache: RunCache | None = None) -> PreparedRun:
        """Make everything that the run needs, and its cache key if there is a cache."""
        arm, seed = request.arm, request.seed
        backbone, fuser = experiment.make_backbone(arm), experiment.make_fuser(arm)
        data = experiment.data(arm, seed, labelled="labels" in backbone.takes)
        key = ""
        if cache is not None:
            metrics = experiment.metrics if request.tested else experiment.metrics[:1]
            split = experiment.views.split
            key = cache.key(arm, seed, data, split, metrics, (backbone, fuser), tested=request.tested)
        return cls(
            experiment=experiment, request=request, data=data, backbone=backbone, fuser=fuser, cache=cache, key=key
        )

    @property
    def ignores_seed(self) -> bool:
        """Whether the result is that of any other seed.

        It is not with vectors: they may be shuffled by the seed, and validation draws items by it.
        """
        return not self.request.arm.semantic and self.fuser.ignores_seed and self.backbone.ignores_seed(self.data)

    def load(self) -> ArmRun | None:
        """Return the run from the cache, or None if it has not been finished before, or without the groups of items.

        None, too, if a ridge onto its factors is asked for, which is neither in the cache nor can be fitted, because
        the factors were too large to keep.
        """
        run = None if self.cache is None else self.cache.load(self.key, self.request)
        if run is not None and self.request.tested and not self._groups <= {*run.groups}:
            run = None
        if run is None or not self.request.ridges:
            return run
        ridges = self._ridges(run)
        return None if ridges is None else replace(run, ridges=ridges)

    def train(self, monitor: TrainingMonitor) -> ArmRun:
        """Train, and measure on the test part unless the run is a search trial.

        With a cache, training resumes from the checkpoint of an interrupted run, and the finished run is saved.

        Raises:
            EvaluationError: Training diverged, or its factors cannot be ranked. The message names arm and seed. A
                search trial does not raise: its ``validation`` is None.
        """
        experiment, request = self.experiment, self.request
        if self.cache is not None:
            monitor.checkpoint = self.cache.checkpoint(self.key)
        started = time.perf_counter()
        scores: ScoresByStratum = {}
        beyond_accuracy: dict[str, float] = {}
        try:
            fitted = self.backbone.fit_checked(self.data, self.fuser, seed=request.seed, monitor=monitor)
            seconds = time.perf_counter() - started
            if request.tested:
                scores, beyond_accuracy = measure(
                    fitted.factors, experiment.panels, experiment.views, experiment.metrics
                )
        except EvaluationError as error:
            if request.tested:
                # The backbone does not know which arm it trains.
                error.message = f"arm {request.arm.name!r}, seed {request.seed}: {error.message}"
                raise
            return _failed(request, time.perf_counter() - started)
        # After a resume, the clock covers the last part of training only.
        seconds = max(seconds, sum(entry.get("seconds", 0.0) for entry in fitted.history))
        # Monitors maximise: undo the sign of a metric for which lower is better.
        sign = direction(experiment.metrics[0])
        history = [
            entry | ({"metric": sign * entry["metric"]} if "metric" in entry else {}) for entry in fitted.history
        ]
        best = next((entry for entry in history if entry.get("epoch") == fitted.best_epoch), {})
        run = ArmRun(
            arm=request.arm.name,
            seed=request.seed,
            seconds=seconds,
            epochs=fitted.epochs,
            best_epoch=fitted.best_epoch,
            validation=best.get("metric"),
            history=history,
            scores=scores,
            beyond_accuracy=beyond_accuracy,
            stopped=fitted.stopped,
            groups=tuple(sorted(self._groups)) if request.tested else (),
        )
        if self.cache is not None:
            self.cache.save(self.key, run)
        if not request.ridges:
            return run
        if self.cache is not None:
            self.cache.save_factors(self.key, fitted.factors)
        return replace(run, ridges=self._ridges(run, fitted.factors) or {})

    def keep(self, run: ArmRun) -> None:
        """Save a run that another machine has trained, with its ridges, unless it is in the cache.

        Its factors stayed there, so a ridge onto other vectors needs the run to be trained again.
        """
        if self.cache is None or self.load() is not None:
            return
        self.cache.save(self.key, run)
        for inputs in self.request.ridges:
            if (scores := run.ridges.get(baseline_name("ridge", inputs))) is not None:
                key = self.cache.ridge_key(self.key, self.experiment.item_vectors(inputs))
                self.cache.save(key, replace(run, history=[], scores={CONTENT_PANEL: scores}))

    @property
    def _groups(self) -> set[str]:
        """Keys of the groups of items that are measured apart."""
        return {group.key for group in self.experiment.groups}

    def _ridges(self, run: ArmRun, factors: Factors | None = None) -> dict[str, Scores] | None:
        """Return the metrics of the ridges of the request, by name of the content baseline.

        Args:
            run: The finished run.
            factors: Its factors; None for those in the cache.

        Returns:
            None if a ridge is not in the cache, and there are no factors to fit it to.
        """
        experiment, cache = self.experiment, self.cache
        found: dict[str, Scores] = {}
        for inputs in self.request.ridges:
            vectors = experiment.item_vectors(inputs)
            key = "" if cache is None else cache.ridge_key(self.key, vectors)
            stored = None if cache is None else cache.load(key, self.request)
            if stored is None:
                factors = factors or (None if cache is None else cache.load_factors(self.key))
                if factors is None:
                    return None
                scores = measure_ridge(factors, vectors, experiment.panels, experiment.views, experiment.metrics)
                stored = replace(run, history=[], scores=scores)
                if cache is not None:
                    cache.save(key, stored)
            found |= {baseline_name("ridge", inputs): scores for scores in stored.scores.values()}
        return found


def _failed(request: RunRequest, seconds: float) -> ArmRun:
    """Return the record of a search trial whose training failed, for example because of too large steps."""
    return ArmRun(
        arm=request.arm.name,
        seed=request.seed,
        seconds=seconds,
        epochs=0,
        best_epoch=0,
        validation=None,
        history=[],
        scores={},
        beyond_accuracy={},
    )
