"""Read files of notes made elsewhere: CSV and TSV, and rows with a column for each note of an entity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from enhancer.config.inputs import PROFILE, aspect_of
from enhancer.errors import DataError
from enhancer.features.storing.record_fields import COUNTS, FIELDS, Row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

_OF_ONE_NOTE: Final = ("profile", "tags", "vector")
"""Fields that belong to a single note and not to all of a row."""

_SHARED: Final = (*COUNTS, "cost_usd")
"""Fields that are divided among the notes of a row."""


def read_delimited(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a CSV or TSV file with their numbers, from 1 below the header.

    Empty cells are left out. Tags are separated by commas. A cell that should hold a number and does not is kept as
    text, which the import rejects.

    Raises:
        DataError: The file is not a table, or holds vectors.
    """
    from enhancer.data.readers import open_table

    reader = open_table(path)
    if "vector" in reader.columns:
        raise DataError(f"{path}: vectors cannot be read from text columns", hint="import a .parquet or .jsonl file")
    for numbers, columns in reader.blocks(reader.columns):
        for number, *cells in zip(numbers, *columns, strict=True):
            row = {name: _value(name, cell) for name, cell in zip(reader.columns, cells, strict=True) if cell.strip()}
            yield number + 1, row


def _value(name: str, cell: str) -> Any:
    if name == "tags":
        return [tag.strip() for tag in cell.split(",") if tag.strip()]
    if name in (*COUNTS, "cost_usd"):
        try:
            return float(cell)
        except ValueError:
            return cell
    return cell


def notes_of(row: Row, aspects: Mapping[str, Collection[str]]) -> list[Row]:
    """Return a row for each note of a row that has a column for each of them.

    Tokens and cost of the row are divided among its notes; all else, such as ``confidence``, is that of each.

    Args:
        row: Values by column.
        aspects: Names of the notes of each kind of entities, such as ``{"item": ["plot", "mood"]}``.

    Returns:
        The row itself if it is a record, with an ``aspect`` or without any column that is named like a note.

    Raises:
        DataError: A column is neither a note nor a field of records, all notes are empty, or there is a vector.

    >>> notes_of({"id": "1", "plot": "A heist.", "mood": "Dark."}, {"item": ["plot", "mood"]})
    [{'id': '1', 'aspect': 'plot', 'profile': 'A heist.'}, {'id': '1', 'aspect': 'mood', 'profile': 'Dark.'}]
    """
    kind = row.get("kind") or "item"
    known = aspects.get(kind, ())
    columns = [name for name in row if name in known and name != PROFILE]
    if not columns or row.get("aspect") is not None:
        return [row]
    if strange := [name for name in row if row[name] is not None and name not in FIELDS and name not in columns]:
        raise DataError(
            f"column {strange[0]!r} is neither a field of records nor a note",
            hint=f"name it in [prompts.{kind}] aspects, or leave it out",
        )
    if row.get("vector") is not None:
        raise DataError("one vector for several notes", hint="leave it out, and the embedder makes one of each")
    shared = {name: value for name, value in row.items() if name in FIELDS and name not in _OF_ONE_NOTE}
    notes = []
    for name in (PROFILE, *columns):
        text = row.get(name)
        if isinstance(text, str) and not text.strip():
            continue
        if text is not None:
            own = {"tags": row["tags"]} if name == PROFILE and row.get("tags") is not None else {}
            notes.append({**shared, **own, "aspect": aspect_of(name), "profile": text})
    if not notes:
        raise DataError(f"no text in any of the columns {', '.join(columns)}")
    for number, note in enumerate(notes):
        note |= {
            name: _share(row[name], number, len(notes), whole=name in COUNTS) for name in _SHARED if name in shared
        }
    return notes


def _share(value: Any, number: int, parts: int, *, whole: bool) -> Any:
    """Return a part of a number: whole ones that add up to it, or equal ones. Other values are returned as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return value
    if not whole or int(value) != value:
        return value / parts
    return int(value) // parts + (number < int(value) % parts)
