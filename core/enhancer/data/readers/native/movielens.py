"""Read MovieLens: the ``.dat`` files of 1M and 10M, and the ``u.*`` files of 100K."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from enhancer.data.readers.cells import list_cell
from enhancer.data.readers.native.formats import FileHead, NativeFormat
from enhancer.data.readers.native.text_rows import NumberRows, SplitRows, first_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_RATING = re.compile(r"\d+::\d+::\d+(\.\d+)?::\d+")
_FILM = re.compile(r"\d+::.+::[^:]*")
_TAGGED = re.compile(r".*::\d{6,}")
_PERSON = re.compile(r"\d+::[MF]::\d+::\d+::[^:]*")
_NO_GENRES = "(no genres listed)"

_DATA = re.compile(r"\d+\t\d+\t\d+(\.\d+)?\t\d{6,}")
_ITEM = re.compile(r"\d+\|.*(\|[01]){19}")
_USER = re.compile(r"\d+\|\d+\|[MF]\|[^|]*\|[^|]*")
_FLAGS = 19
_GENRES: Sequence[str] = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""Genres of the flags of ``u.item``, as in ``u.genre``."""


class _Films(SplitRows):
    """``movies.dat``: id, title and genres. A title may hold two colons."""

    def fields(self, line: str) -> Sequence[str]:
        parts = line.split("::")
        if len(parts) < self.width:
            return parts
        genres = parts[-1].strip()
        named = list_cell([] if genres == _NO_GENRES else genres.split("|"))
        return parts[0], "::".join(parts[1:-1]), named


class _FlaggedFilms(SplitRows):
    """``u.item``: five fields and a flag for each genre."""

    def __init__(self, path: Path) -> None:
        columns = ("item_id", "title", "release_date", "video_release_date", "imdb_url", "genres")
        super().__init__(path, columns, "|", {"genres": "list"})
        self._genres = _genres_beside(path)

    @property
    def width(self) -> int:
        return len(self.columns) - 1 + _FLAGS

    def finish(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        plain = len(self.columns) - 1
        return [
            (
                *row[:plain],
                list_cell([name for name, flag in zip(self._genres, row[plain:], strict=True) if flag == "1"]),
            )
            for row in rows
        ]


def _genres_beside(path: Path) -> Sequence[str]:
    """Return the names of the flags: those in ``u.genre`` beside the file, if it has a name for each."""
    listing = path.with_name("u.genre")
    if not listing.is_file():
        return _GENRES
    names = [line.rpartition("|")[0] for line in first_lines(listing)]
    return names if len(names) == _FLAGS and all(names) else _GENRES


def _is_films(head: FileHead) -> bool:
    return head.all(_FILM.fullmatch) and not any(map(_TAGGED.fullmatch, head.lines))


FORMATS = (
    NativeFormat(
        name="movielens",
        role="interactions",
        recognise=lambda head: head.all(_RATING.fullmatch),
        open=lambda path: NumberRows(path, ("user_id", "item_id", "rating", "timestamp"), "::"),
    ),
    NativeFormat(
        name="movielens",
        role="users",
        recognise=lambda head: head.all(_PERSON.fullmatch),
        open=lambda path: SplitRows(path, ("user_id", "gender", "age", "occupation", "zip_code"), "::"),
    ),
    NativeFormat(
        name="movielens",
        role="items",
        recognise=_is_films,
        open=lambda path: _Films(path, ("item_id", "title", "genres"), "::", {"genres": "list"}),
    ),
    NativeFormat(
        name="ml-100k",
        role="interactions",
        recognise=lambda head: head.all(_DATA.fullmatch),
        open=lambda path: NumberRows(path, ("user_id", "item_id", "rating", "timestamp"), "\t"),
    ),
    NativeFormat(
        name="ml-100k",
        role="items",
        recognise=lambda head: head.all(_ITEM.fullmatch),
        open=_FlaggedFilms,
        columns={"item_text": ["title", "release_date", "genres"]},
    ),
    NativeFormat(
        name="ml-100k",
        role="users",
        recognise=lambda head: head.all(_USER.fullmatch),
        open=lambda path: SplitRows(path, ("user_id", "age", "gender", "occupation", "zip_code"), "|"),
    ),
)
