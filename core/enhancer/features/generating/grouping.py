"""Group entities that share a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.prompts import contains_instructions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from enhancer.harness.answers.entity_task import EntityTask


class Grouping:
    """Collects entities until they fill a request.

    Args:
        size: Entities in one request.
        request: Asks about the entities of one request.
    """

    def __init__(self, size: int, request: Callable[[list[EntityTask]], Awaitable[None]]) -> None:
        self._size = size
        self._request = request
        self._open: list[EntityTask] = []

    async def add(self, case: EntityTask, *, asked_before: bool) -> None:
        """Add an entity.

        An entity that was asked about before is asked about alone, because it may have made its group's request fail;
        so is an entity whose text seems to instruct the model.
        """
        if self._size == 1 or asked_before or contains_instructions(case.prompt):
            await self._request([case])
            return
        self._open.append(case)
        if len(self._open) >= self._size:
            await self.close()

    async def close(self) -> None:
        """Ask about the entities of an incomplete group."""
        if self._open:
            group, self._open = self._open, []
            await self._request(group)
