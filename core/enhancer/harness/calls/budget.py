"""The hard cap on a run's cost: reserved before a call, settled after it, never passed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from enhancer.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    from enhancer.contracts.llm import Price

_ROUNDING = 1e-12


class Budget:
    """Money, in USD. For one event loop.

    A call that does not fit while others are in flight waits for them: they may cost less than was reserved for them.

    Attributes:
        spent: What settled calls cost, as far as it is known.
        reserved: What calls in flight may cost.
    """

    def __init__(self, max_cost: float | None, price: Price | None, *, model: str = "") -> None:
        """Start with nothing spent.

        Raises:
            ConfigError: There is a cap and no price to measure by.
        """
        if max_cost is not None and price is None:
            raise ConfigError(
                f"[llm] max_cost is set, but the price of model {model!r} is not known",
                hint="give it in [llm.price]: input and output, USD per million tokens",
            )
        self._max = max_cost
        self._price = price
        self.spent = 0.0
        self.reserved = 0.0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def price(self) -> Price | None:
        """What tokens cost."""
        return self._price

    @property
    def capped(self) -> bool:
        """Whether there is a cap at all."""
        return self._max is not None

    def could_cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The most that a call of this size can cost; 0 without a price."""
        return self._price.cost(prompt_tokens, completion_tokens) if self._price else 0.0

    def fits(self, amount: float) -> bool:
        """Whether the cap leaves room for this amount beside what is spent and reserved."""
        return self._max is None or self.spent + self.reserved + amount <= self._max + _ROUNDING

    def reserve_now(self, amount: float) -> bool:
        """Reserve money if it fits without waiting; returns whether it did."""
        if self._max is not None:
            if self.spent + self.reserved + amount > self._max + _ROUNDING:
                return False
            self.reserved += amount
        return True

    async def reserve(self, amount: float) -> None:
        """Reserve money for a call; waits for calls in flight where it does not fit yet.

        Raises:
            BudgetError: It does not fit, and nothing in flight could make room.
        """
        if self._max is None:
            return
        while self.spent + self.reserved + amount > self._max + _ROUNDING:
            if self.reserved <= _ROUNDING:
                raise BudgetError(
                    f"stopped at [llm] max_cost = {self._max:g} USD: {self.spent:.6f} USD is spent, and the next call"
                    f" could cost {amount:.6f} USD",
                    hint="what was paid for is kept; raise max_cost and run again to go on",
                )
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self.reserved += amount

    def settle(self, amount: float, cost: float) -> None:
        """End a call: give back what was reserved for it, and count what it cost."""
        self.spent += cost
        if self._max is None:
            return
        self.reserved = max(0.0, self.reserved - amount)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
