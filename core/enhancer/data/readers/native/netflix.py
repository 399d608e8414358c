"""Read the Netflix Prize: ``combined_data_1.txt`` or ``mv_0000001.txt``, and ``movie_titles.csv``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import FileHead, NativeFormat
from enhancer.data.readers.native.text_rows import RowReader, SplitRows, line_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FILM = re.compile(r"\d+:")
_LINE = re.compile(r"\d+:|\d+,[1-5],\d{4}-\d\d-\d\d")
_TITLE = re.compile(r"\d+,(\d{4}|NULL),.+")


class _Ratings(RowReader):
    """Lines ``user,rating,date`` below a line ``film:`` that holds for all of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("user_id", "item_id", "rating", "timestamp"))

    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks."""
        film = ""
        for first, lines in line_blocks(self.path):
            numbers: list[int] = []
            rows: list[Sequence[str]] = []
            for number, text in enumerate(lines, first):
                line = text.strip()
                if line.endswith(":"):
                    film = line[:-1]
                elif line:
                    fields = line.split(",")
                    if len(fields) != 3:
                        raise self.line_error(number, f"{len(fields)} fields instead of 3")
                    rows.append((fields[0], film, fields[1], fields[2]))
                    numbers.append(number)
            yield numbers, rows


class _Titles(SplitRows):
    """Id, year and title; a title may hold commas."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("item_id", "year", "title"), ",")

    def fields(self, line: str) -> Sequence[str]:
        item, *rest = line.split(",", 2)
        return [item, "" if rest[:1] == ["NULL"] else rest[0], *rest[1:]] if rest else [item]


def _is_ratings(head: FileHead) -> bool:
    return head.all(_LINE.fullmatch) and bool(_FILM.fullmatch(head.lines[0])) and len(head.lines) > 1


FORMATS = (
    NativeFormat(name="netflix", role="interactions", recognise=_is_ratings, open=_Ratings),
    NativeFormat(
        name="netflix",
        role="items",
        recognise=lambda head: head.name.startswith("movie_titles") and head.all(_TITLE.fullmatch),
        open=_Titles,
    ),
)
