"""Read files with one object per line, in JSON or as a Python literal, and make rows of the objects."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from enhancer.data.readers.json_lines import JsonLinesReader
from enhancer.data.readers.native.literals import parse_literal
from enhancer.data.readers.native.text_rows import line_blocks
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

Record = dict[str, Any]
"""The object of a line, or a row made of it."""

_KEY = re.compile(r"""[{,]\s*[uU]?(['"])(\w+)\1\s*:""")
_MAX_NAMES = 1000


class RecordReader(JsonLinesReader):
    """Reader of files of objects. An object in JSON and one as a Python literal are read alike.

    Args:
        path: Path of the file.
        rows_of: Make rows of an object: none, one or several.
    """

    def __init__(self, path: Path, rows_of: Callable[[Record], Iterable[Record]]) -> None:
        self._rows_of = rows_of
        super().__init__(path)

    def _objects(self) -> Iterator[tuple[int, Record | None]]:
        """Yield the number of the line, from 1, and the object of each row."""
        for first, lines in line_blocks(self.path):
            for number, line in enumerate(lines, first):
                if line.strip():
                    for row in self._rows_of(self._parsed(number, line)):
                        yield number, row

    def _parsed(self, number: int, line: str) -> Record:
        try:
            record = parse_record(line)
        except RecursionError:
            raise DataError(f"{self.path}, line {number}: nested too deeply") from None
        except ValueError as error:
            why = str(error).partition(": line ")[0]
            raise DataError(
                f"{self.path}, line {number}: neither JSON nor a Python literal ({why})",
                hint="the file may be cut off: fetch it again",
            ) from None
        if not isinstance(record, dict):
            raise DataError(f"{self.path}, line {number}: expected an object, found {type(record).__name__}")
        return record


def parse_record(line: str) -> Any:
    """Return the value of a line: JSON or a Python literal.

    Raises:
        ValueError: It is neither.
        RecursionError: It is nested too deeply.
    """
    try:
        return json.loads(line)
    except ValueError:
        return parse_literal(line)


def keys_of(lines: Sequence[str]) -> frozenset[str]:
    """Return the keys of the objects in the first lines of a file; of a line that is cut off, also inner keys."""
    found: set[str] = set()
    for line in lines:
        if not line.lstrip().startswith("{"):
            return frozenset()
        try:
            record = parse_record(line)
        except (ValueError, RecursionError):
            found.update(match[2] for match in _KEY.finditer(line))
        else:
            found.update(record if isinstance(record, dict) else ())
    return frozenset(found)


def names_in(values: object, key: str = "name") -> list[str]:
    """Return the texts in a list, and of objects in it their names. Lists in it are flattened, repeated texts left out.

    >>> names_in([["Books", "Maps"], ["Books", {"name": "Atlases", "count": "3"}], None])
    ['Books', 'Maps', 'Atlases']
    """
    found: dict[str, None] = {}
    waiting = [values]
    while waiting and len(found) < _MAX_NAMES:
        value = waiting.pop()
        if isinstance(value, dict):
            value = value.get(key)
        if isinstance(value, list):
            waiting.extend(reversed(value))
        elif isinstance(value, str) and value.strip():
            found[value.strip()] = None
    return list(found)


def paragraphs(value: object) -> object:
    """Return the texts of a list as one text; of anything else, itself."""
    return " ".join(names_in(value)) if isinstance(value, list) else value
