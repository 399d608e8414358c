"""The pipeline: entities to prompts, prompts to profiles, profiles to vectors, vectors to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from enhancer.contracts.batch import OffersBatches
from enhancer.contracts.llm import Price
from enhancer.errors import ConfigError, PluginError
from enhancer.features.generating.planning import make_plan
from enhancer.features.generating.sources import Sources, resolve_inputs
from enhancer.features.generating.survey import Work, survey
from enhancer.features.reading.difference import Differences
from enhancer.features.storing.import_stamps import Adoption
from enhancer.harness.answers.case import Ask
from enhancer.harness.answers.validate import AnswerValidator
from enhancer.harness.calls.budget import Budget
from enhancer.harness.calls.cache_key import KeyMaker
from enhancer.harness.calls.caller import Caller
from enhancer.harness.calls.gate import Gate
from enhancer.harness.calls.spending import Spending
from enhancer.harness.calls.token_estimate import observed_ratio
from enhancer.harness.generator import Generator
from enhancer.harness.journal.journal import FILE_NAME, Journal
from enhancer.progress import silent
from enhancer.prompts import Template

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
    from pathlib import Path

    from enhancer.config.schema import Input, LLMConfig, Settings
    from enhancer.contracts.batch import BatchProvider
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.llm import LLMProvider
    from enhancer.contracts.record import Key, Kind, Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.features.generating.batch_run import Batching
    from enhancer.features.generating.direct_run import Asking, Parts, Run
    from enhancer.features.generating.reports import GenerationReport, Plan
    from enhancer.features.reading.difference import Difference
    from enhancer.harness.journal.batch_jobs import Job
    from enhancer.progress import Listener

_KINDS: tuple[Kind, ...] = ("item", "user")


def require_batches(provider: LLMProvider, llm: LLMConfig, others: Callable[[], Sequence[str]]) -> BatchProvider:
    """The provider's batch API.

    Raises:
        ConfigError: It has none; ``others`` names providers that have.
    """
    if isinstance(provider, OffersBatches):
        return provider.batches()
    able = others()
    named = " or ".join(f'"{name}"' for name in able)
    raise ConfigError(
        f"the LLM provider {llm.use!r} has no batch API, so --batch cannot be used with it",
        hint=f"set [llm] use = {named}, or go without --batch" if able else "go without --batch",
    )


def discounted(price: Price, llm: LLMConfig) -> Price:
    """The price of an offline batch."""
    share = 1.0 - llm.batch_discount
    return Price(price.input * share, price.output * share)


class Pipeline:
    """Plans and runs the making of features. Made anew for each command; it opens nothing by itself.

    Args:
        settings: The configuration.
        root: The folder that paths in it are relative to.
        store: Where records are.
        provider: Makes the LLM provider. Called once for a plan and once a run, because a client belongs to one event
            loop; never called when no profile is wanted.
        planner: Makes the provider of a plan, which may lack the libraries that calls need; by default ``provider``.
        embedder: Makes (or gives) the embedder. Not called by :meth:`plan`.
        sources: The entities; by default those of ``[data]``.
        inputs: What is needed, profiles or texts: ``[embedder] input`` and what the arms of an ablation need beside it.
        on_record: Told of each record once it is on disk.
        batch_providers: Names of providers that have offline batches, for a hint.
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
    ) -> None:
        self._settings = settings
        self._root = root
        self._store = store
        self._make_provider = provider
        self._make_planner = provider if planner is None else planner
        self._make_embedder = embedder
        self._sources = sources if sources is not None else Sources.from_settings(settings, root)
        self._inputs = tuple(inputs if inputs is not None else settings.embedder.input)
        self._on_record = on_record
        self._batch_providers = batch_providers
        self._total: int | None = None

    def plan(
        self, *, retry_quarantined: bool = False, batch: bool = False, differences: Differences | None = None
    ) -> Plan:
        """Find out what a run would do and cost. Calls nothing, writes nothing.

        Args:
            retry_quarantined: Count entities that failed with the same input before as to be asked about.
            batch: Count the price of offline batches.
            differences: Adds up what is new and what changed. Only then the embedder is asked for its fingerprint,
                and vectors that another one made count as to be embedded.
        """
        provider = self._make_planner() if self._asks_llm() else None
        if batch and provider is not None:
            require_batches(provider, self._settings.llm, self._batch_providers)
        works = self._works(provider)
        try:
            price = self._price(provider) if provider is not None else None
            if price is not None and batch:
                price = discounted(price, self._settings.llm)
        except PluginError:  # the price list is in a library that is not installed: the price is not known here
            price = None
        journal = Journal(self._store.directory) if (self._store.directory / FILE_NAME).exists() else None
        try:
            plan = make_plan(
                works,
                self._store,
                journal,
                self._settings.llm,
                price=price,
                retry_quarantined=retry_quarantined,
                embedder=None if differences is None else self._make_embedder().fingerprint,
                watch=None if differences is None else differences.look,
            )
        finally:
            if journal is not None:
                journal.close()
        self._total = plan.entities
        return plan

    def generate(
        self, listener: Listener = silent, *, retry_quarantined: bool = False, limit: int | None = None
    ) -> GenerationReport:
        """Make what is new or changed. May be called under a running event loop.

        Args:
            listener: Told how far it is, about ten times a second, from another thread.
            retry_quarantined: Ask again about entities that failed with the same input before.
            limit: Ask about so many entities at most.

        Raises:
            EnhancerError: What stopped the run. Everything paid for is kept; the error's ``report`` says what was done.
            KeyboardInterrupt: At Ctrl-C, after calls that were out have landed (or five seconds, or a second Ctrl-C).
        """
        from enhancer.features.generating.direct_run import Run
        from enhancer.features.generating.run_in_thread import run_private

        embedder = self._make_embedder()
        provider = self._make_provider() if self._asks_llm() else None
        works = self._works(provider)
        runs: list[Run] = []
        with Journal(self._store.directory) as journal:
            parts = self._parts(works, journal, embedder, listener, retry_quarantined=retry_quarantined)

            def make() -> Coroutine[object, object, GenerationReport]:
                run = Run(parts, make_asking=lambda run: self._asking(run, provider, journal), limit=limit)
                runs.append(run)
                return run.main()

            def interrupt(times: int) -> None:
                runs[0].interrupt(times)

            return _told_at_interrupt(runs, lambda: run_private(make, interrupt))

    def generate_offline(
        self,
        listener: Listener = silent,
        *,
        retry_quarantined: bool = False,
        limit: int | None = None,
        wait: bool = True,
        abandon: bool = False,
    ) -> GenerationReport:
        """Like :meth:`generate`, by the provider's batch API: within a day, at a lower price.

        Jobs that an earlier run submitted are collected first, and nothing that is out is submitted again.

        Args:
            listener: Told how far it is.
            retry_quarantined: Ask again about entities that failed with the same input before.
            limit: Ask about so many new entities at most.
            wait: Stay until everything is collected; otherwise do what can be done now.
            abandon: Have everything that is out end early, collect that, and submit nothing.

        Raises:
            ConfigError: The provider has no batch API.
            EnhancerError: What stopped the run. Everything paid for is kept, and what is out goes on.
            KeyboardInterrupt: At Ctrl-C. What is out goes on.
        """
        from enhancer.features.generating.batch_run import OfflineRun, Pace
        from enhancer.features.generating.run_in_thread import run_private

        llm = self._settings.llm
        provider = self._make_provider() if self._asks_llm() else None
        if provider is None:
            return self.generate(listener, limit=limit)
        batches = require_batches(provider, llm, self._batch_providers)
        embedder = self._make_embedder()
        works = self._works(provider)
        runs: list[Run] = []
        with Journal(self._store.directory) as journal:
            parts = self._parts(works, journal, embedder, listener, retry_quarantined=retry_quarantined)

            def make() -> Coroutine[object, object, GenerationReport]:
                run = OfflineRun(
                    parts,
                    open_batching=lambda: self._batching(provider, batches, journal),
                    any_open=lambda: any(job.endpoint == provider.endpoint for job in journal.jobs.unfinished()),
                    rounds=llm.batch_rounds,
                    pace=Pace(llm.batch_poll),
                    wait=wait,
                    abandon=abandon,
                    close=provider.aclose,
                    limit=limit,
                )
                runs.append(run)
                return run.main()

            def interrupt(times: int) -> None:
                runs[0].interrupt(times)

            return _told_at_interrupt(runs, lambda: run_private(make, interrupt))

    def open_jobs(self) -> list[Job]:
        """Offline batches that are out. Calls nothing."""
        if not (self._store.directory / FILE_NAME).exists():
            return []
        with Journal(self._store.directory) as journal:
            return journal.jobs.open()

    def differences(self) -> Differences:
        """An empty count of what is different between the tables and the store, for surveys to fill."""
        return Differences(self._store, self._settings.llm.model)

    def difference(self) -> tuple[Difference, ...]:
        """What is fresh, stale and orphaned. Calls nothing, plans nothing."""
        found = self.differences()
        embedder = self._make_embedder().fingerprint
        for work in self._works(self._make_planner() if self._asks_llm() else None):
            for chunk in survey(work, self._store, embedder):
                found.look(chunk)
        self.count_vanished(found)
        return found.all()

    def count_vanished(self, found: Differences) -> None:
        """Add what has vanished to what surveys found."""
        for kind in _KINDS:
            found.vanish(kind, lambda kind=kind: self._ids(kind))  # type: ignore[misc]

    def vanished(self, found: Differences | None = None) -> Iterator[Key]:
        """Keys of records whose entity is no longer in the tables, as a stream.

        Args:
            found: What surveys have seen already; the tables are read where it is not given.
        """
        seen = self.differences() if found is None else found
        for kind in _KINDS:
            yield from seen.vanished(kind, lambda kind=kind: self._ids(kind))  # type: ignore[misc]

    def _ids(self, kind: Kind) -> Iterator[str]:
        return (entity.id for entity in self.entities(kind))

    def adoption(self) -> Adoption:
        """How profiles made elsewhere are judged and stamped. Calls nothing."""
        return Adoption(self._works(self._make_planner() if self._asks_llm() else None))

    def work(self, kind: Kind) -> Work | None:
        """How entities of a kind are asked about; None where no profile of them is wanted. Calls nothing."""
        works = self._works(self._make_planner() if self._asks_llm() else None)
        return next((work for work in works if work.kind == kind and work.ask is not None), None)

    def entities(self, kind: Kind) -> Iterator[Entity]:
        """The entities of a kind, as a stream; none where there is no table of them."""
        found = self._sources.of(kind)
        return iter(()) if found is None else iter(found())

    # -- parts ------------------------------------------------------------------------------------------------------

    def _needs(self, kind: Kind) -> tuple[Input, ...]:
        if self._sources.of(kind) is None:
            return ()
        return resolve_inputs(getattr(self._settings.prompts, kind).source, self._inputs)

    def _asks_llm(self) -> bool:
        return any("profile" in self._needs(kind) for kind in _KINDS)

    def _works(self, provider: LLMProvider | None) -> list[Work]:
        works = []
        for kind in _KINDS:
            needs, entities = self._needs(kind), self._sources.of(kind)
            if not needs or entities is None:
                continue
            ask, keys, history = None, None, None
            if "profile" in needs:
                assert provider is not None
                template = Template.load(getattr(self._settings.prompts, kind).template, self._root)
                ask = Ask(template, AnswerValidator(template.schema, template.system))
                keys = KeyMaker(template, self._settings.llm, endpoint=provider.endpoint, sampling=provider.sampling)
                if template.uses_history:
                    history = self._sources.history
            works.append(Work(kind, entities, ask, keys, history, "text" in needs))
        return works

    def _parts(
        self,
        works: Sequence[Work],
        journal: Journal,
        embedder: Embedder,
        listener: Listener,
        *,
        retry_quarantined: bool,
    ) -> Parts:
        from enhancer.features.generating.direct_run import Parts

        return Parts(
            works=works,
            store=self._store,
            journal=journal,
            embedder=embedder,
            items_per_request=self._settings.llm.items_per_request,
            concurrency=self._settings.llm.concurrency,
            listener=listener,
            on_record=self._on_record,
            retry_quarantined=retry_quarantined,
            total=self._total,
        )

    def _price(self, provider: LLMProvider) -> Price | None:
        own = self._own_price()
        return own if own is not None else provider.price(self._settings.llm.model)

    def _own_price(self) -> Price | None:
        own = self._settings.llm.price
        return None if own is None else Price(own.input, own.output)

    def _batching(self, provider: LLMProvider, batches: BatchProvider, journal: Journal) -> Batching:
        """Open the way to the batch API, once a job is to be looked at or written.

        Raises:
            AuthenticationError: No key.
            ConfigError: A cap without a price, or a model that cannot be served.
        """
        from enhancer.features.generating.batch_run import Batching
        from enhancer.harness.batches.collection import Collector
        from enhancer.harness.batches.submission import FOLDER, Submitter

        llm = self._settings.llm
        provider.check(llm.model)
        budget = Budget(llm.max_cost, self._price(provider), model=llm.model)
        spending = Spending(
            budget,
            own_price=self._own_price(),
            share=1.0 - llm.batch_discount,
            model=llm.model,
            price_of=provider.price,
        )
        endpoint, folder = provider.endpoint, self._store.directory / FOLDER
        return Batching(
            Submitter(batches, journal, llm, endpoint=endpoint, budget=budget, spending=spending, folder=folder),
            Collector(batches, journal, llm, endpoint=endpoint, spending=spending, folder=folder),
            spending.spent,
            budget,
        )

    def _asking(self, run: Run, provider: LLMProvider | None, journal: Journal) -> Asking:
        """Open the way to the LLM, once the first call is due: until then no key and no price is needed.

        Raises:
            AuthenticationError: No key.
            ConfigError: A cap without a price, or a model that cannot be served.
        """
        from enhancer.features.generating.direct_run import Asking

        assert provider is not None
        llm = self._settings.llm
        provider.check(llm.model)
        budget = Budget(llm.max_cost, self._price(provider), model=llm.model)
        gate = Gate(
            # A call that queued inside the provider would spend its own time-out there.
            min(llm.concurrency, provider.capacity or llm.concurrency),
            requests_per_minute=llm.requests_per_minute,
            tokens_per_minute=llm.tokens_per_minute,
            patience=max(120.0, 2 * llm.timeout),
        )
        caller = Caller(
            provider,
            journal,
            gate,
            budget,
            max_attempts=llm.max_attempts,
            price_override=self._own_price(),
            token_ratio=observed_ratio(journal.observed(llm.model)),
        )
        generator = Generator(caller, gate, llm, answered=run.answered, failed=run.failed)
        return Asking(generator, caller.spent, provider.aclose)


class _Reporting(Protocol):
    def report(self) -> GenerationReport: ...


def _told_at_interrupt(runs: Sequence[_Reporting], run: Callable[[], GenerationReport]) -> GenerationReport:
    """Run; at Ctrl-C the exception carries, as ``report``, what had been done."""
    try:
        return run()
    except KeyboardInterrupt as stop:
        if runs:
            setattr(stop, "report", runs[0].report())  # noqa: B010  no attribute that its type declares
        raise
