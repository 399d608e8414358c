"""Plan a run: the same survey, with estimates instead of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.contracts.record import PROFILE_ASPECT, Key
from enhancer.features.generating.reports import Plan
from enhancer.features.surveying.survey import survey
from enhancer.harness.answers.entity_task import EntityTask
from enhancer.harness.calls.token_estimate import (
    MIN_OBSERVED_CALLS,
    TOKENS_PER_MESSAGE,
    estimate_tokens,
    expected_completion_tokens,
    token_ratio,
)
from enhancer.prompts import contains_instructions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.llm import Price
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.kind_spec import KindSpec
    from enhancer.features.surveying.survey import SurveyChunk, ToAsk
    from enhancer.harness.journal.journal import Journal

_ENTRY = 14
"""Tokens that a grouped request adds for each entity: the tag and its id."""
_MAX_SEEN = 200_000
"""Number of prompts among which duplicates are found; a larger set would take too much memory."""


class _Sums:
    """Sums over the entities of one kind that are to be asked about."""

    def __init__(self) -> None:
        self.asked = 0
        self.alone = 0
        """Entities that are asked about alone, even if requests are grouped."""
        self.tokens = 0
        self._seen: set[int] = set()

    def add(self, row: ToAsk) -> None:
        prompt = int(row.input_hash[:16], 16)
        if prompt in self._seen:
            return
        if len(self._seen) < _MAX_SEEN:
            self._seen.add(prompt)
        self.asked += 1
        self.alone += contains_instructions(row.prompt)
        self.tokens += estimate_tokens(row.prompt)


def make_plan(
    specs: Sequence[KindSpec],
    store: FeatureStore,
    journal: Journal | None,
    llm: LLMConfig,
    *,
    price: Price | None,
    retry_quarantined: bool,
    embedder: str | None = None,
    on_chunk: Callable[[SurveyChunk], None] | None = None,
) -> Plan:
    """Survey all entities and estimate calls, tokens and cost. Entities in open batch jobs are not counted again.

    Args:
        specs: Specifications of the kinds of entities.
        store: The stored records.
        journal: Paid answers; None if there is no journal yet.
        llm: Configuration of the model.
        price: Its price; None if unknown.
        retry_quarantined: Whether entities in quarantine are asked about again.
        embedder: Fingerprint of the embedder, to count vectors of another one; None to compare contents only.
        on_chunk: Called with every chunk of the survey.
    """
    entities = to_generate = quarantined = without_text = to_embed = requests = pending = 0
    prompt_tokens = completion_tokens = 0.0
    group_size = llm.items_per_request
    for spec in specs:
        sums = _Sums()
        for found in survey(spec, store, embedder):
            if on_chunk is not None:
                on_chunk(found)
            entities += found.entities
            to_embed += len(found.to_embed) + len(found.to_reembed)
            if spec.ask is None:
                to_generate += sum(row.changed for row in found.to_embed)
                without_text += len(found.empty_texts)
                continue
            rows = [row for row in found.to_ask if not row.empty]
            without_text += len(found.to_ask) - len(rows)
            asked, failed, paid, in_jobs = _sort(spec, rows, journal, retry_quarantined=retry_quarantined)
            quarantined += failed
            pending += in_jobs
            to_generate += len(asked)
            to_embed += len(asked) + paid
            for row in asked:
                sums.add(row)
        if spec.ask is None or not sums.asked:
            continue
        calls = sums.asked if group_size == 1 else -(-(sums.asked - sums.alone) // group_size) + sums.alone
        template = spec.ask.template
        system = estimate_tokens(template.system) + 2 * TOKENS_PER_MESSAGE
        if group_size > 1:
            system += estimate_tokens(template.group_instructions)
            sums.tokens += _ENTRY * sums.asked
        ratio, answer = 1.0, _observed_answer(journal, llm.model, template.version)
        if journal is not None:
            # The error of the estimate differs between templates, so calls with this template are preferred.
            own = journal.observed_usage(llm.model, template.version)
            ratio = token_ratio(own if own.calls >= MIN_OBSERVED_CALLS else journal.observed_usage(llm.model))
        requests += calls
        prompt_tokens += (sums.tokens + system * calls) * ratio
        completion_tokens += min(answer, llm.max_tokens) * sums.asked
    tokens = round(prompt_tokens), round(completion_tokens)
    cost = 0.0 if not requests else None if price is None else price.cost(*tokens)
    return Plan(
        entities=entities,
        cached=entities - to_generate - quarantined - without_text - pending,
        to_generate=to_generate,
        quarantined=quarantined,
        requests=requests,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        cost_usd=cost,
        to_embed=to_embed,
        without_text=without_text,
        pending=pending,
    )


def _observed_answer(journal: Journal | None, model: str, template: str) -> float:
    """Return the expected completion tokens of one entity, from earlier calls if there are any."""
    from enhancer.harness.journal.journal import ObservedUsage

    nothing = ObservedUsage(0, 0, 0, 0, 0)
    return expected_completion_tokens(journal.observed_usage(model, template) if journal is not None else nothing)


def _sort(
    spec: KindSpec, rows: Sequence[ToAsk], journal: Journal | None, *, retry_quarantined: bool
) -> tuple[list[ToAsk], int, int, int]:
    """Return entities to ask about, and the number in quarantine, paid for already, and in open batch jobs."""
    assert spec.ask is not None
    quarantined = journal.quarantined(spec.kind, [row.id for row in rows]) if journal and rows else {}
    answers = journal.paid_answers([row.input_hash for row in rows]) if journal and rows else {}
    in_jobs = journal.batch_jobs.outstanding([row.input_hash for row in rows]) if journal and rows else set()
    asked, failed, paid, pending = [], 0, 0, 0
    for row in rows:
        if row.input_hash in in_jobs:
            pending += 1
            continue
        known = quarantined.get(row.id)
        if known is not None and (known.input_hash != row.input_hash or known.transient):
            known = None
        if known is not None and not retry_quarantined:
            failed += 1
            continue
        case = EntityTask(Key(spec.kind, row.id, PROFILE_ASPECT), row.input_hash, row.prompt, spec.ask)
        verdict = "ask_again" if known is not None else case.receive_all(answers.get(row.input_hash, ()))
        if verdict == "valid":
            paid += 1
        elif verdict == "ask_again":
            asked.append(row)
        else:
            failed += 1
    return asked, failed, paid, pending
