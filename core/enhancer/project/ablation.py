"""Run the ablation that ``[evaluation]`` describes, and write its report."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancer.evaluation import resolve_arms, resolve_baseline, run_ablation
from enhancer.evaluation.choosing.section import choice_section
from enhancer.evaluation.reporting.density_report import frontier_section
from enhancer.evaluation.reporting.report import write_report
from enhancer.evaluation.reporting.sections import knowledge_section, left_out_section, memory_section
from enhancer.evaluation.reporting.summary import summarise
from enhancer.evaluation.running.shared_vectors import SharedVectors
from enhancer.progress import Progress
from enhancer.project.buying.remembered import remembered
from enhancer.project.notes.known_items import known_items
from enhancer.project.profile_checks import refuse_leaks
from enhancer.project.profile_gallery import profile_gallery
from enhancer.project.reference_lines import reference_lines
from enhancer.project.run_events import arm_run_hook, finish_ablation
from enhancer.project.run_setup import (
    arm_trial,
    epoch_hook,
    experiment_over,
    require_fitting_task,
    run_cache,
)
from enhancer.project.running.training import training_workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.evaluation import Ablation, Arm
    from enhancer.plugin_host import ActiveRun
    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts

_log = logging.getLogger(__name__)


def ablate(
    parts: ProjectParts,
    run: ActiveRun,
    *,
    listener: Listener,
    report: Path | str | None,
    sections: Callable[[Ablation], Sequence[Any]] | None,
    title: str,
) -> Ablation:
    """Train every arm with every seed and write the report; see :meth:`enhancer.Project.ablate`."""
    settings = parts.settings
    arms = _arms(parts)
    inputs = dict.fromkeys(name for arm in arms if arm.semantic for name in arm.inputs)
    origin = refuse_leaks(parts, list(inputs))
    if parts.auto is None:
        require_fitting_task(parts, parts.backbone())
    else:
        for combination in dict.fromkeys(arm.inputs for arm in arms if arm.semantic):
            parts.features(combination)  # missing vectors are an error before any backbone is tried
        arms = parts.auto.arms(arms, parts.fuser, listener, trial=arm_trial(parts, listener))
    choice = None if parts.auto is None else parts.auto.choice()
    seeds = range(settings.seed, settings.seed + settings.evaluation.seeds)
    known = known_items(parts) if any(arm.semantic for arm in arms) else None
    groups = () if known is None else known.groups
    with SharedVectors.within(parts.root / "runs") as tables:
        workers, features = training_workers(parts, tables, arms, groups)
        ablation = run_ablation(
            experiment_over(parts, features, references=reference_lines(parts), groups=groups),
            arms,
            list(seeds),
            baseline=resolve_baseline(settings, arms),
            search=settings.evaluation.search,
            cache=run_cache(parts),
            workers=workers,
            listener=listener,
            on_epoch=epoch_hook(parts),
            on_run=arm_run_hook(run, parts),
        )
    ablation = replace(ablation if known is None else ablation.with_memory(known), choice=choice)
    ablation = replace(ablation, headline=summarise(ablation).headline)
    finish_ablation(run, parts, ablation, None if report is None else parts.root / report)
    if report is not None:
        listener(Progress("report", 0, 1))
        write_report(
            parts.root / report,
            ablation,
            title=title,
            facts=_facts(parts) | origin,
            settings=settings.model_dump(mode="json"),
            sections=[
                *([] if ablation.left_out is None else [left_out_section(ablation.left_out)]),
                *([] if ablation.memory is None else [memory_section(ablation.memory)]),
                *([] if ablation.knowledge is None else [knowledge_section(ablation.knowledge)]),
                *([] if (weighed := remembered(parts)) is None else [frontier_section(weighed)]),
                *([] if choice is None else [choice_section(choice)]),
                *(() if sections is None else sections(ablation)),
            ],
            gallery=profile_gallery(parts) if any(arm.semantic for arm in arms) else None,
            data=_data_names(parts),
            date=dt.datetime.now(dt.UTC).date().isoformat(),
        )
        listener(Progress("report", 1, 1))
        ablation = replace(ablation, page=parts.root / report)
    return ablation


def _arms(parts: ProjectParts) -> list[Arm]:
    """Return the arms to train, without the added control arm ``text`` if no text has been embedded."""
    settings = parts.settings
    arms = resolve_arms(
        settings,
        uses_semantics=lambda name: parts.plugins.get("fuser", name).uses_semantics,
        fusers=[line.name for line in parts.plugins.listing() if line.kind == "fuser"],
    )
    added = [arm for arm in arms if arm.name == "text" and "text" not in settings.listed_arms]
    if added and next(parts.read_store.scan(kind="item", aspect="text"), None) is None:
        _log.warning("the arm 'text' is left out: no raw text is embedded; `enhancer generate` does so without an LLM")
        return [arm for arm in arms if arm not in added]
    return arms


def _data_names(parts: ProjectParts) -> str:
    """Return the name of the interactions table and that of the project's folder."""
    tables = parts.settings.data.interactions
    names = [tables] if isinstance(tables, str) or not isinstance(tables, Sequence) else tables
    shown = ", ".join(Path(str(each)).name for each in names if each is not None)
    return f"{shown} in {parts.root.resolve().name}" if shown else parts.root.resolve().name


def _facts(parts: ProjectParts) -> dict[str, Any]:
    """Return facts about data and setup for the report."""
    settings = parts.settings
    read = parts.interactions.report
    return {
        "backbone": settings.backbone.use if parts.auto is None else f"auto: {parts.auto.choice().winner.label}",
        "embedder": parts.embedder.fingerprint if settings.prompts.item.source != "none" else "none",
        "LLM": settings.llm.model if settings.prompts.item.source == "llm" else "none",
        **({"knowledge of notes": settings.prompts.item.knowledge} if settings.notes("item") else {}),
        "rows read": read.rows,
        "rows with an unknown item": read.unknown_items,
        **{
            f"side features of {kind}s": ", ".join(map(str, found.columns))
            for kind, found in parts.side_features.items()
        },
    }
