"""Index reviews by item in a temporary SQLite file, so that memory does not grow with their number.

Each review is stored with the part of the split that its pair of user and item belongs to. Reviews of other pairs are
counted and dropped.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from enhancer.data.alike_ids import FixedRows
from enhancer.data.column_values import BlockLocation, parse_ids, parse_times, shown
from enhancer.data.entities import one_lines
from enhancer.data.html_text import strip_html_of
from enhancer.data.readers import open_table
from enhancer.data.reviews.columns import review_columns
from enhancer.data.reviews.report import ReviewReport
from enhancer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config import ColumnsConfig
    from enhancer.config.data import Html
    from enhancer.data.interactions import Interactions
    from enhancer.data.readers import TableOptions, TableReader
    from enhancer.data.reviews.columns import ReviewColumns
    from enhancer.data.splits import Split

MAX_REVIEW = 2000
"""Largest number of characters of a review that are kept."""
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
_UNMATCHED, _UNKNOWN_ITEM, _EMPTY = 3, 4, 5
_CACHE_KIB = 32_768
_FRACTION_DECIMALS = 18
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NO_USERS_HINT = (
    "name the column by [data.columns] review_user; or, if you know that no review was written for a held-out"
    " interaction, set [evaluation] allow_leaks = true"
)


class Review(NamedTuple):
    """One review of an item."""

    digest: bytes
    """Eight bytes that follow from the text alone."""
    helpful: float
    """Votes that found it helpful; 0 if there are none."""
    time: int
    """Time in seconds, or in the unit of the file; 0 if there is none."""
    text: str
    """Text on one line, of at most :data:`MAX_REVIEW` characters."""
    fraction: int = 0
    """Difference of ``time`` to the time of the file, in units of 10 to the power of -18."""


class ReviewIndex:
    """Reviews by item. Safe to use from several threads.

    Args:
        path: Table of reviews.
        columns: Column mapping.
        split: The split, which says whose reviews may be shown.
        allow_leaks: Accept a table without users.
        html: Whether HTML in reviews is kept or turned into plain text.
        options: How the file is read.

    Attributes:
        report: Counts of the reviews that were read.

    Raises:
        ConfigError: The file or a column is missing; or the table has no users and leaks are not allowed.
        DataError: A row cannot be used. The message names file, line and column.
    """

    def __init__(
        self,
        path: Path,
        columns: ColumnsConfig,
        split: Split,
        *,
        allow_leaks: bool = False,
        html: Html = "keep",
        options: TableOptions | None = None,
    ) -> None:
        table = open_table(path, options)
        found = review_columns(table, columns)
        if found.user is None and not allow_leaks:
            raise ConfigError(
                f"{path} has no column {columns.user_id!r}, so that reviews of held-out interactions cannot be told"
                " from others",
                hint=_NO_USERS_HINT,
            )
        self._rows = FixedRows(split.train.item_ids)
        self._lock = threading.Lock()
        # A database without a name is a file that SQLite keeps in the folder for temporary files and removes.
        self._connection = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE reviews (item INT, part INT, helpful REAL, time INT, fraction INT, digest BLOB, text TEXT)"
        )
        self.report = self._fill(table, found, split, html)
        self._connection.execute(
            "CREATE INDEX by_item ON reviews (item, helpful DESC, time DESC, fraction DESC, digest)"
        )

    def best(self, item_id: str, limit: int, parts: Sequence[Part] = ("train",)) -> list[Review]:
        """Return the most helpful reviews of an item, the latest first among equally helpful ones.

        The order follows from the reviews alone, and not from their order in the file. Equal texts count once.

        Args:
            item_id: Id of the item.
            limit: Largest number of reviews.
            parts: Parts of the split that the reviews may belong to.
        """
        row = self._rows.get(item_id, -1)
        if not 0 <= row < len(self._rows.names):
            return []
        last = max(PARTS.index(part) for part in parts)
        seen: dict[bytes, Review] = {}
        with self._lock:
            found = self._connection.execute(
                "SELECT digest, helpful, time, text, fraction FROM reviews WHERE item = ? AND part <= ?"
                " ORDER BY helpful DESC, time DESC, fraction DESC, digest",
                (row, last),
            )
            for values in found:
                review = Review(*values)
                seen.setdefault(review.digest, review)
                if len(seen) == limit:
                    break
        return list(seen.values())

    def close(self) -> None:
        """Remove the temporary file."""
        self._connection.close()

    def _fill(self, table: TableReader, columns: ReviewColumns, split: Split, html: Html) -> ReviewReport:
        parts = _Parts(split, has_users=columns.user is not None)
        counts = np.zeros(_EMPTY + 1, np.int64)
        self._connection.execute("BEGIN")
        for location, block in _blocks(table, columns.names):
            values = dict(zip(columns.names, block, strict=True))
            items = parse_ids(values[columns.item], columns.item, location)
            users = None if columns.user is None else [value.strip() for value in values[columns.user]]
            # Ids that are spelt otherwise are confirmed by a pair that is an interaction, and not by an item alone.
            row_of = self._rows.__getitem__ if users is None else self._rows.likely
            rows = np.fromiter(map(row_of, items), np.int64, len(items))
            rows[rows >= len(self._rows.names)] = -1
            part = parts.of(rows, users)
            written = values[columns.text]
            texts = one_lines(strip_html_of(written) if html == "strip" else written, MAX_REVIEW)
            part[[not text for text in texts]] = _EMPTY
            counts += np.bincount(part, minlength=len(counts))
            helpful = _helpful(values.get(columns.helpful or ""), columns.helpful, location, len(items))
            times = _times(values.get(columns.time or ""), columns.time, location, len(items))
            kept = np.flatnonzero(part < len(PARTS)).tolist()
            self._connection.executemany(
                "INSERT INTO reviews VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(int(rows[n]), int(part[n]), helpful[n], *times[n], _digest(texts[n]), texts[n]) for n in kept],
            )
        self._connection.execute("COMMIT")
        if not counts.sum():
            raise DataError(f"{table.path} has a header but no rows", hint="check [data] reviews")
        reviewed = self._connection.execute("SELECT count(DISTINCT item) FROM reviews WHERE part = 0").fetchone()[0]
        return ReviewReport(
            rows=int(counts.sum()),
            training=int(counts[0]),
            items=reviewed,
            held_out=int(counts[1] + counts[2]),
            unmatched=int(counts[_UNMATCHED]),
            unknown_items=int(counts[_UNKNOWN_ITEM]),
            empty=int(counts[_EMPTY]),
            has_users=columns.user is not None,
        )


class _Parts:
    """Finds the part of the split that a pair of user and item belongs to."""

    def __init__(self, split: Split, *, has_users: bool) -> None:
        self._width = max(1, len(split.train.item_ids))
        self._users = FixedRows(split.train.user_ids if has_users else ())
        sides = (split.train, split.validation, split.test)
        codes = np.concatenate([self._codes(side) for side in sides])
        order = np.argsort(codes, kind="stable")
        self._known = codes[order]
        self._part = np.repeat(np.arange(len(sides)), [len(side) for side in sides])[order]
        self._in_training = np.zeros(self._width, bool)
        self._in_training[split.train.items] = True
        self._anywhere = self._in_training.copy()
        for side in sides[1:]:
            self._anywhere[side.items] = True

    def of(self, items: NDArray[np.int64], users: Sequence[str] | None) -> NDArray[np.int64]:
        """Return int64 ``[n]``: 0 to 2 for a part of the split, else the reason to leave a review out."""
        unknown = items < 0
        known_items = np.where(unknown, 0, items)
        unknown |= ~self._anywhere[known_items]
        if users is None:  # an item without a training interaction is held out altogether
            return np.where(unknown, _UNKNOWN_ITEM, np.where(self._in_training[known_items], 0, 2))
        rows = np.fromiter(map(self._users.likely, users), np.int64, len(users))
        codes = rows * self._width + known_items
        at = np.minimum(np.searchsorted(self._known, codes), len(self._known) - 1)
        matched = (rows >= 0) & (self._known[at] == codes)
        return np.where(unknown, _UNKNOWN_ITEM, np.where(matched, self._part[at], _UNMATCHED))

    def _codes(self, side: Interactions) -> NDArray[np.int64]:
        return side.users.astype(np.int64) * self._width + side.items


def _blocks(table: TableReader, names: Sequence[str]) -> Iterator[tuple[BlockLocation, list[list[str]]]]:
    """Yield blocks of the named columns with their location."""
    for rows, block in table.blocks(names):
        yield BlockLocation(table, rows), block


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _helpful(values: list[str] | None, column: str | None, location: BlockLocation, count: int) -> list[float]:
    """Return the votes of each review: a number, or the first of several, such as ``3/4`` or ``[3, 4]``."""
    if values is None or column is None:
        return [0.0] * count
    votes = []
    for n, value in enumerate(values):
        match = _NUMBER.search(value) if value.strip() else None
        if match is None and value.strip():
            hint = "use a number of votes, or set [data.columns] review_helpful to another column"
            raise location.value_error(n, column, f"{shown(value)} is not a number", hint=hint)
        votes.append(0.0 if match is None else float(match.group()))
    return votes


def _times(values: list[str] | None, column: str | None, location: BlockLocation, count: int) -> list[tuple[int, int]]:
    """Return the whole part of each time, and the rest in units of 10 to the power of -18."""
    if values is None or column is None:
        return [(0, 0)] * count
    times, decimals = parse_times([value if value.strip() else "0" for value in values], column, location)
    whole, rest = np.divmod(times, 10**decimals)
    return list(zip(whole.tolist(), (rest * 10 ** (_FRACTION_DECIMALS - decimals)).tolist(), strict=True))
