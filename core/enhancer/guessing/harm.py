"""Find the columns of a configuration that leak the popularity of items, or that make every profile stale."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from enhancer.data.readers import TableOptions
from enhancer.errors import EnhancerError
from enhancer.guessing.leaving_out import LEAKS, LeftOut, left_out, may_follow_interactions
from enhancer.guessing.popularity import count_interactions
from enhancer.guessing.tables import read_head

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from enhancer.config import Settings
    from enhancer.contracts.record import Kind
    from enhancer.guessing.popularity import Interacted
    from enhancer.guessing.tables import TableHead

_KIND = re.compile(r":(number|category|tags)$")


class HarmfulColumns(NamedTuple):
    """Columns of one key of the configuration that do harm."""

    key: str
    """Table and key: ``[data.columns] item_text``."""
    columns: list[LeftOut]


def harmful_columns(settings: Settings, root: Path) -> Iterator[HarmfulColumns]:
    """Yield the keys that name columns which count rows or sum up interactions; nothing of tables that cannot be read.

    At most 2,000,000 interactions and 100,000 items and users are read, and those only if a column may follow them.

    Args:
        settings: The configuration.
        root: Folder that its tables are relative to.
    """
    data = settings.data
    used = [
        *_used(settings, root, "item", data.items, data.columns.items_id or data.columns.item_id),
        *_used(settings, root, "user", data.users, data.columns.users_id or data.columns.user_id),
    ]
    counted = _counted(
        settings, root, [kind for kind, _, _, table, names in used if may_follow_interactions(table, names)]
    )
    for kind, key, id_column, table, names in used:
        found = left_out(table, id_column, counted.get(kind), names)
        if harmful := [each for each in found if each.fault in LEAKS]:
            yield HarmfulColumns(key, harmful)


class _Used(NamedTuple):
    """Columns that a key names, or takes by default."""

    kind: Kind
    key: str
    id_column: str
    table: TableHead
    names: list[str]


def _used(settings: Settings, root: Path, kind: Kind, path: Path | None, id_column: str) -> Iterator[_Used]:
    features: list[str] = getattr(settings.data.features, kind)
    reads_text = getattr(settings.prompts, kind).source in ("llm", "text")
    if path is None or not (features or reads_text):
        return
    try:
        options = TableOptions.of(settings.data, "items" if kind == "item" else "users")
        table = read_head(root / path, options=options)
    except EnhancerError:
        return
    chosen: list[str] | None = getattr(settings.data.columns, f"{kind}_text")
    text = [name for name in table.columns if name != id_column] if chosen is None else chosen
    if reads_text:
        yield _Used(
            kind, f"[data.columns] {kind}_text", id_column, table, [name for name in text if name in table.columns]
        )
    named = [name if name in table.columns else _KIND.sub("", name) for name in features]
    if known := [name for name in named if name in table.columns]:
        yield _Used(kind, f"[data.features] {kind}", id_column, table, known)


def _counted(settings: Settings, root: Path, kinds: Sequence[Kind]) -> Mapping[Kind, Interacted]:
    """Return the interactions of each item and user, as far as they are needed and can be read."""
    columns: dict[Kind, str] = {"item": settings.data.columns.item_id, "user": settings.data.columns.user_id}
    if settings.data.interactions is None or not kinds:
        return {}
    try:
        found = count_interactions(
            root / settings.data.interactions,
            [columns[kind] for kind in kinds],
            options=TableOptions.of(settings.data, "interactions"),
        )
    except EnhancerError:
        return {}
    return {kind: found[columns[kind]] for kind in kinds}
