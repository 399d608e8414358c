"""Items and users: an id and text."""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from enhancer.data.readers import BLANK, Table, open_table
from enhancer.data.seen import Seen
from enhancer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from enhancer.config import ColumnsConfig
    from enhancer.contracts.record import Kind

MAX_ID = 1024
"""Characters of an id. What is longer is a column mapped by mistake."""
_BLANK, _DELETE = 32, 127
_UNPRINTABLE = bytes([*range(_BLANK), _DELETE])


_NO_COLUMNS: Mapping[str, Sequence[str]] = MappingProxyType({})


class Entity(NamedTuple):
    """One item or user. A named tuple, because a million of them are made in a few seconds."""

    kind: Kind
    id: str
    text: str
    """Lines ``column: value`` of the text columns, empty values left out, cut off at ``max_text`` characters."""
    title: str | None = None
    """What people call it, where a column says so."""
    columns: Mapping[str, Sequence[str]] = _NO_COLUMNS
    """Its block of the table without the id, column by column: text on one line, cut off at ``max_text`` characters."""
    row: int = 0
    """Its place in ``columns``."""

    @property
    def fields(self) -> dict[str, str]:
        """Its own value in each of ``columns``."""
        return {name: values[self.row] for name, values in self.columns.items()}


def read_entities(path: Path, kind: Kind, columns: ColumnsConfig, max_text: int) -> Iterator[Entity]:
    """Stream the entities of a table. Sixteen bytes are kept of each, to find ids that come twice.

    An id that comes again with equal text is given once.

    Args:
        path: The table.
        kind: What its rows are.
        columns: Which column is which.
        max_text: Characters of text, at most.

    Raises:
        ConfigError: The file or a column is missing.
        DataError: A row without an id, or an id that comes again with different text; file, line and column are named.
    """
    table = open_table(path)
    table.look_through()
    id_column = id_column_of(table, kind, columns)
    texts = _text_columns(table, kind, columns, id_column)
    others = [name for name in table.columns if name != id_column or name in texts]
    text_at = [others.index(name) for name in texts]
    title_column = _title_column(table, kind, columns)
    seen = Seen()
    rows = False
    for first, (ids, *values) in table.blocks([id_column, *others]):
        places: Sequence[int] = range(len(ids))
        if BLANK in ids:
            places = [n for n, given in enumerate(ids) if given != BLANK]
        kept = values if len(places) == len(ids) else [[column[n] for n in places] for column in values]
        names = [ids[n].strip() for n in places]
        if not all(names) or max(map(len, names), default=0) > MAX_ID:
            n, name = next(pair for pair in zip(places, names, strict=True) if not 0 < len(pair[1]) <= MAX_ID)
            what = "is empty" if not name else f"has {len(name):,} characters"
            raise table.fault(first + n, id_column, f"the id {what}")
        rows = rows or bool(names)
        lines = [_lines(column, max_text) for column in kept]
        written = _texts(others, lines, text_at, max_text, len(names))
        block = dict(zip(others, lines, strict=True))
        titles = _titles(title_column, names, block)
        every = zip(itertools.repeat(kind), names, written, titles, itertools.repeat(block), range(len(names)))
        # What Entity(...) does, without a call in Python for each.
        entities: Iterator[Entity] = map(tuple.__new__, itertools.repeat(Entity), every)
        before = seen.add(names, written)
        if before.count(None) == len(before):  # as nearly always
            yield from entities
            continue
        for n, equal, entity in zip(places, before, entities, strict=True):
            if equal:
                continue
            if equal is not None:
                raise table.fault(
                    first + n,
                    id_column,
                    f"{entity.id!r} comes a second time, with different text",
                    hint="keep one row an id",
                )
            yield entity
    if not rows:
        raise DataError(f"{path} has a header and no rows", hint="see [data]: is it the right file?")


def id_column_of(table: Table, kind: Kind, columns: ColumnsConfig) -> str:
    """The column of ids: the table's own name for it, or the one that it shares with interactions."""
    own = columns.items_id if kind == "item" else columns.users_id
    if own is not None:
        return table.require(own, f"{kind}s_id")
    return table.require(columns.item_id if kind == "item" else columns.user_id, f"{kind}_id")


def _text_columns(table: Table, kind: Kind, columns: ColumnsConfig, id_column: str) -> Sequence[str]:
    asked = columns.item_text if kind == "item" else columns.user_text
    setting = f"{kind}_text"
    if asked is None:
        others = [name for name in table.columns if name != id_column]
        if not others:
            raise ConfigError(f"{table.path} has no column beside {id_column!r} to make a text of")
        return others
    if not asked:
        raise ConfigError(f"[data.columns] {setting} names no column", hint="leave the key out to take every column")
    return [table.require(name, setting) for name in asked]


def _title_column(table: Table, kind: Kind, columns: ColumnsConfig) -> str | None:
    if kind == "item" and columns.title is not None:
        return table.require(columns.title, "title")
    plain = [name for name in ("title", "name") if name in table.columns]
    return next(iter([*plain, *(name for name in table.columns if name.lower().endswith(("title", "_name")))]), None)


def _titles(column: str | None, names: Sequence[str], block: Mapping[str, Sequence[str]]) -> Sequence[str | None]:
    """What people call each; the column may be that of ids."""
    if column is None:
        return [None] * len(names)
    return [title or None for title in block.get(column, names)]


def _rows(columns: Sequence[Sequence[str]], count: int) -> Iterator[tuple[str, ...]]:
    return zip(*columns, strict=True) if columns else itertools.repeat((), count)


def _lines(column: list[str], max_text: int) -> list[str]:
    """Each value on one line. Most columns are so already, and to see that at once costs next to nothing."""
    if _is_plain(column) and max(map(len, column), default=0) <= max_text:
        return column
    return [
        value
        if is_clean(value) and "  " not in value and value[:1] != " " != value[-1:] and len(value) <= max_text
        else _line(value, max_text)
        for value in column
    ]


def _is_plain(column: Sequence[str]) -> bool:
    """Whether all values are printable ASCII, without a blank at an end or beside another: looked at as one array."""
    whole = f" {' '.join(filter(None, column))} "
    if len(whole) == len("  "):
        return True
    if not whole.isascii():
        return False
    raw = np.frombuffer(whole.encode(), np.uint8)
    if raw.min() < _BLANK or raw.max() >= _DELETE:
        return False
    blank = raw == _BLANK
    return not (blank[1:] & blank[:-1]).any()


def is_clean(text: str) -> bool:
    """Whether a text is of printable characters alone; plain blanks count, line breaks and other spaces do not."""
    if text.isascii():  # several times as fast as asking each character
        raw = text.encode()
        return len(raw.translate(None, _UNPRINTABLE)) == len(raw)
    return text.isprintable()


def _line(value: str, max_text: int) -> str:
    """A value on one line. Cut before it is split, so that megabytes in one field cost nothing."""
    return " ".join(value[: 2 * max_text].split())[:max_text]


def _texts(
    names: Sequence[str], columns: Sequence[Sequence[str]], at: Sequence[int], max_text: int, count: int
) -> list[str]:
    """The text of each row: a line for each column that has a value."""
    pattern = "\n".join(f"{names[n].replace('%', '%%')}: %s" for n in at)
    return [
        (
            pattern % row
            if all(row)
            else "\n".join(f"{names[n]}: {value}" for n, value in zip(at, row, strict=True) if value)
        )[:max_text]
        for row in _rows([columns[n] for n in at], count)
    ]
