"""Read JSON Lines files."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from enhancer.data.readers.cells import cell
from enhancer.data.readers.table_reader import (
    BLOCK_CELLS,
    BLOCK_ROWS,
    Block,
    ColumnKind,
    TableOptions,
    TableReader,
    check_width,
)
from enhancer.data.readers.text_files import open_text
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SAMPLE_LINES = 100
_scanned_keys: dict[tuple[str, str, int, int, int], tuple[str, ...]] = {}
"""Keys of scanned files, by reader, path, inode, time of modification and size, so that further passes scan none."""
_MAX_SCANNED_FILES = 16
_HINT = "write one JSON object per line"


class JsonLinesReader(TableReader):
    """Reader of files with one JSON object per line. Missing keys and null are empty values.

    The columns are the keys of the first hundred lines, in order of appearance. After :meth:`scan_columns` they are the
    keys of all lines.
    """

    def __init__(self, path: Path, options: TableOptions | None = None) -> None:
        super().__init__(path)
        self._encoding = (options or TableOptions()).encoding
        keys: dict[str, None] = {}
        lines = 0
        for number, row in itertools.islice(self._objects(), _SAMPLE_LINES):
            if row is not None:
                lines += 1
                keys.update(dict.fromkeys(row))
                check_width(path, len(keys), f", line {number}")
        if not lines:
            raise DataError(f"{path} is empty", hint=_HINT)
        self.columns = list(keys)

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the columns that hold lists in the first hundred lines."""
        head = [row for _, row in itertools.islice(self._objects(), _SAMPLE_LINES) if row is not None]
        return {name: "list" for row in head for name, value in row.items() if isinstance(value, list)}

    def scan_columns(self) -> None:
        """Make a column of every key in the file. An unchanged file is scanned once per process."""
        stat = self.path.stat()
        state = (type(self).__name__, str(self.path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
        found = _scanned_keys.get(state)
        if found is None:
            keys = dict.fromkeys(self.columns)
            for number, row in self._objects():
                if row is not None and not row.keys() <= keys.keys():
                    keys.update(dict.fromkeys(row))
                    check_width(self.path, len(keys), f", line {number}")
            found = tuple(keys)
            while len(_scanned_keys) >= _MAX_SCANNED_FILES:
                _scanned_keys.pop(next(iter(_scanned_keys)), None)
            _scanned_keys[state] = found
        self.columns = list(found)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        for numbers, rows in self._groups(wide=len(names) > BLOCK_ROWS):
            if len(names) <= BLOCK_ROWS:
                yield numbers, [[cell(row.get(name)) for row in rows] for name in names]
            else:
                yield numbers, _sparse_columns(names, rows)

    def _groups(self, *, wide: bool) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
        """Yield the row numbers and objects of each block: fewer rows if the table is wide and they have many keys."""
        keys: set[str] = set()
        numbers: list[int] = []
        rows: list[dict[str, Any]] = []
        for number, row in self._objects():
            if row is None:
                continue
            numbers.append(number - 1)
            rows.append(row)
            if wide:
                keys.update(row)
            if len(rows) == BLOCK_ROWS or len(rows) * len(keys) >= BLOCK_CELLS:
                yield numbers, rows
                keys, numbers, rows = set(), [], []
        if rows:
            yield numbers, rows

    def location(self, row: int) -> str:
        """Return the line."""
        return f"line {row + 1}"

    def _objects(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yield the number of each line, from 1, and its object; None for a blank line."""
        with open_text(self.path, self._encoding) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    yield number, None
                    continue
                try:
                    row = json.loads(line)
                except RecursionError:
                    raise DataError(f"{self.path}, line {number}: JSON nested too deeply") from None
                except ValueError as error:
                    why = str(error).partition(": line ")[0]
                    raise DataError(f"{self.path}, line {number}: not JSON ({why})", hint=_HINT) from None
                if not isinstance(row, dict):
                    kind = {list: "an array", str: "a string", type(None): "null", bool: "true or false"}
                    shown = kind.get(type(row), "a number")
                    raise DataError(f"{self.path}, line {number}: expected a JSON object, found {shown}", hint=_HINT)
                yield number, row


def _sparse_columns(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the columns of a wide table. Those without a value in these rows are one and the same list."""
    absent = [""] * len(rows)
    columns = dict.fromkeys(names, absent)
    for n, row in enumerate(rows):
        for key, value in row.items():
            column = columns.get(key)
            if column is absent:
                column = columns[key] = absent.copy()
            if column is not None:
                column[n] = cell(value)
    return list(columns.values())
