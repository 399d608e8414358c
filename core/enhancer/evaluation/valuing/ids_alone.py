"""Train a backbone without vectors, as the ground that gains are measured from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.contracts.options import Context, Options
from enhancer.evaluation.measuring.views import training_data
from enhancer.evaluation.running.fitting import TrainingMonitor
from enhancer.evaluation.running.references import WithoutVectors

if TYPE_CHECKING:
    from enhancer.contracts.backbone import Backbone, Factors
    from enhancer.contracts.features import Sides
    from enhancer.evaluation.measuring.views import Views
    from enhancer.progress import Listener


def factors_without_vectors(
    backbone: Backbone, views: Views, *, metric: str, sides: Sides | None, seed: int, listener: Listener
) -> Factors:
    """Return the factors of a backbone that knows interactions alone. The test part is not used.

    Args:
        backbone: A new backbone.
        views: The split. Its validation part serves early stopping.
        metric: The validation metric.
        sides: Side features of users and items; None for none.
        seed: Seed of the initialisation and of sampling.
        listener: Called with progress: stage ``train``.
    """
    data = training_data(views.split, sides=sides, labelled="labels" in backbone.takes)
    monitor = TrainingMonitor(views, metric, run="ids alone", listener=listener)
    fitted = backbone.fit_checked(data, WithoutVectors(Options(), Context()), seed=seed, monitor=monitor)
    monitor.finished(fitted.epochs)
    return fitted.factors
