"""Group notes that share a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.prompts import contains_instructions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from enhancer.harness.answers.entity_task import EntityTask


def bundles(tasks: Iterable[EntityTask]) -> list[list[EntityTask]]:
    """Return the notes of one entity by the request that asks for them.

    Notes of one lane share a request, but those with an invalid answer before are asked for without the others.
    """
    found: dict[tuple[object, ...], list[EntityTask]] = {}
    for task in tasks:
        found.setdefault((task.spec.note.lane, bool(task.answer_count)), []).append(task)
    return list(found.values())


class Grouping:
    """Collects entities that are asked for the same notes, until they fill a request.

    Args:
        size: Entities in one request.
        request: Asks for the notes of one request.
    """

    def __init__(self, size: int, request: Callable[[list[EntityTask]], Awaitable[None]]) -> None:
        self._size = size
        self._request = request
        self._open: dict[tuple[object, ...], list[list[EntityTask]]] = {}

    async def add(self, bundle: list[EntityTask], *, asked_before: bool) -> None:
        """Add the notes of one entity.

        An entity that was asked about before is asked about alone, because it may have made its group's request fail;
        so is an entity whose text seems to instruct the model.
        """
        if self._size == 1 or asked_before or contains_instructions(bundle[0].prompt):
            await self._request(bundle)
            return
        note = bundle[0].spec.note
        place = (note.lane, *(task.key.aspect for task in bundle))
        group = self._open.setdefault(place, [])
        group.append(bundle)
        if len(group) >= self._size:
            await self._ask(place)

    async def close(self) -> None:
        """Ask for the notes of incomplete groups."""
        for place in list(self._open):
            await self._ask(place)

    async def _ask(self, place: tuple[object, ...]) -> None:
        await self._request([task for bundle in self._open.pop(place) for task in bundle])
