"""A project: one configuration and the verbs over it. The command line is a thin layer over this.

>>> import enhancer
>>> project = enhancer.Project.load("enhancer.toml")  # doctest: +SKIP
>>> project.plan().to_json()["requests"]  # doctest: +SKIP
1682
>>> project.generate()  # doctest: +SKIP
>>> project.train().metrics  # doctest: +SKIP
{'ndcg@10': 0.327, 'recall@20': 0.391}
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from enhancer.config import load_settings
from enhancer.errors import ConfigError, EnhancerError
from enhancer.progress import silent
from enhancer.project.exporting.project_verbs import ExportingVerbs
from enhancer.project.inspecting.project_verbs import InspectingVerbs
from enhancer.project.parts import ProjectParts
from enhancer.project.spending.project_verbs import SpendingVerbs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enhancer.config import Settings
    from enhancer.contracts.store import FeatureStore, Repair
    from enhancer.evaluation import Ablation
    from enhancer.evaluation.diagnosing.checks import DiagnosticCheck
    from enhancer.evaluation.diagnosing.diagnosis import Diagnosis
    from enhancer.evaluation.frontier.density import Density
    from enhancer.evaluation.frontier.shares import Order
    from enhancer.features import GenerationReport, Plan
    from enhancer.features.refresh import Changes, RefreshReport
    from enhancer.plugin_host import PluginManager
    from enhancer.progress import Listener
    from enhancer.project.results import RunReport, TrainingReport
    from enhancer.serving import Ranker, Recommendations

    Confirm = Callable[[Plan], bool]


class Project(SpendingVerbs, InspectingVerbs, ExportingVerbs):
    """One configuration, its folder, and the verbs: plan, generate, refresh, train, ablate, recommend, and so on.

    Args:
        settings: The configuration; :meth:`load` reads it from a file.
        root: Folder that relative paths are resolved against.
        plugins: The plugin host; by default one that loads all installed plugins.

    Attributes:
        parts: Plugins, tables, split, store and vectors, each opened when first needed.
    """

    def __init__(self, settings: Settings, root: Path, plugins: PluginManager | None = None) -> None:
        self.parts = ProjectParts(settings, root, plugins)

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
            ConfigError: The file is missing, or a key or value in it is wrong.
        """
        settings, root = load_settings(None if path is None else Path(path), overrides=overrides, environ=environ)
        project = cls(settings, root, plugins)
        project.parts.chosen.check_options()
        return project

    @classmethod
    def from_frames(
        cls,
        *,
        items: object = None,
        interactions: object = None,
        users: object = None,
        reviews: object = None,
        validation: object = None,
        test: object = None,
        settings: Settings | Mapping[str, Any] | Path | str | None = None,
        root: Path | str | None = None,
        plugins: PluginManager | None = None,
    ) -> Self:
        """Make a project whose tables are data frames, without a copy on disk.

        A frame is one of pandas, Polars, PyArrow, DuckDB, datasets, or another library that Narwhals knows.

        Args:
            items: Table of items; it and the others stand for the files of ``[data]``.
            interactions: Table of interactions.
            users: Table of users.
            reviews: Table of reviews.
            validation: Validation interactions of ``[evaluation] split = "files"``.
            test: Test interactions of it.
            settings: The settings, their tables as a mapping, or a configuration file.
            root: Folder of the store, runs and artifact; by default that of the file, or the working folder.
            plugins: The plugin host.

        Raises:
            ConfigError: A key or value of the settings is wrong, or something is no data frame.
            DataError: A column holds values of different types.
        """
        from enhancer.project.frame_tables import with_frames

        tables = {"items": items, "interactions": interactions, "users": users, "reviews": reviews}
        tables |= {"validation": validation, "test": test}
        made, folder, held = with_frames(settings, root, {name: one for name, one in tables.items() if one is not None})
        project = cls(made, folder, plugins)
        project.parts.frames = held
        project.parts.chosen.check_options()
        return project

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def settings(self) -> Settings:
        """The configuration."""
        return self.parts.settings

    @property
    def root(self) -> Path:
        """Folder that relative paths are resolved against."""
        return self.parts.root

    @property
    def store(self) -> FeatureStore:
        """The feature store, opened."""
        return self.parts.store

    @property
    def titles(self) -> dict[str, str | None]:
        """Title of each item of the items table; None for an item without one."""
        return self.parts.titles

    def close(self) -> None:
        """Close the store, if it was opened."""
        self.parts.close()

    def _check(self, *, complete: bool = False) -> None:
        """Check every key of the configuration, as every verb does before it begins.

        Args:
            complete: Whether to refuse plugins of training whose libraries are not installed.

        Raises:
            ConfigError: A name of a plugin, metric or arm, an option, or the place of a result is wrong.
        """
        from enhancer.project.settings_check import check_settings

        check_settings(self.parts, complete=complete)

    def _checked(self, confirm: Confirm) -> Confirm:
        """Check that the LLM can be called once a plan with calls is confirmed: embedding may begin before them."""

        def checked(plan: Plan) -> bool:
            agreed = confirm(plan)
            if agreed and plan.requests:
                self.parts.provider().check(self.settings.llm.model)
            return agreed

        return checked

    # --- profiles and vectors ------------------------------------------------------------------------------------

    def plan(self, *, batch: bool = False, retry_quarantined: bool = False, limit: int | None = None) -> Plan:
        """Estimate what :meth:`generate` would do and cost. Calls no provider and writes nothing.

        Args:
            batch: Estimate at the price of batch jobs.
            retry_quarantined: Include entities in quarantine.
            limit: Largest number of entities to ask about.
        """
        self._check()
        return self.parts.pipeline.plan(batch=batch, retry_quarantined=retry_quarantined, limit=limit)

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
        keep_going: bool = False,
    ) -> GenerationReport:
        """Profile, validate, embed and store entities that are new or changed.

        Args:
            listener: Called with progress events.
            confirm: Called with the plan before anything that may cost money; any result but True stops the run.
            retry_quarantined: Ask again about entities in quarantine.
            limit: Largest number of entities to ask about; a later run asks about the others.
            batch: Use the provider's batch jobs: cheaper, and done within a day.
            wait: With ``batch``: wait for all results; otherwise submit, collect what is done, and return.
            abandon: With ``batch``: cancel all jobs, collect what they have done, and submit nothing.
            keep_going: Go on although most of the first answers are not valid.

        Raises:
            BudgetError: ``max_cost`` leaves no room for the next call; paid answers are kept.
            EnhancerError: Any other error that stopped the run, or ``confirm`` did not return True.
        """
        from enhancer.project.run_events import finish_generation, run_events

        if not batch and (abandon or not wait):
            raise ConfigError("--no-wait and --abandon apply to batch jobs only", hint="add --batch")
        self._check()
        pipeline = self.parts.pipeline
        if confirm is not None and not abandon:
            plan = pipeline.plan(batch=batch, retry_quarantined=retry_quarantined, limit=limit, listener=listener)
            if not self._checked(confirm)(plan):
                raise EnhancerError("not confirmed: nothing was generated")
        with run_events(self.parts, "generate") as run:
            if batch:
                report = pipeline.generate_offline(
                    listener,
                    retry_quarantined=retry_quarantined,
                    limit=limit,
                    wait=wait,
                    abandon=abandon,
                    keep_going=keep_going,
                )
            else:
                report = pipeline.generate(
                    listener, retry_quarantined=retry_quarantined, limit=limit, keep_going=keep_going
                )
            finish_generation(run, report)
        return report

    def refresh(
        self,
        *,
        listener: Listener = silent,
        confirm: Confirm | None = None,
        on_changes: Callable[[Changes], None] | None = None,
        prune: bool = False,
        max_pruned_share: float = 0.5,
        retry_quarantined: bool = False,
        batch: bool = False,
        wait: bool = True,
        keep_going: bool = False,
    ) -> RefreshReport:
        """Bring the store up to date with the tables; see :func:`enhancer.features.refresh.refresh`."""
        from enhancer.features.refresh import refresh
        from enhancer.project.run_events import finish_generation, run_events

        if not batch and not wait:
            raise ConfigError("--no-wait applies to batch jobs only", hint="add --batch")
        self._check()
        with run_events(self.parts, "refresh") as run:
            report = refresh(
                self.parts.pipeline,
                self.parts.store,
                listener=listener,
                confirm=None if confirm is None else self._checked(confirm),
                on_changes=on_changes,
                prune=prune,
                max_pruned_share=max_pruned_share,
                retry_quarantined=retry_quarantined,
                batch=batch,
                wait=wait,
                keep_going=keep_going,
            )
            finish_generation(run, report.generated)
        return report

    def repair_store(self) -> Repair:
        """Keep the intact records of a damaged store; see :meth:`enhancer.contracts.FeatureStore.repair`.

        Raises:
            StoreError: The store cannot be repaired, or another process uses it.
        """
        self.close()
        target, options = self.parts.store_class_and_options()
        return target.repair(options, self.parts.context)

    # --- training and evaluation ---------------------------------------------------------------------------------

    def diagnose(
        self, *, judge: int = 0, memory: int = 0, listener: Listener = silent, confirm: Confirm | None = None
    ) -> Diagnosis:
        """Examine profiles and vectors before training: coverage, duplicates, agreement with behaviour, leaks.

        Args:
            judge: Number of entities of each kind whose notes the LLM checks against their text, claim by claim.
            memory: Number of items of which the LLM is asked what it knows: titles, years, popularity.
            listener: Called with progress events of these questions.
            confirm: Called with the plan of the questions before anything that may cost money; any result but True
                asks nothing.

        Raises:
            ConfigError: No entity has a profile or text.
            StoreError: The store has no vectors of items.
            BudgetError: ``max_cost`` leaves no room for the next question; paid answers are kept.
            EnhancerError: Any other error that stopped the questions, or ``confirm`` did not return True.
        """
        from enhancer.project.notes.asking import Inquiry
        from enhancer.project.profile_checks import diagnose_profiles

        self._check()
        checks: list[DiagnosticCheck] = []
        counts = None
        if judge or memory:
            with self.parts.pinned():
                inquiry = Inquiry.of(self.parts, judge=judge, memory=memory)
            checks, counts = inquiry.ask(listener=listener, confirm=confirm)
        with self.parts.pinned():
            return replace(diagnose_profiles(self.parts, checks), asked=counts)

    def train(
        self,
        *,
        listener: Listener = silent,
        seed: int | None = None,
        keep: bool = True,
        evaluate_only: bool = False,
    ) -> TrainingReport:
        """Train backbone and fuser, test them, refit them on all interactions, and write the serving artifact.

        Metrics are those of the model that was trained on the training part. The served one is fitted once more, on
        all interactions, with the epochs and options that validation chose.

        Args:
            listener: Called with progress events.
            seed: Seed of the run; by default ``seed`` of the settings.
            keep: Keep an existing artifact that was trained from the same data, vectors and options.
            evaluate_only: Serve the model that was tested, as ``[serving] refit = false`` does.

        Raises:
            ConfigError: A key of the configuration is wrong, or the seed is out of its bounds.
            FusionError: Backbone and fuser cannot work together.
            EvaluationError: Profiles or texts of users may have been written from held-out interactions.
        """
        from enhancer.project.run_events import run_events
        from enhancer.project.training.verb import train

        self._check()
        with run_events(self.parts, "train") as run, self.parts.pinned():
            report = train(self.parts, listener=listener, seed=seed, keep=keep, evaluate_only=evaluate_only)
            run.finish(metrics=report.metrics, artifact=self.root / report.artifact)
        return report

    def ablate(
        self,
        *,
        listener: Listener = silent,
        report: Path | str | None = "report.html",
        sections: Callable[[Ablation], Sequence[Any]] | None = None,
        title: str = "Does the feature help?",
    ) -> Ablation:
        """Train every arm with every seed on one split, test for significance, and write the report.

        Args:
            listener: Called with progress events.
            report: File of the report, relative to the project's folder; None writes no report.
            sections: Makes further sections of the report from the result.
            title: Title of the report.

        Raises:
            ConfigError: An arm or metric is unknown, or an arm's vectors are not in the store.
            FusionError: Backbone and fuser of an arm cannot work together; raised before any training.
            EvaluationError: Profiles or texts of users may have been written from held-out interactions.
        """
        from enhancer.project.ablation import ablate
        from enhancer.project.run_events import run_events
        from enhancer.project.run_setup import naming_fusers

        self._check()
        with run_events(self.parts, "ablate") as run, self.parts.pinned(), naming_fusers(self.parts):
            return ablate(self.parts, run, listener=listener, report=report, sections=sections, title=title)

    def density(
        self,
        *,
        listener: Listener = silent,
        seeds: int | None = None,
        shares: Sequence[float] = (0.1, 0.25, 0.5),
        orders: Sequence[Order] = ("rarest", "commonest", "random"),
        report: Path | str | None = "density.html",
    ) -> Density:
        """Measure what the stored texts bring against what they cost, on one split. Writes nothing to the store.

        Args:
            listener: Called with progress events.
            seeds: Training runs of each rung; by default those of ``[evaluation]``, but at most two.
            shares: Shares of the catalogue that are tried, between 0 and 1; none tries all of it alone.
            orders: Which items come first in a share.
            report: File of the page, relative to the project's folder, with a CSV file beside it; None writes none.

        Raises:
            ConfigError: The fuser uses no vectors, or a share is not between 0 and 1.
            StoreError: The store has no vectors of items.
            FusionError: Backbone and fuser cannot work together; raised before any training.
            EvaluationError: Profiles or texts of users may have been written from held-out interactions.
        """
        from enhancer.project.buying.density import density
        from enhancer.project.run_events import run_events
        from enhancer.project.run_setup import naming_fusers

        self._check()
        with run_events(self.parts, "density") as run, self.parts.pinned(), naming_fusers(self.parts):
            return density(self.parts, run, listener=listener, seeds=seeds, shares=shares, orders=orders, report=report)

    def run(
        self, *, listener: Listener = silent, confirm: Confirm | None = None, keep_going: bool = False
    ) -> RunReport:
        """Generate, train and ablate; see these."""
        from enhancer.project.results import RunReport

        self._check(complete=True)
        generated = self.generate(listener=listener, confirm=confirm, keep_going=keep_going)
        trained = self.train(listener=listener)
        return RunReport(generate=generated, train=trained, ablate=self.ablate(listener=listener))

    # --- serving -------------------------------------------------------------------------------------------------

    def ranker(self) -> Ranker:
        """Load the artifact that :meth:`train` wrote, with those keys of ``[serving]`` that are set."""
        from enhancer.serving import Ranker

        shares, folder = self.settings.serving.shares, self.root / self.settings.artifact
        return Ranker.load(folder, explore=shares.get("explore"), new_items_cap=shares.get("new_items_cap"))

    def recommend(self, user_ids: Sequence[str] | str, k: int = 10, *, explain: bool = False) -> Recommendations:
        """Return the ``k`` best items for each user with their titles, without those seen in training.

        Args:
            user_ids: One user or several.
            k: Number of items for each.
            explain: Name the nearest item of the user's history beside each; see :meth:`explain`.

        Raises:
            DataError: A user is unknown.
        """
        from enhancer.project.inspecting.verbs import recommend

        return recommend(self.parts, [user_ids] if isinstance(user_ids, str) else user_ids, k, self.ranker(), explain)
