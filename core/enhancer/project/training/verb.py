"""Train the configured backbone and fuser, and write the serving artifact."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from enhancer.config.evaluation import MAX_SEED
from enhancer.errors import ArtifactError, ConfigError
from enhancer.evaluation import Arm, FitRecord, Views, fit, refit, training_data
from enhancer.evaluation.measuring.panels import measure
from enhancer.evaluation.running.references import measure_references
from enhancer.progress import Progress
from enhancer.project.profile_checks import refuse_leaks
from enhancer.project.reference_lines import reference_lines
from enhancer.project.results import TrainingReport
from enhancer.project.run_setup import (
    arm_trial,
    epoch_hook,
    experiment_over,
    naming_fusers,
    require_fitting_task,
    run_cache,
)
from enhancer.project.training.card import TestedModel, card
from enhancer.project.training.exploration import exploration_cost
from enhancer.project.training.served_data import aliases_of, all_interactions, digest_of, pairs_seen, refit_data
from enhancer.serving import Ranker, write_artifact
from enhancer.serving.new_items import NewItemShare

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from enhancer.contracts.backbone import Fitted
    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts


def train(
    parts: ProjectParts, *, listener: Listener, seed: int | None, keep: bool, evaluate_only: bool
) -> TrainingReport:
    """Train, test, refit and write the artifact; see :meth:`enhancer.Project.train`."""
    settings = parts.settings
    seed = settings.seed if seed is None else seed
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"seed {seed} is not between 0 and {MAX_SEED}")
    fuser = parts.fuser()
    arm = Arm("train", settings.fuser.use, settings.fuser.options, settings.inputs, semantic=fuser.uses_semantics)
    started = time.perf_counter()
    if parts.auto is None:
        backbone = parts.backbone()
        with naming_fusers(parts):
            fuser.check(backbone, settings.fuser.use, settings.backbone.use)
        require_fitting_task(parts, backbone)
    refuse_leaks(parts, settings.inputs if fuser.uses_semantics else ())
    users, items, views = parts.features(settings.inputs) if fuser.uses_semantics else (None, None, ())
    if items is not None and parts.semantics.pools_users:
        users = parts.semantics.pool(items)
    if parts.auto is not None:  # after reading the vectors: their absence is an error before any backbone is tried
        with naming_fusers(parts):
            arm = parts.auto.arm(arm, fuser, listener, trial=arm_trial(parts, listener))
        backbone = parts.backbone(arm)
        parts.auto.warn_if_behind(arm)
    chosen = _chosen(parts, arm)
    split, folder = parts.split, parts.root / settings.artifact
    spread = parts.spread if items is not None else None
    data = training_data(
        split,
        users,
        items,
        views,
        item_spread=None if spread is None else spread([view.name for view in views]),
        sides=parts.sides,
        labelled="labels" in backbone.takes,
    )
    cache = run_cache(parts)
    run = cache.key(arm, seed, data, split, settings.evaluation.metrics, (backbone, fuser))
    refits = settings.serving.refit and not evaluate_only
    everything = all_interactions(parts)
    seen = pairs_seen(parts, everything) if refits else (split.train.users, split.train.items)
    titles, aliases = _titles(parts), aliases_of(parts)
    serving = settings.serving.model_dump(mode="json", exclude={"refit"})
    identity = {"run": run, "held": digest_of(everything, seen, titles, aliases, refits=refits), "serving": serving}
    if keep and (report := _kept(folder, identity, settings.artifact, chosen)) is not None:
        return report
    record = FitRecord()
    fitted, metrics = fit(
        backbone,
        fuser,
        data,
        split,
        metrics=settings.evaluation.metrics,
        seed=seed,
        listener=listener,
        on_epoch=epoch_hook(parts),
        checkpoint=cache.checkpoint(run),
        record=record,
    )
    share = NewItemShare(settings.serving.explore, settings.serving.new_items_cap)
    exploration = None
    if share.active:
        exploration = exploration_cost(Views(split), fitted.factors, share, settings.evaluation.metrics)
    trained_on, served = len(data.users), fitted
    if refits:
        all_data = refit_data(parts, everything, data)
        again = refit(
            parts.backbone(arm),
            parts.fuser(arm),
            all_data,
            record,
            seed=seed,
            listener=listener,
            checkpoint=cache.checkpoint(f"{run}-refit"),
        )
        if again is not None:
            trained_on, served = len(all_data.users), again
    is_refit = served is not fitted
    write_artifact(
        folder,
        factors=served.factors,
        user_ids=split.train.user_ids,
        item_ids=split.train.item_ids,
        train_users=seen[0],
        train_items=seen[1],
        place_items=served.place_items,
        place_users=served.place_users,
        titles=titles,
        user_aliases=aliases.users,
        item_aliases=aliases.items,
        card=card(parts, _tested(parts, arm, fitted, listener, refit=is_refit), everything, _facts(parts, arm, fitted)),
        manifest={
            **identity,
            "seed": seed,
            "backbone": settings.backbone.use,
            **chosen,
            "fuser": settings.fuser.use,
            "carries_semantics": fuser.carries_semantics,
            "probabilities": "labels" in backbone.takes,
            "embedder": parts.embedder.fingerprint if fuser.uses_semantics else None,
            "metrics": metrics,
            "exploration": exploration,
            "epochs": fitted.epochs,
            "best_epoch": fitted.best_epoch,
            "stopped": fitted.stopped,
            "trained_on": {"parts": _PARTS if is_refit else _PARTS[:1], "interactions": trained_on},
            "configuration": settings.model_dump(mode="json"),
        },
    )
    return TrainingReport(
        artifact=settings.artifact,
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
        stopped=fitted.stopped,
        seconds=time.perf_counter() - started,
        metrics=metrics,
        refit=is_refit,
        interactions=trained_on,
        exploration=exploration,
        **chosen,
    )


def _tested(parts: ProjectParts, arm: Arm, fitted: Fitted, listener: Listener, *, refit: bool) -> TestedModel:
    """Measure the model on all strata, beside the reference lines."""
    tested = TestedModel(
        views=Views(parts.split),
        metrics=parts.settings.evaluation.metrics,
        refit=refit,
        semantic=arm.semantic,
        places_items=fitted.place_items is not None,
    )
    if not len(tested.views.warm_test.users):
        return tested
    lines = reference_lines(parts)
    listener(Progress("compare", 0, 1, {"run": ", ".join(lines)}))
    experiment = experiment_over(parts, parts.features, lines)
    scores, beyond_accuracy = measure(fitted.factors, experiment.panels, experiment.views, experiment.metrics)
    references = measure_references(experiment, run_cache(parts), tune=False)
    if not arm.semantic:  # the same model is no comparison
        references.pop(_backbone_name(parts, arm), None)
    listener(Progress("compare", 1, 1))
    return replace(tested, scores=scores, beyond_accuracy=beyond_accuracy, references=references)


def _facts(parts: ProjectParts, arm: Arm, fitted: Fitted) -> dict[str, str]:
    """Return what the card says of the model."""
    settings = parts.settings
    name = _backbone_name(parts, arm)
    changed = ", ".join(f"{key} = {value}" for key, value in arm.backbone_options.items())
    facts = {
        "backbone": f"{name}{', chosen on validation' if parts.auto is not None else ''}{changed and f' ({changed})'}",
        "epochs": f"{fitted.epochs}, the best is {fitted.best_epoch}",
        "fuser": settings.fuser.use,
    }
    if arm.semantic:
        facts |= {"inputs": ", ".join(settings.inputs), "embedder": parts.embedder.fingerprint}
        if settings.prompts.item.source == "llm":
            facts["LLM"] = settings.llm.model
    return facts


def _backbone_name(parts: ProjectParts, arm: Arm) -> str:
    return parts.settings.backbone.use if arm.backbone is None else arm.backbone


_PARTS = ["train", "validation", "test"]


def _chosen(parts: ProjectParts, arm: Arm) -> dict[str, Any]:
    """Return the backbone that was chosen, its options and the candidates; empty if a backbone is named."""
    if parts.auto is None:
        return {}
    return {
        "backbone": arm.backbone,
        "backbone_options": dict(arm.backbone_options),
        "choice": parts.auto.choice().to_json(),
    }


def _titles(parts: ProjectParts) -> list[str] | None:
    titles = parts.titles
    return [titles.get(item) or "" for item in parts.split.train.item_ids] if any(titles.values()) else None


def _kept(folder: Path, identity: Mapping[str, Any], artifact: Path, chosen: dict[str, Any]) -> TrainingReport | None:
    """Read the report of an intact artifact in ``folder`` whose manifest has these entries; None if there is none."""
    started = time.perf_counter()
    try:
        manifest: dict[str, Any] = Ranker.load(folder, verify=True).manifest
        if any(manifest.get(name) != value for name, value in identity.items()):
            return None
        return TrainingReport(
            artifact=artifact,
            epochs=manifest["epochs"],
            best_epoch=manifest["best_epoch"],
            stopped=manifest.get("stopped"),
            seconds=time.perf_counter() - started,
            metrics=manifest["metrics"],
            refit=len(manifest["trained_on"]["parts"]) > 1,
            interactions=manifest["trained_on"]["interactions"],
            kept=True,
            exploration=manifest["exploration"],
            **chosen,
        )
    except (ArtifactError, KeyError, TypeError):
        return None
