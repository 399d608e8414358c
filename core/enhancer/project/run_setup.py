"""Set up what training and ablation share: experiment, check of the task, cache of runs, trials, the epoch hook."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from enhancer.errors import EnhancerError, FusionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from enhancer.config import Settings
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation import Arm, Experiment, Reference
    from enhancer.evaluation.measuring.strata import ItemGroup
    from enhancer.evaluation.running.fitting import EpochCallback
    from enhancer.evaluation.running.run_cache import RunCache
    from enhancer.evaluation.running.shared_vectors import SharedVectors
    from enhancer.evaluation.running.vectors import Features
    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts


@contextlib.contextmanager
def naming_fusers(parts: ProjectParts) -> Iterator[None]:
    """Have the error of a fuser that does not fit its backbone name the installed fusers that do.

    Raises:
        FusionError: As it was raised within, with another hint.
    """
    try:
        yield
    except FusionError as error:
        fitting = fusers_for(parts, error.accepts)
        names = " and ".join(f'"{name}"' for name in fitting)
        error.hint = f"fusers that fit: {names}; or {error.hint}" if fitting else error.hint
        raise


def fusers_for(parts: ProjectParts, accepts: Sequence[frozenset[str]]) -> list[str]:
    """Return the installed fusers that need no more than one of some backbones offers, those that use vectors first.

    Args:
        parts: The project's parts.
        accepts: What each backbone offers.
    """
    found = []
    for name in parts.plugins.names("fuser"):
        with contextlib.suppress(EnhancerError):  # its libraries are missing, or it has options without a default
            fuser: Fuser = parts.plugins.create("fuser", name, {}, parts.context)
            if any(fuser.needs <= each for each in accepts):
                found.append((not fuser.uses_semantics, name))
    return [name for _, name in sorted(found)]


def require_fitting_task(parts: ProjectParts, backbone: Backbone) -> None:
    """Check that side features, labels and metrics go with the backbone.

    Raises:
        ConfigError: They do not.
    """
    from enhancer.evaluation import Views, training_data
    from enhancer.evaluation.running.preconditions import check_task

    settings = parts.settings
    data = training_data(parts.split, sides=parts.sides, labelled="labels" in backbone.takes)
    check_task(backbone, data, Views(parts.split), settings.evaluation.metrics)


def run_cache(parts: ProjectParts) -> RunCache:
    """Return the cache of finished runs.

    Its key covers user and item ids, because equal row numbers may stand for other entities.
    """
    from enhancer.evaluation.running.run_cache import RunCache, entity_ids

    identity = f"{parts.settings.backbone.model_dump_json()} {entity_ids(parts.split.train)}"
    cache = RunCache(parts.root / "runs", identity=identity)
    cache.remove_abandoned()
    return cache


def epoch_hook(parts: ProjectParts) -> EpochCallback:
    """Return a function that sends the end of an epoch to the observers."""

    def on_epoch(run: str, epoch: int, loss: float, metric: float | None) -> None:
        parts.events.epoch_finished(run=run, epoch=epoch, loss=loss, metric=metric)

    return on_epoch


def experiment_over(
    parts: ProjectParts,
    features: Features,
    references: Mapping[str, Reference] | None = None,
    groups: Sequence[ItemGroup] = (),
) -> Experiment:
    """Return the experiment of the project's split.

    Args:
        parts: The project's parts.
        features: Returns the vectors of users and items.
        references: Reference lines to measure.
        groups: Items that are measured apart.
    """
    from enhancer.evaluation import Experiment

    return Experiment.over(
        parts.split,
        features,
        parts.backbone,
        parts.fuser,
        metrics=parts.settings.evaluation.metrics,
        pool=parts.pooling,
        spread=parts.spread,
        sides=parts.sides,
        references=references,
        groups=groups,
    )


def worker_experiment(
    settings: Settings,
    root: Path,
    tables: SharedVectors,
    groups: Sequence[ItemGroup] = (),
    *,
    wrap: Callable[[Features], Features],
) -> Experiment:
    """Return the same experiment in a worker process, with vectors from the shared tables."""
    from enhancer.project.parts import ProjectParts

    parts = ProjectParts(settings, root)
    return experiment_over(parts, wrap(tables.loading(parts.features)), groups=groups)


def arm_trial(parts: ProjectParts, listener: Listener) -> Callable[[Arm, int], float | None]:
    """Return a function that trains an arm with a seed, remembers the run, and returns its validation.

    Args:
        parts: The project's parts.
        listener: Called with progress: stage ``choose``.
    """
    cache, experiment = run_cache(parts), None

    def trial(arm: Arm, seed: int) -> float | None:
        nonlocal experiment
        from enhancer.evaluation.running.fitting import TrainingMonitor
        from enhancer.evaluation.running.prepared_run import PreparedRun
        from enhancer.evaluation.running.runs import RunRequest

        if experiment is None:
            experiment = experiment_over(parts, parts.features)
        prepared = PreparedRun.of(experiment, RunRequest(arm, seed, trial=0), cache)
        run = prepared.load()
        if run is None:
            metric = parts.settings.evaluation.metrics[0]
            run = prepared.train(
                TrainingMonitor(experiment.views, metric, run=arm.name, listener=listener, stage="choose")
            )
        return run.validation

    return trial
