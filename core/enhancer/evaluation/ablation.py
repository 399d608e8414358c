"""Train arms × seeds on one split, and judge which arms gain.

Every arm sees the same split, the same validation part and, per seed, the same initialisation. A run depends on the
experiment, its arm and its seed alone, so results depend neither on the order of runs nor on where they happen.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from enhancer.errors import ConfigError, EvaluationError, did_you_mean
from enhancer.evaluation.executor import Executor, check_arms
from enhancer.evaluation.judging.comparing import compare_arms
from enhancer.evaluation.judging.controls import controls_by_arm
from enhancer.evaluation.judging.knowledge import compare_knowledge
from enhancer.evaluation.judging.left_out import compare_left_out
from enhancer.evaluation.judging.new_items import EVERYTHING, NewItems
from enhancer.evaluation.judging.result import Ablation
from enhancer.evaluation.judging.verdict import verdicts
from enhancer.evaluation.measuring.content_baselines import CONTENT_PANEL, content_inputs, measure_mean_vectors
from enhancer.evaluation.measuring.panels import first_cut_off
from enhancer.evaluation.measuring.split_facts import split_facts
from enhancer.evaluation.running.references import measure_references
from enhancer.evaluation.running.runs import RunRequest
from enhancer.evaluation.running.search import search as search_arms
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.config.evaluation import SearchConfig
    from enhancer.config.inputs import Input
    from enhancer.evaluation.judging.findings import Finding
    from enhancer.evaluation.measuring.metrics import Scores
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.experiment import Experiment
    from enhancer.evaluation.running.fitting import EpochCallback
    from enhancer.evaluation.running.run_cache import RunCache
    from enhancer.evaluation.running.runs import ArmRun, RunCallback
    from enhancer.evaluation.running.search_result import SearchResult
    from enhancer.evaluation.running.workers import Workers
    from enhancer.progress import Listener


def run_ablation(
    experiment: Experiment,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    *,
    baseline: str | None = None,
    search: SearchConfig | None = None,
    cache: RunCache | None = None,
    workers: Workers | None = None,
    listener: Listener = silent,
    on_epoch: EpochCallback | None = None,
    on_run: RunCallback | None = None,
) -> Ablation:
    """Train every arm with every seed, and judge the results.

    Args:
        experiment: Split, vectors, metrics, and the functions that make backbones and fusers. The first metric drives
            early stopping and the verdict.
        arms: At least one arm.
        seeds: Distinct seeds. Every arm is trained once with each.
        baseline: Name of the arm that the others are compared with; the first arm by default.
        search: Hyper-parameters to search for every arm beforehand, on the validation part. None uses the arms as they
            are configured.
        cache: Finished runs, which are not trained again, and checkpoints of interrupted ones.
        workers: Processes that train in parallel. None trains in this process, one run after the other.
        listener: Called with progress after every epoch and run: stage ``ablate``, runs done of all runs.
        on_epoch: Called after every epoch.
        on_run: Called after every tested run, in this process, with the arm as it was trained.

    Raises:
        FusionError: A fuser and a backbone cannot work together. Raised before any training.
        ConfigError: The baseline is not an arm, or data, backbone and metrics do not go together.
        EvaluationError: Seeds are not distinct, or training diverged.
    """
    names = [arm.name for arm in arms]
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise ConfigError(f"baseline {baseline!r} is not an arm", hint=did_you_mean(baseline, names))
    if len(set(seeds)) < len(seeds) or not seeds:
        raise EvaluationError(f"need at least one seed, and distinct ones, not {list(seeds)}")
    check_arms(experiment, arms)
    started = time.perf_counter()
    executor = Executor(experiment, cache, workers, on_epoch, on_run)
    listener(Progress("ablate", 0, len(arms) * len(seeds), {"run": "reference"}))
    reference = measure_references(experiment, cache)
    searched: list[SearchResult] = []
    if search is not None:
        searched = _search(executor, arms, search, seed=max(seeds) + 1, listener=listener)
        arms = [each.arm for each in searched]
    # Seeds are the outer loop, so an ablation that is interrupted half-way can already compare all arms.
    compared = [arm for arm in arms if arm.is_competitor]
    inputs = content_inputs(compared, experiment.panels)
    bare = _without_vectors(arms, baseline)
    requests = [RunRequest(arm, seed, ridges=inputs if arm.name == bare else ()) for seed in seeds for arm in arms]
    runs = executor.run(requests, listener)
    content = _content_baselines(experiment, inputs, [run for run in runs if run.arm == bare])
    controls, metrics = controls_by_arm(compared), experiment.metrics
    findings = {
        stratum.name: compare_arms(
            stratum,
            runs,
            controls=controls,
            baseline=baseline,
            metrics=metrics,
            reference=reference,
            content=content if stratum.name == CONTENT_PANEL else None,
        )
        for panel in experiment.panels
        for stratum in panel.strata
    }
    shares = _new_items(experiment, findings, compared, runs)
    validation = {arm.name: [run.validation for run in runs if run.arm == arm.name] for arm in compared}
    return Ablation(
        arms=compared,
        controls=controls,
        baseline=baseline,
        metrics=list(metrics),
        seeds=list(seeds),
        findings=findings,
        runs=runs,
        verdicts=verdicts(findings, compared, controls, baseline, metrics[0], validation=validation, shares=shares),
        new_items=shares,
        left_out=compare_left_out(arms, runs, findings, metrics),
        knowledge=compare_knowledge(arms, runs, findings, controls, metrics[0]),
        facts=split_facts(experiment.views),
        searched={each.arm.name: each for each in searched},
        seconds=time.perf_counter() - started,
    )


def _without_vectors(arms: Sequence[Arm], baseline: str) -> str | None:
    """Return the name of the baseline, or else of the first arm without vectors; None if all have vectors."""
    bare = [arm.name for arm in arms if not arm.semantic]
    return baseline if baseline in bare else next(iter(bare), None)


def _content_baselines(
    experiment: Experiment, inputs: Sequence[tuple[Input, ...]], bare: Sequence[ArmRun]
) -> dict[str, list[Scores]]:
    """Return the metrics of the content baselines: of mean vectors once, and of the ridges of each run."""
    tables = {each: experiment.item_vectors(each) for each in inputs}
    found = {
        name: [scores]
        for name, scores in measure_mean_vectors(
            tables, experiment.panels, experiment.views, experiment.metrics
        ).items()
    }
    ridges = bare[0].ridges if bare else {}
    return found | {name: [run.ridges[name] for run in bare] for name in ridges}


def _new_items(
    experiment: Experiment, findings: Mapping[str, Finding], arms: Sequence[Arm], runs: Sequence[ArmRun]
) -> NewItems | None:
    """Return the shares of held-out items in lists over all items, and in the test pairs on them."""
    everything, views = findings.get(EVERYTHING), experiment.views
    if everything is None:
        return None
    cold = len(views.cold_items)
    return NewItems(
        places=first_cut_off(experiment.metrics),
        shown={arm.name: [run.beyond_accuracy["new"] for run in runs if run.arm == arm.name] for arm in arms},
        items=cold / (len(views.warm_items) + cold),
        taken=1 - len(views.warm_test.users) / everything.interactions,
    )


def _search(
    executor: Executor, arms: Sequence[Arm], config: SearchConfig, *, seed: int, listener: Listener
) -> list[SearchResult]:
    """Search the hyper-parameters of every arm. Progress counts the trials of all rounds together."""
    finished_before, total = 0, len(arms) * config.trials

    def report(progress: Progress) -> None:
        listener(Progress("search", finished_before + progress.done, total, progress.detail))

    def run_trials(requests: Sequence[RunRequest]) -> list[ArmRun]:
        nonlocal finished_before
        runs = executor.run(requests, report)
        finished_before += len(requests)
        return runs

    return search_arms(executor.experiment, arms, config, seed=seed, run_trials=run_trials)
