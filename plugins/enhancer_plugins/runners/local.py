"""Do tasks in processes of this machine. A single training run uses little more than one core.

Each process starts the job itself, does the tasks requested, and sends their events. Only the job, tasks, events and
results pass between processes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from enhancer.contracts import Runner
from enhancer.contracts.options import Context, Options
from enhancer.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.process import BaseProcess

    from enhancer.contracts.runner import Job, Report, Result, Task

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class _Event(NamedTuple):
    """An event of a task in progress."""

    value: Any


class LocalOptions(Options):
    """There are none: ``[evaluation] workers`` is the number of processes."""


class LocalRunner(Runner):
    """Processes of this machine.

    Spawned processes import the main module, so a script that uses several workers needs
    ``if __name__ == "__main__":``.
    """

    options_class = LocalOptions

    def __init__(self, options: Options | None = None, context: Context | None = None) -> None:
        """Keep the options; processes are started for each job."""
        super().__init__(options or LocalOptions(), context or Context())

    def map(
        self, job: Job[Task, Result], tasks: Iterable[Task], *, workers: int, on_event: Report
    ) -> Iterator[tuple[Task, Result]]:
        """Do tasks in at most ``workers`` processes; see :meth:`enhancer.contracts.Runner.map`."""
        waiting = iter(tasks)
        busy: dict[Connection, tuple[BaseProcess, Task]] = {}
        processes: list[BaseProcess] = []
        try:
            for _ in range(workers):
                if not (following := _next(waiting)):
                    break
                process, connection = _start(job, workers)
                processes.append(process)
                connection.send(following)
                busy[connection] = (process, following[0])
            while busy:
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    process, task = busy[ready]
                    message = _receive(ready, process, job.title(task))
                    if isinstance(message, _Event):
                        on_event(message.value)
                        continue
                    if isinstance(message, BaseException):
                        raise message
                    yield task, message
                    del busy[ready]
                    following = _next(waiting)
                    ready.send(following)
                    if following:
                        busy[ready] = (process, following[0])
        finally:
            for process in processes:
                process.join(0.0 if busy else 5.0)
                if process.is_alive():
                    process.kill()
                    process.join()


def _next(tasks: Iterator[Task]) -> tuple[Task, ...]:
    """Return the next task; an empty tuple after the last one."""
    for task in tasks:
        return (task,)
    return ()


def _start(job: Job[Any, Any], count: int) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    connection, worker_connection = context.Pipe()
    process = context.Process(target=_serve, args=(worker_connection, job), daemon=True)
    with _share_threads(count):
        process.start()
    worker_connection.close()
    return process, connection


def _receive(connection: Connection, process: BaseProcess, title: str) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError):
        process.join(5.0)
        raise EvaluationError(
            f"the process that trained {title} ended with code {process.exitcode}",
            hint="it may have run out of memory: try [evaluation] workers = 1",
        ) from None


@contextlib.contextmanager
def _share_threads(count: int) -> Iterator[None]:
    """Divide the cores among processes started in this context. Variables set by the user are not changed."""
    share = str(max(1, (os.cpu_count() or 1) // count))
    added = [name for name in _THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, share))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _serve(connection: Connection, job: Job[Any, Any]) -> None:
    """Do requested tasks in a process, and send events and results, until an empty request is received."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its processes
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has ended
        try:
            work = job.start()
            while request := connection.recv():
                connection.send(work(request[0], lambda event: connection.send(_Event(event))))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  the parent raises it
            connection.send(error)
