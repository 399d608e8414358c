"""Read KuaiRec (2022): CSV with lists as ``[27, 9]``, carriage returns in captions, and a row a day for each video."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from enhancer.data.readers.cells import list_cell
from enhancer.data.readers.delimited import DelimitedReader
from enhancer.data.readers.native.formats import FileHead, NativeFormat
from enhancer.data.readers.native.text_rows import RowReader, first_lines, line_blocks
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_LISTS = ("feat", "topic_tag")
_UNKNOWN = ("UNKNOWN", "-124")
"""Name and id of a category that is not known."""
_OF_A_DAY = ("_cnt", "_num", "_duration", "_progress", "_status")
_KEPT = ("video_duration",)
_LARGEST_FIELD = 1 << 26


class _Rows(RowReader):
    """Rows of a CSV file with a header."""

    def __init__(self, path: Path) -> None:
        names = _header(first_lines(path))
        if not any(names):
            raise DataError(f"{path} is empty", hint="the first line must name the columns")
        super().__init__(path, names, {name: "list" for name in names if name in _LISTS})
        self._lists = [n for n, name in enumerate(names) if name in _LISTS]

    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks."""
        csv.field_size_limit(_LARGEST_FIELD)
        width = len(self.columns)
        reader = csv.reader(self._lines())
        numbers: list[int] = []
        rows: list[Sequence[str]] = []
        next(reader, None)
        try:
            for row in reader:
                if not row:
                    continue
                if len(row) != width:
                    raise self.line_error(reader.line_num, f"{len(row)} fields, but the header has {width}")
                numbers.append(reader.line_num)
                rows.append(self.row(row))
                if len(rows) == 1 << 12:
                    yield numbers, rows
                    numbers, rows = [], []
        except csv.Error as error:
            raise self.line_error(reader.line_num, str(error)) from None
        yield numbers, rows

    def _lines(self) -> Iterator[str]:
        for _, lines in line_blocks(self.path):
            for line in lines:
                yield line.replace("\r", " ") + "\n"

    def row(self, row: list[str]) -> Sequence[str]:
        """Return a row with lists as such, and without what stands for a missing value."""
        for n in self._lists:
            row[n] = list_cell([name for part in row[n].strip("[] ").split(",") if (name := part.strip(" '\""))])
        return ["" if value in _UNKNOWN else value for value in row]


class _Videos(_Rows):
    """``item_daily_features.csv``: of each video the first row, without what was counted on that day."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        daily = [name for name in self.columns if name == "date" or (name.endswith(_OF_A_DAY) and name not in _KEPT)]
        self._all = list(self.columns)
        self.columns = [name for name in self.columns if name not in daily]

    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks."""
        kept = [self._all.index(name) for name in self.columns]
        reader = _Rows(self.path)
        place = self._all.index("video_id")
        seen: set[str] = set()
        for numbers, rows in reader.chunks():
            new: dict[int, Sequence[str]] = {}
            for number, row in zip(numbers, rows, strict=True):
                if row[place] not in seen:
                    seen.add(row[place])
                    new[number] = [row[n] for n in kept]
            yield list(new), list(new.values())


def _header(lines: Sequence[str]) -> list[str]:
    """Return the names of the columns, none of which has a comma."""
    return [name.strip(' "') for name in lines[0].split(",")] if lines else []


def _has(head: FileHead, *names: str) -> bool:
    return {*names} <= {*_header(head.lines)}


def _matrix(path: Path) -> DelimitedReader:
    """Open a matrix of interactions, which is a plain table."""
    return DelimitedReader(path, delimiter=",", quoted=True, typed=False)


FORMATS = (
    NativeFormat(
        name="kuairec",
        role="interactions",
        recognise=lambda head: _has(head, "user_id", "video_id", "watch_ratio") and not head.name.startswith("small"),
        open=_matrix,
        columns={"item_id": "video_id"},
        automatic=False,
    ),
    NativeFormat(
        name="kuairec",
        role="interactions",
        recognise=lambda head: _has(head, "user_id", "video_id", "watch_ratio") and head.name.startswith("small"),
        open=_matrix,
        columns={"item_id": "video_id", "timestamp": False},
        remarks={"timestamp": 'some rows of small_matrix.csv have no "timestamp"'},
        automatic=False,
    ),
    NativeFormat(
        name="kuairec",
        role="items",
        recognise=lambda head: _has(head, "video_id", "caption"),
        open=_Rows,
        columns={
            "item_id": "video_id",
            "title": "caption",
            "item_text": [
                *("caption", "manual_cover_text", "topic_tag"),
                *("first_level_category_name", "second_level_category_name", "third_level_category_name"),
            ],
        },
        automatic=False,
    ),
    NativeFormat(
        name="kuairec",
        role="items",
        recognise=lambda head: _has(head, "video_id", "video_type", "show_cnt"),
        open=_Videos,
        columns={"item_id": "video_id", "item_text": ["video_type", "video_tag_name", "music_type", "video_duration"]},
        automatic=False,
    ),
    NativeFormat(
        name="kuairec",
        role="items",
        recognise=lambda head: _header(head.lines) == ["video_id", "feat"],
        open=_Rows,
        columns={"item_id": "video_id"},
        automatic=False,
    ),
)
