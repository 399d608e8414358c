"""Small made-up files in the forms of public data sets. No title, person or text in them is real."""

from __future__ import annotations

import gzip
from pathlib import Path

from enhancer.data import open_table
from enhancer.data.readers import TableReader
from enhancer.data.readers.native import native_format, recognise


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a file, compressed if its name ends in ``.gz``, and return its path."""
    raw = text.encode(encoding)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, each by the names of its columns."""
    return rows_of(open_table(path))


def native_rows(path: Path, role: str) -> list[dict[str, str]]:
    """Return the rows of a table in the form of a data set, after checking that it is recognised as what it is."""
    found = recognise(path)
    assert found is not None, path
    assert found.role == role
    assert native_format(found.name, found.role, path) == found
    return rows_of(found.open(path))


def rows_of(table: TableReader) -> list[dict[str, str]]:
    """Return the rows of an open table, each by the names of its columns."""
    table.scan_columns()
    blocks = [block for _, block in table.blocks(table.columns)]
    return [dict(zip(table.columns, row, strict=True)) for block in blocks for row in zip(*block, strict=True)]
