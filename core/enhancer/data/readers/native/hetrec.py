"""Read the ``.dat`` files of HetRec 2011 (MovieLens, Last.fm, Delicious): tabs and a header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.data.readers.cells import list_cell
from enhancer.data.readers.native.formats import FileHead, NativeFormat
from enhancer.data.readers.native.text_rows import SplitRows, first_lines, line_blocks
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from enhancer.data.readers.table_reader import ColumnKind

_THINGS = ("movieID", "artistID", "bookmarkID")
_MISSING = "\\N"
_DATE, _CLOCK = ("year", "month", "day"), ("hour", "minute", "second")


class _Headed(SplitRows):
    r"""A file with a header, in which ``\N`` stands for a missing value."""

    def __init__(self, path: Path, more: Sequence[str] = (), kinds: Mapping[str, ColumnKind] | None = None) -> None:
        names = _names_in(path)
        super().__init__(path, [*names, *more], "\t", kinds, header=True)
        self._width = len(names)

    @property
    def width(self) -> int:
        return self._width

    def fields(self, line: str) -> Sequence[str]:
        fields = line.split("\t")
        if _MISSING in line:
            fields = ["" if field.strip() == _MISSING else field for field in fields]
        while len(fields) > self.width and not fields[-1].strip():
            fields.pop()
        return fields


class _Touches(_Headed):
    """Touches of users. A time that is spread over columns of year, month and day makes a column ``timestamp``."""

    def __init__(self, path: Path) -> None:
        plain = {name.removeprefix("date_"): n for n, name in enumerate(_names_in(path))}
        self._date = [plain[part] for part in _DATE] if plain.keys() >= {*_DATE} else []
        self._clock = [plain[part] for part in _CLOCK] if plain.keys() >= {*_CLOCK} else []
        super().__init__(path, ["timestamp"] if self._date else ())

    def finish(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        return [(*row, self._moment(row)) for row in rows] if self._date else rows

    def _moment(self, row: Sequence[str]) -> str:
        year, *month_and_day = (row[n] for n in self._date)
        day = "-".join([year, *(part.zfill(2) for part in month_and_day)])
        return f"{day}T{':'.join(row[n].zfill(2) for n in self._clock)}" if self._clock else day


class _Things(_Headed):
    """Things that users touched. Films have the genres that ``movie_genres.dat`` beside them lists."""

    def __init__(self, path: Path) -> None:
        self._genres = _genres_beside(path) if "spanishTitle" in _names_in(path) else None
        more = ["genres"] if self._genres is not None else []
        super().__init__(path, more, dict.fromkeys(more, "list"))

    def finish(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        if (genres := self._genres) is None:
            return rows
        return [(*row, list_cell(genres.get(row[0], ()))) for row in rows]


def _names_in(path: Path) -> list[str]:
    lines = first_lines(path)
    if not lines:
        raise DataError(f"{path} is empty", hint="the first line must name the columns")
    return [name.strip() for name in lines[0].split("\t")]


def _genres_beside(path: Path) -> Mapping[str, Sequence[str]] | None:
    listing = path.with_name("movie_genres.dat")
    if not listing.is_file():
        return None
    found: dict[str, list[str]] = {}
    for first, lines in line_blocks(listing):
        for line in lines[1 if first == 1 else 0 :]:
            film, tab, genre = line.partition("\t")
            if tab:
                found.setdefault(film, []).append(genre.strip())
    return found


def _header(head: FileHead) -> list[str]:
    """Return the names of the columns; none unless the file ends in ``.dat``, and the next line is a row."""
    names = [name.strip() for name in head.lines[0].split("\t")] if head.lines else []
    if not head.name.endswith(".dat") or any("\t" not in line for line in head.lines):
        return []
    return names


def _is_items(head: FileHead) -> bool:
    names = _header(head)
    return names[:1] == ["id"] and not {"title", "name"}.isdisjoint(names)


def _is_touches(head: FileHead) -> bool:
    names = _header(head)
    return names[:1] == ["userID"] and len(names) > 1 and names[1] in _THINGS


def _touches_of(thing: str) -> NativeFormat:
    return NativeFormat(
        name="hetrec",
        role="interactions",
        recognise=lambda head: _is_touches(head) and _header(head)[1] == thing,
        open=_Touches,
        columns={"user_id": "userID", "item_id": thing},
    )


FORMATS = (
    NativeFormat(
        name="hetrec",
        role="items",
        recognise=_is_items,
        open=_Things,
        columns={"items_id": "id", "item_text": ["title", "name", "year", "genres"]},
    ),
    *map(_touches_of, _THINGS),
)
