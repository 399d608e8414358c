"""The dry run: the same survey as a real run, and sums instead of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.contracts.record import PROFILE_ASPECT, Key
from enhancer.features.generating.reports import Plan
from enhancer.features.generating.survey import survey
from enhancer.harness.answers.case import Case
from enhancer.harness.calls.token_estimate import ENOUGH, PER_MESSAGE, estimate, observed_answer, observed_ratio
from enhancer.prompts import contains_instructions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.llm import Price
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.generating.survey import Surveyed, ToAsk, Work
    from enhancer.harness.journal.journal import Journal

_ENTRY = 14
"""Tokens that a batched request adds around one entity: the tag and its id."""
_REMEMBERED = 200_000
"""Questions of which equal ones are counted once; beyond, memory counts for more than exactness."""


class _Sums:
    """What the calls about one kind would come to."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.asked = 0
        self.alone = 0
        """Those of them that share no request, however many others may."""
        self.tokens = 0
        self.seen: set[int] = set()

    def add(self, row: ToAsk) -> None:
        question = int(row.input_hash[:16], 16)
        if question in self.seen:
            return
        if len(self.seen) < _REMEMBERED:
            self.seen.add(question)
        self.asked += 1
        self.alone += contains_instructions(row.prompt)
        self.tokens += estimate(row.prompt)


def make_plan(
    works: Sequence[Work],
    store: FeatureStore,
    journal: Journal | None,
    llm: LLMConfig,
    *,
    price: Price | None,
    retry_quarantined: bool,
    embedder: str | None = None,
    watch: Callable[[Surveyed], None] | None = None,
) -> Plan:
    """Survey everything, and estimate; what is out in an offline batch is not to be generated again.

    Args:
        works: What is wanted of each kind of entity.
        store: What is there.
        journal: What is paid for; None where nothing is.
        llm: How the model is asked.
        price: Its price, where known.
        retry_quarantined: Count those in quarantine as to be asked again.
        embedder: Fingerprint of the embedder, to count vectors of another one; None compares contents alone.
        watch: Shown every chunk of the survey.
    """
    entities = to_generate = quarantined = without_text = to_embed = requests = pending = 0
    prompt_tokens = completion_tokens = 0.0
    batch = llm.items_per_request
    for work in works:
        sums = _Sums(work)
        for found in survey(work, store, embedder):
            if watch is not None:
                watch(found)
            entities += found.entities
            to_embed += len(found.to_embed) + len(found.to_reembed)
            if work.ask is None:
                to_generate += sum(row.changed for row in found.to_embed)
                without_text += len(found.empty_texts)
                continue
            rows = [row for row in found.to_ask if not row.empty]
            without_text += len(found.to_ask) - len(rows)
            asked, failed, paid, out = _sort_out(work, rows, journal, retry_quarantined=retry_quarantined)
            quarantined += failed
            pending += out
            to_generate += len(asked)
            to_embed += len(asked) + paid
            for row in asked:
                sums.add(row)
        if work.ask is None or not sums.asked:
            continue
        calls = sums.asked if batch == 1 else -(-(sums.asked - sums.alone) // batch) + sums.alone
        template = work.ask.template
        system = estimate(template.system) + 2 * PER_MESSAGE
        if batch > 1:
            system += estimate(template.group_instructions)
            sums.tokens += _ENTRY * sums.asked
        ratio, answer = 1.0, observed_answer_of(journal, llm.model, template.version)
        if journal is not None:
            # Templates differ in how far the estimate is off: the calls of this one tell best.
            own = journal.observed(llm.model, template.version)
            ratio = observed_ratio(own if own.calls >= ENOUGH else journal.observed(llm.model))
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


def observed_answer_of(journal: Journal | None, model: str, template: str) -> float:
    """Completion tokens an entity, by the ledger if there is one."""
    from enhancer.harness.journal.journal import Observed

    nothing = Observed(0, 0, 0, 0, 0)
    return observed_answer(journal.observed(model, template) if journal is not None else nothing)


def _sort_out(
    work: Work, rows: Sequence[ToAsk], journal: Journal | None, *, retry_quarantined: bool
) -> tuple[list[ToAsk], int, int, int]:
    """Those that must be asked about, how many are in quarantine, were paid for already, are out in a batch."""
    assert work.ask is not None
    there = journal.quarantined(work.kind, [row.id for row in rows]) if journal and rows else {}
    answers = journal.paid([row.input_hash for row in rows]) if journal and rows else {}
    out = journal.jobs.out([row.input_hash for row in rows]) if journal and rows else set()
    asked, failed, paid, pending = [], 0, 0, 0
    for row in rows:
        if row.input_hash in out:
            pending += 1
            continue
        known = there.get(row.id)
        if known is not None and (known.input_hash != row.input_hash or known.transient):
            known = None
        if known is not None and not retry_quarantined:
            failed += 1
            continue
        case = Case(Key(work.kind, row.id, PROFILE_ASPECT), row.input_hash, row.prompt, work.ask)
        verdict = "again" if known is not None else case.review(answers.get(row.input_hash, ()))
        if verdict == "answered":
            paid += 1
        elif verdict == "again":
            asked.append(row)
        else:
            failed += 1
    return asked, failed, paid, pending
