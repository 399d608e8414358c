"""Open connections to the LLM and to its batch API, with budget, rate limits and price."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from enhancer.contracts.batch import OffersBatches
from enhancer.contracts.llm import Price
from enhancer.errors import ConfigError, PluginError, StoreError
from enhancer.harness.batches.collection import Collector
from enhancer.harness.batches.entity_requests import CompletionBook, EntitySubmitter
from enhancer.harness.calls.budget import Budget
from enhancer.harness.calls.caller import Caller
from enhancer.harness.calls.cost_tracking import CostTracker
from enhancer.harness.calls.gate import Gate
from enhancer.harness.calls.thought_room import ThoughtRoom, model_thinks, typical_thought
from enhancer.harness.calls.token_estimate import expected_answer, token_ratio
from enhancer.harness.generator import Generator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.batch import BatchProvider
    from enhancer.contracts.llm import Completion, LLMProvider
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.kind_spec import KindSpec
    from enhancer.harness.batches.submission import JobReserve
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.harness.generator import Outcomes
    from enhancer.harness.journal.journal import Journal


_PROOF = 8
"""Number of records that show that a model answers a prompt."""


@dataclass(frozen=True, slots=True)
class LLMConnection:
    """Connection for direct calls."""

    generator: Generator
    spent: UsageTotals
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BatchConnection:
    """Connection to the batch API."""

    submitter: EntitySubmitter
    collector: Collector[Completion]
    spent: UsageTotals
    close: Callable[[], Awaitable[None]]


def connect_llm(
    provider: LLMProvider,
    llm: LLMConfig,
    journal: Journal,
    outcomes: Outcomes,
    *,
    budget: Budget | None = None,
    keep_going: bool = False,
    proven: bool = False,
) -> LLMConnection:
    """Open the connection for direct calls.

    Args:
        provider: The provider.
        llm: The configuration.
        journal: Keeps answers.
        outcomes: Told about each case.
        budget: Budget of the run, which also pays for embeddings; by default one of the configuration.
        keep_going: Go on although most of the first answers are not valid.
        proven: Whether the model is known to answer these prompts.

    Raises:
        AuthenticationError: The provider's key is missing.
        ConfigError: The model is not available, or ``max_cost`` is set and the price is unknown.
    """
    caller, gate = connect_caller(provider, llm, journal, budget)
    price = model_price(provider, llm)
    # Where calls cost nothing, nor does a run in vain.
    proven = proven or (price is not None and not (price.input or price.output))
    # A thought that was cut off shows what the model spends, but not what a profile takes.
    observed = journal.observed_usage(llm.model)._replace(longest_cut_thought=0)
    thought = typical_thought(llm.reasoning_effort) if model_thinks(provider, llm) else 0.0
    expected = sum(expected_answer(observed, observed, thought=thought))
    return LLMConnection(
        Generator(caller, gate, llm, outcomes, expected_tokens=expected, keep_going=keep_going, proven=proven),
        caller.usage,
        provider.aclose,
    )


def connect_caller(
    provider: LLMProvider, llm: LLMConfig, journal: Journal, budget: Budget | None = None
) -> tuple[Caller, Gate]:
    """Return what makes direct calls, with the limits of the configuration, and its rate limiter.

    Raises:
        AuthenticationError: The provider's key is missing.
        ConfigError: The model is not available, or ``max_cost`` is set and the price is unknown.
    """
    provider.check(llm.model)
    budget = run_budget(provider, llm) if budget is None else budget
    observed = journal.observed_usage(llm.model)
    gate = Gate(
        # A call that waits inside the provider would spend its time-out there.
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
        price_override=configured_price(llm),
        token_ratio=token_ratio(observed),
        room=ThoughtRoom.of(provider, llm, observed),
    )
    return caller, gate


def connect_batches(
    provider: LLMProvider,
    batches: BatchProvider,
    llm: LLMConfig,
    journal: Journal,
    folder: Path,
    reserve: JobReserve,
) -> BatchConnection:
    """Open the connection to the batch API.

    Args:
        provider: The provider.
        batches: Its batch API.
        llm: The configuration.
        journal: Keeps jobs and answers.
        folder: Folder of the files that are sent and received.
        reserve: Reserves the cost of jobs in the budget of the run.

    Raises:
        AuthenticationError: The provider's key is missing.
        ConfigError: The model is not available, or ``max_cost`` is set and the price is unknown.
    """
    provider.check(llm.model)
    spending = CostTracker(
        reserve.budget,
        own_price=configured_price(llm),
        share=1.0 - llm.batch_discount,
        model=llm.model,
        price_of=provider.price,
        room=ThoughtRoom.of(provider, llm, journal.observed_usage(llm.model)),
    )
    endpoint = batches.endpoint or provider.endpoint
    return BatchConnection(
        EntitySubmitter(batches, journal, llm, costs=spending, endpoint=endpoint, reserve=reserve, folder=folder),
        Collector(
            batches,
            journal,
            CompletionBook(journal, spending),
            endpoint=endpoint,
            max_attempts=llm.max_attempts,
            table="[llm]",
            folder=folder,
        ),
        spending.usage,
        provider.aclose,
    )


def is_proven(store: FeatureStore, specs: Sequence[KindSpec], model: str) -> bool:
    """Check whether the store shows that a model answers the prompts of a run: it has notes that it wrote from each.

    Args:
        store: The store, of which a few records are read.
        specs: What is asked about each kind of entity.
        model: Name of the model.
    """
    asked = [(spec.kind, spec.notes[0].note) for spec in specs if spec.notes]
    with contextlib.suppress(StoreError):  # a damaged record proves nothing
        for kind, note in asked:
            some = list(islice(store.scan(kind=kind, aspect=note.aspect), _PROOF))
            if len(some) < _PROOF or any((one.model, one.prompt_version) != (model, note.version) for one in some):
                return False
        return True
    return False


def run_budget(provider: LLMProvider | None, llm: LLMConfig) -> Budget:
    """Return the budget of one run, for its calls and embeddings.

    Args:
        provider: The provider; None if no LLM is called.
        llm: The configuration.

    Raises:
        ConfigError: ``max_cost`` is set and the price is unknown.
    """
    price = Price(0.0, 0.0) if provider is None else model_price(provider, llm)
    return Budget(llm.max_cost, price, model=llm.model)


def require_batches(provider: LLMProvider, llm: LLMConfig, others: Callable[[], Sequence[str]]) -> BatchProvider:
    """Return the provider's batch API.

    Args:
        provider: The provider.
        llm: The configuration.
        others: Returns names of providers that have a batch API.

    Raises:
        ConfigError: The provider has none, or none with the model.
    """
    if isinstance(provider, OffersBatches):
        return provider.batches(llm.model)
    able = others()
    named = " or ".join(f'"{name}"' for name in able)
    raise ConfigError(
        f"the LLM provider {llm.use!r} has no batch API, so --batch cannot be used with it",
        hint=f"set [llm] use = {named}, or leave out --batch" if able else "leave out --batch",
    )


def configured_price(llm: LLMConfig) -> Price | None:
    """Return the price of ``[llm.price]``; None if it is not set."""
    price = llm.price
    return None if price is None else Price(price.input, price.output, price.cached_input)


def model_price(provider: LLMProvider, llm: LLMConfig) -> Price | None:
    """Return the configured price, or else the provider's; None if neither is known."""
    configured = configured_price(llm)
    return configured if configured is not None else provider.price(llm.model)


def discounted(price: Price, llm: LLMConfig) -> Price:
    """Return the price of batch jobs."""
    share = 1.0 - llm.batch_discount
    cached = None if price.cached_input is None else price.cached_input * share
    return Price(price.input * share, price.output * share, cached)


def check_price(price: Price | None, llm: LLMConfig) -> None:
    """Refuse a cost limit that cannot be kept, before anything is read, embedded or asked.

    Raises:
        ConfigError: ``max_cost`` is set and the price is unknown.
    """
    Budget(llm.max_cost, price, model=llm.model)


def known_price(provider: LLMProvider | None, llm: LLMConfig) -> Price | None:
    """Return the price of the model; None if it is unknown, or if nothing is asked.

    Raises:
        ConfigError: ``max_cost`` is set and the price is unknown.
    """
    if provider is None:
        return None
    try:
        price = model_price(provider, llm)
    except PluginError:  # the price list is part of a library that is not installed
        price = None
    check_price(price, llm)
    return price
