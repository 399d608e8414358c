"""Generate features: from entities to prompts, profiles, vectors and the store."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from enhancer.contracts.embedder import RemoteEmbedder
from enhancer.features.generating.condensing import with_written_notes
from enhancer.features.generating.connections import (
    connect_batches,
    connect_llm,
    discounted,
    is_proven,
    known_price,
    require_batches,
    run_budget,
)
from enhancer.features.generating.planning import make_plan
from enhancer.features.kind_specs import KINDS, KindSpecs
from enhancer.features.sources import Sources
from enhancer.features.storing.import_rules import ImportRules
from enhancer.features.storing.joint_texts import JointTexts, embed_joint_texts, joint_texts
from enhancer.features.surveying.difference import DifferenceCounter
from enhancer.features.surveying.lengths import with_one_length
from enhancer.features.surveying.memories import Memories
from enhancer.features.surveying.survey import survey
from enhancer.harness.batches.submission import BATCH_FOLDER, JobReserve
from enhancer.harness.calls.thought_room import model_thinks
from enhancer.harness.embedding.connections import (
    check_embedder,
    connect_batch_texts,
    connect_texts,
    embedding_batches,
    embedding_budget,
    encoder,
)
from enhancer.harness.embedding.estimate import embedding_estimate
from enhancer.harness.journal.journal import Journal
from enhancer.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from enhancer.config.inputs import Input
    from enhancer.config.schema import Settings
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.llm import LLMProvider
    from enhancer.contracts.record import Key, Kind, Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.data.reviews.report import ReviewReport
    from enhancer.features.generating.connections import BatchConnection, LLMConnection
    from enhancer.features.generating.direct_run import DirectRun
    from enhancer.features.generating.generation_run import RunServices
    from enhancer.features.generating.reports import GenerationReport, Plan
    from enhancer.features.kind_spec import KindSpec, Renderers
    from enhancer.features.surveying.difference import Difference
    from enhancer.harness.answers.entity_task import PromptSpec
    from enhancer.harness.calls.budget import Budget
    from enhancer.harness.journal.batch_jobs import BatchJob
    from enhancer.progress import Listener
    from enhancer.prompts import Template

_log = logging.getLogger(__name__)


class Pipeline:
    """Plans and runs the generation of features. Constructing it opens nothing.

    Args:
        settings: The configuration.
        root: Folder that relative paths are resolved against.
        store: Store of the records.
        provider: Creates the LLM provider. Called at most once in each run, because a client belongs to one event loop,
            and only if something is asked.
        planner: Creates the provider for planning, which may lack the libraries that calls need; by default
            ``provider``.
        embedder: Returns the embedder.
        sources: The entities; by default those of ``[data]``.
        inputs: Inputs to store; by default ``[embedder] input``.
        on_record: Called with each record once it is on disk.
        batch_providers: Returns names of providers that offer batch jobs, for an error's hint.
        warned: Warnings that were given, and are not repeated; pipelines of one project may share them.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        store: FeatureStore,
        provider: Callable[[], LLMProvider],
        planner: Callable[[], LLMProvider] | None = None,
        embedder: Callable[[], Embedder],
        sources: Sources | None = None,
        inputs: Collection[Input] | None = None,
        on_record: Callable[[Record], None] | None = None,
        batch_providers: Callable[[], Sequence[str]] = tuple,
        warned: set[str] | None = None,
    ) -> None:
        self._settings = settings
        self._root = root
        self._store = store
        self._make_provider = provider
        self._make_planner = provider if planner is None else planner
        self._make_embedder = embedder
        self._sources = sources if sources is not None else Sources.from_settings(settings, root)
        self._kinds = KindSpecs(settings, root, self._sources, inputs, self._warn)
        self._memories: Memories | None = None
        self._on_record = on_record
        self._batch_providers = batch_providers
        self._expected: tuple[int | None, int | None] = (None, None)  # entities, and records to embed
        self._warned = set() if warned is None else warned

    # -- planning and generating ------------------------------------------------------------------------------------

    def plan(
        self,
        *,
        retry_quarantined: bool = False,
        limit: int | None = None,
        batch: bool = False,
        counter: DifferenceCounter | None = None,
        listener: Listener = silent,
    ) -> Plan:
        """Estimate what a run would do and cost. Calls no provider and writes nothing.

        Args:
            retry_quarantined: Include entities in quarantine.
            limit: Largest number of entities to ask about.
            batch: Estimate at the price of batch jobs.
            counter: Counts differences. With it, vectors of another embedder count as to be embedded.
            listener: Called with progress events of the stage ``read``.
        """
        llm = self._settings.llm
        provider = self._planner()
        if batch and provider is not None:
            require_batches(provider, llm, self._batch_providers)
        price = known_price(provider, llm)
        specs = self._kinds.make(provider)
        if counter is not None:
            self._memories = Memories(self._store, self._make_embedder())
            specs = self._memories.remembering(specs)
            self._store = self._memories.with_one_length()
        price = discounted(price, llm) if price is not None and batch else price
        with contextlib.ExitStack() as stack:
            if (journal := Journal.find(self._store)) is not None:
                stack.enter_context(journal)
            embedding = embedding_estimate(self._make_embedder, self._settings.embedder, llm, journal, batch=batch)
            fingerprint = None if counter is None and embedding is None else self._make_embedder().fingerprint
            plan = make_plan(
                specs,
                self._store,
                journal,
                llm,
                price=price,
                thinks=None if provider is None else model_thinks(provider, llm),
                retry_quarantined=retry_quarantined,
                limit=limit,
                embedder=fingerprint,
                embedding=embedding,
                on_chunk=None if counter is None else counter.add,
                listener=listener,
            )
            joint_specs, outdated = self._kinds.joint(), 0
            for one in (one for spec in joint_specs for one in joint_texts(spec, self._store, fingerprint)):
                outdated += one.is_outdated
                if embedding is not None and one.is_outdated:
                    embedding.add([one.text])
                if counter is not None:
                    counter.add_joint(one)
        self._expected = plan.entities - plan.left, plan.to_embed
        joint = outdated if joint_specs else None
        plan = replace(plan, to_embed=plan.to_embed + outdated, joint_texts=joint, reviews=_review_report(specs))
        return plan if embedding is None else plan.with_embedding(embedding)

    def generate(
        self,
        listener: Listener = silent,
        *,
        retry_quarantined: bool = False,
        limit: int | None = None,
        keep_going: bool = False,
    ) -> GenerationReport:
        """Generate features that are new or changed. May be called under a running event loop.

        Args:
            listener: Called with progress events about ten times a second, in another thread.
            retry_quarantined: Ask again about entities in quarantine.
            limit: Largest number of entities to ask about.
            keep_going: Go on although most of the first answers are not valid.

        Raises:
            EnhancerError: The error that stopped the run. Paid answers are kept; the error's ``report`` holds the
                counts.
            KeyboardInterrupt: After Ctrl-C, once the calls in flight were answered (or after five seconds, or at a
                second Ctrl-C).
        """
        from enhancer.features.generating.direct_run import DirectRun
        from enhancer.features.generating.run_in_thread import run_to_end

        embedder, planner = self._make_embedder(), self._planner()
        budget = self._shared_budget(embedder, planner)
        specs = self._kinds.make(planner)
        if self._memories is None or not self._memories.is_current:
            self._memories = Memories(self._store, embedder)
        specs = self._memories.remembering(specs)
        with Journal.of(self._store) as journal:
            services = self._services(specs, journal, embedder, budget, listener, retry_quarantined=retry_quarantined)

            def connect(run: DirectRun) -> LLMConnection:
                # Created at the first question: a run that asks nothing needs no library of the provider.
                provider, llm = self._make_provider(), self._settings.llm
                proven = is_proven(self._store, specs, llm.model)
                return connect_llm(provider, llm, journal, run, budget=budget, keep_going=keep_going, proven=proven)

            report = run_to_end(lambda: DirectRun(services, connect=connect, limit=limit))
            report = self._with_joint_texts(report, embedder, journal, budget, listener)
        self.remember_rows()
        return replace(report, reviews=_review_report(specs))

    def remember_rows(self) -> None:
        """Write down which rows had current records in the last survey, so that the next one is quick."""
        if self._memories is not None:
            self._memories.save()

    def generate_offline(
        self,
        listener: Listener = silent,
        *,
        retry_quarantined: bool = False,
        limit: int | None = None,
        wait: bool = True,
        abandon: bool = False,
        keep_going: bool = False,
    ) -> GenerationReport:
        """Generate features by batch jobs: each within a day, at a lower price; see :meth:`generate`.

        Jobs of earlier runs are collected first, and entities in open jobs are not submitted again. Texts are embedded
        by jobs, too, if the embedder offers that and ``[embedder] batch`` does not forbid it.

        Args:
            listener: Called with progress events.
            retry_quarantined: Ask again about entities in quarantine.
            limit: Largest number of new entities to ask about.
            wait: Whether to wait for all results; otherwise the run collects what is done, submits, and returns.
            abandon: Whether to cancel all jobs, collect what they have done, and submit nothing.
            keep_going: Go on although most of the first answers are not valid. Without it, a run that waits submits
                the first entities of a model that has never answered in a job of their own.

        Raises:
            ConfigError: The provider has no batch API.
            EnhancerError: The error that stopped the run. Paid answers are kept, and open jobs continue.
            KeyboardInterrupt: At Ctrl-C. Open jobs continue.
        """
        from enhancer.features.generating.batch_run import BatchRun, PollInterval
        from enhancer.features.generating.run_in_thread import run_to_end

        llm = self._settings.llm
        planner = self._planner()
        endpoint = None
        if planner is not None:
            endpoint = require_batches(planner, llm, self._batch_providers).endpoint or planner.endpoint
        embedder = self._make_embedder()
        by_job = embedding_batches(embedder, self._settings.embedder) is not None
        if planner is None and not isinstance(embedder, RemoteEmbedder):
            return self.generate(listener, limit=limit, keep_going=keep_going)
        budget = self._shared_budget(embedder, planner) or run_budget(planner, llm)
        folder = self._store.directory / BATCH_FOLDER
        specs = self._kinds.make(planner)
        with Journal.of(self._store) as journal:
            reserve = JobReserve(budget, journal.batch_jobs)
            joint = JointTexts(self._kinds.joint() if by_job else (), self._store, journal, embedder.fingerprint)
            services = replace(
                self._services(specs, journal, embedder, budget, listener, retry_quarantined=retry_quarantined),
                texts=partial(
                    connect_batch_texts,
                    *(embedder, self._settings.embedder, journal, llm),
                    reserve=reserve,
                    folder=folder,
                ),
            )

            def connect() -> BatchConnection:
                batches = require_batches(provider := self._make_provider(), llm, self._batch_providers)
                return connect_batches(provider, batches, llm, journal, folder, reserve)

            def make() -> BatchRun:
                return BatchRun(
                    services,
                    connect=connect,
                    any_open=lambda: any(job.endpoint == endpoint for job in journal.batch_jobs.unfinished_jobs()),
                    reserve=reserve,
                    joint=joint,
                    rounds=llm.batch_rounds,
                    interval=PollInterval(llm.batch_poll),
                    wait=wait,
                    abandon=abandon,
                    limit=limit,
                    trial=wait and not keep_going and not journal.observed_usage(llm.model).calls,
                    keep_going=keep_going,
                )

            report = run_to_end(make)
            if by_job:
                report = report.with_embedded(joint.embedded, joint.failed, None)
            else:
                report = self._with_joint_texts(report, embedder, journal, budget, listener)
        return replace(report, reviews=_review_report(specs))

    def open_jobs(self) -> list[BatchJob]:
        """Return the open batch jobs. Calls no provider."""
        if (found := Journal.find(self._store)) is None:
            return []
        with found as journal:
            return journal.batch_jobs.open_jobs()

    # -- comparing tables and store ---------------------------------------------------------------------------------

    def difference_counter(self) -> DifferenceCounter:
        """Return an empty counter of differences between the tables and the store."""
        return DifferenceCounter(self._store, self._settings.llm.model)

    def differences(self) -> tuple[Difference, ...]:
        """Count fresh, new, stale and vanished records. Calls no provider."""
        counter = self.difference_counter()
        self._store = with_one_length(self._store, self._make_embedder())
        embedder = self._make_embedder().fingerprint
        for spec in self._kinds.make(self._planner()):
            for chunk in survey(spec, self._store, embedder):
                counter.add(chunk)
        for joint in self._kinds.joint():
            for one in joint_texts(joint, self._store, embedder):
                counter.add_joint(one)
        self.count_vanished(counter)
        return counter.results()

    def count_vanished(self, counter: DifferenceCounter) -> None:
        """Add the vanished records to a counter."""
        for kind in KINDS:
            counter.count_vanished(kind, lambda kind=kind: self._ids(kind))  # type: ignore[misc]

    def vanished(self, counter: DifferenceCounter | None = None) -> Iterator[Key]:
        """Yield the keys of records whose entity is not in the tables.

        Args:
            counter: Counter of a survey that has read the tables already; by default they are read.
        """
        seen = self.difference_counter() if counter is None else counter
        for kind in KINDS:
            yield from seen.vanished(kind, lambda kind=kind: self._ids(kind))  # type: ignore[misc]

    def import_rules(self) -> ImportRules:
        """Return the rules for imported profiles. Calls no provider."""
        return ImportRules(self._kinds.make(self._planner()))

    def spec(self, kind: Kind) -> KindSpec | None:
        """Return how entities of a kind are profiled; None if no profiles of them are wanted. Calls no provider."""
        specs = self._kinds.make(self._planner())
        return next((spec for spec in specs if spec.kind == kind and spec.notes), None)

    def prompts(self, spec: KindSpec, entities: Sequence[Entity], note: PromptSpec | None = None) -> list[str]:
        """Return the prompt of each entity for a note, by default the first, with the notes on reviews in it."""
        prompts, _ = spec.prompts(entities, note)
        if spec.reviews is None or (found := Journal.find(self._store)) is None:
            return prompts
        with found as journal:
            pairs = zip((entity.id for entity in entities), prompts, strict=True)
            return with_written_notes(spec.reviews, list(pairs), journal)

    def entities(self, kind: Kind) -> Iterator[Entity]:
        """Yield the entities of a kind; none if there is no table of them."""
        found = self._sources.of(kind)
        return iter(()) if found is None else iter(found())

    def shown_by(self, template: Template, reviews: Callable[[Entity], str]) -> Renderers:
        """Return the renderers of what a template shows from other tables, with other reviews of items."""
        return self._sources.shown_by(template, reviews)

    def _ids(self, kind: Kind) -> Iterator[str]:
        return (entity.id for entity in self.entities(kind))

    # -- setting up -------------------------------------------------------------------------------------------------

    def _shared_budget(self, embedder: Embedder, provider: LLMProvider | None) -> Budget | None:
        """Return the budget that calls and embeddings share; None if only calls cost anything.

        Raises:
            ConfigError: ``max_cost`` is set, and a price is unknown.
        """
        llm = self._settings.llm
        known_price(provider, llm)
        check_embedder(embedder, self._settings.embedder, llm.max_cost)
        return run_budget(provider, llm) if isinstance(embedder, RemoteEmbedder) else None

    def _with_joint_texts(
        self,
        report: GenerationReport,
        embedder: Embedder,
        journal: Journal,
        budget: Budget | None,
        listener: Listener,
    ) -> GenerationReport:
        """Embed the joint texts of what is stored by now, and count them."""
        specs = self._kinds.joint()
        if not specs:
            return report
        joint = JointTexts(specs, self._store, journal, embedder.fingerprint)
        with encoder(embedder, self._settings.embedder, journal, budget) as texts:
            embed_joint_texts(joint, texts, listener)
        return report.with_embedded(joint.embedded, joint.failed, texts.usage, truncated=texts.truncated)

    def _planner(self) -> LLMProvider | None:
        return self._make_planner() if self._kinds.has_notes else None

    def _seen(self, record: Record) -> None:
        if self._memories is not None:
            self._memories.watch(record)
        if self._on_record is not None:
            self._on_record(record)

    def _warn(self, warning: str) -> None:
        if warning not in self._warned:
            self._warned.add(warning)
            _log.warning("%s", warning)

    def _services(
        self,
        specs: Sequence[KindSpec],
        journal: Journal,
        embedder: Embedder,
        budget: Budget | None,
        listener: Listener,
        *,
        retry_quarantined: bool,
    ) -> RunServices:
        from enhancer.features.generating.generation_run import RunServices

        config = self._settings.embedder

        return RunServices(
            specs=specs,
            store=self._store,
            journal=journal,
            embedder=embedder,
            texts=lambda: connect_texts(embedder, config, journal, budget or embedding_budget()),
            group_size=self._settings.llm.items_per_request,
            concurrency=self._settings.llm.concurrency,
            listener=listener,
            warn=self._warn,
            on_record=self._seen,
            retry_quarantined=retry_quarantined,
            total=self._expected[0],
            to_embed=self._expected[1],
        )


def _review_report(specs: Sequence[KindSpec]) -> ReviewReport | None:
    return next((spec.reviews.context.report for spec in specs if spec.reviews is not None), None)
