"""Train the configured backbone and fuser, and write the serving artifact."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from enhancer.config.evaluation import MAX_SEED
from enhancer.errors import ArtifactError, ConfigError
from enhancer.evaluation import Arm, Views, fit, training_data
from enhancer.project.exploration import exploration_cost
from enhancer.project.profile_checks import refuse_leaks
from enhancer.project.results import TrainingReport
from enhancer.project.run_setup import arm_trial, epoch_hook, naming_fusers, require_fitting_task, run_cache
from enhancer.serving import Ranker, write_artifact
from enhancer.serving.new_items import NewItemShare

if TYPE_CHECKING:
    from pathlib import Path

    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts


def train(parts: ProjectParts, *, listener: Listener, seed: int | None, keep: bool) -> TrainingReport:
    """Train, test and write the artifact; see :meth:`enhancer.Project.train`."""
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
    share = NewItemShare(settings.serving.explore, settings.serving.new_items_cap)
    serving = settings.serving.model_dump(mode="json")
    if keep and (report := _read_report(folder, run, settings.artifact, chosen, serving)) is not None:
        return report
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
    )
    exploration = None
    if share.active:
        exploration = exploration_cost(Views(split), fitted.factors, share, settings.evaluation.metrics)
    write_artifact(
        folder,
        factors=fitted.factors,
        user_ids=split.train.user_ids,
        item_ids=split.train.item_ids,
        train_users=split.train.users,
        train_items=split.train.items,
        place_items=fitted.place_items,
        place_users=fitted.place_users,
        titles=_titles(parts),
        manifest={
            "run": run,
            "seed": seed,
            "backbone": settings.backbone.use,
            **chosen,
            "fuser": settings.fuser.use,
            "carries_semantics": fuser.carries_semantics,
            "probabilities": "labels" in backbone.takes,
            "embedder": parts.embedder.fingerprint if fuser.uses_semantics else None,
            "metrics": metrics,
            "serving": serving,
            "exploration": exploration,
            "epochs": fitted.epochs,
            "best_epoch": fitted.best_epoch,
            "stopped": fitted.stopped,
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
        exploration=exploration,
        **chosen,
    )


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


def _read_report(
    folder: Path, run: str, artifact: Path, chosen: dict[str, Any], serving: dict[str, Any]
) -> TrainingReport | None:
    """Read the report of an intact artifact in ``folder`` that the run of that key wrote; None if there is none.

    ``serving`` is the table of that name, which an artifact carries as well.
    """
    started = time.perf_counter()
    try:
        manifest: dict[str, Any] = Ranker.load(folder, verify=True).manifest
        if manifest.get("run") != run or manifest.get("serving") != serving:
            return None
        return TrainingReport(
            artifact=artifact,
            epochs=manifest["epochs"],
            best_epoch=manifest["best_epoch"],
            stopped=manifest.get("stopped"),
            seconds=time.perf_counter() - started,
            metrics=manifest["metrics"],
            exploration=manifest["exploration"],
            **chosen,
        )
    except (ArtifactError, KeyError):
        return None
