"""Say that a prompt shows something that the tables do not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.data import Entity

    Renderer = Callable[[Entity], str]


class AbsentError(ConfigError):
    """A placeholder needs a table or column that there is not."""


def or_empty(render: Renderer) -> Renderer:
    """Return a renderer that gives an empty text where ``render`` raises :class:`AbsentError`."""

    def shown(entity: Entity) -> str:
        try:
            return render(entity)
        except AbsentError:
            return ""

    return shown
