"""JSON lines as a table."""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

from enhancer.data.readers import BLANK, BLOCK, Block, ColumnKind, Table, text_lines
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_HEAD = 100
_remembered: dict[tuple[str, int, int, int], tuple[str, ...]] = {}
"""All keys of files that were looked through, by what changes when they are written: several passes read one."""
_FILES = 16


class JsonLines(Table):
    """A JSON object a line. A key that a line lacks, or null, is an empty value.

    The columns are the keys of the first hundred lines, in order of appearance; after :meth:`look_through`, of all.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        keys: dict[str, None] = {}
        lines = 0
        for row in itertools.islice(self._objects(), _HEAD):
            if row is not None:
                lines += 1
                keys.update(dict.fromkeys(row))
        if not lines:
            raise DataError(f"{path} is empty", hint="it holds a JSON object a line")
        self.columns = list(keys)

    def kinds(self) -> dict[str, ColumnKind]:
        """Which columns hold lists in the first hundred lines."""
        head = [row for row in itertools.islice(self._objects(), _HEAD) if row is not None]
        return {name: "list" for row in head for name, value in row.items() if isinstance(value, list)}

    def look_through(self) -> None:
        """Read the whole file, once for each state of it, and take every key for a column."""
        stat = self.path.stat()
        state = (str(self.path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
        found = _remembered.get(state)
        if found is None:
            keys = dict.fromkeys(self.columns)
            for row in self._objects():
                if row is not None and not row.keys() <= keys.keys():
                    keys.update(dict.fromkeys(row))
            found = tuple(keys)
            while len(_remembered) >= _FILES:
                _remembered.pop(next(iter(_remembered)), None)
            _remembered[state] = found
        self.columns = list(found)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        objects = self._objects()
        first = 0
        while rows := list(itertools.islice(objects, BLOCK)):
            yield first, [[BLANK if row is None else as_text(row.get(name)) for row in rows] for name in names]
            first += len(rows)

    def place(self, row: int) -> str:
        """The line."""
        return f"line {row + 1}"

    def _objects(self) -> Iterator[dict[str, Any] | None]:
        with text_lines(self.path) as lines:
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
                        f"{self.path}, line {number}: not JSON ({why})", hint="write one JSON object a line"
                    ) from None
                if not isinstance(row, dict):
                    kind = {list: "an array", str: "a string", type(None): "null", bool: "true or false"}
                    shown = kind.get(type(row), "a number")
                    raise DataError(
                        f"{self.path}, line {number}: {shown}, where a JSON object is wanted",
                        hint="write one JSON object a line",
                    )
                yield row


def as_text(value: Any) -> str:
    """A value as text: strings as they are, lists of plain values joined by commas, the rest as compact JSON.

    >>> as_text(["Drama", "War"]), as_text({"a": [1, None]}), as_text(None), as_text(4.5), as_text(7.0)
    ('Drama, War', '{"a":[1,null]}', '', '4.5', '7')
    """
    if isinstance(value, str):
        # A lone surrogate is legal in JSON and in nothing that comes after.
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if value is None:
        return ""
    if type(value) is int:  # and a bool is none
        return repr(value)
    if isinstance(value, float):
        # Missing numbers make NaN of a gap and 7.0 of 7, where a table passes through a data frame.
        return "" if math.isnan(value) else repr(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list) and all(isinstance(part, (str, int, float)) for part in value):
        return ", ".join(as_text(part) for part in value)
    try:
        return as_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        return ""
