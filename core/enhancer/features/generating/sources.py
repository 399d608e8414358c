"""Where entities and histories come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from enhancer.config.schema import Input, Settings
    from enhancer.contracts.record import Kind
    from enhancer.data import Entity, Interactions

Source = Literal["llm", "text", "pool", "none"]
"""Where vectors of a kind come from, as ``[prompts.KIND] source`` says."""


def resolve_inputs(source: Source, inputs: Collection[Input]) -> tuple[Input, ...]:
    """What is stored for a kind of entity, given what is asked for.

    >>> resolve_inputs("llm", ["profile", "text"])
    ('profile', 'text')
    >>> resolve_inputs("text", ["profile"])
    ('text',)
    >>> resolve_inputs("pool", ["profile"])
    ()
    """
    if source == "llm":
        return tuple(inputs)
    return ("text",) if source == "text" else ()


@dataclass(frozen=True, slots=True)
class Sources:
    """Streams of entities, opened anew for each pass, and what prompts show beside them."""

    items: Callable[[], Iterable[Entity]] | None = None
    users: Callable[[], Iterable[Entity]] | None = None
    history: Callable[[Entity], str] | None = None
    """A user's history as text, from training interactions only."""

    def of(self, kind: Kind) -> Callable[[], Iterable[Entity]] | None:
        """The stream of one kind, if there is any."""
        return self.items if kind == "item" else self.users

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        root: Path,
        *,
        train: Callable[[], Interactions] | None = None,
        titles: Callable[[], Mapping[str, str | None]] | None = None,
    ) -> Self:
        """The tables of ``[data]``.

        Args:
            settings: The configuration.
            root: The folder that paths in it are relative to.
            train: Gives the training interactions; only asked where a user's prompt shows a history, or where users
                are profiled without a table of users.
            titles: Gives what people call each item; by default read from the items table.

        Raises:
            ConfigError: Items (or users) are to be profiled and there is no table of them.
        """
        data, prompts = settings.data, settings.prompts

        def stream(path: Path, kind: Kind) -> Callable[[], Iterator[Entity]]:
            from enhancer.data import read_entities

            return lambda: read_entities(root / path, kind, data.columns, data.max_text)

        items = stream(data.items, "item") if data.items is not None else None
        if items is None and prompts.item.source in ("llm", "text"):
            raise ConfigError(
                "[data] items is not set", hint="name the table of items, or set [prompts.item] source = 'none'"
            )
        users: Callable[[], Iterable[Entity]] | None = stream(data.users, "user") if data.users is not None else None
        if users is None and prompts.user.source == "text":
            raise ConfigError("[data] users is not set", hint="name the table of users, or set [prompts.user] source")
        history = None
        if prompts.user.source == "llm":
            if train is not None:
                named = titles or (lambda: {entity.id: entity.title for entity in items()} if items is not None else {})
                past = _History(train, named, prompts.user.max_history)
                history = past.of
                users = users or past.users
            if users is None:
                raise ConfigError("[data] users and interactions are not set", hint="users cannot be profiled without")
        return cls(items, users, history)


class _History:
    """Histories as texts; interactions and titles are loaded when the first is asked for."""

    def __init__(
        self, train: Callable[[], Interactions], titles: Callable[[], Mapping[str, str | None]], limit: int
    ) -> None:
        self._train = train
        self._titles = titles
        self._limit = limit
        self._made: Callable[[str], str] | None = None

    def users(self) -> Iterator[Entity]:
        """Users known by their interactions alone."""
        from enhancer.data import Entity

        for id_ in self._train().user_ids:
            yield Entity(kind="user", id=id_, text="")

    def of(self, entity: Entity) -> str:
        """The history of one user, most recent first; empty for a user without training interactions."""
        if self._made is None:
            self._made = self._make()
        return self._made(entity.id)

    def _make(self) -> Callable[[str], str]:
        from enhancer.data import Histories
        from enhancer.prompts.history import HistoryLine, history_text

        train, titles = self._train(), self._titles()
        histories, limit = Histories(train), self._limit
        rows = {id_: row for row, id_ in enumerate(train.user_ids)}

        def of(user_id: str) -> str:
            row = rows.get(user_id)
            if row is None:
                return ""
            touched = [(train.item_ids[touch.item], touch.rating) for touch in histories.of(row, limit)]
            return history_text(HistoryLine(titles.get(id_) or id_, rating) for id_, rating in touched)

        return of
