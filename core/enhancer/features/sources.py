"""Open the streams of entities and the histories that prompts show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from enhancer.config.inputs import Input
    from enhancer.config.schema import Settings
    from enhancer.contracts.record import Kind
    from enhancer.data import Entity, Interactions

Source = Literal["llm", "text", "pool", "none"]
"""Origin of the vectors of a kind, as in ``[prompts.KIND] source``."""


def resolve_inputs(source: Source, inputs: Collection[Input]) -> tuple[Input, ...]:
    """Return the inputs that are stored for a kind of entity.

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
    """Streams of entities, opened again for each pass, and histories of users."""

    items: Callable[[], Iterable[Entity]] | None = None
    users: Callable[[], Iterable[Entity]] | None = None
    history: Callable[[Entity], str] | None = None
    """Renders a user's history, from training interactions only; None if no prompt shows one."""

    def of(self, kind: Kind) -> Callable[[], Iterable[Entity]] | None:
        """Return the stream of one kind; None if there is none."""
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
        """Open the tables of ``[data]``.

        Args:
            settings: The configuration.
            root: Folder that relative paths are resolved against.
            train: Returns the training interactions. Called only if prompts of users show a history, or if users are
                profiled without a users table.
            titles: Returns the title of each item; by default read from the items table.

        Raises:
            ConfigError: Entities are to be profiled, and their table is not set.
        """
        data, prompts = settings.data, settings.prompts

        def stream(path: Path, kind: Kind) -> Callable[[], Iterator[Entity]]:
            from enhancer.data import read_entities

            return lambda: read_entities(root / path, kind, data.columns, data.max_text)

        items = stream(data.items, "item") if data.items is not None else None
        if items is None and prompts.item.source in ("llm", "text"):
            raise ConfigError("[data] items is not set", hint="set it to a file, or set [prompts.item] source = 'none'")
        users: Callable[[], Iterable[Entity]] | None = stream(data.users, "user") if data.users is not None else None
        if users is None and prompts.user.source == "text":
            raise ConfigError("[data] users is not set", hint="set it to a file, or change [prompts.user] source")
        history = None
        if prompts.user.source == "llm":
            if train is not None:
                named = titles or (lambda: {entity.id: entity.title for entity in items()} if items is not None else {})
                past = _History(train, named, prompts.user.max_history)
                history = past.render
                users = users or past.users
            if users is None:
                raise ConfigError(
                    "[data] users and interactions are not set", hint="profiles of users need one of the two"
                )
        return cls(items, users, history)


class _History:
    """Renders histories. Interactions and titles are loaded when the first history is rendered."""

    def __init__(
        self, train: Callable[[], Interactions], titles: Callable[[], Mapping[str, str | None]], limit: int
    ) -> None:
        self._train = train
        self._titles = titles
        self._limit = limit
        self._render: Callable[[str], str] | None = None

    def users(self) -> Iterator[Entity]:
        """Yield the users that have training interactions, without text."""
        from enhancer.data import Entity

        for id_ in self._train().user_ids:
            yield Entity(kind="user", id=id_, text="")

    def render(self, entity: Entity) -> str:
        """Return the history of a user, most recent first; empty without training interactions."""
        if self._render is None:
            self._render = self._load()
        return self._render(entity.id)

    def _load(self) -> Callable[[str], str]:
        from enhancer.data import Histories
        from enhancer.prompts.history import HistoryLine, history_text

        train, titles = self._train(), self._titles()
        histories, limit = Histories(train), self._limit
        rows = {id_: row for row, id_ in enumerate(train.user_ids)}

        def render(user_id: str) -> str:
            row = rows.get(user_id)
            if row is None:
                return ""
            past = [(train.item_ids[touch.item], touch.rating) for touch in histories.of(row, limit)]
            return history_text(HistoryLine(titles.get(id_) or id_, rating) for id_, rating in past)

        return render
