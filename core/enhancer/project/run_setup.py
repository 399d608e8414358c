"""Set up what training and ablation share: the check of the task, the cache of runs, the epoch hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enhancer.contracts.backbone import Backbone
    from enhancer.evaluation.running.fitting import EpochCallback
    from enhancer.evaluation.running.run_cache import RunCache
    from enhancer.project.parts import ProjectParts


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
