"""Read JSON Lines files."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from enhancer.data.readers.json_text import json_text
from enhancer.data.readers.table_reader import BLANK, BLOCK_ROWS, Block, ColumnKind, TableReader, open_utf8
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SAMPLE_LINES = 100
_scanned_keys: dict[tuple[str, int, int, int], tuple[str, ...]] = {}
"""Keys of scanned files, by path, inode, modification time and size, so that repeated passes scan a file once."""
_MAX_SCANNED_FILES = 16


class JsonLinesReader(TableReader):
    """Reader of files with one JSON object per line. Missing keys and null are empty values.

    The columns are the keys of the first hundred lines, in order of appearance. After :meth:`scan_columns` they are the
    keys of all lines.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        keys: dict[str, None] = {}
        lines = 0
        for row in itertools.islice(self._objects(), _SAMPLE_LINES):
            if row is not None:
                lines += 1
                keys.update(dict.fromkeys(row))
        if not lines:
            raise DataError(f"{path} is empty", hint="write one JSON object per line")
        self.columns = list(keys)

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the columns that hold lists in the first hundred lines."""
        head = [row for row in itertools.islice(self._objects(), _SAMPLE_LINES) if row is not None]
        return {name: "list" for row in head for name, value in row.items() if isinstance(value, list)}

    def scan_columns(self) -> None:
        """Make a column of every key in the file. An unchanged file is scanned once per process."""
        stat = self.path.stat()
        state = (str(self.path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
        found = _scanned_keys.get(state)
        if found is None:
            keys = dict.fromkeys(self.columns)
            for row in self._objects():
                if row is not None and not row.keys() <= keys.keys():
                    keys.update(dict.fromkeys(row))
            found = tuple(keys)
            while len(_scanned_keys) >= _MAX_SCANNED_FILES:
                _scanned_keys.pop(next(iter(_scanned_keys)), None)
            _scanned_keys[state] = found
        self.columns = list(found)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        objects = self._objects()
        first = 0
        while rows := list(itertools.islice(objects, BLOCK_ROWS)):
            yield first, [[BLANK if row is None else json_text(row.get(name)) for row in rows] for name in names]
            first += len(rows)

    def location(self, row: int) -> str:
        """Return the line."""
        return f"line {row + 1}"

    def _objects(self) -> Iterator[dict[str, Any] | None]:
        with open_utf8(self.path) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    yield None
                    continue
                try:
                    row = json.loads(line)
                except RecursionError:
                    raise DataError(f"{self.path}, line {number}: JSON nested too deeply") from None
                except ValueError as error:
                    why = str(error).partition(": line ")[0]
                    raise DataError(
                        f"{self.path}, line {number}: not JSON ({why})", hint="write one JSON object per line"
                    ) from None
                if not isinstance(row, dict):
                    kind = {list: "an array", str: "a string", type(None): "null", bool: "true or false"}
                    shown = kind.get(type(row), "a number")
                    raise DataError(
                        f"{self.path}, line {number}: expected a JSON object, found {shown}",
                        hint="write one JSON object per line",
                    )
                yield row
