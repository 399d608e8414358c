"""Read files of public data sets in the form in which they are published.

Each module reads a family of formats. A format is recognised by what a file holds; its name decides only where the
content fits several. ``docs/reference/formats.md`` lists the formats and what is peculiar about each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.data.readers.native import (
    book_crossing,
    hetrec,
    kuairec,
    lastfm,
    lightgcn,
    mind,
    movielens,
    netflix,
)
from enhancer.data.readers.native.formats import FileHead, NativeFormat
from enhancer.data.readers.native.objects import amazon, goodreads, steam, yelp

if TYPE_CHECKING:
    from pathlib import Path

    from enhancer.data.readers.table_reader import Role

__all__ = ["FORMATS", "NAMES", "NativeFormat", "names_of", "native_format", "recognise"]

FORMATS: tuple[NativeFormat, ...] = (
    *movielens.FORMATS,
    *lightgcn.FORMATS,
    *amazon.FORMATS,
    *steam.FORMATS,
    *mind.FORMATS,
    *goodreads.FORMATS,
    *yelp.FORMATS,
    *book_crossing.FORMATS,
    *hetrec.FORMATS,
    *kuairec.FORMATS,
    *lastfm.FORMATS,
    *netflix.FORMATS,
)
"""All formats; the first that recognises a file counts."""

NAMES = tuple(dict.fromkeys(each.name for each in FORMATS))
"""Names of the formats."""


def recognise(path: Path) -> NativeFormat | None:
    """Return the native format of a file, or None.

    Raises:
        OSError: The file cannot be read.
        DataError: It is compressed and damaged.
    """
    head = FileHead.of(path)
    return next((each for each in FORMATS if each.recognise(head)), None)


def names_of(role: Role) -> list[str]:
    """Return the names of the formats that have a table of this role."""
    return list(dict.fromkeys(each.name for each in FORMATS if each.role == role))


def native_format(name: str, role: Role, path: Path) -> NativeFormat:
    """Return the format of this name for a table of this role.

    A name may stand for several forms of a table. The one that recognises the file counts, else the first.

    Raises:
        KeyError: There is no such format.
        OSError: The file cannot be read.
        DataError: It is compressed and damaged.
    """
    forms = [each for each in FORMATS if (each.name, each.role) == (name, role)]
    if not forms:
        raise KeyError(name)
    if len(forms) > 1:
        head = FileHead.of(path)
        forms.sort(key=lambda each: not each.recognise(head))
    return forms[0]
