"""Ask an LLM about notes and items before training: a judge of claims, and probes of what the model knows."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, EnhancerError, ProviderError
from enhancer.features.questions import Questions
from enhancer.progress import silent
from enhancer.project.notes.judge import judge_checks, judge_questions
from enhancer.project.notes.memory import keep_memory, memory_checks, memory_probes
from enhancer.project.notes.sample import sampled_notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.evaluation.diagnosing.checks import DiagnosticCheck
    from enhancer.evaluation.diagnosing.note_checks import Notes
    from enhancer.features.generating.reports import Plan
    from enhancer.harness.questions.questioner import Outcome
    from enhancer.progress import Listener
    from enhancer.project.notes.probes import AskedProbe
    from enhancer.project.parts import ProjectParts

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Inquiry:
    """Questions about a sample of notes and items."""

    parts: ProjectParts
    notes: list[Notes] = field(default_factory=list)
    """Notes to judge."""
    probes: list[AskedProbe] = field(default_factory=list)
    """Probes of items."""

    @classmethod
    def of(cls, parts: ProjectParts, *, judge: int = 0, memory: int = 0) -> Inquiry:
        """Draw the samples.

        Args:
            parts: The project.
            judge: Number of entities of each kind whose notes are judged.
            memory: Number of items that are probed.

        Raises:
            ConfigError: There is nothing to ask about.
        """
        notes = list(sampled_notes(parts, sample=judge)) if judge else []
        if judge and not notes:
            raise ConfigError("there is nothing to judge: no entity has a note", hint="run `enhancer generate` first")
        return cls(parts, notes, memory_probes(parts, memory) if memory else [])

    def plan(self) -> Plan:
        """Estimate what asking costs. Calls no provider and writes nothing."""
        return self._client.plan(self._questions)

    def ask(
        self, *, listener: Listener = silent, confirm: Callable[[Plan], bool] | None = None
    ) -> tuple[list[DiagnosticCheck], dict[str, Any]]:
        """Ask, and keep what was recalled for the ablation.

        Args:
            listener: Called with progress events.
            confirm: Called with the plan before anything that may cost money; any result but True asks nothing.

        Returns:
            The checks, and the counts of questions for JSON.

        Raises:
            BudgetError: ``max_cost`` leaves no room for the next call; paid answers are kept.
            EnhancerError: Any other error that stopped the run, or ``confirm`` did not return True.
        """
        if confirm is not None and not confirm(self.plan()):
            raise EnhancerError("not confirmed: nothing was asked")
        questions, settings = self._questions, self.parts.settings
        outcome = self._client.ask(questions, "ask", listener)
        _warn(outcome)
        model, answers = settings.llm.model, outcome.answers
        checks = [check for notes in self.notes for check in judge_checks(notes, answers, model, seed=settings.seed)]
        if self.probes:
            checks += memory_checks(self.probes, answers, model)
            keep_memory(self.parts.store.directory, self.probes, answers, model)
        counts = {
            "questions": len(questions),
            "answered": len(answers),
            "cached": outcome.cached,
            "quarantined": len(outcome.failed),
            "deferred": len(outcome.deferred),
        }
        return checks, counts

    @property
    def _questions(self) -> list[Any]:
        judged = [question for notes in self.notes for question in judge_questions(notes)]
        return [*judged, *(one.question for one in self.probes)]

    @property
    def _client(self) -> Questions:
        parts = self.parts
        return Questions(
            parts.settings.llm,
            parts.store,
            provider=parts.provider,
            planner=lambda: parts.provider(complete=False),
        )


def _warn(outcome: Outcome) -> None:
    """Log how many questions have no answer, and why.

    Raises:
        ProviderError: None has.
    """
    reasons = [*outcome.failed.values(), *outcome.deferred.values()]
    if reasons and not outcome.answers:
        raise ProviderError(f"none of {len(reasons):,} questions was answered: {reasons[0]}", hint="check [llm]")
    if reasons:
        _log.warning(
            "%s of %s questions have no answer, for example: %s", f"{len(reasons):,}", f"{outcome.done:,}", reasons[0]
        )
