"""Train runs in parallel processes. A single run uses little more than one core.

Each worker makes the experiment itself, trains the runs requested, and reports every epoch. Only the function that
makes the experiment, requests, progress and results pass between processes. Results do not depend on the number of
workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from enhancer.errors import EvaluationError
from enhancer.evaluation.running.fitting import TrainingMonitor
from enhancer.evaluation.running.prepared_run import PreparedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.process import BaseProcess

    from enhancer.evaluation.running.experiment import Experiment
    from enhancer.evaluation.running.run_cache import RunCache
    from enhancer.evaluation.running.runs import ArmRun, RunRequest

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class EpochProgress(NamedTuple):
    """Progress of a run at the end of an epoch."""

    run: str
    epoch: int
    epochs: int
    loss: float
    metric: float | None


@dataclass(frozen=True)
class Workers:
    """Number of worker processes, and the experiment they run.

    Spawned processes import the main module, so a script that uses several workers needs
    ``if __name__ == "__main__":``.
    """

    count: int
    """Number of processes; with 1, runs are trained in the calling process."""
    make_experiment: Callable[[], Experiment]
    """Picklable function that makes the experiment in a worker."""

    def run(
        self, requests: Sequence[RunRequest], cache: RunCache | None, on_epoch: Callable[[EpochProgress], None]
    ) -> Iterator[tuple[RunRequest, ArmRun]]:
        """Train the requested runs, and yield each one when it is finished.

        Raises:
            EvaluationError: A worker process ended unexpectedly.
            EnhancerError: A run failed with this error.
        """
        waiting = list(reversed(requests))
        busy: dict[Connection, tuple[BaseProcess, RunRequest]] = {}
        processes: list[BaseProcess] = []
        try:
            for _ in range(min(self.count, len(requests))):
                process, connection = self._start(cache)
                processes.append(process)
                request = waiting.pop()
                connection.send(request)
                busy[connection] = (process, request)
            while busy:
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    process, request = busy[ready]
                    message = _receive(ready, process, request)
                    if isinstance(message, EpochProgress):
                        on_epoch(message)
                        continue
                    if isinstance(message, BaseException):
                        raise message
                    yield request, message
                    del busy[ready]
                    if waiting:
                        request = waiting.pop()
                        ready.send(request)
                        busy[ready] = (process, request)
                    else:
                        ready.send(None)
        finally:
            for process in processes:
                process.join(0.0 if busy else 5.0)
                if process.is_alive():
                    process.kill()
                    process.join()

    def _start(self, cache: RunCache | None) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        connection, worker_connection = context.Pipe()
        process = context.Process(target=_serve, args=(worker_connection, self.make_experiment, cache), daemon=True)
        with _share_threads(self.count):
            process.start()
        worker_connection.close()
        return process, connection


def _receive(connection: Connection, process: BaseProcess, request: RunRequest) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError):
        process.join(5.0)
        raise EvaluationError(
            f"the process that trained {request.name} ended with code {process.exitcode}",
            hint="it may have run out of memory: try [evaluation] workers = 1",
        ) from None


@contextlib.contextmanager
def _share_threads(count: int) -> Iterator[None]:
    """Divide the cores among workers started in this context. Variables set by the user are not changed."""
    share = str(max(1, (os.cpu_count() or 1) // count))
    added = [name for name in _THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, share))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _serve(connection: Connection, make_experiment: Callable[[], Experiment], cache: RunCache | None) -> None:
    """Train requested runs in a worker process, and send progress and results, until None is received."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has ended
        try:
            experiment = make_experiment()
            while (request := connection.recv()) is not None:
                connection.send(_train(experiment, request, cache, connection.send))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  the parent raises it
            connection.send(error)


def _train(
    experiment: Experiment, request: RunRequest, cache: RunCache | None, report: Callable[[EpochProgress], None]
) -> ArmRun:
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
