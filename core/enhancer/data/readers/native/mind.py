"""Read MIND: ``behaviors.tsv`` (impressions, and what was read before them) and ``news.tsv``, both without a header."""

from __future__ import annotations

import json
import re
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

from enhancer.data.readers.cells import list_cell
from enhancer.data.readers.native.formats import NativeFormat
from enhancer.data.readers.native.text_rows import RowReader, SplitRows, line_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MOMENT = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2}) ([AP])M")
_BEHAVIOUR = re.compile(
    r"[^\t]+\t[^\t]+\t\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}:\d{2} [AP]M\t[^\t]*\tN\d+(-[01])?( N\d+(-[01])?)* ?"
)
_NEWS = re.compile(r"N\d+(\t[^\t]*){7}")
_FIELDS = 5
_EPOCH = date(1970, 1, 1).toordinal()


class _Behaviours(RowReader):
    """A row for each click, and one for each news item of a history.

    The history of a user comes once, however many impressions repeat it. Its items have no times. They were clicked
    before all impressions, in their order, so that their place in the history, from 1, stands for the time.

    Args:
        path: Path of the file.
        shown: Whether items that were shown and not clicked make rows, too, in a column ``clicked`` of 0.
    """

    def __init__(self, path: Path, *, shown: bool = False) -> None:
        super().__init__(path, ("user_id", "item_id", "timestamp", *(("clicked",) if shown else ())))
        self._shown = shown

    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks. Eight bytes and a little more are kept of each history."""
        seen: set[int] = set()
        for first, lines in line_blocks(self.path):
            numbers: list[int] = []
            rows: list[Sequence[str]] = []
            for number, line in enumerate(lines, first):
                if not line.strip():
                    continue
                made = self._rows(number, line, seen)
                rows.extend(made)
                numbers.extend([number] * len(made))
            yield numbers, rows

    def _rows(self, number: int, line: str, seen: set[int]) -> list[Sequence[str]]:
        fields = line.split("\t")
        if len(fields) != _FIELDS:
            raise self.line_error(number, f"{len(fields)} fields instead of {_FIELDS}")
        _, user, moment, history, impressions = fields
        seconds = _seconds(moment)
        if seconds is None:
            raise self.line_error(number, f"{moment[:40]!r} is not a time", hint="such as 11/15/2019 8:55:22 AM")
        made: list[tuple[str, ...]] = []
        if history and (key := hash((user, history))) not in seen:
            seen.add(key)
            made = [(user, item, str(place), "1") for place, item in enumerate(history.split(), 1)]
        for impression in impressions.split():
            item, mark, clicked = impression.rpartition("-")
            if mark and (clicked == "1" or self._shown):
                made.append((user, item, seconds, clicked))
        return [row if self._shown else row[:3] for row in made]


class _News(SplitRows):
    """``news.tsv``; of the entities in title and abstract, their names."""

    def __init__(self, path: Path) -> None:
        columns = ("item_id", "category", "subcategory", "title", "abstract", "url")
        entities = ("title_entities", "abstract_entities")
        super().__init__(path, (*columns, *entities), "\t", dict.fromkeys(entities, "list"))

    def finish(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        return [(*row[:6], *map(_names, row[6:])) for row in rows]


def _names(text: str) -> str:
    """Return the names of entities; of text that is no list of them, itself."""
    if text in ("", "[]"):
        return ""
    try:
        return list_cell([each["Label"] for each in json.loads(text)])
    except (ValueError, TypeError, KeyError, RecursionError):
        return text


def _seconds(moment: str) -> str | None:
    match = _MOMENT.fullmatch(moment)
    if match is None:
        return None
    month, day, year, hour, minute, second = map(int, match.groups()[:6])
    days = _day(year, month, day)
    if days is None:
        return None
    return str(86_400 * days + 3600 * (hour % 12 + 12 * (match[7] == "P")) + 60 * minute + second)


@lru_cache(maxsize=1024)
def _day(year: int, month: int, day: int) -> int | None:
    try:
        return date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None


FORMATS = (
    NativeFormat(
        name="mind",
        role="interactions",
        recognise=lambda head: head.all(_BEHAVIOUR.fullmatch),
        open=_Behaviours,
    ),
    NativeFormat(
        name="mind",
        role="items",
        recognise=lambda head: head.all(_NEWS.fullmatch),
        open=_News,
        columns={"item_text": ["category", "subcategory", "title", "abstract"]},
    ),
    NativeFormat(
        name="mind-impressions",
        role="interactions",
        recognise=lambda _: False,  # only where it is asked for: impressions are mostly not clicked
        open=lambda path: _Behaviours(path, shown=True),
        columns={"label": "clicked"},
    ),
)
