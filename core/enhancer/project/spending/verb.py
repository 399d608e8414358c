"""Plan or run a campaign."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from enhancer.errors import ConfigError, EnhancerError
from enhancer.project.run_events import run_events
from enhancer.project.spending.campaign import Campaign
from enhancer.project.spending.deciding import LEAST_ITEMS
from enhancer.project.spending.state import forget, locked

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts
    from enhancer.project.spending.campaign import OnRound
    from enhancer.project.spending.results import SpendPlan, SpendReport


def plan_spending(
    parts: ProjectParts, budget: float | None, *, pilot: int, restart: bool, listener: Listener
) -> SpendPlan:
    """Plan a campaign; see :meth:`enhancer.Project.plan_spending`."""
    return Campaign(parts, _limit(parts, budget), listener, pilot=_checked(pilot), restart=restart).plan()


def spend(
    parts: ProjectParts,
    budget: float | None,
    *,
    least: float,
    pilot: int,
    restart: bool,
    listener: Listener,
    on_round: OnRound,
    confirm: Callable[[SpendPlan], bool] | None,
) -> SpendReport:
    """Run a campaign; see :meth:`enhancer.Project.spend`."""
    limit = _limit(parts, budget)
    if not 0 <= least < 1:
        raise ConfigError(f"a least gain of {least:g} is not a share", hint="pass a number from 0 to below 1")
    plan = Campaign(parts, limit, listener, pilot=_checked(pilot), restart=restart).plan()
    if confirm is not None and not confirm(plan):
        raise EnhancerError("not confirmed: nothing was bought")
    folder = parts.store.directory
    folder.mkdir(parents=True, exist_ok=True)
    with run_events(parts, "spend") as run, locked(folder):
        if restart:
            forget(folder)
        # Read again under the lock: another process may have bought meanwhile.
        report = Campaign(parts, limit, listener, on_round, least=least, pilot=pilot, restart=restart).run()
        run.finish(metrics={"rounds": float(len(report.rounds))}, cost_usd=report.spent_usd - plan.spent_usd)
    return report


def _checked(pilot: int) -> int:
    if pilot < LEAST_ITEMS:
        raise ConfigError(
            f"a pilot of {pilot} items of a stratum shows nothing", hint=f"pass at least --pilot {LEAST_ITEMS}"
        )
    return pilot


def _limit(parts: ProjectParts, budget: float | None) -> float:
    """Return the lower one of the budget and ``[llm] max_cost``."""
    limits = [limit for limit in (budget, parts.settings.llm.max_cost) if limit is not None]
    if not limits:
        raise ConfigError("there is no budget", hint="pass --budget, in USD, or set [llm] max_cost")
    limit = min(limits)
    if not (math.isfinite(limit) and limit > 0):
        raise ConfigError(f"a budget of {limit:g} USD buys nothing", hint="pass a positive --budget")
    return limit
