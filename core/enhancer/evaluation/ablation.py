"""Arms × seeds on one split: who gains, over what, and is it the meaning?

Every arm sees the same split, the same validation and, per seed, the same initialisation. A run is a function of the
experiment, its arm and its seed alone, so that results depend neither on the order of runs nor on where they happen.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, EvaluationError, did_you_mean
from enhancer.evaluation.judging.result import Ablation, Run, judge
from enhancer.evaluation.judging.verdict import verdicts
from enhancer.evaluation.measuring.views import Views, labels_of, training_data
from enhancer.evaluation.running.experiment import Experiment, recall_one, run_one
from enhancer.evaluation.running.fitting import Watch
from enhancer.evaluation.running.preconditions import check_task
from enhancer.evaluation.running.references import references
from enhancer.evaluation.running.search import search as search_arms
from enhancer.evaluation.running.workers import Epoch, Job, Workers
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.config.schema import SearchConfig
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.features import Sides
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation.measuring.views import SplitLike
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.experiment import Features, Table
    from enhancer.evaluation.running.fitting import OnEpoch
    from enhancer.evaluation.running.run_cache import RunMemory
    from enhancer.evaluation.running.search import Searched
    from enhancer.progress import Detail, Listener


def run_ablation(
    arms: Sequence[Arm],
    split: SplitLike,
    features: Features,
    make_backbone: Callable[[Arm], Backbone],
    make_fuser: Callable[[Arm], Fuser],
    *,
    metrics: Sequence[str],
    seeds: Sequence[int],
    baseline: str | None = None,
    pool: Callable[[Table], Table] | None = None,
    sides: Sides | None = None,
    listener: Listener = silent,
    on_epoch: OnEpoch | None = None,
    memory: RunMemory | None = None,
    workers: Workers | None = None,
    search: SearchConfig | None = None,
) -> Ablation:
    """Train every arm with every seed, and judge.

    Args:
        arms: At least one.
        split: Cut once; shared by all.
        features: Vectors by what is embedded; asked once for each combination that an arm wants.
        make_backbone: The backbone of an arm, fresh for each run.
        make_fuser: The fuser of an arm, fresh for each run.
        metrics: Such as ``ndcg@10``; the first one stops training early and decides the verdict.
        seeds: One run of each arm for each.
        baseline: The arm that the others are compared with; by default the first.
        pool: Makes user vectors from item vectors, from training interactions alone; None takes those of ``features``.
        sides: Side features of users and items, the same for every arm; None for none.
        listener: Told of every epoch, as stage ``ablate``, with runs done of runs in all.
        on_epoch: Told of every epoch.
        memory: Runs that were finished before, which are not trained again, and states of unfinished ones.
        workers: Processes that runs are spread over; None trains here, one run after the other.
        search: Hyper-parameters to be searched for every arm before, on validation; None takes arms as they are.

    Raises:
        FusionError: A pair cannot work together; raised before any training.
        ConfigError: An unknown metric or baseline, or data, backbone and metrics that do not go together.
        EvaluationError: No test pair can be scored, a seed is there twice, or a model diverged.
    """
    names = [arm.name for arm in arms]
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise ConfigError(f"baseline {baseline!r} is not an arm", hint=did_you_mean(baseline, names))
    if len(set(seeds)) < len(seeds) or not seeds:
        raise EvaluationError(f"seeds must be distinct and at least one, not {list(seeds)}")
    views = Views(split)
    for arm in arms:
        backbone = make_backbone(arm)
        make_fuser(arm).check(backbone, arm.fuser)
        check_task(backbone, training_data(split, sides=sides, labelled="labels" in backbone.takes), views, metrics)
    started = time.perf_counter()
    experiment = Experiment.over(split, features, make_backbone, make_fuser, metrics=metrics, pool=pool, sides=sides)
    listener(Progress("ablate", 0, len(arms) * len(seeds), {"run": "reference"}))
    reference = references(experiment)
    searched: list[Searched] = []
    if search is not None:
        before, whole = 0, len(arms) * search.trials

        def told(progress: Progress) -> None:
            done = before + progress.done
            listener(Progress("search", done, whole, progress.detail))

        def trials(jobs: Sequence[Job]) -> list[Run]:
            nonlocal before
            found = _all_runs(experiment, jobs, memory, workers, told, on_epoch)
            before += len(jobs)
            return found

        searched = search_arms(experiment, arms, search, seed=max(seeds) + 1, run_all=trials)
        arms = [each.arm for each in searched]
    # Seeds outside: an interrupted look at half the runs already compares all arms.
    jobs = [Job(arm, seed) for seed in seeds for arm in arms]
    runs = _all_runs(experiment, jobs, memory, workers, listener, on_epoch)
    views, panels = experiment.views, experiment.panels
    strata = [stratum for panel in panels for stratum in panel.strata]
    findings = {
        s.name: judge(s, runs, arms=arms, baseline=baseline, metrics=metrics, reference=reference) for s in strata
    }
    return Ablation(
        arms=list(arms),
        baseline=baseline,
        metrics=list(metrics),
        seeds=list(seeds),
        findings=findings,
        runs=runs,
        verdicts=verdicts(findings, arms, baseline, metrics[0]),
        facts=facts(views),
        searched={each.arm.name: each for each in searched},
        seconds=time.perf_counter() - started,
    )


def _all_runs(
    experiment: Experiment,
    jobs: Sequence[Job],
    memory: RunMemory | None,
    workers: Workers | None,
    listener: Listener,
    on_epoch: OnEpoch | None,
) -> list[Run]:
    """Every run, in the order of the jobs, wherever and whenever it was done."""
    done: dict[str, Run] = {}

    def finished(job: Job, run: Run) -> None:
        done[job.name] = run
        detail: dict[str, Detail] = {"run": job.name, "seconds": round(run.seconds, 1)}
        listener(Progress("ablate", len(done), len(jobs), detail))

    def told(epoch: Epoch) -> None:
        if on_epoch is not None:
            on_epoch(epoch.run, epoch.epoch, epoch.loss, epoch.metric)
        listener(Progress("ablate", len(done), len(jobs), epoch._asdict()))

    for job in jobs:
        known = recall_one(experiment, job.arm, job.seed, memory, measured=job.trial is None)
        if known is not None:
            finished(job, known)
    rest = [job for job in jobs if job.name not in done]
    if workers is not None and workers.count > 1 and len(rest) > 1:
        for job, run in workers.run(rest, memory, told):
            finished(job, run)
    else:
        for job in rest:
            watch = Watch(
                experiment.views,
                experiment.metrics[0],
                run=job.name,
                listener=listener,
                on_epoch=on_epoch,
                stage="ablate",
                runs_done=len(done),
                runs=len(jobs),
            )
            finished(job, run_one(experiment, job.arm, job.seed, watch, memory, measured=job.trial is None))
    return [done[job.name] for job in jobs]


def facts(views: Views) -> dict[str, Any]:
    """What the numbers rest on."""
    split = views.split
    return {
        "users": views.n_users,
        "items": views.n_items,
        "train": len(split.train.users),
        "validation": len(split.validation.users),
        "test": len(split.test.users),
        "test_warm": len(views.warm_test.users),
        "test_cold_items": len(views.cold_test.users),
        "warm_items": len(views.warm_items),
        "cold_items": len(split.cold_items),
        "cold_users": len(split.cold_users),
        "new_items": getattr(split, "new_items", 0),
        **_about_labels(views),
        "test_unreachable": views.unreachable,
        "test_strangers": views.strangers,
        "test_unknown_users": getattr(split, "unknown_users", 0),
    }


def _about_labels(views: Views) -> dict[str, Any]:
    """Where interactions have labels: how many of each part are good ones."""
    parts = {"train": views.split.train, "validation": views.split.validation, "test": views.split.test}
    return {
        f"{name}_good": int(labels.sum()) for name, part in parts.items() if (labels := labels_of(part)) is not None
    }
