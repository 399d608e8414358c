"""Weigh the stored texts against what they cost, on the project's split."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from enhancer.config.inputs import PROFILE, TEXT, aspect_of
from enhancer.contracts.record import PROFILE_ASPECT
from enhancer.errors import ConfigError, EnhancerError, StoreError
from enhancer.evaluation import Arm, Views
from enhancer.evaluation.diagnosing.agreement import interaction_columns, measure_agreement
from enhancer.evaluation.executor import Executor, check_arms
from enhancer.evaluation.frontier.density import measure_density
from enhancer.evaluation.frontier.ladder import NOTHING, ONE_TEXT, Rung, make_ladder
from enhancer.evaluation.frontier.prices import Cost, CostTable
from enhancer.evaluation.frontier.read_once import read_once
from enhancer.evaluation.measuring.split_facts import split_facts
from enhancer.evaluation.reporting.density_report import write_density_report
from enhancer.evaluation.running.shared_vectors import SharedVectors
from enhancer.project.buying.prices import record_prices
from enhancer.project.buying.remembered import remember
from enhancer.project.profile_checks import refuse_leaks
from enhancer.project.run_setup import arm_trial, epoch_hook, experiment_over, require_fitting_task, run_cache
from enhancer.project.running.training import training_workers
from enhancer.prompts import Template, bundled_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from enhancer.config.inputs import Input
    from enhancer.contracts.record import Kind
    from enhancer.evaluation.frontier.density import Density
    from enhancer.evaluation.frontier.ladder import Ladder
    from enhancer.evaluation.frontier.shares import Order
    from enhancer.plugin_host import ActiveRun
    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts

SEEDS = 2
"""Largest number of seeds by default: the noise of seeds is estimated from all rungs together."""
_log = logging.getLogger(__name__)


def density(
    parts: ProjectParts,
    run: ActiveRun,
    *,
    listener: Listener,
    seeds: int | None,
    shares: Sequence[float],
    orders: Sequence[Order],
    report: Path | str | None,
) -> Density:
    """Measure the ladder, and write the page; see :meth:`enhancer.Project.density`."""
    started = time.perf_counter()
    settings = parts.settings
    _check(parts, shares, seeds)
    available, stale = _available(parts)
    notes = _most_telling_first(parts, [name for name in settings.notes("item") if name in available])
    notes += [name for name in settings.notes("item") if name not in notes]
    ladder = make_ladder(
        available,
        notes,
        configured=settings.inputs,
        reviews=_from_reviews(parts, available),
        shares=shares,
        orders=orders,
    )
    ladder = replace(ladder, left_out={**ladder.left_out, **stale})
    if len(ladder.rungs) < 2:
        raise StoreError("the store has no vectors of items", hint="run `enhancer generate` first")
    origin = refuse_leaks(parts, list(dict.fromkeys(name for rung in ladder.rungs for name in rung.inputs)))
    costs = _costs(parts, ladder.rungs)
    ladder, arm_of = _arms(parts, ladder, listener)
    number = min(SEEDS, settings.evaluation.seeds) if seeds is None else seeds
    with SharedVectors.within(parts.root / "runs") as tables:
        arms = [arm_of(rung) for rung in ladder.rungs]
        workers, features = training_workers(parts, tables, arms, wrap=read_once)
        experiment = experiment_over(parts, features)
        check_arms(experiment, arms)
        executor = Executor(
            experiment,
            run_cache(parts),
            workers,
            epoch_hook(parts),
            stage="density",
        )
        found = measure_density(
            ladder, costs, executor, arm_of, range(settings.seed, settings.seed + number), listener=listener
        )
    facts = {**_facts(parts, arm_of(ladder.richest)), **split_facts(experiment.views), **origin}
    found = replace(found, facts=facts, missing=_missing(parts, ladder), seconds=time.perf_counter() - started)
    path = None if report is None else parts.root / report
    result = found.to_json()
    remember(parts, result)
    if path is not None:
        write_density_report(path, result, title="How much to generate?")
    run.finish(metrics=_metrics(found), artifact=path)
    return found


def _check(parts: ProjectParts, shares: Sequence[float], seeds: int | None) -> None:
    """Check everything that needs no data."""
    fuser, settings = parts.fuser(), parts.settings
    if not fuser.uses_semantics:
        raise ConfigError(
            f"there is nothing to weigh: {fuser.display_name} uses no vectors",
            hint='set [fuser] use to one that does, such as "prior"',
        )
    if settings.prompts.item.source == "none":
        raise ConfigError(
            "there is nothing to weigh: [prompts.item] source is 'none'", hint='set it to "llm" or "text"'
        )
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong:
        raise ConfigError(f"shares: {wrong[0]:g} is no share of the catalogue", hint="a share is above 0 and at most 1")
    if seeds is not None and seeds < 1:
        raise ConfigError(f"seeds: {seeds} is too few", hint="at least 1")


def _facts(parts: ProjectParts, arm: Arm) -> dict[str, Any]:
    """Return facts about the setup for the report."""
    settings = parts.settings
    return {
        "backbone": settings.backbone.use if parts.auto is None else f"auto: {arm.backbone}",
        "fuser": settings.fuser.use,
        "embedder": parts.embedder.fingerprint,
        "LLM": settings.llm.model if settings.prompts.item.source == "llm" else "none",
    }


def _missing(parts: ProjectParts, ladder: Ladder) -> dict[str, Any] | None:
    """Return what `enhancer generate` would write and what that costs, if texts are missing; None otherwise."""
    if not {*ladder.left_out} - {ONE_TEXT}:
        return None
    try:
        plan = parts.pipeline.plan()
    except EnhancerError as error:  # such as a provider that is not installed
        _log.info("the missing texts could not be priced: %s", error)
        return None
    return {"to_generate": plan.to_generate, "cost_usd": plan.cost_usd}


def _metrics(found: Density) -> dict[str, float]:
    """Return the gain of the best rung on each stratum with a verdict, for the observers."""
    best = {name: (each.best, each.gain(each.best)) for name, each in found.standings.items()}
    return {f"{name}/{found.metric}": gain.delta for name, (_, gain) in best.items() if gain is not None}


def _available(parts: ProjectParts) -> tuple[list[str], dict[str, str]]:
    """Return the inputs that items have in the store, the raw text alone if no notes are wanted; and what is stale."""
    if parts.settings.prompts.item.source == "text":
        return [TEXT], {}
    store, n_items = parts.read_store, len(parts.split.train.item_ids)
    available, stale = [], {}
    for name, count in store.stats().by_kind.items():
        kind, _, aspect = name.partition("/")
        if kind != "item" or "#" in aspect:  # further samples of a note are read with the first
            continue
        text = PROFILE if aspect == PROFILE_ASPECT else aspect
        first = next(iter(store.scan(kind="item", aspect=aspect)), None)
        if first is not None and first.embedder != parts.embedder.fingerprint:
            stale[text] = "another embedder made its vectors: run `enhancer generate`"
            continue
        available.append(text)
        if count < n_items and text in parts.settings.notes("item"):
            _log.warning(
                "only %s of %s items have %r: its rungs are measured on these", f"{count:,}", f"{n_items:,}", text
            )
    return available, stale


def _from_reviews(parts: ProjectParts, available: Sequence[Input]) -> set[Input]:
    """Return the stored notes that were made from reviews, by the template that their records name."""
    showing: dict[str, bool] = {}
    try:
        spec = parts.pipeline.spec("item")
    except EnhancerError as error:  # such as a template that is gone: notes are told by bundled ones alone
        _log.info("which notes are made from reviews is not known for sure: %s", error)
        spec = None
    for one in () if spec is None else spec.notes:
        showing[one.note.template.name] = "reviews" in one.note.template.context_names
    found = set()
    for name in available:
        first = next(iter(parts.read_store.scan(kind="item", aspect=aspect_of(name))), None)
        template = "" if first is None else first.prompt_version.partition("@")[0]
        if template in bundled_names() and template not in showing:
            showing[template] = "reviews" in Template.load(template).context_names
        if showing.get(template):
            found.add(name)
    return found


def _most_telling_first(parts: ProjectParts, notes: Sequence[str]) -> list[str]:
    """Sort notes by how well neighbours by their vectors agree with neighbours by training interactions.

    It needs no training, and no interaction of the other splits. Notes stay in the order of the configuration if there
    are too few interactions to tell.
    """
    if len(notes) < 2:
        return list(notes)
    columns = interaction_columns(Views(parts.split).positive_train, "item")
    users = len(parts.split.train.user_ids)
    found = {name: measure_agreement(parts.features((name,)).items, columns, users) for name in notes}
    return sorted(notes, key=lambda name: 0.0 if (agreement := found[name]) is None else -agreement.overlap)


def _arms(parts: ProjectParts, ladder: Ladder, listener: Listener) -> tuple[Ladder, Callable[[Rung], Arm]]:
    """Return the arm of each rung, all on one backbone; with ``use = "auto"``, the one that ``train`` would choose.

    If the configured inputs are not stored, it is the one chosen for the richest rung. If ``auto`` prefers another
    backbone without vectors, that one is the rung of nothing, and the backbone of the others is a rung as well, which
    costs nothing either.
    """
    fuser = parts.settings.fuser

    def plain(rung: Rung) -> Arm:
        if not rung.inputs:
            return Arm(rung.name, "none", semantic=False)
        return Arm(rung.name, fuser.use, fuser.options, inputs=rung.inputs, kept=rung.kept)

    auto = parts.auto
    if auto is None:
        require_fitting_task(parts, parts.backbone())
        return ladder, plain
    trial = arm_trial(parts, listener)
    stored = {name for rung in ladder.rungs for name in rung.inputs}
    deciding = ladder.richest
    if {*parts.settings.inputs} <= stored:
        deciding = Rung(name=fuser.use, inputs=parts.settings.inputs)
    chosen = auto.arm(plain(deciding), parts.fuser(), listener, trial=trial)
    nothing = auto.arm(Arm(NOTHING, "none", semantic=False), parts.fuser(Arm(NOTHING, "none")), listener)
    own = (chosen.backbone, dict(chosen.backbone_options))
    rungs = list(ladder.rungs)
    other = f"{NOTHING}, on {chosen.backbone}"
    if own != (nothing.backbone, dict(nothing.backbone_options)):
        rungs.insert(1, Rung(name=other))

    def placed(rung: Rung) -> Arm:
        on = nothing if rung.name == NOTHING else chosen
        return replace(plain(rung), backbone=on.backbone, backbone_options=on.backbone_options)

    return replace(ladder, rungs=rungs), placed


def _costs(parts: ProjectParts, rungs: Sequence[Rung]) -> dict[str, Cost]:
    """Return what the generated texts of each rung cost, by its name."""
    prices, train, popularity = record_prices(parts), parts.split.train, Views(parts.split).popularity
    tables: dict[tuple[Kind, str], CostTable] = {}

    def table(kind: Kind, text: str) -> CostTable:
        if (kind, text) not in tables:
            ids = train.item_ids if kind == "item" else train.user_ids
            tables[kind, text] = CostTable.read(parts.read_store, ids, kind, _aspects(parts, kind, text), prices)
        return tables[kind, text]

    found = {}
    for rung in rungs:
        kept = None if rung.kept is None else rung.kept.kept(popularity)
        cost = Cost()
        for text in rung.generated:
            cost += table("item", text).sum(kept)
            if text in parts.settings.notes("user"):
                cost += table("user", text).sum()
        found[rung.name] = cost
    return found


def _aspects(parts: ProjectParts, kind: Kind, text: str) -> list[str]:
    """Return the stored aspects of a note: its own, and those of further samples."""
    samples: int = getattr(parts.settings.prompts, kind).samples
    return [aspect_of(text, number) for number in range(1, samples + 1)]
