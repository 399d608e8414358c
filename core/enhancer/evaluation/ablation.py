"""Arms × seeds on one split: who gains, over what, and is it the meaning?

Every arm sees the same split, the same validation and, per seed, the same initialisation. A run is a function of the
experiment, its arm and its seed alone, so that results depend neither on the order of runs nor on where they happen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import ConfigError, EvaluationError, did_you_mean
from enhancer.evaluation.arms import Arm, shuffled
from enhancer.evaluation.baselines import ease, ease_fits, popularity
from enhancer.evaluation.fitting import Watch
from enhancer.evaluation.metrics import evaluate, parse_metric
from enhancer.evaluation.panels import Measured, Panel, measure, panels_of
from enhancer.evaluation.result import Ablation, Run, judge
from enhancer.evaluation.split import Views, training_data
from enhancer.evaluation.verdict import verdicts
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config.schema import Input
    from enhancer.contracts.backbone import Backbone, TrainingData
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation.fitting import OnEpoch
    from enhancer.evaluation.memory import RunMemory
    from enhancer.evaluation.split import SplitLike
    from enhancer.progress import Detail, Listener

    Table = NDArray[np.float32]
    Features = Callable[[tuple[Input, ...]], tuple[Table | None, Table]]
    """From what is embedded to the vectors of users (None where they have none of their own) and of items."""

_EASE_GRID = (300.0, 100.0, 1000.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Experiment:
    """All that a run needs beside its arm and seed."""

    views: Views
    panels: list[Panel]
    features: Features
    pool: Callable[[Table], Table] | None
    make_backbone: Callable[[], Backbone]
    make_fuser: Callable[[Arm], Fuser]
    metrics: list[str]
    _tables: dict[tuple[Input, ...], tuple[Table | None, Table]] = field(default_factory=dict)

    def data(self, arm: Arm, seed: int) -> TrainingData:
        """The training data of an arm: a placebo's vectors are shuffled before users are pooled from them."""
        if not arm.semantic:
            return training_data(self.views.split)
        if arm.inputs not in self._tables:
            self._tables[arm.inputs] = self.features(arm.inputs)
        users, items = self._tables[arm.inputs]
        if arm.shuffle:
            items = shuffled(items, seed)
            users = None if users is None else shuffled(users, seed)
        if self.pool is not None:
            users = self.pool(items)
        return training_data(self.views.split, users, items)


def run_ablation(
    arms: Sequence[Arm],
    split: SplitLike,
    features: Features,
    make_backbone: Callable[[], Backbone],
    make_fuser: Callable[[Arm], Fuser],
    *,
    metrics: Sequence[str],
    seeds: Sequence[int],
    baseline: str | None = None,
    pool: Callable[[Table], Table] | None = None,
    listener: Listener = silent,
    on_epoch: OnEpoch | None = None,
    checkpoints: Path | None = None,
    memory: RunMemory | None = None,
) -> Ablation:
    """Train every arm with every seed, and judge.

    Args:
        arms: At least one.
        split: Cut once; shared by all.
        features: Vectors by what is embedded; asked once for each combination that an arm wants.
        make_backbone: A fresh backbone for each run.
        make_fuser: The fuser of an arm, fresh for each run.
        metrics: Such as ``ndcg@10``; the first one stops training early and decides the verdict.
        seeds: One run of each arm for each.
        baseline: The arm that the others are compared with; by default the first.
        pool: Makes user vectors from item vectors, from training interactions alone; None takes those of ``features``.
        listener: Told of every epoch, as stage ``ablate``, with runs done of runs in all.
        on_epoch: Told of every epoch.
        checkpoints: A folder for the state of unfinished runs.
        memory: Runs that were finished before, which are not trained again.

    Raises:
        FusionError: A pair cannot work together; raised before any training.
        ConfigError: An unknown metric or baseline.
        EvaluationError: No test pair can be scored, a seed is there twice, or a model diverged.
    """
    names = [arm.name for arm in arms]
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise ConfigError(f"baseline {baseline!r} is not an arm", hint=did_you_mean(baseline, names))
    if len(set(seeds)) < len(seeds) or not seeds:
        raise EvaluationError(f"seeds must be distinct and at least one, not {list(seeds)}")
    for metric in metrics:
        parse_metric(metric)
    for arm in arms:
        make_fuser(arm).check(make_backbone(), arm.fuser)
    started = time.perf_counter()
    views = Views(split)
    panels = panels_of(views)
    if not panels or panels[0].strata[0].name != "all":
        raise EvaluationError(
            "no test interaction has both a user and an item with training interactions",
            hint="check [evaluation] split, min_rating and k_core",
        )
    experiment = Experiment(
        views=views,
        panels=panels,
        features=features,
        pool=pool,
        make_backbone=make_backbone,
        make_fuser=make_fuser,
        metrics=list(metrics),
    )
    listener(Progress("ablate", 0, len(arms) * len(seeds), {"run": "reference"}))
    reference = references(experiment)
    runs: list[Run] = []
    for seed in seeds:  # seeds outside: an interrupted look at half the runs already compares all arms
        for arm in arms:
            name = f"{arm.name}/seed{seed}"
            watch = Watch(
                views,
                metrics[0],
                run=name,
                listener=listener,
                on_epoch=on_epoch,
                checkpoint=None if checkpoints is None else checkpoints / f"arm{names.index(arm.name)}-seed{seed}",
                stage="ablate",
                runs_done=len(runs),
                runs=len(arms) * len(seeds),
            )
            runs.append(run_one(experiment, arm, seed, watch, memory))
            detail: dict[str, Detail] = {"run": name, "seconds": round(runs[-1].seconds, 1)}
            listener(Progress("ablate", len(runs), len(arms) * len(seeds), detail))
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
        seconds=time.perf_counter() - started,
    )


def run_one(experiment: Experiment, arm: Arm, seed: int, watch: Watch, memory: RunMemory | None = None) -> Run:
    """Train and measure one arm with one seed, unless that was done before."""
    data = experiment.data(arm, seed)
    backbone, fuser = experiment.make_backbone(), experiment.make_fuser(arm)
    key = ""
    if memory is not None:
        key = memory.key(arm, seed, data, experiment.views.split, experiment.metrics, (backbone, fuser))
        if (known := memory.recall(key, arm, seed)) is not None:
            return known
    started = time.perf_counter()
    fitted = backbone.fit(data, fuser, seed=seed, monitor=watch)
    seconds = time.perf_counter() - started
    measured, looks = measure(fitted.factors, experiment.panels, experiment.views, experiment.metrics)
    best = next((entry for entry in fitted.history if entry.get("epoch") == fitted.best_epoch), {})
    run = Run(
        arm=arm.name,
        seed=seed,
        seconds=seconds,
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
        validation=best.get("metric"),
        history=fitted.history,
        measured=measured,
        spread=looks,
    )
    if memory is not None:
        memory.remember(key, run)
    return run


def references(experiment: Experiment) -> dict[str, Measured]:
    """Popularity, and EASE where it is cheap (its regularisation chosen on validation)."""
    views = experiment.views
    train, n_users, n_items = views.split.train, views.n_users, views.n_items
    lines = {"popularity": popularity(train, n_users, n_items)}
    validation = views.warm_validation
    if ease_fits(n_users, n_items):
        metric = experiment.metrics[0]
        grid = _EASE_GRID if len(validation.users) else _EASE_GRID[:1]
        fitted = [ease(train, n_users, n_items, regularisation=value) for value in grid]
        if len(grid) > 1:
            found = [
                evaluate(
                    one, validation, seen=views.seen_validating, candidates=views.warm_items, metrics=(metric,)
                ).mean(metric)
                for one in fitted
            ]
            fitted = [fitted[int(np.argmax(found))]]
        lines["ease"] = fitted[0]
    return {name: measure(factors, experiment.panels, views, experiment.metrics)[0] for name, factors in lines.items()}


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
        "test_unreachable": views.unreachable,
    }
