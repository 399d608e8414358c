"""The part that runs in Ray's worker processes: start a job once in each, do its tasks, and send events."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import ray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.contracts import Job

_started: dict[str, Callable[[Any, Callable[[Any], None]], Any]] = {}
"""The function that does the tasks of the job that this process works on, by the id of the job."""


class LogLine(NamedTuple):
    """A line that a worker process logged."""

    logger: str
    level: int
    message: str
    task: str
    node: str


class Failure(NamedTuple):
    """The error of a task."""

    error: BaseException


class Inbox:
    """Actor that collects the events of all tasks for the process that asked for them, in the order of each task.

    It is not asynchronous: calls of one process to an actor that is may overtake each other.
    """

    def __init__(self) -> None:
        """Begin without events."""
        self._events: list[Any] = []

    def put(self, event: Any) -> None:
        """Add an event."""
        self._events.append(event)

    def take(self) -> list[Any]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events


def do_task(job_id: str, job_box: list[Any], title: str, task: Any, inbox: Any) -> Any:
    """Do one task in a worker process of Ray.

    Args:
        job_id: Id of the job.
        job_box: A reference to the job, in a list, so that it is read only by a process that has not started the job.
        title: Name of the task.
        task: The task.
        inbox: The actor that takes events.

    Returns:
        The result, or a :class:`Failure`.
    """
    sent: list[Any] = []

    def send(event: Any) -> None:
        sent[:] = [inbox.put.remote(event)]

    with _logging_to(send, title):
        try:
            if job_id not in _started:
                _started.clear()
                job: Job[Any, Any] = ray.get(job_box[0])
                _started[job_id] = job.start()
            result = _started[job_id](task, send)
        except Exception as error:  # noqa: BLE001 - the caller raises it
            result = Failure(error)
    if sent:  # events of a task come before its result
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(sent[0])
    return result


@contextlib.contextmanager
def _logging_to(send: Callable[[Any], None], title: str) -> Iterator[None]:
    """Send what enhancer and its plugins log, from the level ``INFO``, within the context."""
    handler = _Sender(send, title, f"{os.uname().nodename}/{ray.get_runtime_context().get_node_id()[:8]}")
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Sender(logging.Handler):
    def __init__(self, send: Callable[[Any], None], title: str, node: str) -> None:
        super().__init__(logging.INFO)
        self._send, self._title, self._node = send, title, node

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line of enhancer or a plugin; those of other libraries stay in Ray's own log files."""
        if record.name.partition(".")[0].partition("_")[0] == "enhancer" or record.levelno >= logging.WARNING:
            self._send(LogLine(record.name, record.levelno, record.getMessage(), self._title, self._node))
