"""Runs in processes of their own: a run keeps little more than one core busy, so two take little longer than one.

Each worker makes the experiment anew from a recipe, trains what it is sent, and tells of every epoch. Nothing but
recipe, requests and results passes between the processes. The results are those of one process, whatever the number.
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


class Epoch(NamedTuple):
    """An epoch of some run ended."""

    run: str
    epoch: int
    epochs: int
    loss: float
    metric: float | None


@dataclass(frozen=True)
class Workers:
    """How runs are spread.

    Spawned processes import the main module: a script that uses several workers needs the usual
    ``if __name__ == "__main__":``.
    """

    count: int
    """Processes; 1 stays in this one."""
    recipe: Callable[[], Experiment]
    """Makes the experiment in another process; must survive pickling."""

    def run(
        self, requests: Sequence[RunRequest], cache: RunCache | None, on_epoch: Callable[[Epoch], None]
    ) -> Iterator[tuple[RunRequest, ArmRun]]:
        """Do the requests, and give each run as it ends.

        Raises:
            EvaluationError: A worker died.
            EnhancerError: Whatever stopped a run.
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
                    if isinstance(message, Epoch):
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
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, self.recipe, cache), daemon=True)
        with _threads_of(self.count):
            process.start()
        there.close()
        return process, here


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
def _threads_of(count: int) -> Iterator[None]:
    """Let a process that is started meanwhile share the cores; what the user set stays as it is."""
    share = str(max(1, (os.cpu_count() or 1) // count))
    added = [name for name in _THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, share))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _work(connection: Connection, recipe: Callable[[], Experiment], cache: RunCache | None) -> None:
    """The life of a worker: requests come, epochs and runs go, until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends its workers
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        try:
            experiment = recipe()
            while (request := connection.recv()) is not None:
                connection.send(_train(experiment, request, cache, connection.send))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the parent raises it
            connection.send(error)


def _train(
    experiment: Experiment, request: RunRequest, cache: RunCache | None, report: Callable[[Epoch], None]
) -> ArmRun:
    monitor = TrainingMonitor(
        experiment.views,
        experiment.metrics[0],
        run=request.name,
        listener=lambda progress: report(
            Epoch(
                request.name,
                progress.done,
                progress.total or progress.done,
                float(progress.detail.get("loss") or 0.0),
                progress.detail.get("metric"),  # type: ignore[arg-type]
            )
        ),
    )
    return PreparedRun.of(experiment, request, cache).train(monitor)
