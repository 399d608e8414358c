"""Enforce the cost limit of a run: money is reserved before a call and settled after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from enhancer.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    from enhancer.contracts.llm import Price

_ROUNDING = 1e-12


class Budget:
    """Cost limit in USD. For one event loop.

    A call that does not fit waits for the calls in flight, which may cost less than was reserved for them. The first
    call goes alone: a provider may charge for more tokens than it was allowed to generate, and only its answer shows
    how many. From then on, reservations count as many times as much as the worst call so far.

    Args:
        max_cost: The limit, or None.
        price: Price of the tokens, or None if it is unknown.
        model: Name of the model for error messages.

    Attributes:
        spent: Cost of settled calls, as far as it is known.
        reserved: Maximum cost of the calls in flight.

    Raises:
        ConfigError: There is a limit but no price.
    """

    def __init__(self, max_cost: float | None, price: Price | None, *, model: str = "") -> None:
        if max_cost is not None and price is None:
            raise ConfigError(
                f"[llm] max_cost is set, but the price of model {model!r} is unknown",
                hint="set [llm.price] input and output in USD per million tokens, or [llm] price = 'free'",
            )
        self._max = max_cost
        self._price = price
        self.spent = 0.0
        self.reserved = 0.0
        self._overrun = 1.0
        self._proven = False
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def price(self) -> Price | None:
        """Price of the tokens; None if it is unknown."""
        return self._price

    @property
    def capped(self) -> bool:
        """Whether there is a cost limit."""
        return self._max is not None

    def call_cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the cost of a call of this size in USD; 0 without a price."""
        return self._price.cost(prompt_tokens, completion_tokens) if self._price else 0.0

    def fits(self, amount: float) -> bool:
        """Check whether an amount fits under the limit beside what is spent and reserved."""
        return self._max is None or self.spent + self._overrun * (self.reserved + amount) <= self._max + _ROUNDING

    def reserve_now(self, amount: float) -> bool:
        """Reserve an amount if it fits without waiting. Return whether it was reserved."""
        if self._max is not None:
            if self._must_wait or not self.fits(amount):
                return False
            self.reserved += amount
        return True

    @property
    def _must_wait(self) -> bool:
        """Whether the first call is in flight."""
        return not self._proven and self.reserved > _ROUNDING

    async def reserve(self, amount: float) -> None:
        """Reserve an amount for a call. If it does not fit, wait for calls in flight to be settled.

        Raises:
            BudgetError: It does not fit, and no call is in flight.
        """
        if self._max is None:
            return
        while self._must_wait or not self.fits(amount):
            if self.reserved <= _ROUNDING:
                raise BudgetError(
                    f"stopped at [llm] max_cost = {self._max:g} USD: {self.spent:.6f} USD is spent, and the next call"
                    f" could cost {self._overrun * amount:.6f} USD",
                    hint="paid answers are kept; raise max_cost and run again to continue",
                )
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self.reserved += amount

    def settle(self, amount: float, cost: float, *, bound: float | None = None) -> None:
        """Release the amount reserved for a call and add its actual cost.

        Args:
            amount: The amount.
            cost: The cost.
            bound: Maximum cost that the call was expected to have, if nothing was reserved for it here.
        """
        self.spent += cost
        if self._max is None:
            return
        expected = amount if bound is None else bound
        if expected > _ROUNDING:
            self._overrun = max(self._overrun, cost / expected)
        self._proven = self._proven or cost > 0.0
        self.reserved = max(0.0, self.reserved - amount)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
