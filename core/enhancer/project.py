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

import contextlib
import hashlib
import logging
import time
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from enhancer.config import Settings, load_settings
from enhancer.contracts.options import Context
from enhancer.errors import ConfigError, EnhancerError, PluginError
from enhancer.features.moment import Moment, SharedTables, at_one_moment
from enhancer.plugins import PluginManager, load_plugins
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.config.schema import Input
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.fuser import Fuser
    from enhancer.contracts.llm import LLMProvider
    from enhancer.contracts.store import FeatureStore, Repair
    from enhancer.data import Interactions, Split
    from enhancer.evaluation import Ablation, Arm, Experiment
    from enhancer.evaluation.diagnosis import Diagnosis
    from enhancer.evaluation.memory import RunMemory
    from enhancer.features import GenerationReport, Pipeline, Plan, Semantics
    from enhancer.features.refresh import Changes, RefreshReport
    from enhancer.progress import Listener
    from enhancer.results import RunReport, Similar, TrainingReport
    from enhancer.serving import Ranker, Recommendation

    Table = NDArray[np.float32]
    Confirm = Callable[[Plan], bool]

_log = logging.getLogger(__name__)
_KINDS = ("llm", "embedder", "store", "backbone", "fuser")


class Project:
    """One configuration and its folder. Tables, split and store are opened when first needed, and once."""

    def __init__(self, settings: Settings, root: Path, plugins: PluginManager | None = None) -> None:
        """Take settings as they are; :meth:`load` reads them from a file.

        Args:
            settings: What ``enhancer.toml`` says.
            root: The folder that relative paths are relative to.
            plugins: The plugin host; by default one that loads whatever is installed.
        """
        self.settings = settings
        self.root = root
        self._own_plugins = plugins is not None
        self.plugins = load_plugins() if plugins is None else plugins
        self.context = Context(root=root)
        self.moment = Moment(lambda: self.store)

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        overrides: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        plugins: PluginManager | None = None,
    ) -> Self:
        """Read ``enhancer.toml`` or ``pyproject.toml``; see :func:`enhancer.config.load_settings`.

        Raises:
            ConfigError: The file is missing, or says something that it cannot say.
        """
        settings, root = load_settings(None if path is None else Path(path), overrides=overrides, environ=environ)
        project = cls(settings, root, plugins)
        project.check_options()
        return project

    def check_options(self) -> None:
        """Refuse unknown and impossible options of the chosen plugins, whatever is to be done with the project.

        A plugin that is not there is no concern of those who do not need it: whoever makes it is told.

        Raises:
            ConfigError: An unknown option (with the nearest known one) or a value of a wrong type.
        """
        from enhancer.contracts.options import build_options

        for kind in _KINDS:
            chosen, own = self._chosen(kind)
            try:
                target = self.plugins.get(kind, chosen.use, complete=False)
            except PluginError:
                continue
            build_options(target.options_class, chosen.options, where=f"[{kind}]", also_known=own)

    # --- the parts -----------------------------------------------------------------------------------------------

    @cached_property
    def store(self) -> FeatureStore:
        """The feature store, opened; where there is none, it is made when something is first written to it."""
        from enhancer.features.unmade import UnmadeStore, store_folder

        chosen = self.settings.store
        folder = store_folder(self.plugins.get("store", chosen.use), chosen.options, self.context)
        if folder is not None and not folder.exists():
            return UnmadeStore(folder, lambda: self._create("store"))
        made: FeatureStore = self._create("store")
        return made

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder; its model is loaded when it first embeds."""
        made: Embedder = self._create("embedder")
        return made

    def provider(self, *, complete: bool = True) -> LLMProvider:
        """A new LLM provider: each event loop has its own.

        Args:
            complete: Refuse one whose libraries are missing; a plan does without.
        """
        made: LLMProvider = self._create("llm", complete=complete)
        return made

    def backbone(self, arm: Arm | None = None) -> Backbone:
        """A new backbone: that of ``[backbone]``, with what an arm changes of its options."""
        if arm is None or not arm.backbone_options:
            made: Backbone = self._create("backbone")
            return made
        chosen = self.settings.backbone
        options = {**chosen.options, **arm.backbone_options}
        arm_made: Backbone = self.plugins.create("backbone", chosen.use, options, self.context)
        return arm_made

    def fuser(self, arm: Arm | None = None) -> Fuser:
        """A new fuser: that of an arm, or that of ``[fuser]``."""
        if arm is None:
            made: Fuser = self._create("fuser")
            return made
        arm_made: Fuser = self.plugins.create("fuser", arm.fuser, arm.fuser_options, self.context)
        return arm_made

    @cached_property
    def interactions(self) -> Interactions:
        """The interactions, over the vocabulary of the items table where there is one.

        Raises:
            ConfigError: ``[data] interactions`` is not set, or its file or a column is missing.
            DataError: The file holds something that cannot be used.
        """
        from enhancer.data import read_interactions

        evaluation = self.settings.evaluation
        path = self._path(self.settings.data.interactions, "interactions")
        found = read_interactions(
            path,
            self.settings.data.columns,
            item_ids=self.item_ids,
            min_rating=evaluation.min_rating,
            k_core=evaluation.k_core,
        )
        for line in found.report.lines(asked_for=False):  # ids that do not match are lost without a word otherwise
            _log.warning("%s: %s", path, line)
        return found

    @cached_property
    def split(self) -> Split:
        """Train, validation and test, cut once by ``[evaluation]``."""
        from enhancer.data import split_interactions

        config, columns = self.settings.evaluation, self.settings.data.columns
        split = split_interactions(self.interactions, config, self.root, columns)
        for note in split.notes:
            _log.warning("%s", note)
        return split

    @cached_property
    def item_ids(self) -> list[str] | None:
        """Ids of the items table, in its order; None without one."""
        return None if self.settings.data.items is None else list(self.titles)

    @cached_property
    def titles(self) -> dict[str, str | None]:
        """What people call each item of the items table; None where it has no name."""
        from enhancer.data import read_entities

        if self.settings.data.items is None:
            return {}
        data = self.settings.data
        path = self._path(data.items, "items")
        return {entity.id: entity.title for entity in read_entities(path, "item", data.columns, data.max_text)}

    @property
    def semantics(self) -> Semantics:
        """The vectors that training takes."""
        from enhancer.features import Semantics

        return Semantics(self.settings, self.moment.store, self.embedder.fingerprint, self.split.train)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The way from entities to stored vectors."""
        from enhancer.features import Pipeline, Sources, inputs_wanted

        return Pipeline(
            self.settings,
            self.root,
            store=self.store,
            provider=self.provider,
            planner=lambda: self.provider(complete=False),
            embedder=lambda: self.embedder,
            sources=Sources.from_settings(
                self.settings, self.root, train=lambda: self.split.train, titles=lambda: self.titles
            ),
            inputs=inputs_wanted(self.settings),
            on_record=lambda record: self.plugins.hook.profile_stored(record=record),
            batch_providers=self._batch_providers,
        )

    def close(self) -> None:
        """Close the store, if it was opened."""
        if "store" in self.__dict__:
            self.store.close()
            del self.__dict__["store"]

    # --- the verbs -----------------------------------------------------------------------------------------------

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
    ) -> RefreshReport:
        """Bring the store up to the tables; see :func:`enhancer.features.refresh.refresh`."""
        from enhancer.features.refresh import refresh

        return refresh(
            self.pipeline,
            self.store,
            listener=listener,
            confirm=confirm,
            tell=tell,
            prune=prune,
            most_pruned=most_pruned,
            retry_quarantined=retry_quarantined,
        )

    def repair_store(self) -> Repair:
        """Keep all that is sound of a damaged store; see :meth:`~enhancer.contracts.FeatureStore.repair`.

        Raises:
            StoreError: The store cannot be repaired, or somebody uses it.
        """
        from enhancer.contracts.options import build_options

        self.close()
        chosen, own = self._chosen("store")
        target: type[FeatureStore] = self.plugins.get("store", chosen.use)
        options = build_options(target.options_class, chosen.options, where="[store]", also_known=own)
        return target.repair(options, self.context)

    def features(self, inputs: Sequence[Input]) -> tuple[Table | None, Table]:
        """The semantic vectors, rows as in :attr:`interactions`; see :meth:`~enhancer.features.Semantics.tables`."""
        return self.semantics.tables(inputs)

    @at_one_moment
    def diagnose(self) -> Diagnosis:
        """Look at profiles and vectors before anything is trained: does this feature stand a chance?

        Raises:
            ConfigError: There is nothing to look at, or the store has no vectors of items.
        """
        from enhancer.inspection import examine

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
            EvaluationError: Profiles of users may have been written from what is held out.
        """
        from enhancer.evaluation import Arm, fit, training_data
        from enhancer.features import inputs_of
        from enhancer.inspection import refuse_leaks
        from enhancer.results import TrainingReport, trained_before
        from enhancer.serving import write_artifact

        settings = self.settings
        seed = settings.seed if seed is None else seed
        backbone, fuser = self.backbone(), self.fuser()
        fuser.check(backbone, settings.fuser.use, settings.backbone.use)
        started = time.perf_counter()
        refuse_leaks(self, inputs_of(settings) if fuser.uses_semantics else ())
        users, items = self.features(inputs_of(settings)) if fuser.uses_semantics else (None, None)
        if items is not None and self.semantics.pools_users:
            users = self.semantics.pool(items)
        split, folder = self.split, self.root / settings.artifact
        data = training_data(split, users, items)
        arm = Arm("train", settings.fuser.use, settings.fuser.options)
        run = self._memory().key(arm, seed, data, split, settings.evaluation.metrics, (backbone, fuser))
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
            EvaluationError: Profiles of users may have been written from what is held out.
        """
        from enhancer.evaluation import Workers, resolve_arms, resolve_baseline, run_ablation
        from enhancer.evaluation.report import write_report
        from enhancer.inspection import gallery, refuse_leaks

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
        origin = refuse_leaks(self, {name for arm in arms if arm.semantic for name in arm.inputs})
        seeds = range(settings.seed, settings.seed + settings.evaluation.seeds)
        # Another process can only know the plugins that are installed.
        count = 1 if self._own_plugins else settings.evaluation.workers
        with SharedTables.within(self.root / "runs") as tables:
            ablation = run_ablation(
                arms,
                self.split,
                tables.keeping(self.features) if count > 1 else self.features,
                self.backbone,
                self.fuser,
                metrics=settings.evaluation.metrics,
                seeds=list(seeds),
                baseline=resolve_baseline(settings, arms),
                pool=self._pool,
                listener=listener,
                on_epoch=self._on_epoch,
                memory=self._memory(),
                workers=Workers(count, partial(_experiment, settings, self.root, tables)),
                search=settings.evaluation.search,
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
        from enhancer.results import RunReport

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
        from enhancer.features import inputs_of
        from enhancer.results import nearest

        return nearest(self.store, item_id, inputs_of(self.settings), k, self.titles)

    # --- within --------------------------------------------------------------------------------------------------

    def _create(self, kind: str, *, complete: bool = True) -> Any:
        chosen, own = self._chosen(kind)
        return self.plugins.create(kind, chosen.use, chosen.options, self.context, also_known=own, complete=complete)

    def _batch_providers(self) -> list[str]:
        """Names of installed LLM providers that have offline batches."""
        able = []
        for line in self.plugins.listing():
            with contextlib.suppress(EnhancerError):
                if line.kind == "llm" and hasattr(self.plugins.get("llm", line.name), "batches"):
                    able.append(line.name)
        return able

    def _chosen(self, kind: str) -> tuple[Any, list[str]]:
        """The table that chooses a plugin, and core's own keys in it."""
        chosen = getattr(self.settings, kind)
        return chosen, [name for name in type(chosen).model_fields if name not in ("use", "options")]

    def _path(self, path: Path | None, key: str) -> Path:
        if path is None:
            raise ConfigError(f"[data] {key} is not set", hint=f'name the file: {key} = "{key}.csv"')
        return self.root / path

    def _memory(self) -> RunMemory:
        """Runs that were finished before. The ids count too: equal numbers may stand for other entities."""
        from enhancer.evaluation.memory import RunMemory

        train = self.split.train
        ids = hashlib.blake2b("\0".join([*train.user_ids, "", *train.item_ids]).encode("utf-8", "surrogatepass"))
        return RunMemory(self.root / "runs", identity=f"{self.settings.backbone.model_dump_json()} {ids.hexdigest()}")

    @property
    def _pool(self) -> Callable[[Table], Table] | None:
        """How users get vectors from those of items; None where they do not."""
        return self._pooled if self.settings.prompts.user.source == "pool" else None

    def _pooled(self, items: Table) -> Table:
        # Not the method of semantics itself: that opens store and embedder, which arms without vectors do without.
        return self.semantics.pool(items)

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
        }


def _experiment(settings: Settings, root: Path, tables: SharedTables) -> Experiment:
    """The experiment of :meth:`Project.ablate`, in another process."""
    from enhancer.evaluation import Experiment

    project = Project(settings, root)
    return Experiment.over(
        project.split,
        tables.of(project.features),
        project.backbone,
        project.fuser,
        metrics=settings.evaluation.metrics,
        pool=project._pool,  # noqa: SLF001  its own module
    )
