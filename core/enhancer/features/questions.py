"""Plan and ask questions about entities by the configured LLM. Nothing is paid twice, whatever is asked by whom."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from enhancer.contracts.record import Key
from enhancer.errors import PluginError
from enhancer.features.generating.connections import connect_caller, model_price
from enhancer.features.generating.reports import Plan
from enhancer.features.generating.run_in_thread import run_in_thread
from enhancer.harness.calls.cache_key import KeyMaker
from enhancer.harness.calls.thought_room import model_thinks, typical_thought
from enhancer.harness.calls.token_estimate import (
    MIN_OBSERVED_CALLS,
    TOKENS_PER_MESSAGE,
    ExpectedAnswer,
    estimate_tokens,
    expected_answer,
    token_ratio,
)
from enhancer.harness.journal.journal import Journal, ObservedUsage
from enhancer.harness.questions.questioner import Outcome, Questioner, unanswered
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.llm import LLMProvider
    from enhancer.contracts.record import Kind
    from enhancer.harness.journal.journal import HasJournal
    from enhancer.harness.questions.form import Form, Question
    from enhancer.progress import Listener

_GRACE_SECONDS = 5.0
"""Time that calls in flight may take after the first Ctrl-C."""


class Questions:
    """Plans and asks questions.

    Args:
        llm: ``[llm]``.
        store: The store, whose journal keeps the answers.
        provider: Creates the provider; called once for each run of questions.
        planner: Creates a provider that is asked nothing, for its price and endpoint.
    """

    def __init__(
        self,
        llm: LLMConfig,
        store: HasJournal,
        *,
        provider: Callable[[], LLMProvider],
        planner: Callable[[], LLMProvider],
    ) -> None:
        self._llm = llm
        self._store = store
        self._make_provider = provider
        self._make_planner = planner

    def plan(self, questions: Sequence[Question]) -> Plan:
        """Estimate what asking would cost. Calls no provider and writes nothing."""
        outcome = Outcome()
        with self._journal() as journal:
            states = unanswered(self._by_hash(questions), journal, outcome)
            prompt_tokens = completion_tokens = thought_tokens = 0.0
            planner = self._make_planner() if states else None
            for form in dict.fromkeys(state.question.form for state in states):
                texts = [state.question.text for state in states if state.question.form is form]
                assert planner is not None
                ratio, answer = self._observed(journal, form, thinks=model_thinks(planner, self._llm))
                fixed = estimate_tokens(form.system) + 2 * TOKENS_PER_MESSAGE
                prompt_tokens += ratio * (sum(map(estimate_tokens, texts)) + fixed * len(texts))
                completion, thought = answer.total(len(texts), len(texts))
                completion_tokens += completion
                thought_tokens += thought
        tokens = round(prompt_tokens), round(completion_tokens)
        price = None
        if planner is not None:
            try:
                price = model_price(planner, self._llm)
            except PluginError:  # the price list is part of a library that is not installed
                price = None
        return Plan(
            entities=len(questions),
            cached=outcome.cached,
            to_generate=len(questions) - outcome.done,
            quarantined=len(outcome.failed),
            requests=len(states),
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            thought_tokens=round(thought_tokens),
            cost_usd=0.0 if not states else None if price is None else price.cost(*tokens),
        )

    def known(self, questions: Sequence[Question]) -> Outcome:
        """Return the answers that were paid for. Calls no provider and writes nothing."""
        outcome = Outcome()
        with self._journal() as journal:
            unanswered(self._by_hash(questions), journal, outcome)
        return outcome

    def ask(self, questions: Sequence[Question], stage: str, listener: Listener = silent) -> Outcome:
        """Ask all questions. May be called under a running event loop.

        Args:
            questions: The questions.
            stage: Name of the stage in progress events.
            listener: Called with progress events, in another thread.

        Raises:
            EnhancerError: The error that stopped the run, such as a budget that is used up. Paid answers are kept.
            KeyboardInterrupt: After Ctrl-C, once the calls in flight were answered (or after five seconds, or at a
                second Ctrl-C).
        """
        by_hash = self._by_hash(questions)
        known = self.known(questions)
        if known.done == len(questions):
            return known
        asking: list[Questioner] = []
        with Journal.of(self._store) as journal:

            async def main() -> Outcome:
                provider = self._make_provider()
                try:
                    caller, gate = connect_caller(provider, self._llm, journal)

                    def report(outcome: Outcome) -> None:
                        spent = caller.usage
                        cost = None if spent.unknown_cost else spent.cost_usd
                        detail = {"failed": len(outcome.failed) + len(outcome.deferred), "cost_usd": cost}
                        listener(Progress(stage, outcome.done, len(questions), detail))

                    expected = self._expected_tokens(journal, {each.form for each in questions}, provider)
                    asking.append(
                        Questioner(caller, gate, journal, self._llm, on_progress=report, expected_tokens=expected)
                    )
                    outcome = await asking[0].ask(by_hash)
                    _release(journal, outcome)
                    return outcome
                finally:
                    await provider.aclose()

            def interrupt(times: int) -> None:
                if not asking:
                    return
                asking[0].stop(abort=times > 1)
                asyncio.get_running_loop().call_later(_GRACE_SECONDS, lambda: asking[0].stop(abort=True))

            return run_in_thread(main, interrupt)

    @contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """Open the journal to read; None if there is none yet."""
        if (found := Journal.find(self._store)) is None:
            yield None
            return
        with found as journal:
            yield journal

    def _by_hash(self, questions: Sequence[Question]) -> dict[str, list[Question]]:
        planner = self._make_planner()
        keys: dict[Form, KeyMaker] = {}
        found: dict[str, list[Question]] = {}
        for question in questions:
            if question.form not in keys:
                keys[question.form] = KeyMaker(
                    question.form, self._llm, endpoint=planner.endpoint, sampling=planner.sampling
                )
            found.setdefault(keys[question.form].of(question.text), []).append(question)
        return found

    def _observed(self, journal: Journal | None, form: Form, *, thinks: bool | None) -> tuple[float, ExpectedAnswer]:
        """Return tokens per estimated token, and what an answer takes, from earlier calls if there are."""
        own = overall = ObservedUsage(0, 0, 0, 0, 0)
        if journal is not None:
            own, overall = (
                journal.observed_usage(self._llm.model, form.version),
                journal.observed_usage(self._llm.model),
            )
        ratio = token_ratio(own if own.calls >= MIN_OBSERVED_CALLS else overall)
        thought = typical_thought(self._llm.reasoning_effort) if thinks else 0.0
        return ratio, expected_answer(own, overall, typical=form.answer_tokens, thought=thought)

    def _expected_tokens(self, journal: Journal, forms: Iterable[Form], provider: LLMProvider) -> float:
        """Return the completion tokens that an answer is expected to take, of the longest form.

        A thought that was cut off shows what the model spends, but not what an answer takes.
        """
        thought = typical_thought(self._llm.reasoning_effort) if model_thinks(provider, self._llm) else 0.0
        return max(
            sum(expected_answer(own, own, typical=form.answer_tokens, thought=thought))
            for form in forms
            for own in [journal.observed_usage(self._llm.model, form.version)._replace(longest_cut_thought=0)]
        )


def _release(journal: Journal, outcome: Outcome) -> None:
    """Take questions that have an answer now, such as one of another model, out of quarantine."""
    by_aspect: dict[tuple[Kind, str], list[str]] = {}
    for key in outcome.answers:
        by_aspect.setdefault((key.kind, key.aspect), []).append(key.id)
    for (kind, aspect), ids in by_aspect.items():
        known = journal.quarantined(kind, ids, aspect)
        if settled := [(Key(kind, id_, aspect), one.input_hash) for id_, one in known.items()]:
            journal.release_quarantine(settled, forget_answers=False)
