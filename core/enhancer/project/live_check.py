"""Make one real call to the model and embed one real text, to see what a run would meet: ``enhancer doctor --live``.

Both go through the harness like those of ``generate``: within the budget, and written to the journal. The call asks for
the notes of an entity that has none yet, so that ``generate`` uses the answer and pays for nothing twice.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from referencing import Registry

from enhancer.contracts.embedder import RemoteEmbedder
from enhancer.contracts.llm import LLMProvider
from enhancer.contracts.record import Key
from enhancer.errors import ConfigError, EmbedderError
from enhancer.features.generating.connections import connect_caller, model_price
from enhancer.features.generating.grouping import bundles
from enhancer.features.generating.run_in_thread import run_in_thread
from enhancer.harness.answers.entity_task import EntityTask
from enhancer.harness.calls.entity_request import call_version, entity_request
from enhancer.harness.calls.thought_room import ThoughtRoom
from enhancer.harness.calls.token_estimate import upper_bound
from enhancer.harness.clock import now
from enhancer.harness.embedding.connections import check_embedder, embedding_budget, embedding_price, encoder
from enhancer.harness.embedding.costs import most_tokens
from enhancer.harness.embedding.outcomes import NoVector
from enhancer.harness.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enhancer.contracts.llm import Completion, Price, Request
    from enhancer.contracts.record import Kind
    from enhancer.features.kind_spec import KindSpec
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.project.parts import ProjectParts

_TRIED = 64
"""Entities among which one without an answer is looked for."""
_KINDS: tuple[Kind, ...] = ("item", "user")


@dataclass(frozen=True, kw_only=True)
class LiveAnswer:
    """Findings of one call to the model."""

    key: Key
    """Entity that was asked about."""
    seconds: float
    """Time from the request to the answer."""
    completion: Completion
    cost_usd: float | None
    keeps_schema: bool
    """Whether the answer is a JSON object of the requested schema and nothing else."""
    problem: str
    """Why the answer is not valid; empty if it is."""
    cut_off: bool = False
    """Whether it was cut off, so that ``generate`` asks again with more room."""

    def to_json(self) -> dict[str, Any]:
        """Convert the answer to JSON values."""
        return {
            "id": self.key.id,
            "seconds": round(self.seconds, 3),
            "prompt_tokens": self.completion.prompt_tokens,
            "completion_tokens": self.completion.completion_tokens,
            "thought_tokens": self.completion.reasoning_tokens,
            "keeps_schema": self.keeps_schema,
            "valid": not self.problem,
            "cost_usd": self.cost_usd,
        }


@dataclass(frozen=True, kw_only=True)
class LiveVector:
    """Findings of embedding two texts, one after the other."""

    seconds: float
    """Time of the first text, in which the model is loaded or the connection opened."""
    seconds_again: float
    """Time of the second text."""
    dim: int
    is_remote: bool
    """Whether a server embeds; tokens and cost are about it."""
    tokens: int | None
    """Tokens of both texts; None if the server reports none."""
    cost_usd: float | None
    """Cost of both in USD; None if it is unknown."""

    def to_json(self) -> dict[str, Any]:
        """Convert the figures to JSON values; tokens and cost are among them with a server."""
        found: dict[str, Any] = {
            "seconds": round(self.seconds, 3),
            "seconds_again": round(self.seconds_again, 3),
            "dim": self.dim,
        }
        return found | ({"tokens": self.tokens, "cost_usd": self.cost_usd} if self.is_remote else {})


class LiveCall:
    """One call to the configured model.

    Args:
        parts: The project.

    Raises:
        AuthenticationError: The provider's key is missing.
        ConfigError: The model is not available, ``max_cost`` is set and the price is unknown, or there is no entity to
            ask about.
    """

    def __init__(self, parts: ProjectParts) -> None:
        self._parts = parts
        self._llm = parts.settings.llm
        provider = parts.provider()
        provider.check(self._llm.model)
        self._price: Price | None = model_price(provider, self._llm)
        self._room = ThoughtRoom.of(provider, self._llm)
        self._candidates = list(sample_calls(parts))
        if not self._candidates:
            raise ConfigError("there is no entity with text to ask about", hint="check [data] items")

    @property
    def max_cost_usd(self) -> float | None:
        """Largest cost of the call in USD; None if the price is unknown."""
        if self._price is None:
            return None
        requests = [entity_request(tasks, self._llm, self._room) for tasks in self._candidates]
        return max(self._price.cost(upper_bound(each), each.max_tokens or 0) for each in requests)

    def ask(self) -> LiveAnswer:
        """Make the call. May be called under a running event loop.

        Raises:
            ProviderError: The call failed.
            BudgetError: It does not fit into ``max_cost``.
        """
        with Journal.of(self._parts.store) as journal:
            tasks, asked_before = self._choose(journal)
            hashes = tuple(task.input_hash for task in tasks)
            request = entity_request(tasks, self._llm, self._room)

            async def main() -> tuple[PaidAnswer, _Observed]:
                provider = _Observed(self._parts.provider())
                try:
                    caller, _ = connect_caller(provider, self._llm, journal)
                    template = call_version(tasks)
                    paid = await caller.call(
                        request, hashes=hashes, ids=None, attempt=asked_before + 1, template=template
                    )
                    return paid, provider
                finally:
                    await provider.aclose()

            try:
                paid, seen = run_in_thread(main, lambda _: None)
            finally:
                journal.unclaim(hashes)
        judged = [(task, task.receive(paid._replace(position=place))) for place, task in enumerate(tasks)]
        problems = [task.error for task, status in judged if status != "valid"]
        assert seen.completion is not None
        return LiveAnswer(
            key=tasks[0].key,
            seconds=seen.seconds,
            completion=seen.completion,
            cost_usd=paid.cost_usd,
            keeps_schema=_keeps_schema(paid.text, request),
            problem=problems[0] if problems else "",
            cut_off=any(status == "ask_again" and task.cut_offs for task, status in judged),
        )

    def _choose(self, journal: Journal) -> tuple[list[EntityTask], int]:
        """Claim an entity without an answer, or else take the first; return its tasks and how often it was asked."""
        for tasks in self._candidates:
            hashes = [task.input_hash for task in tasks]
            if not journal.paid_answers(hashes) and journal.claim(hashes).result().issuperset(hashes):
                return tasks, 0
        first = self._candidates[0]
        return first, max(map(len, journal.paid_answers([task.input_hash for task in first]).values()), default=0)


class LiveEmbedding:
    """Two short texts for the configured embedder, which no journal holds, so that they are really embedded.

    Args:
        parts: The project.

    Raises:
        AuthenticationError: The API key is missing.
        ConfigError: An option has no effect, or ``max_cost`` is set and the price is unknown.
    """

    def __init__(self, parts: ProjectParts) -> None:
        self._parts = parts
        self._config, self._max_cost = parts.settings.embedder, parts.settings.llm.max_cost
        self._embedder = parts.embedder
        check_embedder(self._embedder, self._config, self._max_cost)
        at = now()
        self._texts = [f"a {mood} film about the sea, asked for at {at}" for mood in ("quiet", "loud")]

    @property
    def max_cost_usd(self) -> float | None:
        """Largest cost in USD; None if the price is unknown."""
        price = embedding_price(self._embedder, self._config)
        return None if price is None else price * sum(map(most_tokens, self._texts)) / 1e6

    def embed(self) -> LiveVector:
        """Embed the texts, within the budget and with an entry in the ledger. May be called under a running event loop.

        Raises:
            EnhancerError: The embedder failed, or one of the texts has no vector.
        """
        times, dim = [], 0
        remote = isinstance(self._embedder, RemoteEmbedder)
        with contextlib.ExitStack() as stack:
            journal = stack.enter_context(Journal.of(self._parts.store)) if remote else None
            budget = embedding_budget(self._max_cost)
            texts = stack.enter_context(encoder(self._embedder, self._config, journal, budget))
            for text in self._texts:
                began = time.perf_counter()
                [outcome] = texts.encode([text])
                times.append(time.perf_counter() - began)
                if isinstance(outcome, NoVector):
                    raise EmbedderError(outcome.reason, hint="check [embedder]")
                dim = len(outcome)
            usage = texts.usage
        return LiveVector(
            seconds=times[0],
            seconds_again=times[1],
            dim=dim,
            is_remote=usage is not None,
            tokens=None if usage is None else usage.tokens[0],
            cost_usd=None if usage is None or usage.unknown_cost else usage.cost_usd,
        )


def sample_calls(parts: ProjectParts) -> Iterator[list[EntityTask]]:
    """Yield the notes that the first call about each of some entities would ask for."""
    for kind in _KINDS:
        spec = parts.pipeline.spec(kind)
        if spec is None:
            continue
        found = list(_tasks(parts, kind, spec))
        yield from found
        if found:
            return


def _tasks(parts: ProjectParts, kind: Kind, spec: KindSpec) -> Iterator[list[EntityTask]]:
    entities = [entity for entity in islice(spec.entities(), _TRIED) if entity.text.strip() or spec.shows_context]
    prompts = {note: parts.pipeline.prompts(spec, entities, note) for note in spec.notes}
    for place, entity in enumerate(entities):
        tasks = [
            EntityTask(Key(kind, entity.id, note.note.aspect), note.keys.of(texts[place]), texts[place], note)
            for note, texts in prompts.items()
        ]
        yield bundles(tasks)[0]


def _keeps_schema(text: str, request: Request) -> bool:
    """Check whether an answer is a JSON object of the requested schema and nothing else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return request.schema is None or Draft202012Validator(dict(request.schema), registry=Registry()).is_valid(value)


class _Observed(LLMProvider):
    """A provider that keeps the last completion of another, and the time that it took."""

    def __init__(self, provider: LLMProvider) -> None:
        self._provider = provider
        self.completion: Completion | None = None
        self.seconds = 0.0

    @property
    def endpoint(self) -> str:
        return self._provider.endpoint

    @property
    def capacity(self) -> int | None:
        return self._provider.capacity

    async def complete(self, request: Request) -> Completion:
        began = time.perf_counter()
        self.completion = await self._provider.complete(request)
        self.seconds = time.perf_counter() - began
        return self.completion

    def price(self, model: str) -> Price | None:
        return self._provider.price(model)

    def thinks(self, model: str) -> bool | None:
        return self._provider.thinks(model)

    def check(self, model: str) -> None:
        self._provider.check(model)

    async def aclose(self) -> None:
        await self._provider.aclose()
