"""One run of an experiment, as a function of its arm and seed alone: it may happen anywhere, in any order."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enhancer.errors import EvaluationError
from enhancer.evaluation.judging.result import Run
from enhancer.evaluation.measuring.metrics import direction
from enhancer.evaluation.measuring.panels import Panel, measure, panels_of
from enhancer.evaluation.measuring.views import Views, training_data
from enhancer.evaluation.running.arms import shuffled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.config.schema import Input
    from enhancer.contracts.backbone import Backbone, TrainingData
    from enhancer.contracts.features import Sides
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation.measuring.panels import Measured
    from enhancer.evaluation.measuring.views import SplitLike
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.fitting import Watch
    from enhancer.evaluation.running.run_cache import RunMemory

    Table = NDArray[np.float32]
    Features = Callable[[tuple[Input, ...]], tuple[Table | None, Table]]
    """From what is embedded to the vectors of users (None where they have none of their own) and of items."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Experiment:
    """All that a run needs beside its arm and seed."""

    views: Views
    panels: list[Panel]
    features: Features
    pool: Callable[[Table], Table] | None
    make_backbone: Callable[[Arm], Backbone]
    make_fuser: Callable[[Arm], Fuser]
    metrics: list[str]
    sides: Sides | None = None
    _tables: dict[tuple[Input, ...], tuple[Table | None, Table]] = field(default_factory=dict)

    @classmethod
    def over(
        cls,
        split: SplitLike,
        features: Features,
        make_backbone: Callable[[Arm], Backbone],
        make_fuser: Callable[[Arm], Fuser],
        *,
        metrics: Sequence[str],
        pool: Callable[[Table], Table] | None = None,
        sides: Sides | None = None,
    ) -> Experiment:
        """Set up an experiment on a split; for the arguments see :func:`~enhancer.evaluation.run_ablation`.

        Raises:
            EvaluationError: No test pair can be scored.
        """
        views = Views(split)
        panels = panels_of(views, metrics)
        if not panels or panels[0].strata[0].name != "all":
            hint = "check [evaluation] split, min_rating and k_core"
            if len(views.cold_test.users):
                hint = "the test part has new items alone: put interactions with items of training beside them"
            raise EvaluationError(
                "no test interaction has both a user and an item with training interactions", hint=hint
            )
        return cls(
            views=views,
            panels=panels,
            features=features,
            pool=pool,
            make_backbone=make_backbone,
            make_fuser=make_fuser,
            metrics=list(metrics),
            sides=sides,
        )

    def data(self, arm: Arm, seed: int) -> TrainingData:
        """The training data of an arm: a placebo's vectors are shuffled before users are pooled from them."""
        labelled = "labels" in self.make_backbone(arm).takes
        if not arm.semantic:
            return training_data(self.views.split, sides=self.sides, labelled=labelled)
        if arm.inputs not in self._tables:
            self._tables[arm.inputs] = self.features(arm.inputs)
        users, items = self._tables[arm.inputs]
        if arm.shuffle:
            items = shuffled(items, seed)
            users = None if users is None else shuffled(users, seed)
        if self.pool is not None:
            users = self.pool(items)
        return training_data(self.views.split, users, items, sides=self.sides, labelled=labelled)


def recall_one(
    experiment: Experiment, arm: Arm, seed: int, memory: RunMemory | None, *, measured: bool = True
) -> Run | None:
    """The run of this arm and seed, if it was finished before."""
    if memory is None:
        return None
    made = (experiment.make_backbone(arm), experiment.make_fuser(arm))
    data = experiment.data(arm, seed)
    metrics = experiment.metrics if measured else experiment.metrics[:1]
    return memory.recall(memory.key(arm, seed, data, experiment.views.split, metrics, made, measured), arm, seed)


def run_one(
    experiment: Experiment,
    arm: Arm,
    seed: int,
    watch: Watch,
    memory: RunMemory | None = None,
    *,
    measured: bool = True,
) -> Run:
    """Train one arm with one seed; test it unless it is a trial of a search (``measured=False``).

    With a memory it is remembered, and where it was interrupted before, it goes on from there.

    Raises:
        EvaluationError: Training ran away, or what it made cannot be ranked; the message names arm and seed. A trial
            raises neither: it then has no value.
    """
    data = experiment.data(arm, seed)
    backbone, fuser = experiment.make_backbone(arm), experiment.make_fuser(arm)
    key = ""
    if memory is not None:
        metrics = experiment.metrics if measured else experiment.metrics[:1]
        key = memory.key(arm, seed, data, experiment.views.split, metrics, (backbone, fuser), measured)
        watch.checkpoint = memory.unfinished(key)
    started = time.perf_counter()
    found: Measured = {}
    looks: dict[str, float] = {}
    try:
        fitted = backbone.fit(data, fuser, seed=seed, monitor=watch)
        seconds = time.perf_counter() - started
        if measured:
            found, looks = measure(fitted.factors, experiment.panels, experiment.views, experiment.metrics)
    except EvaluationError as error:
        if measured:
            error.message = f"arm {arm.name!r}, seed {seed}: {error.message}"  # which a backbone knows nothing of
            raise
        # A trial whose options train nothing, with too large steps say, is a bad trial and no more.
        return Run(
            arm=arm.name,
            seed=seed,
            seconds=time.perf_counter() - started,
            epochs=0,
            best_epoch=0,
            validation=None,
            history=[],
            measured={},
            spread={},
        )
    # Of a run that went on from an unfinished one, the clock has seen the last part alone.
    seconds = max(seconds, sum(entry.get("seconds", 0.0) for entry in fitted.history))
    sign = direction(experiment.metrics[0])  # a monitor's metric is better when higher; what is told is as it is
    history = [entry | ({"metric": sign * entry["metric"]} if "metric" in entry else {}) for entry in fitted.history]
    best = next((entry for entry in history if entry.get("epoch") == fitted.best_epoch), {})
    run = Run(
        arm=arm.name,
        seed=seed,
        seconds=seconds,
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
        validation=best.get("metric"),
        history=history,
        measured=found,
        spread=looks,
    )
    if memory is not None:
        memory.remember(key, run)
    return run
