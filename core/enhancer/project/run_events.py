"""Send the events of a verb (generate, refresh, train, ablate) to the observers of a project."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from enhancer.contracts.observer import ArmRunResult
from enhancer.errors import EnhancerError
from enhancer.features import GenerationReport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enhancer.evaluation import Ablation, Arm
    from enhancer.evaluation.running.runs import ArmRun, RunCallback
    from enhancer.plugin_host import ActiveRun
    from enhancer.project.parts import ProjectParts


@contextmanager
def run_events(parts: ProjectParts, verb: str) -> Iterator[ActiveRun]:
    """Send ``run_started`` before the block and ``run_finished`` after it, also after errors and Ctrl-C.

    Args:
        parts: The project.
        verb: Name of the verb.

    Yields:
        The run, whose ``finish`` takes metrics, cost and artifact.

    Raises:
        ConfigError: An observer of ``[observers]`` is unknown or unavailable, or has a wrong option.
    """
    with parts.events.run(verb, parts.settings.model_dump(mode="json")) as run:
        try:
            yield run
        except EnhancerError as error:
            if isinstance(error.report, GenerationReport):
                finish_generation(run, error.report)
            raise


def finish_generation(run: ActiveRun, report: GenerationReport | None) -> None:
    """Record the counts and the cost of a generation; None records that nothing was done."""
    counts = {} if report is None else report.to_json()
    cost = counts.pop("cost_usd", 0.0)
    numbers = {name: float(value) for name, value in counts.items() if isinstance(value, int | float)}
    run.finish(metrics=numbers, cost_usd=cost)


def arm_run_hook(run: ActiveRun, parts: ProjectParts) -> RunCallback:
    """Return a function that sends the end of one training run of an ablation to the observers."""
    parameters: dict[str, dict[str, Any]] = {}

    def on_run(arm: Arm, arm_run: ArmRun) -> None:
        if arm.name not in parameters:
            parameters[arm.name] = _parameters(parts, arm)
        result = ArmRunResult(
            name=arm_run.name,
            arm=arm.name,
            seed=arm_run.seed,
            parameters=parameters[arm.name],
            metrics=arm_run.scores["all"].means(),
            seconds=arm_run.seconds,
        )
        run.arm_run_finished(result)

    return on_run


def finish_ablation(run: ActiveRun, parts: ProjectParts, ablation: Ablation, report: Path | None) -> None:
    """Send the result of an ablation to the observers, and record the mean test metrics of every arm."""
    result = ablation.to_json()
    parts.events.ablation_finished(result=result)
    means = {
        f"{arm}/{metric}": float(value["mean"])
        for arm, metrics in result["arms"].items()
        for metric, value in metrics.items()
    }
    run.finish(metrics=means, artifact=report)


def _parameters(parts: ProjectParts, arm: Arm) -> dict[str, Any]:
    """Return the hyper-parameters of an arm, defaults included, by dotted name."""
    backbone, fuser = parts.backbone(arm).options, parts.fuser(arm).options
    return {
        "backbone": arm.backbone or parts.settings.backbone.use,
        "fuser": arm.fuser,
        "input": list(arm.inputs),
        "shuffle": arm.shuffle,
        **{f"backbone.{name}": value for name, value in backbone.model_dump(mode="json").items()},
        **{f"fuser.{name}": value for name, value in fuser.model_dump(mode="json").items()},
    }
