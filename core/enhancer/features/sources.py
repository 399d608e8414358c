"""Open the streams of entities, and what their prompts show from other tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Literal, Self

from enhancer.errors import ConfigError
from enhancer.features.context.absent import AbsentError, or_empty
from enhancer.features.context.histories import HistoryContext

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from enhancer.config.data import DataConfig
    from enhancer.config.inputs import Input
    from enhancer.config.schema import Settings
    from enhancer.contracts.record import Kind
    from enhancer.data import Entity, Interactions
    from enhancer.data.entities import RowFilter
    from enhancer.data.reviews.index import ReviewIndex
    from enhancer.prompts import Template

CONTEXT: Mapping[Kind, tuple[str, ...]] = {"item": ("reviews",), "user": ("history", "recent", "lasting")}
"""Placeholders of values from other tables that templates of a kind may use."""
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
class EntityTable:
    """The entities of one table, opened again for each pass."""

    path: Path
    kind: Kind
    data: DataConfig

    def __call__(self) -> Iterator[Entity]:
        """Stream the entities."""
        return chain.from_iterable(self.blocks())

    def blocks(self, wanted: RowFilter | None = None) -> Iterator[Iterator[Entity]]:
        """Stream the entities, a block of rows at a time; see :func:`enhancer.data.entities.read_entity_blocks`."""
        from enhancer.data import TableOptions
        from enhancer.data.entities import read_entity_blocks

        data = self.data
        options = TableOptions.of(data, "items" if self.kind == "item" else "users")
        return read_entity_blocks(
            self.path, self.kind, data.columns, data.max_text, html=data.html, options=options, wanted=wanted
        )


@dataclass(frozen=True, slots=True)
class Sources:
    """Streams of entities, opened again for each pass, and what their prompts show from other tables."""

    items: Callable[[], Iterable[Entity]] | None = None
    users: Callable[[], Iterable[Entity]] | None = None
    context: Mapping[Kind, Mapping[str, Callable[[Entity], str]]] = field(default_factory=dict)
    """Renders what prompts of a kind may show from other tables, by the name of the placeholder, such as ``history``.
    It comes from training interactions alone."""

    reviews: Callable[[], ReviewIndex] | None = None
    """Reads the reviews that prompts of items may show; None if there is no table of them."""

    def of(self, kind: Kind) -> Callable[[], Iterable[Entity]] | None:
        """Return the stream of one kind; None if there is none."""
        return self.items if kind == "item" else self.users

    def shown_by(
        self, template: Template, reviews: Callable[[Entity], str] | None = None
    ) -> dict[str, Callable[[Entity], str]]:
        """Return the renderers of what a template shows from other tables.

        Args:
            template: The template.
            reviews: Renders the reviews of an item; None if there are none.

        Raises:
            ConfigError: Entities of its kind have none of it. A renderer raises the same error if the tables lack it
                and no condition of the template tests that it is there.
        """
        found = {}
        renderers = {"reviews": _no_reviews if reviews is None else reviews, **self.context.get(template.kind, {})}
        for name in template.context_names:
            if name not in CONTEXT[template.kind]:
                raise ConfigError(
                    f"template {template.name!r} shows {{{{ {name} }}}}, which {template.kind}s do not have",
                    hint=f"they have {' and '.join(f'{{{{ {one} }}}}' for one in CONTEXT[template.kind])}",
                )
            if name in renderers:
                render = renderers[name]
                found[name] = or_empty(render) if template.can_do_without(name) else render
        return found

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        root: Path,
        *,
        train: Callable[[], Interactions] | None = None,
        titles: Callable[[], Mapping[str, str | None]] | None = None,
        reviews: Callable[[], ReviewIndex] | None = None,
    ) -> Self:
        """Open the tables of ``[data]``.

        Args:
            settings: The configuration.
            root: Folder that relative paths are resolved against.
            train: Returns the training interactions. Called only if prompts of users show a history, or if users are
                profiled without a users table.
            titles: Returns the title of each item; by default read from the items table.
            reviews: Returns the reviews of ``[data] reviews``. Called only if prompts of items show them.

        Raises:
            ConfigError: Entities are to be profiled, and their table is not set.
        """
        data, prompts = settings.data, settings.prompts

        items = EntityTable(root / data.items, "item", data) if data.items is not None else None
        if items is None and prompts.item.source in ("llm", "text"):
            raise ConfigError("[data] items is not set", hint="set it to a file, or set [prompts.item] source = 'none'")
        users: Callable[[], Iterable[Entity]] | None = None
        if data.users is not None:
            users = EntityTable(root / data.users, "user", data)
        if users is None and prompts.user.source == "text":
            raise ConfigError("[data] users is not set", hint="set it to a file, or change [prompts.user] source")
        context: dict[Kind, Mapping[str, Callable[[Entity], str]]] = {}
        if prompts.user.source == "llm":
            if train is not None:
                named = titles or (lambda: {entity.id: entity.title for entity in items()} if items is not None else {})
                past = HistoryContext(train, named, prompts.user.max_history)
                context["user"] = past.renderers()
                users = users or past.users
            if users is None:
                raise ConfigError(
                    "[data] users and interactions are not set", hint="profiles of users need one of the two"
                )
        return cls(items, users, context, None if data.reviews is None else reviews)


def _no_reviews(_: Entity) -> str:
    raise AbsentError(
        "a template shows {{ reviews }}, and [data] reviews is not set",
        hint='name the file: reviews = "reviews.csv", or choose another template',
    )
