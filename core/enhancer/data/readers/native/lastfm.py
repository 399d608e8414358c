"""Read the Last.fm data sets of 360,000 and of 1,000 users. Items are artists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import FileHead, NativeFormat
from enhancer.data.readers.native.text_rows import RowReader, SplitRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_PLAYS = re.compile(r"[0-9a-f]{40}\t[^\t]*\t[^\t]*\t *\d+")
_LISTENED = re.compile(r"[^\t]+\t\d{4}-\d\d-\d\dT[^\t]*(\t[^\t]*){4}")
_PERSON = re.compile(r"[0-9a-f]{40}\t[mf]?\t-?\d*\t[^\t]*\t[^\t]*")


class _Plays(SplitRows):
    """A user, an artist and the number of plays. An artist without an id is known by name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("user_id", "item_id", "artist", "plays"), "\t")

    def finish(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        return [(user, artist_id or name, name, plays.strip()) for user, artist_id, name, plays in rows]


class _Listened(SplitRows):
    """A user, a time, an artist and a track. An artist without an id is known by name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("user_id", "timestamp", "item_id", "artist", "track_id", "track"), "\t")

    def finish(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        return [(user, time, item or name, name, *track) for user, time, item, name, *track in rows]


class _Artists(RowReader):
    """The artists of either file, each with the name that comes first. Their ids are kept while they are read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("item_id", "artist"))
        self._listening = _Listened(path) if _is_listened(FileHead.of(path)) else _Plays(path)

    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks."""
        place = self._listening.columns.index("item_id")
        seen: set[str] = set()
        for numbers, rows in self._listening.chunks():
            new: dict[int, Sequence[str]] = {}
            for number, row in zip(numbers, rows, strict=True):
                if row[place] not in seen:
                    seen.add(row[place])
                    new[number] = row[place : place + 2]
            yield list(new), list(new.values())


def _is_plays(head: FileHead) -> bool:
    return head.all(_PLAYS.fullmatch)


def _is_listened(head: FileHead) -> bool:
    return head.all(_LISTENED.fullmatch)


FORMATS = (
    NativeFormat(name="lastfm-360k", role="interactions", recognise=_is_plays, open=_Plays, holds_items=True),
    NativeFormat(name="lastfm-1k", role="interactions", recognise=_is_listened, open=_Listened, holds_items=True),
    *(
        NativeFormat(
            name=name,
            role="items",
            recognise=lambda _: False,  # the file is one of interactions first
            open=_Artists,
            columns={"title": "artist", "item_text": ["artist"]},
        )
        for name in ("lastfm-360k", "lastfm-1k")
    ),
    NativeFormat(
        name="lastfm-360k",
        role="users",
        recognise=lambda head: head.all(_PERSON.fullmatch) and not _is_plays(head),
        open=lambda path: SplitRows(path, ("user_id", "gender", "age", "country", "signup"), "\t"),
    ),
)
