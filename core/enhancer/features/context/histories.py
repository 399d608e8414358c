"""Render the histories of users: all of what they chose, or what they chose of late beside what they chose before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.features.context.absent import AbsentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from enhancer.data import Entity, Histories, Interactions, Touch

_RECENT_SHARE = 3
"""The recent part of a history is this fraction of the interactions that a prompt may show: a third."""


def divide_history(touches: Sequence[Touch], limit: int) -> tuple[list[Touch], list[Touch]]:
    """Divide a history into its recent part and the lasting one before.

    The recent part is the latest third, or a third of ``limit`` if the history is longer. The lasting part is taken at
    even steps from everything before, so that a long history is shown from end to end.

    Args:
        touches: A user's interactions, most recent first.
        limit: Largest number of interactions in both parts together.

    >>> recent, lasting = divide_history(range(100), 9)  # any sequence, here the numbers of the interactions
    >>> recent, lasting
    ([0, 1, 2], [3, 22, 41, 61, 80, 99])
    >>> divide_history(range(4), 30)
    ([0, 1], [2, 3])
    """
    count = -(-min(len(touches), limit) // _RECENT_SHARE)
    earlier = touches[count:]
    kept = min(len(earlier), limit - count)
    places = [round(n * (len(earlier) - 1) / max(1, kept - 1)) for n in range(kept)]
    return list(touches[:count]), [earlier[place] for place in places]


class HistoryContext:
    """Renders histories. Interactions and titles are loaded when the first history is rendered.

    Args:
        train: Returns the training interactions.
        titles: Returns the title of each item.
        limit: Largest number of interactions in a prompt.
    """

    def __init__(
        self, train: Callable[[], Interactions], titles: Callable[[], Mapping[str, str | None]], limit: int
    ) -> None:
        self._train = train
        self._titles = titles
        self._limit = limit
        self._loaded: _Loaded | None = None

    def users(self) -> Iterator[Entity]:
        """Yield the users that have training interactions, without text."""
        from enhancer.data import Entity

        for id_ in self._train().user_ids:
            yield Entity(kind="user", id=id_, text="")

    def renderers(self) -> dict[str, Callable[[Entity], str]]:
        """Return the renderer of each placeholder."""
        return {"history": self.history, "recent": self.recent, "lasting": self.lasting}

    def history(self, entity: Entity) -> str:
        """Return the latest interactions of a user, most recent first; empty without training interactions."""
        return self._parts.text(self._parts.touches(entity.id, self._limit))

    def recent(self, entity: Entity) -> str:
        """Return the recent part of a user's history, most recent first; see :func:`divide_history`.

        Raises:
            AbsentError: The interactions have no times.
        """
        return self._divided(entity, "recent", 0)

    def lasting(self, entity: Entity) -> str:
        """Return the lasting part of a user's history, most recent first; see :func:`divide_history`.

        Raises:
            AbsentError: The interactions have no times.
        """
        return self._divided(entity, "lasting", 1)

    def _divided(self, entity: Entity, name: str, part: int) -> str:
        parts = self._parts
        if not parts.has_times:
            raise AbsentError(
                f"{{{{ {name} }}}} divides histories by time, and the interactions have no timestamp column",
                hint="name it by [data.columns] timestamp, or show {{ history }} instead",
            )
        return parts.text(divide_history(parts.touches(entity.id, None), self._limit)[part])

    @property
    def _parts(self) -> _Loaded:
        if self._loaded is None:
            self._loaded = _Loaded(self._train(), self._titles())
        return self._loaded


class _Loaded:
    """Histories and titles in memory."""

    def __init__(self, train: Interactions, titles: Mapping[str, str | None]) -> None:
        from enhancer.data import Histories

        self.has_times = train.timestamps is not None
        self._item_ids = train.item_ids
        self._titles = titles
        self._histories: Histories = Histories(train)
        self._rows = {id_: row for row, id_ in enumerate(train.user_ids)}

    def touches(self, user_id: str, limit: int | None) -> list[Touch]:
        """Return the latest interactions of a user, most recent first; all without a limit."""
        row = self._rows.get(user_id)
        return [] if row is None else self._histories.of(row, limit)

    def text(self, touches: Sequence[Touch]) -> str:
        """Return one line per interaction."""
        from enhancer.prompts.history import HistoryLine, history_text

        past = [(self._item_ids[touch.item], touch.rating) for touch in touches]
        return history_text(HistoryLine(self._titles.get(id_) or id_, rating) for id_, rating in past)
