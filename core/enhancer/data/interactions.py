"""Who touched what, as columns over a vocabulary. Rows of text become four numbers each and are forgotten."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data.entities import MAX_ID
from enhancer.data.labels import Label, find_label
from enhancer.data.readers import BLANK, Table, open_table
from enhancer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config import ColumnsConfig

_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class ReadReport:
    """What was read, and what was left out. The counts are of rows."""

    rows: int = 0
    unknown_items: int = 0
    """Rows whose item is not in the items table."""
    unknown_item_examples: tuple[str, ...] = ()
    """The first of their ids."""
    unknown_users: int = 0
    """Likewise for users."""
    unknown_user_examples: tuple[str, ...] = ()
    duplicates: int = 0
    """Rows of a pair that came again later; the latest is kept."""
    below_min_rating: int = 0
    outside_core: int = 0
    """Rows dropped by ``k_core``."""

    def lines(self, *, asked_for: bool = True, beside_training: bool = False) -> list[str]:
        """What was left out and why, a sentence each; nothing where all was kept.

        Args:
            asked_for: Tell also what the configuration leaves out on purpose (``min_rating``, ``k_core``).
            beside_training: The file was read over the vocabulary of the training interactions.

        >>> ReadReport(rows=9, unknown_items=2, unknown_item_examples=("x7",)).lines()
        ["2 of 9 interactions left out: their item is not in the items table (such as 'x7')"]
        """

        def such(examples: tuple[str, ...]) -> str:
            return f" (such as {', '.join(map(repr, examples))})" if examples else ""

        items, users = "their item is not in the items table", "their user is unknown"
        if beside_training:
            items = "their item is in neither the items table nor the training interactions"
            users = "their user has no training interaction"
        reasons = [
            (self.unknown_items, f"{items}{such(self.unknown_item_examples)}"),
            (self.unknown_users, f"{users}{such(self.unknown_user_examples)}"),
            (self.duplicates, "the same pair comes again later"),
        ]
        if asked_for:
            reasons += [
                (self.below_min_rating, "rated below min_rating"),
                (self.outside_core, "their user or item has too few for k_core"),
            ]
        return [f"{n:,} of {self.rows:,} interactions left out: {why}" for n, why in reasons if n]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Columns over a shared vocabulary; pairs are unique, in the order of the file."""

    user_ids: list[str]
    """Row number to id."""
    item_ids: list[str]
    """Row number to id."""
    users: NDArray[np.int32]
    """int32 ``[n]``: row numbers."""
    items: NDArray[np.int32]
    """int32 ``[n]``: row numbers."""
    ratings: NDArray[np.float32] | None = None
    """float32 ``[n]``, finite."""
    timestamps: NDArray[np.int64] | None = None
    """int64 ``[n]``: seconds (or whatever unit the file has)."""
    report: ReadReport = field(default_factory=ReadReport)
    labels: NDArray[np.float32] | None = None
    """float32 ``[n]``: 1 for a good interaction, 0 for another; None where all are good."""

    def __len__(self) -> int:
        return len(self.users)

    def take(self, index: NDArray[np.bool_] | NDArray[np.integer]) -> Interactions:
        """Some of the rows, over the same vocabulary.

        Args:
            index: Boolean ``[n]``, or row numbers.
        """
        return Interactions(
            self.user_ids,
            self.item_ids,
            self.users[index],
            self.items[index],
            None if self.ratings is None else self.ratings[index],
            None if self.timestamps is None else self.timestamps[index],
            self.report,
            None if self.labels is None else self.labels[index],
        )


def read_interactions(
    path: Path,
    columns: ColumnsConfig,
    *,
    item_ids: Sequence[str] | None,
    user_ids: Sequence[str] | None = None,
    min_rating: float | None = None,
    k_core: int = 0,
    also: Sequence[Path] = (),
) -> Interactions:
    """Read a table of interactions.

    Args:
        path: The table.
        columns: Which column is which. Without ``rating`` (``timestamp``) a column of that name is taken if there is
            one.
        item_ids: The item vocabulary, exactly and in this order; rows of other items are left out and counted.
            None makes one of all items read, in ascending order of id.
        user_ids: Likewise for users.
        min_rating: Pairs whose last rating is lower are left out.
        k_core: Users and items with fewer pairs are left out, until all that remain have as many.
        also: Tables that will be read over this vocabulary: where ``item_ids`` is None it holds their items too.

    Raises:
        ConfigError: The file or a column is missing, or ``min_rating`` is set and there are no ratings.
        DataError: A value that cannot be used (file, line and column are named), or nothing is left.
    """
    table = open_table(path)
    read = _read(table, columns, item_ids, user_ids, min_rating)
    keep = _last_of_each_pair(read)
    duplicates = len(read) - len(keep)
    below = 0
    if min_rating is not None and read.ratings is not None:
        liked = keep[read.ratings[keep] >= min_rating]
        below, keep = len(keep) - len(liked), liked
    core = keep[_in_core(read.users[keep], read.items[keep], k_core)] if k_core > 1 else keep
    report = replace(read.report, duplicates=duplicates, below_min_rating=below, outside_core=len(keep) - len(core))
    if not len(core):
        raise DataError(f"{path}: no interaction is left", hint="; ".join(report.lines()) or None)
    left = replace(read.take(core), report=report)
    if user_ids is None:
        names, rows = _sorted(left.user_ids, left.users)
        left = replace(left, user_ids=names, users=rows)
    if item_ids is None:
        others = (read_interactions(other, columns, item_ids=None, min_rating=min_rating) for other in also)
        names, rows = _sorted(left.item_ids, left.items, (name for other in others for name in other.item_ids))
        left = replace(left, item_ids=names, items=rows)
    return left


class _Fixed(dict[str, int]):
    """Looked up in C, a hundred million times; in Python for unknown ids alone."""

    def __missing__(self, name: str) -> int:
        return -1


class _Vocabulary:
    """Ids to row numbers; -1 for ids that a fixed vocabulary lacks."""

    def __init__(self, fixed: Sequence[str] | None) -> None:
        self.fixed = fixed is not None
        self.unknown: dict[str, None] = {}
        self._rows: dict[str, int]
        if fixed is not None:
            self._rows = _Fixed((name, n) for n, name in enumerate(fixed))
        else:
            growing: defaultdict[str, int] = defaultdict()
            growing.default_factory = growing.__len__
            self._rows = growing

    def rows(self, ids: list[str]) -> NDArray[np.int32]:
        found = np.fromiter(map(self._rows.__getitem__, ids), np.int32, len(ids))
        if self.fixed and len(self.unknown) < _EXAMPLES:
            for n in np.flatnonzero(found < 0)[: 100 * _EXAMPLES].tolist():
                if len(self.unknown) < _EXAMPLES:
                    self.unknown[ids[n]] = None
        return found

    @property
    def ids(self) -> list[str]:
        return list(self._rows)


def _read(
    table: Table,
    columns: ColumnsConfig,
    item_ids: Sequence[str] | None,
    user_ids: Sequence[str] | None,
    min_rating: float | None,
) -> Interactions:
    """What the table says, row by row: a pair may still come several times."""
    user_column = table.require(columns.user_id, "user_id")
    item_column = table.require(columns.item_id, "item_id")
    if user_column == item_column:
        raise ConfigError(f"[data.columns] user_id and item_id are both {item_column!r}")
    rating = _optional(table, columns.rating, "rating")
    time = _optional(table, columns.timestamp, "timestamp")
    if min_rating is not None and rating is None:
        raise ConfigError(
            f"min_rating is set, and {table.path} has no column of ratings", hint="see [data.columns] rating"
        )
    label = None if columns.label is None else find_label(columns.label, table)
    wanted = (user_column, item_column, rating, time, None if label is None else label.column)
    names = list(dict.fromkeys(name for name in wanted if name is not None))
    user_words, item_words = _Vocabulary(user_ids), _Vocabulary(item_ids)
    parts: list[list[NDArray[np.generic]]] = [[], [], [], [], []]
    rows = unknown_users = unknown_items = 0
    for first, block in table.blocks(names):
        present = None
        if BLANK in block[0]:
            present = [n for n, value in enumerate(block[0]) if value != BLANK]
            block = [[column[n] for n in present] for column in block]  # noqa: PLW2901 - the same, without blank lines
        at = _Place(table, first, present)
        users = user_words.rows(_ids(block[0], user_column, at))
        items = item_words.rows(_ids(block[1], item_column, at))
        known = (users >= 0) & (items >= 0)
        rows += len(users)
        unknown_items += int(np.count_nonzero(items < 0))
        unknown_users += int(np.count_nonzero((users < 0) & (items >= 0)))
        parts[0].append(users[known])
        parts[1].append(items[known])
        if rating is not None:
            parts[2].append(_ratings(block[names.index(rating)], rating, at)[known])
        if time is not None:
            parts[3].append(_timestamps(block[names.index(time)], time, at)[known])
        if label is not None:
            parts[4].append(_labels(block[names.index(label.column)], label, at)[known])
    if not rows:
        raise DataError(f"{table.path} has a header and no rows", hint="see [data]: is it the right file?")
    report = ReadReport(
        rows=rows,
        unknown_items=unknown_items,
        unknown_item_examples=tuple(item_words.unknown),
        unknown_users=unknown_users,
        unknown_user_examples=tuple(user_words.unknown),
    )
    return Interactions(
        user_words.ids,
        item_words.ids,
        np.concatenate(parts[0]).astype(np.int32, copy=False),
        np.concatenate(parts[1]).astype(np.int32, copy=False),
        np.concatenate(parts[2]).astype(np.float32, copy=False) if rating is not None else None,
        np.concatenate(parts[3]).astype(np.int64, copy=False) if time is not None else None,
        report,
        np.concatenate(parts[4]).astype(np.float32, copy=False) if label is not None else None,
    )


def _optional(table: Table, name: str | None, setting: str) -> str | None:
    if name is not None:
        return table.require(name, setting)
    return setting if setting in table.columns else None


@dataclass
class _Place:
    """Turns a position in a block into an error that names the line."""

    table: Table
    first: int
    present: list[int] | None

    def fault(self, n: int, column: str, what: str, *, hint: str = "mend that row, or leave it out") -> DataError:
        return self.table.fault(self.first + (n if self.present is None else self.present[n]), column, what, hint=hint)


def _ids(values: list[str], column: str, at: _Place) -> list[str]:
    stripped = list(map(str.strip, values))
    if "" in stripped:
        raise at.fault(stripped.index(""), column, "the id is empty")
    if max(map(len, stripped), default=0) > MAX_ID:
        n = next(n for n, value in enumerate(stripped) if len(value) > MAX_ID)
        raise at.fault(n, column, f"the id has {len(stripped[n]):,} characters")
    return stripped


def _ratings(values: list[str], column: str, at: _Place) -> NDArray[np.float32]:
    numbers = _numbers(values, column, at, "rating")
    bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)
    if bad.any():
        n = int(np.argmax(bad))
        raise at.fault(n, column, f"{_shown(values[n])} is no finite rating")
    return numbers.astype(np.float32)


def _labels(values: list[str], label: Label, at: _Place) -> NDArray[np.float32]:
    if label.bound is None:
        return label.of_words(values, lambda n, what: at.fault(n, label.column, what))
    return label.of_numbers(_ratings(values, label.column, at))


def _timestamps(values: list[str], column: str, at: _Place) -> NDArray[np.int64]:
    try:
        # Through int, for what a float cannot hold exactly: nanoseconds.
        return np.fromiter(map(int, values), np.int64, len(values))
    except (ValueError, OverflowError):
        pass
    numbers = np.fromiter((_seconds(v, n, column, at) for n, v in enumerate(values)), np.float64, len(values))
    bad = ~(np.abs(numbers) < 2.0**63)
    if bad.any():
        n = int(np.argmax(bad))
        raise at.fault(n, column, f"{_shown(values[n])} is no time")
    return np.floor(numbers).astype(np.int64)


def _seconds(value: str, n: int, column: str, at: _Place) -> float:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        hint = "a time is a number or an ISO 8601 date; leave the column out to go without"
        raise at.fault(n, column, f"{_shown(value)} is no time", hint=hint) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _numbers(values: list[str], column: str, at: _Place, what: str) -> NDArray[np.float64]:
    try:
        return np.fromiter(map(float, values), np.float64, len(values))
    except ValueError:
        n = next(n for n, value in enumerate(values) if not _is_number(value))
        shown = f"{_shown(values[n])} is no number" if values[n].strip() else f"the {what} is empty"
        raise at.fault(n, column, shown) from None


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:39] + "…")


def _last_of_each_pair(read: Interactions) -> NDArray[np.int64]:
    """Positions to keep, ascending: of rows of one pair the latest, by time and then by place in the file."""
    pairs = read.users.astype(np.int64) * max(1, len(read.item_ids)) + read.items
    order = np.argsort(pairs, kind="stable") if read.timestamps is None else np.lexsort((read.timestamps, pairs))
    ordered = pairs[order]
    last = np.ones(len(order), bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    return np.sort(order[last])


def _in_core(users: NDArray[np.int32], items: NDArray[np.int32], k: int) -> NDArray[np.bool_]:
    """Which pairs are of the k-core: the largest set in which every user and item has k pairs."""
    keep = np.ones(len(users), bool)
    while keep.any():
        per_user = np.bincount(users[keep], minlength=int(users.max()) + 1)
        per_item = np.bincount(items[keep], minlength=int(items.max()) + 1)
        still = keep & (per_user[users] >= k) & (per_item[items] >= k)
        if np.array_equal(still, keep):
            break
        keep = still
    return keep


def _sorted(
    ids: list[str], rows: NDArray[np.int32], further: Iterable[str] = ()
) -> tuple[list[str], NDArray[np.int32]]:
    """A vocabulary that was found by reading: what is left of it, sorted, so that row order decides nothing.

    Args:
        ids: Row number to id.
        rows: The rows that are used.
        further: Ids that it shall hold beside those.
    """
    used = np.flatnonzero(np.bincount(rows, minlength=len(ids))).tolist()
    names = list({*(ids[n] for n in used), *further})
    if all(name.isascii() and name.isdigit() for name in names):
        names.sort(key=lambda name: (len(name), name))  # plain numbers sort by length first
    else:
        names.sort()
    place = {name: row for row, name in enumerate(names)}
    new = np.zeros(len(ids), np.int32)
    new[used] = [place[ids[n]] for n in used]
    return names, new[rows]
