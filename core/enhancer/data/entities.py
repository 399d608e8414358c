"""Read items and users: an id and text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from enhancer.data.duplicate_ids import DuplicateIndex
from enhancer.data.html_text import strip_html_of
from enhancer.data.readers import TableOptions, TableReader, open_table
from enhancer.data.readers.list_text import plain_lists
from enhancer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from enhancer.config import ColumnsConfig
    from enhancer.config.data import Html
    from enhancer.contracts.record import Kind

MAX_ID = 1024
"""Maximum length of an id in characters. A longer value means that the wrong column is mapped."""
_BLANK, _DELETE = 32, 127
_MIN_WHOLE = 16
"""Values from which on a check of the whole column is faster than one of each value."""
_UNPRINTABLE = bytes([*range(_BLANK), _DELETE])
RowFilter = Callable[[Sequence[str], Sequence[str], Sequence[Sequence[str]]], "Sequence[bool] | None"]
"""Function that chooses rows of a block by the names of its columns, that of the ids first, the ids, and the others."""
_NO_COLUMNS: Mapping[str, Sequence[str]] = MappingProxyType({})


class Entity(NamedTuple):
    """One item or user. A named tuple is fast to create: a million take a few seconds."""

    kind: Kind
    id: str
    text: str
    """Lines ``column: value`` of the text columns without empty values, truncated to ``max_text`` characters."""
    title: str | None = None
    """Display name, or None if no column holds one."""
    columns: Mapping[str, Sequence[str]] = _NO_COLUMNS
    """Columns of its block of the table without the id: single-line text, truncated to ``max_text`` characters."""
    row: int = 0
    """Row number within ``columns``."""

    @property
    def fields(self) -> dict[str, str]:
        """Value of each column for this entity."""
        return {name: values[self.row] for name, values in self.columns.items()}


def read_entities(
    path: Path,
    kind: Kind,
    columns: ColumnsConfig,
    max_text: int,
    *,
    html: Html = "keep",
    options: TableOptions | None = None,
) -> Iterator[Entity]:
    """Stream the entities of a table.

    An id that occurs again with equal text is yielded once. Sixteen bytes are kept per entity to find duplicates.

    Args:
        path: Path of the table.
        kind: Kind of its rows.
        columns: Column mapping.
        max_text: Maximum length of a text in characters.
        html: Whether HTML in texts and titles is kept or turned into plain text.
        options: How the file is read.

    Raises:
        ConfigError: The file or a column is missing.
        DataError: A row has no id, or an id occurs again with different text. The message names file, line and column.
    """
    blocks = read_entity_blocks(path, kind, columns, max_text, html=html, options=options)
    return itertools.chain.from_iterable(blocks)


def read_entity_blocks(
    path: Path,
    kind: Kind,
    columns: ColumnsConfig,
    max_text: int,
    *,
    html: Html = "keep",
    options: TableOptions | None = None,
    wanted: RowFilter | None = None,
) -> Iterator[Iterator[Entity]]:
    """Stream the entities of a table, a block of rows at a time; see :func:`read_entities`.

    Args:
        path: Path of the table.
        kind: Kind of its rows.
        columns: Column mapping.
        max_text: Maximum length of a text in characters.
        html: Whether HTML in texts and titles is kept or turned into plain text.
        options: How the file is read.
        wanted: Called with the names of the columns, the ids and the other columns of each block as they are in the
            file; returns for each row whether to read it, or None for all. Rows that are not read are not checked.
    """
    table = open_table(path, options)
    table.scan_columns()
    id_column = id_column_of(table, kind, columns)
    texts = _text_columns(table, kind, columns, id_column)
    others = [name for name in table.columns if name != id_column or name in texts]
    indices = {name: n for n, name in enumerate(others)}
    text_indices = [indices[name] for name in texts]
    title_column = _title_column(table, kind, columns)
    duplicates = DuplicateIndex()
    any_rows = False
    names_read = [id_column, *others]
    for block_rows, (all_ids, *all_values) in table.blocks(names_read):
        any_rows = any_rows or bool(len(all_ids))
        rows, ids, values = block_rows, all_ids, all_values
        if wanted is not None and (chosen := wanted(names_read, all_ids, all_values)) is not None:
            rows, ids = list(itertools.compress(rows, chosen)), list(itertools.compress(ids, chosen))
            values = [list(itertools.compress(column, chosen)) for column in all_values]
        if not ids:
            yield iter(())
            continue
        names = [name.strip() for name in ids]
        if (wrong := find_bad_id(names)) is not None:
            n, problem = wrong
            raise table.value_error(rows[n], id_column, problem)
        distinct = {id(column): column for column in values}  # columns without a value may be shared
        if options is not None and options.plain_cells:
            distinct = {key: plain_lists(column) for key, column in distinct.items()}
        if html == "strip":
            distinct = {key: strip_html_of(column) for key, column in distinct.items()}
        cleaned = {key: one_lines(column, max_text) for key, column in distinct.items()}
        filled = {key for key, column in cleaned.items() if any(column)}
        lines = [cleaned[id(column)] for column in values]
        shown = [n for n in text_indices if id(values[n]) in filled]
        entity_texts = _texts(others, lines, shown, max_text, len(names))
        block = dict(zip(others, lines, strict=True))
        titles = _titles(title_column, names, block)
        fields = zip(itertools.repeat(kind), names, entity_texts, titles, itertools.repeat(block), range(len(names)))
        # Equivalent to Entity(*...), without a Python call per entity.
        entities: Iterator[Entity] = map(tuple.__new__, itertools.repeat(Entity), fields)
        same_as_before = duplicates.add(names, entity_texts)
        if same_as_before.count(None) == len(same_as_before):  # the common case: no duplicates
            yield entities
            continue
        kept = []
        for row, equal, entity in zip(rows, same_as_before, entities, strict=True):
            if equal:
                continue
            if equal is not None:
                raise table.value_error(
                    row,
                    id_column,
                    f"{entity.id!r} occurs again with different text",
                    hint="keep one row per id",
                )
            kept.append(entity)
        yield iter(kept)
    if not any_rows:
        raise DataError(f"{path} has a header but no rows", hint="check the path in [data]")


def find_bad_id(ids: Sequence[str]) -> tuple[int, str] | None:
    """Return the position of the first id that is empty, too long or has a NUL character, and what is wrong with it."""
    if all(ids) and max(map(len, ids), default=0) <= MAX_ID and "\0" not in "".join(ids):
        return None
    for n, name in enumerate(ids):
        if not name:
            return n, "the id is empty"
        if len(name) > MAX_ID:
            return n, f"the id has {len(name):,} characters"
        if "\0" in name:
            return n, f"the id {name[:40]!r} has a NUL character"
    return None


def id_column_of(table: TableReader, kind: Kind, columns: ColumnsConfig) -> str:
    """Return the id column: the one configured for this table, else the one shared with the interactions."""
    own = columns.items_id if kind == "item" else columns.users_id
    if own is not None:
        return table.require(own, f"{kind}s_id")
    return table.require(columns.item_id if kind == "item" else columns.user_id, f"{kind}_id")


def _text_columns(table: TableReader, kind: Kind, columns: ColumnsConfig, id_column: str) -> Sequence[str]:
    wanted = columns.item_text if kind == "item" else columns.user_text
    setting = f"{kind}_text"
    if wanted is None:
        others = [name for name in table.columns if name != id_column]
        if not others:
            raise ConfigError(f"{table.path} has no column besides {id_column!r} to use as text")
        return others
    if not wanted:
        raise ConfigError(f"[data.columns] {setting} names no column", hint="remove the key to use every column")
    return [table.require(name, setting) for name in wanted]


def _title_column(table: TableReader, kind: Kind, columns: ColumnsConfig) -> str | None:
    if kind == "item" and columns.title is not None:
        return table.require(columns.title, "title")
    plain = [name for name in ("title", "name") if name in table.columns]
    return next(iter([*plain, *(name for name in table.columns if name.lower().endswith(("title", "_name")))]), None)


def _titles(column: str | None, names: Sequence[str], block: Mapping[str, Sequence[str]]) -> Sequence[str | None]:
    """Return the display name of each entity; the title column may be the id column."""
    if column is None:
        return [None] * len(names)
    return [title or None for title in block.get(column, names)]


def _rows(columns: Sequence[Sequence[str]], count: int) -> Iterator[tuple[str, ...]]:
    return zip(*columns, strict=True) if columns else itertools.repeat((), count)


def one_lines(column: list[str], max_text: int) -> list[str]:
    """Collapse each value to one line. A column that needs no change is detected with one check of the whole column."""
    if len(column) >= _MIN_WHOLE and _is_plain(column) and max(map(len, column), default=0) <= max_text:
        return column
    return [
        value
        if is_clean(value) and "  " not in value and value[:1] != " " != value[-1:] and len(value) <= max_text
        else _line(value, max_text)
        for value in column
    ]


def _is_plain(column: Sequence[str]) -> bool:
    """Check whether all values are printable ASCII without leading, trailing or repeated blanks."""
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
    """Check whether a text consists of printable characters and plain blanks, without line breaks or other spaces."""
    if text.isascii():  # several times as fast as str.isprintable
        raw = text.encode()
        return len(raw.translate(None, _UNPRINTABLE)) == len(raw)
    return text.isprintable()


def _line(value: str, max_text: int) -> str:
    """Collapse a value to one line, without NUL. It is truncated first, so a field of megabytes costs little."""
    return " ".join(value[: 2 * max_text].replace("\0", " ").split())[:max_text]


def _texts(
    names: Sequence[str], columns: Sequence[Sequence[str]], indices: Sequence[int], max_text: int, count: int
) -> list[str]:
    """Return the text of each row: one line per column that has a value."""
    pattern = "\n".join(f"{names[n].replace('%', '%%')}: %s" for n in indices)
    return [
        (
            pattern % row
            if all(row)
            else "\n".join(f"{names[n]}: {value}" for n, value in zip(indices, row, strict=True) if value)
        )[:max_text]
        for row in _rows([columns[n] for n in indices], count)
    ]
