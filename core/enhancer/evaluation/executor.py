"""Load or train the runs of an experiment, arms × seeds, in this process or in workers; finished ones are cached."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enhancer.evaluation.measuring.views import training_data
from enhancer.evaluation.running.fitting import TrainingMonitor
from enhancer.evaluation.running.preconditions import check_task
from enhancer.evaluation.running.prepared_run import PreparedRun
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.experiment import Experiment
    from enhancer.evaluation.running.fitting import EpochCallback
    from enhancer.evaluation.running.run_cache import RunCache
    from enhancer.evaluation.running.runs import ArmRun, RunCallback, RunRequest
    from enhancer.evaluation.running.workers import EpochProgress, Workers
    from enhancer.progress import Detail, Listener


@dataclass(frozen=True)
class Executor:
    """Loads or trains runs, in this process or in workers."""

    experiment: Experiment
    cache: RunCache | None = None
    """Finished runs, which are not trained again, and checkpoints of interrupted ones."""
    workers: Workers | None = None
    """Trains runs in other processes. None trains in this process, one run after the other."""
    on_epoch: EpochCallback | None = None
    """Called after every epoch."""
    on_run: RunCallback | None = None
    """Called after every tested run, in this process, with the arm as it was trained."""
    stage: str = "ablate"
    """Stage of progress events."""

    def run(self, requests: Sequence[RunRequest], listener: Listener = silent) -> list[ArmRun]:
        """Return the runs in the order of the requests.

        A model that is the same for every seed is trained with the first alone.

        Args:
            requests: Runs to load or train, with distinct names.
            listener: Called with progress after every epoch and run: runs done of all requests.

        Raises:
            EvaluationError: Training diverged, or a worker ended unexpectedly.
        """
        done: dict[str, ArmRun] = {}
        copied, ready = self._copied(requests)
        trained = [request for request in requests if request.name not in copied]

        def finish(request: RunRequest, run: ArmRun) -> None:
            done[request.name] = run
            if self.on_run is not None and request.tested:
                self.on_run(request.arm, run)
            detail: dict[str, Detail] = {"run": request.name, "seconds": round(run.seconds, 1)}
            listener(Progress(self.stage, len(done), len(requests), detail))

        def report(epoch: EpochProgress) -> None:
            if self.on_epoch is not None:
                self.on_epoch(epoch.run, epoch.epoch, epoch.loss, epoch.metric)
            listener(Progress(self.stage, len(done), len(requests), epoch._asdict()))

        least = None if self.workers is None else self.workers.least
        if self.workers is not None and least is not None:
            for request, run in self._cached(trained, ready):
                finish(request, run)
            rest = [request for request in trained if request.name not in done]
            if len(rest) >= least:
                for request, run in self.workers.run(rest, self.cache, report):
                    if self.workers.runner.apart:
                        PreparedRun.of(self.experiment, request, self.cache).keep(run)
                    finish(request, run)
        for request in trained:
            if request.name in done:
                continue
            prepared = ready.pop(request.name, None) or PreparedRun.of(self.experiment, request, self.cache)
            cached = prepared.load()
            if cached is not None:
                finish(request, cached)
            else:
                monitor = TrainingMonitor(
                    self.experiment.views,
                    self.experiment.metrics[0],
                    run=request.name,
                    listener=listener,
                    on_epoch=self.on_epoch,
                    stage=self.stage,
                    runs_done=len(done),
                    runs=len(requests),
                )
                finish(request, prepared.train(monitor))
        for request in requests:
            if request.name in copied:
                finish(request, replace(done[copied[request.name]], seed=request.seed))
        return [done[request.name] for request in requests]

    def _copied(self, requests: Sequence[RunRequest]) -> tuple[dict[str, str], dict[str, PreparedRun]]:
        """Return the names of runs that equal an earlier one, with that one's name; and what was prepared to know."""
        first: dict[str, RunRequest] = {}
        ready: dict[str, PreparedRun] = {}
        copied = {}
        for request in requests:
            if not request.tested or request.arm.semantic:
                continue
            earlier = first.setdefault(request.arm.name, request)
            if earlier is request or (earlier.arm, earlier.ridges) != (request.arm, request.ridges):
                continue
            if earlier.name not in ready:
                ready[earlier.name] = PreparedRun.of(self.experiment, earlier, self.cache)
            if ready[earlier.name].ignores_seed:
                copied[request.name] = earlier.name
        return copied, ready

    def _cached(
        self, requests: Sequence[RunRequest], ready: Mapping[str, PreparedRun]
    ) -> Iterator[tuple[RunRequest, ArmRun]]:
        """Yield the requests whose runs are in the cache, so that no worker is started for them."""
        if self.cache is None:
            return
        for request in requests:
            run = (ready.get(request.name) or PreparedRun.of(self.experiment, request, self.cache)).load()
            if run is not None:
                yield request, run


def check_arms(experiment: Experiment, arms: Sequence[Arm]) -> None:
    """Check that every arm can be trained and measured, before anything is trained.

    Raises:
        FusionError: The fuser and the backbone of an arm cannot work together.
        ConfigError: Data, backbone and metrics do not go together.
    """
    views = experiment.views
    for arm in arms:
        backbone = experiment.make_backbone(arm)
        experiment.make_fuser(arm).check(backbone, arm.fuser)
        data = training_data(views.split, sides=experiment.sides, labelled="labels" in backbone.takes)
        check_task(backbone, data, views, experiment.metrics)
