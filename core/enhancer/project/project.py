"""A project: one configuration, and all that can be done with it. The command line is a thin layer over this.

>>> import enhancer
>>> project = enhancer.Project.load("enhancer.toml")  # doctest: +SKIP
>>> project.plan().to_json()["requests"]  # doctest: +SKIP
1682
>>> project.generate()  # doctest: +SKIP
>>> project.train().metrics  # doctest: +SKIP
{'ndcg@10': 0.327, 'recall@20': 0.391}
"""

from __future__ import annotations

import hashlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, EnhancerError
from enhancer.features.reading.pinned_store import at_one_moment
from enhancer.progress import Progress, silent
from enhancer.project.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from enhancer.config import Settings
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.store import Repair
    from enhancer.evaluation import Ablation, Experiment
    from enhancer.evaluation.diagnosing.diagnosis import Diagnosis
    from enhancer.evaluation.running.run_cache import RunCache
    from enhancer.evaluation.running.shared_tables import SharedTables
    from enhancer.evaluation.running.vectors import Features
    from enhancer.features import GenerationReport, Plan
    from enhancer.features.refresh import Changes, RefreshReport
    from enhancer.progress import Listener
    from enhancer.project.results import RunReport, Similar, TrainingReport
    from enhancer.serving import Ranker, Recommendation

    Confirm = Callable[[Plan], bool]

_log = logging.getLogger(__name__)


class Project(Parts):
    """One configuration and its folder, and the verbs: plan, generate, refresh, train, ablate, recommend, and so on.

    Tables, split and store are opened when first needed, and once.
    """

    def plan(self, *, batch: bool = False, retry_quarantined: bool = False) -> Plan:
        """What :meth:`generate` would do, and what it would cost; with ``batch`` as an offline batch. Calls nothing."""
        return self.pipeline.plan(batch=batch, retry_quarantined=retry_quarantined)

    def generate(
        self,
        *,
        listener: Listener = silent,
        confirm: Confirm | None = None,
        retry_quarantined: bool = False,
        limit: int | None = None,
        batch: bool = False,
        wait: bool = True,
        abandon: bool = False,
    ) -> GenerationReport:
        """Profile, validate, embed and store what is new or changed.

        Args:
            listener: Told of progress.
            confirm: Shown the plan before anything that may cost money; anything but True stops.
            retry_quarantined: Ask again about entities whose answers were never valid.
            limit: Generate for that many entities at most.
            batch: Use the provider's batch API: at a lower price, and within a day.
            wait: With ``batch``: stay until everything is collected, rather than submit and collect another time.
            abandon: With ``batch``: have everything that is out end early, collect that, and submit nothing.

        Raises:
            BudgetError: ``max_cost`` leaves no room for the next call; what was paid for is kept.
            EnhancerError: See the exception tree; also when ``confirm`` says no.
        """
        if not batch and (abandon or not wait):
            raise ConfigError("--no-wait and --abandon are about offline batches", hint="add --batch")
        if (
            confirm is not None
            and not abandon
            and not confirm(self.plan(batch=batch, retry_quarantined=retry_quarantined))
        ):
            raise EnhancerError("not confirmed: nothing was generated")
        if batch:
            return self.pipeline.generate_offline(
                listener, retry_quarantined=retry_quarantined, limit=limit, wait=wait, abandon=abandon
            )
        return self.pipeline.generate(listener, retry_quarantined=retry_quarantined, limit=limit)

    def refresh(
        self,
        *,
        listener: Listener = silent,
        confirm: Confirm | None = None,
        tell: Callable[[Changes], None] | None = None,
        prune: bool = False,
        most_pruned: float = 0.5,
        retry_quarantined: bool = False,
        batch: bool = False,
        wait: bool = True,
    ) -> RefreshReport:
        """Bring the store up to the tables; see :func:`enhancer.features.refresh.refresh`."""
        from enhancer.features.refresh import refresh

        if not batch and not wait:
            raise ConfigError("--no-wait is about offline batches", hint="add --batch")
        return refresh(
            self.pipeline,
            self.store,
            listener=listener,
            confirm=confirm,
            tell=tell,
            prune=prune,
            most_pruned=most_pruned,
            retry_quarantined=retry_quarantined,
            batch=batch,
            wait=wait,
        )

    def repair_store(self) -> Repair:
        """Keep all that is sound of a damaged store; see :meth:`~enhancer.contracts.FeatureStore.repair`.

        Raises:
            StoreError: The store cannot be repaired, or somebody uses it.
        """
        self.close()
        target, options = self.store_class_and_options()
        return target.repair(options, self.context)

    @at_one_moment
    def diagnose(self) -> Diagnosis:
        """Look at profiles and vectors before anything is trained: does this feature stand a chance?

        Raises:
            ConfigError: There is nothing to look at, or the store has no vectors of items.
        """
        from enhancer.project.profile_checks import examine

        return examine(self)

    @at_one_moment
    def train(self, *, listener: Listener = silent, seed: int | None = None, keep: bool = False) -> TrainingReport:
        """Train backbone and fuser, test them, and write the serving artifact.

        Args:
            listener: Told of progress.
            seed: By default ``seed`` of the settings.
            keep: Leave alone an artifact that was trained from the very same data, vectors and options.

        Raises:
            FusionError: The two cannot work together.
            EvaluationError: Profiles or texts of users may have been written from what is held out.
        """
        from enhancer.evaluation import Arm, fit, training_data
        from enhancer.project.profile_checks import refuse_leaks
        from enhancer.project.results import TrainingReport, trained_before
        from enhancer.serving import write_artifact

        settings = self.settings
        seed = settings.seed if seed is None else seed
        backbone, fuser = self.backbone(), self.fuser()
        fuser.check(backbone, settings.fuser.use, settings.backbone.use)
        started = time.perf_counter()
        self._check_task(backbone)
        refuse_leaks(self, settings.inputs if fuser.uses_semantics else ())
        users, items = self.features(settings.inputs) if fuser.uses_semantics else (None, None)
        if items is not None and self.semantics.pools_users:
            users = self.semantics.pool(items)
        split, folder = self.split, self.root / settings.artifact
        data = training_data(split, users, items, sides=self.sides, labelled="labels" in backbone.takes)
        arm = Arm("train", settings.fuser.use, settings.fuser.options)
        memory = self._memory()
        run = memory.key(arm, seed, data, split, settings.evaluation.metrics, (backbone, fuser))
        if keep and (kept := trained_before(folder, run, settings.artifact)) is not None:
            return kept
        fitted, metrics = fit(
            backbone,
            fuser,
            data,
            split,
            metrics=settings.evaluation.metrics,
            seed=seed,
            listener=listener,
            on_epoch=self._on_epoch,
            checkpoint=memory.checkpoint(run),
        )
        write_artifact(
            folder,
            factors=fitted.factors,
            user_ids=split.train.user_ids,
            item_ids=split.train.item_ids,
            train_users=split.train.users,
            train_items=split.train.items,
            place_items=fitted.place_items,
            place_users=fitted.place_users,
            titles=[self.titles.get(item) or "" for item in split.train.item_ids]
            if any(self.titles.values())
            else None,
            manifest={
                "run": run,
                "seed": seed,
                "backbone": settings.backbone.use,
                "fuser": settings.fuser.use,
                "carries_semantics": fuser.carries_semantics,
                "probabilities": "labels" in backbone.takes,
                "embedder": self.embedder.fingerprint if fuser.uses_semantics else None,
                "metrics": metrics,
                "epochs": fitted.epochs,
                "best_epoch": fitted.best_epoch,
                "configuration": settings.model_dump(mode="json"),
            },
        )
        return TrainingReport(
            artifact=settings.artifact,
            epochs=fitted.epochs,
            best_epoch=fitted.best_epoch,
            seconds=time.perf_counter() - started,
            metrics=metrics,
        )

    @at_one_moment
    def ablate(
        self,
        *,
        listener: Listener = silent,
        report: Path | str | None = "report.html",
        sections: Callable[[Ablation], Sequence[Any]] | None = None,
        title: str = "Does the feature help?",
    ) -> Ablation:
        """Train every arm with every seed on one split, judge, and write the report.

        Args:
            listener: Told of progress.
            report: Where the page goes, relative to the project's folder; None for none.
            sections: Makes further sections for the page.
            title: Title of the page.

        Raises:
            ConfigError: An arm or metric is unknown, or an arm's vectors are not in the store.
            FusionError: A pair cannot work together; raised before any training.
            EvaluationError: Profiles or texts of users may have been written from what is held out.
        """
        from enhancer.evaluation import Workers, resolve_arms, resolve_baseline, run_ablation
        from enhancer.evaluation.reporting.report import write_report
        from enhancer.evaluation.running.shared_tables import SharedTables
        from enhancer.project.profile_checks import gallery, refuse_leaks

        settings = self.settings
        arms = resolve_arms(
            settings,
            uses_semantics=lambda name: self.plugins.get("fuser", name).uses_semantics,
            fusers=[line.name for line in self.plugins.listing() if line.kind == "fuser"],
        )
        unasked = [arm for arm in arms if arm.name == "text" and "text" not in settings.evaluation.arms]
        if unasked and next(self.moment.store.scan(kind="item", aspect="text"), None) is None:
            _log.warning(
                "the arm of raw text is left out: no text is embedded; `enhancer generate` does so, without an LLM"
            )
            arms = [arm for arm in arms if arm not in unasked]
        self._check_task(self.backbone())
        origin = refuse_leaks(self, list(dict.fromkeys(name for arm in arms if arm.semantic for name in arm.inputs)))
        seeds = range(settings.seed, settings.seed + settings.evaluation.seeds)
        # Another process can only know the plugins that are installed.
        count = settings.evaluation.workers if self.plugins.only_installed else 1
        with SharedTables.within(self.root / "runs") as tables:
            ablation = run_ablation(
                _experiment(self, tables.keeping(self.features) if count > 1 else self.features),
                arms,
                list(seeds),
                baseline=resolve_baseline(settings, arms),
                search=settings.evaluation.search,
                cache=self._memory(),
                workers=Workers(count, partial(_worker_experiment, settings, self.root, tables)),
                listener=listener,
                on_epoch=self._on_epoch,
            )
        self.plugins.hook.ablation_finished(result=ablation.to_json())
        if report is not None:
            listener(Progress("report", 0, 1))
            write_report(
                self.root / report,
                ablation,
                title=title,
                facts=self._facts() | origin,
                settings=settings.model_dump(mode="json"),
                sections=() if sections is None else sections(ablation),
                gallery=gallery(self) if any(arm.semantic for arm in arms) else None,
            )
            listener(Progress("report", 1, 1))
        return ablation

    def run(self, *, listener: Listener = silent, confirm: Confirm | None = None) -> RunReport:
        """Generate, train and ablate, one after the other."""
        from enhancer.project.results import RunReport

        generated = self.generate(listener=listener, confirm=confirm)
        trained = self.train(listener=listener)
        return RunReport(generate=generated, train=trained, ablate=self.ablate(listener=listener))

    def ranker(self) -> Ranker:
        """The artifact that :meth:`train` wrote, ready to serve."""
        from enhancer.serving import Ranker

        return Ranker.load(self.root / self.settings.artifact)

    def recommend(self, user_ids: Sequence[str], k: int = 10) -> list[Recommendation]:
        """The ``k`` best items for each user, without those seen in training."""
        return self.ranker().recommend(user_ids, k=k)

    def similar(self, item_id: str, k: int = 10) -> Similar:
        """The items whose vectors are nearest to that of ``item_id``, by cosine.

        Raises:
            ConfigError: The store has no vectors.
            DataError: It has none for this item.
        """
        from enhancer.project.results import nearest

        return nearest(self.store, item_id, self.settings.inputs, k, self.titles)

    # --- within --------------------------------------------------------------------------------------------------

    def _check_task(self, backbone: Backbone) -> None:
        """Refuse features, labels and metrics that do not go with the backbone, before anything else is done."""
        from enhancer.evaluation import Views, training_data
        from enhancer.evaluation.running.preconditions import check_task

        data = training_data(self.split, sides=self.sides, labelled="labels" in backbone.takes)
        check_task(backbone, data, Views(self.split), self.settings.evaluation.metrics, self.settings.backbone.use)

    def _memory(self) -> RunCache:
        """Runs that were finished before. The ids count too: equal numbers may stand for other entities."""
        from enhancer.evaluation.running.run_cache import RunCache

        train = self.split.train
        ids = hashlib.blake2b("\0".join([*train.user_ids, "", *train.item_ids]).encode("utf-8", "surrogatepass"))
        memory = RunCache(self.root / "runs", identity=f"{self.settings.backbone.model_dump_json()} {ids.hexdigest()}")
        memory.remove_abandoned()
        return memory

    def _on_epoch(self, run: str, epoch: int, loss: float, metric: float | None) -> None:
        self.plugins.hook.epoch_finished(run=run, epoch=epoch, loss=loss, metric=metric)

    def _facts(self) -> dict[str, Any]:
        """What a reader of the report wants to know of the data and the setup."""
        settings = self.settings
        read = self.interactions.report
        return {
            "backbone": settings.backbone.use,
            "embedder": self.embedder.fingerprint if settings.prompts.item.source != "none" else "none",
            "LLM": settings.llm.model if settings.prompts.item.source == "llm" else "none",
            "rows read": read.rows,
            "rows with an unknown item": read.unknown_items,
            **{
                f"side features of {kind}s": ", ".join(map(str, found.columns))
                for kind, found in self.side_features.items()
            },
        }


def _experiment(parts: Parts, features: Features) -> Experiment:
    """Return the experiment of :meth:`Project.ablate`."""
    from enhancer.evaluation import Experiment

    return Experiment.over(
        parts.split,
        features,
        parts.backbone,
        parts.fuser,
        metrics=parts.settings.evaluation.metrics,
        pool=parts.pooling,
        sides=parts.sides,
    )


def _worker_experiment(settings: Settings, root: Path, tables: SharedTables) -> Experiment:
    """Return the same experiment in a worker process, with vectors from the shared tables."""
    parts = Parts(settings, root)
    return _experiment(parts, tables.of(parts.features))
