"""Train runs through a runner, in processes of this machine or of others.

Each process makes the experiment itself, trains the runs requested, and reports every epoch. Results do not depend on
the number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from enhancer.contracts.runner import Job
from enhancer.evaluation.running.fitting import TrainingMonitor
from enhancer.evaluation.running.prepared_run import PreparedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enhancer.contracts.runner import Report, Runner
    from enhancer.evaluation.running.experiment import Experiment
    from enhancer.evaluation.running.run_cache import RunCache
    from enhancer.evaluation.running.runs import ArmRun, RunRequest


class EpochProgress(NamedTuple):
    """Progress of a run at the end of an epoch."""

    run: str
    epoch: int
    epochs: int
    loss: float
    metric: float | None


@dataclass(frozen=True)
class Workers:
    """The runner that trains, its number of processes, and the experiment that they run."""

    count: int
    """Number of processes of a runner of this machine; with 1, runs are trained in the calling process."""
    make_experiment: Callable[[], Experiment]
    """Picklable function that makes the experiment in a worker."""
    runner: Runner

    @property
    def least(self) -> int | None:
        """Smallest number of runs that are trained by the runner; None if all are trained in this process."""
        if self.runner.apart:
            return 1
        return 2 if self.count > 1 else None

    def run(
        self, requests: Sequence[RunRequest], cache: RunCache | None, on_epoch: Callable[[EpochProgress], None]
    ) -> Iterator[tuple[RunRequest, ArmRun]]:
        """Train the requested runs, and yield each one when it is finished.

        Raises:
            EvaluationError: A worker process ended unexpectedly.
            EnhancerError: A run failed with this error.
        """
        start = partial(_trainer, self.make_experiment, cache)
        job = Job(name="train", start=start, title=attrgetter("name"))
        return self.runner.map(job, requests, workers=self.count, on_event=on_epoch)


def _trainer(
    make_experiment: Callable[[], Experiment], cache: RunCache | None
) -> Callable[[RunRequest, Report], ArmRun]:
    """Make the experiment in a worker, and return the function that trains a run."""
    return partial(_train, make_experiment(), cache)


def _train(experiment: Experiment, cache: RunCache | None, request: RunRequest, report: Report) -> ArmRun:
    monitor = TrainingMonitor(
        experiment.views,
        experiment.metrics[0],
        run=request.name,
        listener=lambda progress: report(
            EpochProgress(
                request.name,
                progress.done,
                progress.total or progress.done,
                float(progress.detail.get("loss") or 0.0),
                progress.detail.get("metric"),  # type: ignore[arg-type]
            )
        ),
    )
    return PreparedRun.of(experiment, request, cache).train(monitor)
