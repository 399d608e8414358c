"""A campaign: a pilot, then rounds of buying and measuring, within one budget over all its runs.

::

    pilot ──> measure ──> decide ──> buy ──> measure ──> ... until no bound is positive, all is bought, or the budget is

What is about to be bought is on disk before it is bought, and what was paid is counted from the journal, so a run may
be killed at any time. The next one continues with the same orders.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from enhancer.errors import BudgetError, ConfigError, EnhancerError, EvaluationError
from enhancer.evaluation import Views
from enhancer.evaluation.running.run_cache import entity_ids
from enhancer.evaluation.valuing.bounds import Offer
from enhancer.evaluation.valuing.gains import NEW, Appraiser
from enhancer.evaluation.valuing.ids_alone import factors_without_vectors
from enhancer.progress import silent
from enhancer.project.spending.deciding import (
    LEAST_ITEMS,
    PILOT_ITEMS,
    decide,
    next_orders,
    offers,
    pilot_sizes,
)
from enhancer.project.spending.results import SpendPlan, SpendReport
from enhancer.project.spending.shop import Shop
from enhancer.project.spending.state import CampaignState, Order
from enhancer.project.spending.strata import Stratum, make_strata

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.features.generating.reports import GenerationReport
    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts
    from enhancer.project.spending.results import Decision

    OnRound = Callable[[dict[str, Any]], None]
    """Function that is called with each finished round, as in ``rounds`` of the report."""

_EXAMPLES = 100
"""Number of items of a stratum whose prompts give the estimated cost of the others."""
_PILOT_MONEY = 0.5
"""Largest share of the budget that a pilot may cost."""


class Campaign:
    """Buys the profiles of items within a budget.

    Args:
        parts: The project.
        budget: Limit in USD, over all runs of the campaign.
        listener: Called with progress events.
        on_round: Called after each round.
        least: Smallest gain that is worth buying, as a share of the discounted gain without vectors.
        pilot: Smallest number of items of a stratum that the pilot buys.
        restart: Begin a new campaign, whatever was begun before.
        shop: Sells the profiles; by default the project's model does.
    """

    def __init__(
        self,
        parts: ProjectParts,
        budget: float,
        listener: Listener = silent,
        on_round: OnRound = lambda _: None,
        *,
        least: float = 0.0,
        pilot: int = PILOT_ITEMS,
        restart: bool = False,
        shop: Shop | None = None,
    ) -> None:
        self._parts, self._budget, self._least, self._pilot_items = parts, budget, least, pilot
        self._listener, self._on_round = listener, on_round
        self._shop = Shop(parts) if shop is None else shop
        self._aspects: tuple[Input, ...] = parts.settings.prompts.item.notes
        self._views = Views(parts.split)
        self._ids = parts.split.train.item_ids
        _check(parts, self._views)
        self._strata = make_strata(self._views, self._ids, parts.titles.keys(), parts.settings.seed)
        self._shop.examples({id_ for stratum in self._strata for id_ in self._examples_of(stratum, 0)})
        self._largest = 0.0
        self._state = self._opened_state(restart=restart)
        self._state.put_into(self._strata)
        self._appraiser: Appraiser | None = None

    # -- the plan ---------------------------------------------------------------------------------------------------

    def plan(self) -> SpendPlan:
        """Estimate costs. Pays nothing and writes nothing.

        Raises:
            ConfigError: The budget is too small for a pilot.
        """
        orders = [] if self._state.rounds else self._pilot(self._budget - self._spent())
        sizes = {order.stratum: order.stop for order in orders}
        rows = []
        for stratum in self._strata:
            each, left = self._cost(stratum, self._aspects), len(stratum) - stratum.done(self._aspects)
            pilot = sizes.get(stratum.name, 0)
            rows.append(
                {
                    "stratum": stratum.name,
                    "items": len(stratum),
                    "measurable": stratum.measurable,
                    "bought": stratum.done(self._aspects),
                    "pilot": pilot,
                    "pilot_usd": pilot * each,
                    "everything_usd": left * each,
                }
            )
        return SpendPlan(
            budget_usd=self._budget,
            spent_usd=self._spent(),
            aspects=self._aspects,
            strata=rows,
            rounds=self._state.rounds,
            stopped=self._state.stopped,
        )

    # -- the rounds -------------------------------------------------------------------------------------------------

    def run(self) -> SpendReport:
        """Buy until nothing is worth it any more.

        Raises:
            BudgetError: The budget is spent, and more would be worth its price. ``report`` holds the result.
        """
        state = self._state
        if state.in_flight_usd:  # the last run was stopped while it bought
            state.lost_usd += state.in_flight_usd
            state.in_flight_usd = 0.0
            self._save()
        if state.open is None and (state.stopped in (None, "budget")):
            self._open_next()
        while state.open is not None:
            state.stopped = None
            self._buy_open()
            self._finish_round()
            self._open_next()
        return self._report()

    def _open_next(self) -> None:
        """Decide what the next round buys; leave none open if the campaign is over."""
        state = self._state
        money = self._budget - self._spent()
        if not state.rounds:
            orders, short = self._pilot(money), False
        else:
            last = state.rounds[-1]
            orders, short = next_orders(self._strata, _rates(last), money, self._cost, _looks(last))
        state.open, state.stopped, state.spent_before = orders or None, None, self._spent()
        if not orders:
            chained = [stratum for stratum in self._strata if stratum.chain]
            state.stopped = "budget" if short else "complete" if chained else "no gain"
        self._save()
        if short and not orders:
            self._raise_budget()

    def _pilot(self, money: float) -> list[Order]:
        known = [stratum for stratum in self._strata if stratum.name != NEW]
        sizes = pilot_sizes(known, least=self._pilot_items)
        cost = {stratum.name: self._cost(stratum, self._aspects) for stratum in known}
        total = sum(sizes[name] * cost[name] for name in sizes)
        if total > _PILOT_MONEY * money:
            largest = max(sizes.values())
            shrunk = _PILOT_MONEY * money / total
            sizes = {name: int(size * shrunk) for name, size in sizes.items()}
            if max(sizes.values()) < LEAST_ITEMS:
                needed = 1.02 * total * LEAST_ITEMS / largest / _PILOT_MONEY
                raise ConfigError(
                    f"a budget of {money:.4g} USD is too small for a pilot of {LEAST_ITEMS} items of each stratum, "
                    "which may cost half of it",
                    hint=f"pass --budget {needed:.4g} or more, or choose a cheaper model",
                )
        if not any(sizes.values()):
            raise EvaluationError(
                "no item of the items table has an interaction in the validation part, so nothing can be measured",
                hint="set a larger [evaluation] validation_size",
            )
        return [
            Order(stratum.name, list(self._aspects), 0, sizes[stratum.name], sizes[stratum.name] * cost[stratum.name])
            for stratum in known
            if sizes[stratum.name]
        ]

    def _buy_open(self) -> None:
        """Buy what is ordered, as far as the money goes."""
        state = self._state
        for order in state.open or ():
            if order.done:
                continue
            stratum, aspects = self._stratum(order.stratum), tuple(order.aspects)
            ids = [self._ids[row] for row in stratum.rows[order.start : order.stop].tolist()]
            self._cost(stratum, aspects)  # notes the largest call, too
            state.largest_call_usd = max(state.largest_call_usd, self._largest)
            money = max(self._budget - self._spent(), 0.0)
            # What a run that is killed may leave unanswered; no run has more in flight than the money allows.
            state.in_flight_usd = min(self._parts.settings.llm.concurrency * state.largest_call_usd, money)
            self._save()
            try:
                report = self._shop.buy(ids, aspects, money, self._listener)
            except BudgetError as error:
                self._note(error.report)
                state.stopped = "budget"
                order.bought = error.report.generated + error.report.cached
                self._save()
                return
            except (KeyboardInterrupt, EnhancerError) as stop:
                if (ended := getattr(stop, "report", None)) is not None:
                    self._note(ended)
                    self._save()
                raise
            self._note(report)
            order.done, order.bought = True, report.generated + report.cached
            for name in aspects:
                stratum.taken[name] = max(stratum.taken.get(name, 0), order.stop)
            self._save()

    def _note(self, report: GenerationReport) -> None:
        """Count what a run that has ended may have been charged for without an answer."""
        self._state.in_flight_usd = 0.0
        self._state.lost_usd += report.unanswered_usd

    def _finish_round(self) -> None:
        """Say what the round has taught. One that the budget has cut short decides nothing, and stays open."""
        state = self._state
        unfinished = state.stopped == "budget"
        if state.rounds and not state.rounds[-1]["finished"]:
            state.rounds.pop()
        number = len(state.rounds) + 1
        chains = [list(stratum.chain) for stratum in self._strata]
        decisions = self._measure(number)
        if unfinished:
            for stratum, chain in zip(self._strata, chains, strict=True):
                stratum.chain = chain
        spent = self._spent()
        one = {
            "round": number,
            "orders": [order.to_json() for order in state.open or ()],
            "spent_usd": spent - state.spent_before,
            "total_usd": spent,
            "left_usd": self._budget - spent,
            "gains": [decision.to_json() for decision in decisions],
            "finished": not unfinished,
        }
        state.rounds.append(one)
        state.open = state.open if unfinished else None
        self._save()
        self._on_round(one)
        if unfinished:
            self._raise_budget()

    # -- measuring --------------------------------------------------------------------------------------------------

    def _measure(self, number: int) -> list[Decision]:
        asked = offers(self._strata, self._aspects)
        appraiser = self._opened_appraiser()
        vectors = {name: self._shop.vectors(name) for name in self._aspects}
        bought = np.zeros(len(self._ids), np.bool_)
        for stratum in self._strata:
            bought[stratum.rows[: max(stratum.taken.values(), default=0)]] = True
        for order in self._state.open or ():  # one that was cut short is not counted yet
            bought[self._stratum(order.stratum).rows[: order.stop]] = True
        appraisals = appraiser.appraise(vectors, bought, asked)
        costs = {(offer.group, offer.aspects): self._cost(self._stratum(offer.group), offer.aspects) for offer in asked}
        return decide(self._strata, appraisals, costs, number, self._least)

    def _opened_appraiser(self) -> Appraiser:
        if self._appraiser is None:
            self._shop.embed_texts(self._listener)
            texts = self._shop.vectors("text")
            factors = factors_without_vectors(
                self._parts.backbone(),
                self._views,
                metric=self._parts.settings.evaluation.metrics[0],
                sides=self._parts.sides,
                seed=self._parts.settings.seed,
                listener=self._listener,
            )
            groups: dict[str, NDArray[np.int64]] = {stratum.name: stratum.rows for stratum in self._strata}
            usable = texts.shape[1] > 0 and bool(texts.any())
            self._appraiser = Appraiser(
                factors, self._views, groups, texts if usable else None, seed=self._parts.settings.seed
            )
        return self._appraiser

    # -- money ------------------------------------------------------------------------------------------------------

    def _cost(self, stratum: Stratum, aspects: tuple[Input, ...]) -> float:
        """Return the estimated cost of one further item."""
        found = self._shop.unit_cost(self._examples_of(stratum, stratum.done(aspects)), aspects)
        self._largest = max(self._largest, found.largest_call_usd)
        return found.usd

    def _examples_of(self, stratum: Stratum, start: int) -> list[str]:
        """Return ids of items that have not been bought: the last in the order, so that there always are some."""
        return [self._ids[row] for row in stratum.rows[max(start, len(stratum) - _EXAMPLES) :].tolist()]

    def _spent(self) -> float:
        return self._shop.spent(self._state.watermark, self._state.largest_call_usd) + self._state.lost_usd

    def _raise_budget(self) -> NoReturn:
        spent = self._spent()
        error = BudgetError(
            f"stopped at the budget of {self._budget:g} USD: {spent:.6f} USD is spent, and more may be worth its price",
            hint="what was bought is kept; raise --budget and run again to continue",
        )
        error.report = self._report()
        raise error

    # -- state ------------------------------------------------------------------------------------------------------

    def _stratum(self, name: str) -> Stratum:
        return next(stratum for stratum in self._strata if stratum.name == name)

    def _save(self) -> None:
        self._state.take_from(self._strata)
        self._state.save(self._shop.folder)

    def _opened_state(self, *, restart: bool) -> CampaignState:
        """Return the campaign that was begun, or a new one.

        Raises:
            ConfigError: It was begun with other data or another model.
        """
        identity = {**_identity(self._parts, self._views), "templates": self._shop.templates(self._aspects)}
        state = None if restart else CampaignState.read(self._shop.folder)
        if state is None:
            return CampaignState(identity, watermark=self._shop.last_completion())
        if changed := [name for name, value in identity.items() if state.identity.get(name) != value]:
            raise ConfigError(
                f"the campaign in {self._shop.folder} was begun with another {' and '.join(changed)}",
                hint="undo the change, or pass --restart to begin a new campaign; what was bought is kept",
            )
        return state

    def _report(self) -> SpendReport:
        left = sum(
            (len(stratum) - stratum.done(self._aspects)) * self._cost(stratum, self._aspects)
            for stratum in self._strata
        )
        return SpendReport(
            budget_usd=self._budget,
            spent_usd=self._spent(),
            lost_usd=self._state.lost_usd,
            everything_usd=left,
            stopped=self._state.stopped or "",
            strata=[
                {
                    "stratum": stratum.name,
                    "items": len(stratum),
                    "bought": dict(stratum.taken),
                    "worth": [list(step) for step in stratum.chain],
                }
                for stratum in self._strata
            ],
            rounds=self._state.rounds,
        )


def _rates(one: dict[str, Any]) -> dict[Offer, float]:
    """Return the least gain per dollar of each offer of a round; what costs nothing comes first."""
    return {
        Offer(gain["stratum"], tuple(gain["aspects"]), tuple(gain["given"])): (
            math.inf if gain["bound_per_usd"] is None else gain["bound_per_usd"]
        )
        for gain in one["gains"]
    }


def _looks(one: dict[str, Any]) -> list[Offer]:
    """Return the offers that get another look after a round, the highest gain per dollar first."""
    found = [gain for gain in one["gains"] if gain["decision"] == "look"]
    found.sort(key=lambda gain: -(math.inf if gain["gain_per_usd"] is None else gain["gain_per_usd"]))
    return [Offer(gain["stratum"], tuple(gain["aspects"]), tuple(gain["given"])) for gain in found]


def _identity(parts: ProjectParts, views: Views) -> dict[str, Any]:
    settings = parts.settings
    train, validation = views.split.train, views.warm_validation
    digest = hashlib.blake2b(entity_ids(train).encode(), digest_size=16)
    for rows in (train.users, train.items, validation.users, validation.items):
        digest.update(np.ascontiguousarray(rows).data)
    return {
        "split": digest.hexdigest(),
        "aspects": list(settings.prompts.item.notes),
        "model": settings.llm.model,
        "embedder": parts.embedder.fingerprint,
        "seed": settings.seed,
    }


def _check(parts: ProjectParts, views: Views) -> None:
    source = parts.settings.prompts.item.source
    if source != "llm":
        raise ConfigError(
            f"[prompts.item] source is {source!r}: there are no profiles of items to buy", hint='set source = "llm"'
        )
    if not len(views.warm_validation.users):
        raise EvaluationError(
            "the validation part of the split is empty, and gains are measured on it",
            hint="set [evaluation] validation_size above 0",
        )
