"""The verbs of a project that spend a budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from enhancer.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts
    from enhancer.project.spending.results import SpendPlan, SpendReport


class SpendingVerbs(ABC):
    """Verbs of :class:`enhancer.Project` that buy profiles where they pay."""

    parts: ProjectParts

    @abstractmethod
    def _check(self, *, complete: bool = False) -> None:
        """Check every key of the configuration."""

    def plan_spending(
        self,
        budget: float | None = None,
        *,
        pilot: int = 40,
        restart: bool = False,
        listener: Listener = silent,
    ) -> SpendPlan:
        """Show what the pilot of :meth:`spend` would buy, and what everything would cost. Pays and writes nothing.

        Args:
            budget: Limit in USD; by default ``[llm] max_cost``.
            pilot: Smallest number of items of a stratum that the pilot buys.
            restart: Plan a new campaign, even if one was begun.
            listener: Called with progress events.

        Raises:
            ConfigError: The price of the model is unknown, or there is no budget.
        """
        from enhancer.project.spending.verb import plan_spending

        self._check()
        return plan_spending(self.parts, budget, pilot=pilot, restart=restart, listener=listener)

    def spend(
        self,
        budget: float | None = None,
        *,
        least_gain: float = 0.0,
        pilot: int = 40,
        restart: bool = False,
        listener: Listener = silent,
        on_round: Callable[[dict[str, Any]], None] = lambda _: None,
        confirm: Callable[[SpendPlan], bool] | None = None,
    ) -> SpendReport:
        """Buy profiles of items where they pay: a pilot, then the strata whose gain per dollar is certain, in rounds.

        Gains are measured on the validation part, over interactions alone, raw text and shuffled vectors; see
        :mod:`enhancer.evaluation.valuing.gains`. A run that was stopped continues where it was.

        Args:
            budget: Limit in USD over all runs of the campaign; by default ``[llm] max_cost``, and never more than that.
            least_gain: Smallest gain that is worth buying, as a share of what interactions alone reach.
            pilot: Smallest number of items of a stratum that the pilot buys; more find smaller gains.
            restart: Begin a new campaign. Profiles and paid answers are kept.
            listener: Called with progress events.
            on_round: Called after each round with what it bought and learnt.
            confirm: Called with the plan before anything is paid; any result but True stops the run.

        Raises:
            BudgetError: The budget is spent, and more may be worth its price. ``report`` holds the result so far.
            ConfigError: The price of the model is unknown, the budget is too small for a pilot, or the campaign was
                begun with other data or another model.
            EvaluationError: The validation part is empty.
        """
        from enhancer.project.spending.verb import spend

        self._check()
        return spend(
            self.parts,
            budget,
            least=least_gain,
            pilot=pilot,
            restart=restart,
            listener=listener,
            on_round=on_round,
            confirm=confirm,
        )
