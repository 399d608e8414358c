"""Observers: listeners for the events of a run, such as experiment trackers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from enhancer.contracts.record import Record

RunStatus = Literal["done", "failed", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One call of a verb, such as ``generate``, ``train`` or ``ablate``."""

    id: str
    """Unique identifier, 32 hexadecimal digits."""
    verb: str
    """Name of the verb."""
    started_at: datetime
    """Start time, in UTC."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the project, as JSON values by table and key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Outcome of a run."""

    status: RunStatus
    """``done``; ``failed``: an error was raised; ``interrupted``: Ctrl-C or cancellation."""
    seconds: float
    """Duration."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Final metrics or counts by name; possibly empty for a run that is not ``done``."""
    cost_usd: float | None = None
    """Amount spent by the run in USD; None if unknown, or if the verb makes no paid calls."""
    artifact: Path | None = None
    """File or folder that the run wrote, such as the serving artifact or the report."""
    error: str | None = None
    """Message of the error for a run that is not ``done``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRunResult:
    """One training run of an ablation: an arm with a seed."""

    name: str
    """Name of the training run, such as ``align/seed0``; equals ``run`` of :meth:`Observer.epoch_finished`."""
    arm: str
    """Name of the arm."""
    seed: int
    """Random seed."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters of the arm, as JSON values by dotted name."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Test metrics by name."""
    seconds: float = 0.0
    """Training time."""


class Observer:
    """Receives events of runs. Subclasses override the methods for the events that they need.

    Enhancer constructs an observer when the first verb that emits events starts. Methods are called in the thread that
    does the work. An exception in the constructor or in a method is logged once as a warning; the run continues.
    """

    options_class: ClassVar[type[Options]] = Options

    def __init__(self, options: Options, context: Context) -> None:
        """Store the options and the context.

        Args:
            options: Validated options from the table ``[observers.NAME]``; an instance of ``options_class``.
            context: Location of the project.
        """
        self.options = options
        self.context = context

    def run_started(self, run: RunInfo) -> None:
        """Handle the start of a run."""

    def run_finished(self, run: RunInfo, result: RunResult) -> None:
        """Handle the end of a run. Called once for every started run, after errors and Ctrl-C too."""

    def profile_stored(self, record: Record) -> None:
        """Handle a record that was written to the feature store."""

    def epoch_finished(self, run: str, epoch: int, loss: float, metric: float | None) -> None:
        """Handle the end of a training epoch.

        Args:
            run: Name of the training run: ``train``, ``align/seed0`` in an ablation, ``align/trial3`` in a search.
            epoch: Number of the epoch, from 1.
            loss: Mean training loss of the epoch.
            metric: Validation metric; None in an epoch without validation.
        """

    def arm_run_finished(self, run: RunInfo, result: ArmRunResult) -> None:
        """Handle the end of one training run of an ablation; ``run`` is the ablation."""

    def ablation_finished(self, result: Mapping[str, Any]) -> None:
        """Handle the end of an ablation; ``result`` equals the output of ``enhancer ablate --json``."""
