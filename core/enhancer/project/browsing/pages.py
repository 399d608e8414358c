"""Render the pages of ``enhancer browse``."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from enhancer.errors import EnhancerError
from enhancer.features.reading.answers import all_quarantined
from enhancer.project.inspecting.entity_view import view_entity

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2

    from enhancer.contracts.record import Kind
    from enhancer.project.parts import ProjectParts

_PER_PAGE = 50
"""Entities on a page of the list."""
_MOST_QUARANTINED = 500
"""Entries of quarantine that are shown."""


class Pages:
    """Renders pages about one project. Reads alone: no LLM is called, and nothing is written.

    Args:
        parts: The parts of the project.
        name: Name of the project, for titles.
    """

    def __init__(self, parts: ProjectParts, name: str) -> None:
        self._parts = parts
        self._name = name
        self._templates = _templates()

    def render(self, path: str, query: Mapping[str, str]) -> tuple[int, str]:
        """Return status and content of a page.

        Args:
            path: Path of the URL.
            query: Parameters of the URL.
        """
        try:
            if path == "/":
                return 200, self._list(query)
            if path == "/entity":
                return 200, self._entity(query)
            if path == "/quarantine":
                return 200, self._page("quarantine", **self._quarantine())
        except EnhancerError as error:
            return 404, self._page("problem", message=error.message, hint=error.hint)
        return 404, self._page("problem", message="there is no such page", hint="start at the list of items")

    def _page(self, what: str, **values: Any) -> str:
        shared = {"what": what, "name": self._name, "url": _url, "kind": "item", "q": ""}
        return self._templates.get_template("browse.html.j2").render({**shared, **values})

    def _list(self, query: Mapping[str, str]) -> str:
        kind, words = _kind(query), query.get("q", "").strip()
        found = self._found(kind, words)
        number = query.get("page", "1")
        page = max(1, int(number)) if number.isdecimal() and len(number) < 9 else 1
        start = (page - 1) * _PER_PAGE
        return self._page(
            "list",
            kind=kind,
            q=words,
            rows=found[start : start + _PER_PAGE],
            total=len(found),
            page=page,
            more=start + _PER_PAGE < len(found),
        )

    def _found(self, kind: Kind, words: str) -> list[tuple[str, str]]:
        """Return id and title of the entities that hold all words in id or title."""
        wanted = words.casefold().split()
        if kind == "item":
            titles = self._parts.titles
            known = [(id_, title or "") for id_, title in titles.items()]
            if not known and self._parts.settings.data.interactions is not None:
                known = [(id_, "") for id_ in self._parts.split.train.item_ids]
        elif self._parts.settings.data.interactions is not None:
            known = [(id_, "") for id_ in self._parts.split.train.user_ids]
        else:
            known = [(entity.id, entity.title or "") for entity in self._parts.pipeline.entities("user")]
        if not wanted:
            return known
        return [pair for pair in known if all(word in f"{pair[0]} {pair[1]}".casefold() for word in wanted)]

    def _entity(self, query: Mapping[str, str]) -> str:
        kind = _kind(query)
        view = view_entity(self._parts, query.get("id", ""), kind, neighbours=8)
        return self._page("entity", kind=kind, view=view, cost=_dollars(view.cost_usd) if view.notes else "")

    def _quarantine(self) -> dict[str, Any]:
        return {"rows": list(islice(all_quarantined(self._parts.store), _MOST_QUARANTINED)), "most": _MOST_QUARANTINED}


def _kind(query: Mapping[str, str]) -> Kind:
    return "user" if query.get("kind") == "user" else "item"


def _url(path: str, **query: object) -> str:
    """Return the URL of a page; ids may hold any character."""
    return f"{path}?{urlencode({name: str(value) for name, value in query.items()}, errors='surrogatepass')}"


def _dollars(value: float | None) -> str:
    return "unknown" if value is None else f"${value:.4f}"


def _templates() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
