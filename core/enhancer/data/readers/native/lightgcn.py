"""Read the files of LightGCN, NGCF and KGAT: a user and all their items on each line."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import FileHead, NativeFormat
from enhancer.data.readers.native.text_rows import RowReader, SplitRows, first_lines, line_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_NUMBERS = re.compile(r"\d+( \d+)* *")
_LISTING = re.compile(r"org_id remap_id( \S+)*")
_PART = re.compile(r"(train|test|valid|validation|val|dev)\d?\.txt")


class _UserLines(RowReader):
    """A row for each item of each line. A user without items makes no row."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("user_id", "item_id"))

    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks."""
        for first, lines in line_blocks(self.path):
            numbers: list[int] = []
            rows: list[Sequence[str]] = []
            for number, line in enumerate(lines, first):
                user, *items = line.split() or ("",)
                numbers.extend(itertools.repeat(number, len(items)))
                rows.extend(zip(itertools.repeat(user), items))
            yield numbers, rows


class _Listing(SplitRows):
    """``item_list.txt``: original id and number of each item. An original id may hold blanks."""

    def __init__(self, path: Path) -> None:
        names = next(iter(first_lines(path)), "org_id remap_id").split()
        super().__init__(path, ["item_id" if name == "remap_id" else name for name in names], " ", header=True)

    def fields(self, line: str) -> Sequence[str]:
        return line.strip().rsplit(" ", self.width - 1)


def _is_user_lines(head: FileHead) -> bool:
    """Return whether each line is a user and any number of items: no user has two lines, and lengths differ.

    Lines of equal length may be anything, such as user, item, rating and time. Under the name of a part they count as
    users with their items, unless they are of three or four numbers; two mean the same either way.
    """
    if not head.all(_NUMBERS.fullmatch):
        return False
    rows = [line.split() for line in head.lines]
    lengths = set(map(len, rows))
    if len({row[0] for row in rows}) < len(rows):
        return False
    return len(lengths) > 1 or (bool(_PART.fullmatch(head.name)) and (lengths.isdisjoint({3, 4}) or len(rows) == 1))


FORMATS = (
    NativeFormat(
        name="lightgcn",
        role="interactions",
        recognise=_is_user_lines,
        open=_UserLines,
        test=("test.txt",),
    ),
    NativeFormat(
        name="lightgcn",
        role="items",
        recognise=lambda head: bool(head.lines) and bool(_LISTING.fullmatch(head.lines[0])) and "user" not in head.name,
        open=_Listing,
        has_text=False,
    ),
)
