"""Which entities share a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.prompts import contains_instructions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from enhancer.harness.answers.case import Case


class Grouping:
    """Gathers entities until they fill a request.

    Args:
        size: Entities in one request.
        hand_over: Takes the entities of each request.
    """

    def __init__(self, size: int, hand_over: Callable[[list[Case]], Awaitable[None]]) -> None:
        self._size = size
        self._hand_over = hand_over
        self._open: list[Case] = []

    async def add(self, case: Case, *, asked_before: bool) -> None:
        """Take an entity.

        An entity that shared a request before is asked about alone, because it may be what made that request fail. So
        is a text that seems to give the model orders.
        """
        if self._size == 1 or asked_before or contains_instructions(case.prompt):
            await self._hand_over([case])
            return
        self._open.append(case)
        if len(self._open) >= self._size:
            await self.close()

    async def close(self) -> None:
        """Hand over those that are waiting for more."""
        if self._open:
            group, self._open = self._open, []
            await self._hand_over(group)
