"""Tests for every observer. Subclass :class:`ObserverConformance` in a test module that pytest collects.

::

    from enhancer.testing.observer import ObserverConformance

    class TestMine(ObserverConformance):
        observer_class = MyObserver
        options = {"uri": "http://127.0.0.1:5000"}
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from enhancer.contracts import ArmRunResult, Context, Observer, RunInfo, RunResult
from enhancer.contracts.options import build_options
from enhancer.testing._records import make_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts.observer import RunStatus


def _run(verb: str) -> RunInfo:
    configuration = {"llm": {"model": "test/model"}, "seed": 0, "observers": {}}
    return RunInfo(id="0" * 32, verb=verb, started_at=datetime.now(UTC), configuration=configuration)


class ObserverConformance:
    """Base class of observer tests; set ``observer_class``."""

    observer_class: ClassVar[type[Observer]]
    options: ClassVar[Mapping[str, Any]] = {}
    """Options for the constructor."""

    @pytest.fixture
    def observer(self, tmp_path: Path) -> Observer:
        """Return a new observer of a project in an empty folder."""
        options = build_options(self.observer_class.options_class, self.options, where="[observers.NAME]")
        return self.observer_class(options, Context(root=tmp_path))

    def test_it_is_an_observer_with_documented_options(self) -> None:
        assert issubclass(self.observer_class, Observer)
        for name, field in self.observer_class.options_class.model_fields.items():
            assert field.description, f"option {name} is not documented"

    def test_it_takes_the_events_of_a_generation(self, observer: Observer) -> None:
        run = _run("generate")
        observer.run_started(run=run)
        observer.profile_stored(record=make_record("1"))
        result = RunResult(status="done", seconds=1.5, metrics={"generated": 1}, cost_usd=0.25)
        observer.run_finished(run=run, result=result)

    def test_it_takes_the_events_of_an_ablation(self, observer: Observer) -> None:
        run = _run("ablate")
        observer.run_started(run=run)
        for seed in (0, 1):
            name = f"align/seed{seed}"
            observer.epoch_finished(run=name, epoch=1, loss=0.5, metric=None)
            observer.epoch_finished(run=name, epoch=2, loss=0.25, metric=0.125)
            metrics = {"ndcg@10": 0.25, "recall@20": 0.5}
            arm_run = ArmRunResult(name=name, arm="align", seed=seed, parameters={"fuser.weight": 0.1}, metrics=metrics)
            observer.arm_run_finished(run=run, result=arm_run)
        observer.ablation_finished(result={"arms": {"align": {"ndcg@10": {"mean": 0.25}}}})
        observer.run_finished(run=run, result=RunResult(status="done", seconds=1.5, artifact=Path("report.html")))

    @pytest.mark.parametrize("status", ["failed", "interrupted"])
    def test_it_takes_a_run_that_ends_without_a_result(self, observer: Observer, status: RunStatus) -> None:
        run = _run("train")
        observer.run_started(run=run)
        observer.run_finished(run=run, result=RunResult(status=status, seconds=0.5, error="no such file"))

    def test_it_takes_several_runs(self, observer: Observer) -> None:
        for verb in ("train", "train"):
            run = _run(verb)
            observer.run_started(run=run)
            observer.run_finished(run=run, result=RunResult(status="done", seconds=0.5))
