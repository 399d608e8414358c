"""Compare what an inference server tells about itself with what a run would ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.features.generating.run_in_thread import run_in_thread
from enhancer.harness.calls.entity_request import entity_request
from enhancer.harness.calls.thought_room import ThoughtRoom, typical_thought
from enhancer.harness.calls.token_estimate import TYPICAL_ANSWER, estimate_messages
from enhancer.project.live_check import sample_calls

if TYPE_CHECKING:
    from enhancer.contracts import ServerFacts
    from enhancer.contracts.llm import Request
    from enhancer.project.parts import ProjectParts

_MOST_SUGGESTED = 256
"""Largest concurrency that is suggested: what vLLM works on at once by default on most GPUs (``--max-num-seqs``)."""


@dataclass(frozen=True, kw_only=True)
class EngineFindings:
    """An inference server, and what of it does not suit the project.

    Attributes:
        facts: What the server tells.
        suits_calls: Number of calls of this project that it can work on at once, about; None if unknown.
        problems: Sentences on what is wrong, each with its remedy.
        refuses: Whether every call would fail.
    """

    facts: ServerFacts
    suits_calls: int | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    refuses: bool = False

    @property
    def words(self) -> str:
        """Sentence for people."""
        facts = self.facts
        told = [f"{facts.engine} {facts.version or ''}".strip() + f" serves {_names(facts.models)}"]
        if facts.context is not None:
            told.append(f"context of {facts.context:,} tokens")
        if facts.cache_tokens is not None:
            told.append(f"KV cache of {facts.cache_tokens:,} tokens")
        if self.suits_calls is not None:
            told.append(f"about {self.suits_calls:,} calls of this project at once")
        if facts.running is not None:
            told.append(f"{facts.running:,} running and {facts.waiting or 0:,} waiting now")
        if facts.keeps_prefixes is not None:
            told.append(f"prefix cache {'on' if facts.keeps_prefixes else 'off'}")
        if facts.prefix_hits is not None:
            told.append(f"{facts.prefix_hits:.0%} of prompt tokens came from it so far")
        elif facts.running is None and "metrics" in facts.remedies:
            told.append(f"no metrics ({facts.remedies['metrics']})")
        return "; ".join(told)

    def to_json(self) -> dict[str, Any]:
        """Convert the facts to JSON values."""
        facts = self.facts
        return {
            "engine": facts.engine,
            "version": facts.version,
            "models": list(facts.models),
            "context": facts.context,
            "cache_tokens": facts.cache_tokens,
            "suits_calls": self.suits_calls,
            "running": facts.running,
            "waiting": facts.waiting,
            "keeps_prefixes": facts.keeps_prefixes,
            "prefix_hits": None if facts.prefix_hits is None else round(facts.prefix_hits, 4),
        }


def inspect_engine(parts: ProjectParts, *, public: bool) -> EngineFindings | None:
    """Ask the server of ``[llm]`` about itself. May be called under a running event loop.

    Args:
        parts: The project.
        public: Whether to ask a server outside this machine and its network, too.

    Returns:
        None if the provider knows no server of this kind.

    Raises:
        ProviderError: The server does not answer, or refuses the API key.
    """
    llm = parts.settings.llm

    async def main() -> ServerFacts | None:
        provider = parts.provider()
        try:
            return await provider.server_facts(llm.model, public=public)
        finally:
            await provider.aclose()

    facts = run_in_thread(main, lambda _: None)
    return None if facts is None else _findings(parts, facts)


def _findings(parts: ProjectParts, facts: ServerFacts) -> EngineFindings:
    llm = parts.settings.llm
    room = ThoughtRoom.of(parts.provider(), llm)
    requests = [entity_request(tasks, llm, room) for tasks in sample_calls(parts)]
    answer = TYPICAL_ANSWER + (typical_thought(llm.reasoning_effort) if room.tokens() else 0)
    suits = _calls_at_once(facts, requests, answer)
    problems, refuses = [], False
    model = llm.model.removeprefix("openai/")
    if facts.models and not {llm.model, model} & set(facts.models):
        refuses = facts.refuses_unknown_models
        then = "every call would fail" if refuses else "it answers all the same, and records would name a wrong author"
        problems.append((f"it does not serve {llm.model!r}: {then}", f'set [llm] model = "{facts.models[0]}"'))
    largest = max((_tokens(request) for request in requests), default=0)
    if facts.context is not None and largest > facts.context:
        flag, thought = facts.remedies.get("context", "context"), room.tokens()
        part = f", {thought:,} of them for thought" if thought else ""
        keys = "[llm] thought_tokens (or switch thought off)" if thought else "[llm] max_tokens or [data] max_text"
        told = f"a call may take {largest:,} tokens{part}, and its context has {facts.context:,}"
        problems.append((told, f"start it with a larger {flag}, or lower {keys}"))
    if facts.keeps_prefixes is False:
        how = facts.remedies.get("prefix", "switch its prefix cache on")
        problems.append(("it computes the common beginning of all prompts anew for each call", how))
    problems += _concurrency(llm.concurrency, suits)
    return EngineFindings(facts=facts, suits_calls=suits, problems=problems, refuses=refuses)


def _tokens(request: Request) -> int:
    """Estimate the most tokens that a call takes."""
    return estimate_messages(request.messages) + (request.max_tokens or 0)


def _calls_at_once(facts: ServerFacts, requests: list[Request], answer: float) -> int | None:
    """Estimate how many calls with such answers fit into the KV cache, and into the limit that the server tells."""
    limits = [facts.most_calls] if facts.most_calls else []
    if facts.cache_tokens and requests:
        prompts = sum(estimate_messages(request.messages) for request in requests) / len(requests)
        limits.append(max(1, int(facts.cache_tokens / (prompts + answer))))
    return min(limits, default=None)


def _concurrency(concurrency: int, suits: int | None) -> list[tuple[str, str]]:
    if suits is None:
        return []
    better = min(suits, _MOST_SUGGESTED)
    if concurrency > 2 * suits:
        why = "calls beyond these wait in its queue while their timeout runs"
        return [(f"concurrency is {concurrency:,}: {why}", f"set [llm] concurrency = {better}")]
    if 2 * concurrency < better:
        why = "it is faster with more calls in flight"
        return [(f"concurrency is {concurrency:,}: {why}", f"set [llm] concurrency = {better}")]
    return []


def _names(models: tuple[str, ...]) -> str:
    shown = ", ".join(models[:3])
    return f"{shown} and {len(models) - 3:,} more" if len(models) > 3 else shown or "no model"
