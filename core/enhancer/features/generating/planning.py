"""Plan a run: the same survey, with estimates instead of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from enhancer.features.generating.condensing import notes_to_write
from enhancer.features.generating.grouping import bundles
from enhancer.features.generating.known_answers import all_hashes, quarantined_rows, settle
from enhancer.features.generating.reports import Plan
from enhancer.features.storing.records import embedding_text
from enhancer.features.surveying.survey import survey
from enhancer.harness.calls.entity_request import call_version
from enhancer.harness.calls.thought_room import typical_thought
from enhancer.harness.calls.token_estimate import (
    MIN_OBSERVED_CALLS,
    TOKENS_PER_MESSAGE,
    TYPICAL_ANSWER,
    TYPICAL_NOTE,
    estimate_tokens,
    expected_answer,
    token_ratio,
)
from enhancer.progress import Progress, silent
from enhancer.prompts import contains_instructions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.llm import Price
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.kind_spec import KindSpec
    from enhancer.features.surveying.survey import SurveyChunk, ToAsk
    from enhancer.harness.answers.entity_task import EntityTask
    from enhancer.harness.embedding.estimate import EmbeddingEstimate
    from enhancer.harness.journal.journal import Journal
    from enhancer.progress import Listener
    from enhancer.prompts import Note

_ENTRY = 14
"""Tokens that a grouped request adds for each entity: the tag and its id."""
_MAX_SEEN = 200_000
"""Number of prompts among which duplicates are found; a larger set would take too much memory."""


class _Request(NamedTuple):
    """Notes that one request asks for, and whether it is about a group."""

    note: Note
    """One of the notes."""
    names: tuple[str, ...]
    version: str
    grouped: bool


class _Sums:
    """Sums over the entities of one kind that are to be asked about.

    Args:
        group_size: Entities in one request.
    """

    def __init__(self, group_size: int) -> None:
        self._group_size = group_size
        self._seen: set[int] = set()
        self.entities: dict[_Request, int] = {}
        """Entities by the notes that they are asked for."""
        self.tokens: dict[_Request, int] = {}
        """Tokens of their prompts."""

    def add(self, tasks: Sequence[EntityTask], *, alone: bool = False) -> int:
        """Add the notes to ask for of one entity; return their number. Equal prompts are asked once.

        Args:
            tasks: The notes.
            alone: Whether they share no request with other entities.
        """
        added = 0
        for bundle in bundles(task for task in tasks if self._is_new(task.input_hash)):
            first = bundle[0]
            single = alone or self._group_size == 1 or bool(first.answer_count) or contains_instructions(first.prompt)
            names = tuple(task.spec.note.field for task in bundle)
            request = _Request(first.spec.note, names, call_version(bundle), not single)
            self.entities[request] = self.entities.get(request, 0) + 1
            self.tokens[request] = self.tokens.get(request, 0) + estimate_tokens(first.prompt)
            added += len(bundle)
        return added

    def _is_new(self, input_hash: str) -> bool:
        prompt = int(input_hash[:16], 16)
        if prompt in self._seen:
            return False
        if len(self._seen) < _MAX_SEEN:
            self._seen.add(prompt)
        return True

    def calls(self, request: _Request) -> int:
        """Return the number of calls of one form."""
        return -(-self.entities[request] // (self._group_size if request.grouped else 1))


def make_plan(
    specs: Sequence[KindSpec],
    store: FeatureStore,
    journal: Journal | None,
    llm: LLMConfig,
    *,
    price: Price | None,
    thinks: bool | None = None,
    retry_quarantined: bool,
    limit: int | None = None,
    embedder: str | None = None,
    embedding: EmbeddingEstimate | None = None,
    on_chunk: Callable[[SurveyChunk], None] | None = None,
    listener: Listener = silent,
) -> Plan:
    """Survey all entities and estimate calls, tokens and cost. Entities in open batch jobs are not counted again.

    Args:
        specs: Specifications of the kinds of entities.
        store: The stored records.
        journal: Paid answers; None if there is no journal yet.
        llm: Configuration of the model.
        price: Its price; None if unknown.
        thinks: Whether it thinks before it answers; None if unknown.
        retry_quarantined: Whether entities in quarantine are asked about again.
        limit: Largest number of entities to ask about; None without one.
        embedder: Fingerprint of the embedder, to count vectors of another one; None to compare contents only.
        embedding: Receives the texts to embed; None without a remote embedder.
        on_chunk: Called with every chunk of the survey.
        listener: Called with progress events of the stage ``read``.
    """
    entities = to_generate = quarantined = without_text = to_embed = requests = pending = notes = review_notes = 0
    left = 0
    room = float("inf") if limit is None else limit
    prompt_tokens = completion_tokens = thought_tokens = 0.0
    for spec in specs:
        sums, condensing = _Sums(llm.items_per_request), _Sums(1)
        for found in survey(spec, store, embedder):
            if on_chunk is not None:
                on_chunk(found)
            entities += found.entities
            listener(Progress("read", entities))
            to_embed += len(found.to_embed) + sum(map(len, found.to_reembed.values()))
            in_jobs = set[str]() if embedding is None else embedding.add(_known_texts(found, store))
            if not spec.notes:
                waiting = sum(row.changed and row.text in in_jobs for row in found.to_embed)
                to_generate += sum(row.changed for row in found.to_embed) - waiting
                pending += waiting
                without_text += len(found.empty_texts)
                continue
            known = _Known(spec, [row for row in found.to_ask if not row.empty], journal)
            for rows in found.asks():
                state = known.decide(rows, retry_quarantined=retry_quarantined)
                if embedding is not None and embedding.add(state.paid_texts):
                    state.pending = True
                if state.asked and not room:
                    left += 1
                    to_embed += state.paid
                    continue
                # An entity counts once, by the first of these that any of its notes is.
                to_generate += bool(state.asked)
                pending += state.pending and not state.asked
                quarantined += state.failed and not (state.asked or state.pending)
                without_text += all(row.empty for row in rows)
                to_embed += len(state.asked) + state.paid
                notes += len(state.asked)
                if spec.reviews is not None:
                    for note in notes_to_write(spec.reviews, state.asked, journal):
                        review_notes += condensing.add([note], alone=True)
                room -= bool(sums.add(state.asked))
        for part, request in ((one, request) for one in (condensing, sums) for request in one.entities):
            requests += part.calls(request)
            prompt, completion, thought = _tokens(part, request, journal, llm, thinks)
            prompt_tokens += prompt
            completion_tokens += completion
            thought_tokens += thought
            if embedding is not None and part is sums:
                embedding.add_notes(sums.entities[request] * len(request.names), completion - thought)
    tokens = round(prompt_tokens), round(completion_tokens)
    cost = 0.0 if not requests else None if price is None else price.cost(*tokens)
    return Plan(
        entities=entities,
        cached=entities - to_generate - quarantined - without_text - pending - left,
        to_generate=to_generate,
        quarantined=quarantined,
        requests=requests,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        thought_tokens=round(thought_tokens),
        cost_usd=cost,
        to_embed=to_embed,
        without_text=without_text,
        pending=pending,
        left=left,
        notes=notes if any(len(spec.notes) > 1 for spec in specs) else None,
        review_notes=review_notes if any(spec.reviews is not None for spec in specs) else None,
    )


def _known_texts(found: SurveyChunk, store: FeatureStore) -> Iterator[str]:
    """Yield the texts of a chunk that are to be embedded and need no LLM."""
    yield from (row.text for row in found.to_embed)
    for aspect, ids in found.to_reembed.items():
        for record in store.get(ids, kind=found.spec.kind, aspect=aspect):
            if record is not None:
                yield embedding_text(record.profile, record.tags)


def _tokens(
    sums: _Sums, request: _Request, journal: Journal | None, llm: LLMConfig, thinks: bool | None
) -> tuple[float, float, float]:
    """Return the expected prompt and completion tokens of all calls of one form, and the part of these for thought."""
    from enhancer.harness.journal.journal import ObservedUsage

    entities = sums.entities[request]
    text = request.note.template.request(*request.names, knowledge=request.note.knowledge)
    system = estimate_tokens(text.group_system if request.grouped else text.system) + 2 * TOKENS_PER_MESSAGE
    prompt = sums.tokens[request] + system * sums.calls(request) + (_ENTRY * entities if request.grouped else 0)
    own = overall = ObservedUsage(0, 0, 0, 0, 0)
    if journal is not None:
        own, overall = journal.observed_usage(llm.model, request.version), journal.observed_usage(llm.model)
    # The error of the estimate differs between templates, so calls with this template are preferred.
    ratio = token_ratio(own if own.calls >= MIN_OBSERVED_CALLS else overall)
    typical = TYPICAL_NOTE if request.note.template.aspects else TYPICAL_ANSWER
    thought = typical_thought(llm.reasoning_effort) if thinks else 0.0
    answer = expected_answer(own, overall, typical=min(typical, llm.max_tokens), thought=thought)
    return prompt * ratio, *answer.total(entities * len(request.names), sums.calls(request))


class _State:
    """Work of a run on one entity."""

    def __init__(self) -> None:
        self.asked: list[EntityTask] = []
        """Notes to ask for."""
        self.failed = False
        """Whether any note is in quarantine, or would go there."""
        self.pending = False
        """Whether any note is in an open batch job."""
        self.paid_texts: list[str] = []
        """Texts to embed of the notes that are paid for."""

    @property
    def paid(self) -> int:
        """Number of notes that are paid for."""
        return len(self.paid_texts)


class _Known:
    """State of the rows of a chunk in the journal."""

    def __init__(self, spec: KindSpec, rows: Sequence[ToAsk], journal: Journal | None) -> None:
        self._kind = spec.kind
        hashes = all_hashes(rows)
        any_known = journal is not None and bool(rows)
        self._quarantined = quarantined_rows(journal, spec.kind, rows) if journal is not None and any_known else {}
        self._answers = journal.paid_answers(hashes) if journal is not None and any_known else {}
        self._in_jobs = journal.batch_jobs.outstanding(hashes) if journal is not None and any_known else set()

    def decide(self, rows: Sequence[ToAsk], *, retry_quarantined: bool) -> _State:
        """Return what a run would do about the notes of one entity."""
        state = _State()
        for row in (row for row in rows if not row.empty):
            if not self._in_jobs.isdisjoint(row.hashes):
                state.pending = True
                continue
            known = self._quarantined.get((row.id, row.spec.note.aspect))
            if known is not None and (known.input_hash not in row.hashes or known.transient):
                known = None
            if known is not None and not retry_quarantined:
                state.failed = True
                continue
            # The answers of a note that is asked for again are forgotten.
            answers = {} if known is not None and known.input_hash == row.input_hash else self._answers
            if known is not None and known.input_hash == row.fallback_hash:
                answers = {row.input_hash: self._answers.get(row.input_hash, [])}
            task, status = settle(self._kind, row, answers)
            if status == "valid":
                assert task.answer is not None
                state.paid_texts.append(embedding_text(task.answer.profile, task.answer.tags))
            elif status == "ask_again":
                state.asked.append(task)
            else:
                state.failed = True
        return state
