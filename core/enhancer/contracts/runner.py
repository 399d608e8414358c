"""Runners: where independent tasks run, such as the training runs of an ablation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Task = TypeVar("Task")
Result = TypeVar("Result")
Report = Callable[[Any], None]
"""Sends an event, such as the end of an epoch, to the process that asked for the task."""


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Task, Result]):
    """Independent tasks of one kind. Everything in it is picklable, and so are tasks, results and events."""

    name: str
    """Name of the job, such as ``ablate``."""
    start: Callable[[], Callable[[Task, Report], Result]]
    """Called once in each process that does tasks; returns the function that does one."""
    title: Callable[[Task], str] = str
    """Returns the name of a task, such as ``align/seed0``."""


class Runner(ABC):
    """Does independent tasks in processes of its own, on one machine or many.

    A task depends on its argument and on the job alone. It may be done more than once, if the process that did it was
    lost, and its result counts once.
    """

    options_class: ClassVar[type[Options]] = Options
    apart: ClassVar[bool] = False
    """Whether tasks may run where the files of the project cannot be seen. Then jobs carry the tables that they read,
    and ``[evaluation] workers`` does not apply."""

    def __init__(self, options: Options, context: Context) -> None:
        """Store the options and the context. Nothing is started or connected.

        Args:
            options: Validated options from the table ``[runner]``; an instance of ``options_class``.
            context: Location of the project.
        """
        self.options = options
        self.context = context

    def connect(self, distributions: Mapping[str, str | None]) -> int:
        """Reach all machines, and check that the same software is installed on each, before anything is paid.

        Args:
            distributions: Version of enhancer, and of each distribution whose plugins the tasks use.

        Returns:
            Number of machines. By default one.

        Raises:
            ConfigError: A machine cannot be reached, or has another version of anything.
        """
        del distributions
        return 1

    @abstractmethod
    def map(
        self, job: Job[Task, Result], tasks: Iterable[Task], *, workers: int, on_event: Report
    ) -> Iterator[tuple[Task, Result]]:
        """Do tasks, and yield each with its result when it is done, in any order.

        Closing the iterator, or an exception in the caller, ends the tasks in progress.

        Args:
            job: What to do.
            tasks: The tasks. They may be a stream, of which only a bounded part is read ahead.
            workers: Largest number of processes, for a runner that is not ``apart``.
            on_event: Called in this process with the events that tasks send.

        Raises:
            EvaluationError: A process ended unexpectedly, and the task was not done by another one.
            Exception: A task raised it.
        """

    def close(self) -> None:
        """End what the runner has started. May be called twice."""
