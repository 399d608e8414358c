"""Tests for every runner. Subclass :class:`RunnerConformance` in a test module that pytest collects.

::

    from enhancer.testing.runner import RunnerConformance

    class TestMine(RunnerConformance):
        runner_class = MyRunner
        options = {"address": "local"}
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from enhancer.contracts import Context, Job, Runner
from enhancer.contracts.options import build_options
from enhancer.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from enhancer.contracts.runner import Report

_LOST = 7
"""Exit code of a process that a test ends."""


def _squaring() -> Callable[[int, Report], tuple[int, int]]:
    """Return a function that does tasks of the tests. Imported by the processes of the runner."""
    started = os.getpid()

    def square(number: int, report: Report) -> tuple[int, int]:
        if number < 0:
            raise EvaluationError(f"{number} is negative", hint="take another")
        report(("begun", number))
        report(("half", number))
        return number * number, started

    return square


def _ending() -> Callable[[int, Report], int]:
    def end(number: int, report: Report) -> int:
        del report
        if number:
            os._exit(_LOST)
        return number

    return end


def _title(number: int) -> str:
    return f"square of {number}"


class RunnerConformance:
    """Base class of runner tests; set ``runner_class``."""

    runner_class: ClassVar[type[Runner]]
    options: ClassVar[Mapping[str, Any]] = {}
    """Options for the constructor."""
    ahead: ClassVar[int] = 1_000
    """Largest number of tasks that are read from a stream before the first of them is done."""

    @pytest.fixture
    def runner(self, tmp_path: Path) -> Iterator[Runner]:
        """Return a new runner, which is closed after the test."""
        options = build_options(self.runner_class.options_class, self.options, where="[runner]")
        made = self.runner_class(options, Context(root=tmp_path))
        yield made
        made.close()

    @pytest.fixture
    def job(self) -> Job[int, tuple[int, int]]:
        """Return a job whose tasks are numbers to square."""
        return Job(name="square", start=_squaring, title=_title)

    def test_it_is_a_runner_with_documented_options(self) -> None:
        assert issubclass(self.runner_class, Runner)
        for name, field in self.runner_class.options_class.model_fields.items():
            assert field.description, f"option {name} is not documented"

    def test_it_connects_to_machines_with_the_same_software(self, runner: Runner) -> None:
        assert runner.connect({}) >= 1

    def test_every_task_is_done_once_with_its_events_by_another_process(
        self, runner: Runner, job: Job[int, tuple[int, int]]
    ) -> None:
        events: list[Any] = []
        found = list(runner.map(job, range(12), workers=2, on_event=events.append))
        assert sorted(task for task, _ in found) == list(range(12))
        assert all(result == task * task for task, (result, _) in found)
        assert os.getpid() not in {process for _, (_, process) in found}
        assert sorted(events) == sorted((what, task) for what in ("begun", "half") for task in range(12))
        for task in range(12):
            assert events.index(("begun", task)) < events.index(("half", task))

    def test_no_tasks_are_no_work(self, runner: Runner, job: Job[int, tuple[int, int]]) -> None:
        assert list(runner.map(job, (), workers=2, on_event=print)) == []

    def test_a_stream_of_tasks_is_read_as_they_are_done(self, runner: Runner, job: Job[int, tuple[int, int]]) -> None:
        read = 0

        def tasks() -> Iterator[int]:
            nonlocal read
            while True:
                read += 1
                yield read

        done = runner.map(job, tasks(), workers=2, on_event=lambda _: None)
        next(done)
        assert read <= self.ahead
        done.close()  # type: ignore[attr-defined]

    def test_the_error_of_a_task_is_raised_with_its_hint(self, runner: Runner, job: Job[int, tuple[int, int]]) -> None:
        with pytest.raises(EvaluationError, match="-1 is negative; take another"):
            list(runner.map(job, [-1], workers=2, on_event=lambda _: None))
        assert [task for task, _ in runner.map(job, [3], workers=2, on_event=lambda _: None)] == [3]

    def test_a_task_that_ends_its_process_is_named(self, runner: Runner) -> None:
        job = Job(name="end", start=_ending, title=_title)
        with pytest.raises(EvaluationError, match="square of 1"):
            list(runner.map(job, [1], workers=2, on_event=lambda _: None))

    def test_closing_twice_is_harmless(self, runner: Runner) -> None:
        runner.close()
        runner.close()
