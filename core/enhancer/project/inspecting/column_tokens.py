"""Estimate how many tokens of a prompt each column of a table costs."""

from __future__ import annotations

from collections import ChainMap
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from enhancer.harness.calls.token_estimate import TOKENS_PER_MESSAGE, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.data import Entity
    from enhancer.features.kind_spec import KindSpec
    from enhancer.project.parts import ProjectParts
    from enhancer.prompts import Note

SAMPLE = 200
"""Entities of a kind that are looked at, from the beginning of their table."""
MAX_COLUMNS = 50
"""Columns of a kind that are looked at."""
_WEIGHED = 20
_KINDS: tuple[Kind, ...] = ("item", "user")


class ColumnTokens(NamedTuple):
    """Cost of a column in the prompts of one kind of entity."""

    kind: Kind
    column: str
    tokens: float
    """Mean tokens of an entity's prompts that would not be there without the column."""
    share: float
    """Their share of all prompt tokens, instructions included."""

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            "kind": self.kind,
            "column": self.column,
            "tokens": round(self.tokens, 1),
            "share": round(self.share, 4),
        }


def column_tokens(parts: ProjectParts) -> list[ColumnTokens]:
    """Return what each column costs that prompts show, the dearest first; nothing if no LLM is asked.

    Each prompt is rendered with and without a column, so that any template counts as it is. Only the first
    :data:`SAMPLE` entities of a kind are looked at.

    Args:
        parts: The project.
    """
    return [one for kind in _KINDS for one in _of_kind(parts, kind)]


def _of_kind(parts: ProjectParts, kind: Kind) -> list[ColumnTokens]:
    spec = parts.pipeline.spec(kind)
    entities = [] if spec is None else list(islice(spec.entities(), SAMPLE))
    if spec is None or not entities:
        return []
    whole = 0.0
    costs: dict[str, float] = {}
    for note, notes in _requests(spec):
        prompts = _Prompts(spec, entities, note)
        own = prompts.tokens(entities)
        system = note.template.request(*notes, knowledge=note.knowledge).system
        whole += (
            own
            + len(entities) * (estimate_tokens(system) + 2 * TOKENS_PER_MESSAGE) / parts.settings.llm.items_per_request
        )
        for column in _longest(entities):
            costs[column] = costs.get(column, 0.0) + own - prompts.tokens([_without(one, column) for one in entities])
    found = [ColumnTokens(kind, name, cost / len(entities), cost / whole) for name, cost in costs.items() if cost > 0]
    return sorted(found, key=lambda one: -one.tokens)


def _requests(spec: KindSpec) -> Iterator[tuple[Note, tuple[str, ...]]]:
    """Yield the notes that are asked for together: one of them, and the names of all."""
    together: dict[tuple[str, str, int, str], list[Note]] = {}
    for note in (each.note for each in spec.notes):
        key = (note.template.fingerprint, note.knowledge, note.sample, note.name if note.alone else "")
        together.setdefault(key, []).append(note)
    for notes in together.values():
        yield notes[0], tuple(note.field for note in notes)


class _Prompts:
    """Renders the prompts of some entities."""

    def __init__(self, spec: KindSpec, entities: Sequence[Entity], note: Note) -> None:
        self._template = note.template
        renderers = spec.context(note.template)
        self._context = {name: [render(entity) for entity in entities] for name, render in renderers.items()}

    def tokens(self, entities: Sequence[Entity]) -> int:
        """Return the tokens of all prompts."""
        return sum(map(estimate_tokens, self._template.render_all(entities, self._context)))


def _longest(entities: Sequence[Entity]) -> list[str]:
    """Return the columns with the longest values; of a table of thousands the others cost next to nothing."""
    some = entities[:_WEIGHED]
    lengths = {name: sum(len(one.columns[name][one.row]) for one in some) for name in entities[0].columns}
    longest = sorted(lengths, key=lambda name: -lengths[name])[:MAX_COLUMNS]
    return [name for name in longest if any(one.columns[name][one.row] for one in entities)]


def _without(entity: Entity, column: str) -> Entity:
    """Return an entity whose table has no value in a column."""
    line = f"{column}: {entity.columns[column][entity.row]}"
    lines = entity.text.split("\n")
    # The end of the text may be cut off.
    kept = [one for n, one in enumerate(lines) if one != line and not (n == len(lines) - 1 and line.startswith(one))]
    columns = ChainMap({column: [""] * (entity.row + 1)}, entity.columns)  # type: ignore[arg-type]  # only read
    return entity._replace(text="\n".join(kept), columns=columns)
