"""Train one trial of a candidate without vectors, and end it early where it cannot win any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.options import Context, Options
from enhancer.evaluation.choosing.choice import BackboneTrial
from enhancer.evaluation.measuring.metrics import direction
from enhancer.evaluation.running.fitting import TrainingMonitor
from enhancer.evaluation.running.references import WithoutVectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Backbone, Factors, TrainingData

_WINDOW = 3
"""Validations over which the gain of a trial is measured."""
_LEAST = 4
"""Validations before a trial may be ended, and that a trial is always expected to go on for."""

_HORIZON = 5
"""Multiple of its validations after which the first trial of a candidate must be expected to reach the best other."""

_MOST = 30
"""Validations after which a trial ends: the last percent of slow training does not decide between candidates."""


class _Ended(Exception):  # noqa: N818 - not an error
    """The monitor ends a trial."""


class TrialMonitor(TrainingMonitor):
    """Monitor that records all validations, and ends a trial that cannot win.

    Learning curves flatten, so a line through the last validations is an upper bound of what follows. A candidate's
    first trial is ended if by this bound it stays below the best other candidate even after five times as many
    validations; a later trial, if it stays below the candidate's best trial after as many validations as that one took.
    Every trial is ended after thirty validations. A backbone without epochs is never ended: its validations are of
    different fits.

    Args:
        best: Validations of the candidate's best trial so far; empty for its first trial.
        leader: Best validation of the candidates before, higher is better; None if there is none.
        bestsellers: float64 ``[n]``: metric of each validation user by the number of interactions of items; None for
            metrics of labelled pairs.
        arguments: As for :class:`~enhancer.evaluation.running.fitting.TrainingMonitor`.
    """

    def __init__(
        self,
        best: list[float],
        leader: float | None,
        bestsellers: NDArray[np.float64] | None,
        *arguments: Any,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self.error: float | None = None
        """Standard error, over users, of the lead of the best validation over the list of bestsellers."""
        self._bestsellers = bestsellers
        self.curve: list[float] = []
        """All validations, higher is better."""
        self._best, self._leader = best, leader
        self._has_epochs = False

    def validate(self, factors: Factors) -> float | None:
        """Return the validation metric, or end the trial."""
        value = super().validate(factors)
        if value is not None:
            if self._bestsellers is not None and self.by_user is not None and value > max(self.curve, default=-np.inf):
                lead = self.by_user - self._bestsellers
                self.error = float(lead.std(ddof=1) / np.sqrt(len(lead))) if len(lead) > 1 else None
            self.curve.append(value)
            if self._has_epochs and (len(self.curve) >= _MOST or self._is_lost()):
                raise _Ended
        return value

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        """Report the end of an epoch."""
        self._has_epochs = True
        super().epoch_finished(epoch, epochs, loss, metric)

    def _is_lost(self) -> bool:
        done = len(self.curve)
        goal = max(self._best) if self._best else self._leader
        if goal is None or done < _LEAST:
            return False
        if self._best:
            taken = 1 + self._best.index(goal)
            if done < taken / 3:
                return False
            left = max(taken - done, _LEAST)
        else:
            left = (_HORIZON - 1) * done
        speed = max(0.0, (self.curve[-1] - self.curve[-1 - _WINDOW]) / _WINDOW)
        return max(self.curve) + speed * left < goal


def run_trial(
    backbone: Backbone, data: TrainingData, options: Mapping[str, Any], monitor: TrialMonitor, *, metric: str, seed: int
) -> BackboneTrial:
    """Train once without vectors, and return the best validation.

    A failure of the backbone, whatever it is, ends the trial and not the choice: other candidates may work.

    Args:
        backbone: The backbone.
        data: Its training data.
        options: The options that were varied, for the record.
        monitor: The monitor of this trial.
        metric: The validation metric.
        seed: Seed of the trial.
    """
    started = time.perf_counter()
    stopped, failure = False, None
    try:
        backbone.fit_checked(data, WithoutVectors(Options(), Context()), seed=seed, monitor=monitor)
    except _Ended:
        stopped = True
    except Exception as error:  # noqa: BLE001 - see above
        failure = str(error) or type(error).__name__
    value = direction(metric) * max(monitor.curve) if monitor.curve and failure is None else None
    return BackboneTrial(
        options=dict(options),
        value=value,
        seconds=round(time.perf_counter() - started, 3),
        stopped=stopped,
        failure=failure,
        error=monitor.error,
    )
