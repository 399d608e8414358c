"""Fit once more on all interactions, with the epochs and options that validation chose.

Nothing is left to validate on, so the refit repeats the decisions of the first run: it trains as many epochs, and every
validation outside of epochs, such as those that tune an option or calibrate placements, is answered by what the first
run found.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enhancer.contracts.backbone import Backbone, Factors, Fitted, TrainingData
    from enhancer.contracts.fuser import Fuser
    from enhancer.progress import Listener

_log = logging.getLogger(__name__)


@dataclass
class FitRecord:
    """Decisions of validation in a run, recorded while it trains."""

    before: list[float | None] = field(default_factory=list)
    """Validations before the first epoch ended, besides its own; all of them for a run without epochs."""
    after: list[float | None] = field(default_factory=list)
    """Validations after that which belong to no epoch."""
    first_epoch: int | None = None
    """First epoch that was reported: above 1 after a resume; None without any."""
    best_epoch: int = 0
    """Epoch whose factors were kept."""

    def validated(self, value: float | None) -> None:
        """Record a validation."""
        (self.before if self.first_epoch is None else self.after).append(value)

    def epoch_finished(self, epoch: int, metric: float | None) -> None:
        """Record the end of an epoch; the last validation was its own if it has a metric."""
        own = self.before if self.first_epoch is None else self.after
        if metric is not None and own:
            own.pop()
        if self.first_epoch is None:
            self.first_epoch = epoch

    @property
    def repeatable(self) -> bool:
        """Whether all decisions are known.

        After a resume, the validations of simple models are not, and one of them was kept if no epoch was better.
        """
        return self.best_epoch > 0 or self.first_epoch in (None, 1)

    @property
    def epochs(self) -> int | None:
        """Epochs to repeat; None for a run without epochs."""
        return None if self.first_epoch is None else self.best_epoch

    def answers(self) -> Iterator[float | None]:
        """Return the validations to repeat. A run of so many epochs does not look at the simple models before them."""
        return iter(self.after if self.epochs else [*self.before, *self.after])


class _TooManyEpochsError(Exception):
    """The backbone does not repeat a number of epochs."""


class _RepeatingMonitor:
    """Monitor of a refit."""

    def __init__(self, record: FitRecord, listener: Listener, checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint
        self.repeats = record.epochs
        self._answers = record.answers()
        self._listener = listener

    def validate(self, factors: Factors) -> float | None:
        """Return what the first run found."""
        del factors
        return next(self._answers, None)

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        """Report progress; end the run if it goes on for longer than the first."""
        del epochs, metric
        total = self.repeats or 0
        if epoch > total:
            raise _TooManyEpochsError
        self._listener(Progress("refit", epoch, total, {"epoch": epoch, "epochs": total, "loss": loss}))


def refit(
    backbone: Backbone,
    fuser: Fuser,
    data: TrainingData,
    record: FitRecord,
    *,
    seed: int,
    listener: Listener = silent,
    checkpoint: Path | None = None,
) -> Fitted | None:
    """Train on all interactions as an earlier run did on some of them.

    Args:
        backbone: A backbone with the options of the earlier run.
        fuser: A fuser with those of its fuser.
        data: All interactions.
        record: Record of the earlier run; see :func:`~enhancer.evaluation.running.fitting.fit`.
        seed: Its seed.
        listener: Called with progress after each epoch: stage ``refit``.
        checkpoint: File in which the backbone may keep its state, to resume an interrupted run.

    Returns:
        The result, with the factors to serve; None if the decisions of the earlier run cannot be repeated, with a
        warning.
    """
    if not record.repeatable:
        _log.warning(
            "%s kept a model of before its first epoch, and the run was resumed: the model that was evaluated is"
            " served, without a refit on all interactions",
            backbone.display_name,
        )
        return None
    try:
        fitted = backbone.fit_checked(data, fuser, seed=seed, monitor=_RepeatingMonitor(record, listener, checkpoint))
    except _TooManyEpochsError:
        _log.warning(
            "%s trains on after the %d epochs that validation chose (see Monitor.repeats): the model that was evaluated"
            " is served, without a refit on all interactions",
            backbone.display_name,
            record.best_epoch,
        )
        return None
    if fitted.serving is None:
        return fitted
    served = replace(fitted, factors=fitted.serving(), serving=None)
    served.check(data, where=backbone.display_name)
    return served
