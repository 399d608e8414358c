"""Read interactions into numeric columns over a vocabulary of users and items."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np

from enhancer.data.alike_ids import NONE_RESPELT, Respelt
from enhancer.data.column_values import BlockLocation
from enhancer.data.interaction_columns import Vocabulary, labels_of, ratings_of, times_of
from enhancer.data.interaction_labels import LabelRule, parse_label_rule
from enhancer.data.readers import TableOptions, TableReader, open_table
from enhancer.data.readers.arrays import IrregularTableError
from enhancer.data.time_values import align_times
from enhancer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config import ColumnsConfig
    from enhancer.data.readers.arrays import Column, ColumnRole

N = TypeVar("N", bound=np.generic)
_LIMIT = 2**63
_COMPARED = 1 << 20
"""Pairs that are compared at once."""
_DIGITS = 18
"""Digits that 64 bits always hold."""


@dataclass(frozen=True, kw_only=True)
class ReadReport:
    """Counts of rows that were read and rows that were left out."""

    rows: int = 0
    unknown_items: int = 0
    """Rows whose item is not in the items table."""
    unknown_item_examples: tuple[str, ...] = ()
    """First few of the unknown item ids."""
    unknown_users: int = 0
    """Rows whose user is unknown."""
    unknown_user_examples: tuple[str, ...] = ()
    """First few of the unknown user ids."""
    respelt_items: Respelt = NONE_RESPELT
    """Items that the items table spells otherwise, such as ``1`` for ``1.0``."""
    respelt_users: Respelt = NONE_RESPELT
    """Users that the training interactions spell otherwise."""
    duplicates: int = 0
    """Rows of a pair that occurs again; the latest is kept."""
    below_min_rating: int = 0
    """Rows dropped by ``min_rating``."""
    outside_core: int = 0
    """Rows dropped by ``k_core``."""

    def lines(self, *, asked_for: bool = True, beside_training: bool = False) -> list[str]:
        """Describe what was left out and why, one sentence per reason.

        Args:
            asked_for: Include rows that the configuration leaves out on purpose (``min_rating``, ``k_core``).
            beside_training: Whether the file was read over the vocabulary of the training interactions.

        >>> ReadReport(rows=9, unknown_items=2, unknown_item_examples=("x7",)).lines()
        ["2 of 9 interactions left out: their item is not in the items table (such as 'x7')"]
        """

        def shown(examples: tuple[str, ...]) -> str:
            return f" (such as {', '.join(map(repr, examples))})" if examples else ""

        items, users = "their item is not in the items table", "their user is unknown"
        if beside_training:
            items = "their item is in neither the items table nor the training interactions"
            users = "their user has no training interaction"
        reasons = [
            (self.unknown_items, f"{items}{shown(self.unknown_item_examples)}"),
            (self.unknown_users, f"{users}{shown(self.unknown_user_examples)}"),
            (self.duplicates, "the same pair occurs again later"),
        ]
        if asked_for:
            reasons += [
                (self.below_min_rating, "rated below min_rating"),
                (self.outside_core, "their user or item has too few interactions for k_core"),
            ]
        left_out = [f"{n:,} of {self.rows:,} interactions left out: {why}" for n, why in reasons if n]
        where = "the training interactions" if beside_training else "the items table"
        respelt = [(self.respelt_items, "items", where), (self.respelt_users, "users", "the training interactions")]
        return [*left_out, *(found.words(what, place) for found, what, place in respelt if found.ids)]


@dataclass(frozen=True, eq=False)
class Interactions:
    """User-item pairs over a vocabulary. Pairs are unique and in file order."""

    user_ids: list[str]
    """User id of each row number."""
    item_ids: list[str]
    """Item id of each row number."""
    users: NDArray[np.int32]
    """int32 ``[n]``: user row numbers."""
    items: NDArray[np.int32]
    """int32 ``[n]``: item row numbers."""
    ratings: NDArray[np.float32] | None = None
    """float32 ``[n]``, finite."""
    timestamps: NDArray[np.int64] | None = None
    """int64 ``[n]``: seconds or the unit of the file, times 10 to the power of ``time_decimals``."""
    report: ReadReport = field(default_factory=ReadReport)
    labels: NDArray[np.float32] | None = None
    """float32 ``[n]``: 1 for a positive interaction, 0 for a negative one; None if all are positive."""
    time_decimals: int = 0
    """Decimals of the finest time: 3 for milliseconds in a file of seconds."""

    def __len__(self) -> int:
        return len(self.users)

    def take(self, index: NDArray[np.bool_] | NDArray[np.integer]) -> Interactions:
        """Select rows; the vocabulary stays the same.

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
            self.time_decimals,
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
    options: TableOptions | None = None,
) -> Interactions:
    """Read a table of interactions.

    Args:
        path: Path of the table.
        columns: Column mapping. If ``rating`` or ``timestamp`` is not set, a column of that name is used if it exists;
            if it is False, the column is not read.
        item_ids: Item vocabulary, in this order. Rows of other items are left out and counted. None uses all items in
            the table, in ascending order of id.
        user_ids: User vocabulary, with the same rules.
        min_rating: Pairs whose last rating is lower are left out.
        k_core: Users and items with fewer pairs are removed repeatedly, until all that remain have this many.
        also: Tables that will be read over this vocabulary. If ``item_ids`` is None, it includes their items.
        options: How the files are read.

    Raises:
        ConfigError: The file or a column is missing, or ``min_rating`` is set and there are no ratings.
        DataError: A value is invalid (the message names file, line and column), or no interaction is left.
    """
    table = open_table(path, options)
    left = _read(table, columns, item_ids, user_ids, min_rating)
    latest = _last_of_each_pair(left)
    # Rows are copied only where some are left out: a copy of all columns may be the most memory that training takes.
    duplicates = 0 if latest is None else len(left) - len(latest)
    left = left if latest is None else left.take(latest)
    latest = None
    below = outside = 0
    if min_rating is not None and left.ratings is not None:
        liked = left.ratings >= min_rating
        below = len(left) - int(np.count_nonzero(liked))
        left = left.take(liked) if below else left
    if k_core > 1 and len(left):
        core = _in_core(left.users, left.items, k_core)
        outside = len(left) - int(np.count_nonzero(core))
        left = left.take(core) if outside else left
    report = replace(left.report, duplicates=duplicates, below_min_rating=below, outside_core=outside)
    if not len(left):
        raise DataError(f"{path}: no interaction is left", hint="; ".join(report.lines()) or None)
    left = replace(left, report=report)
    if user_ids is None:
        names, rows = _sorted(left.user_ids, left.users)
        left = replace(left, user_ids=names, users=rows)
    if item_ids is None:
        others = (
            read_interactions(other, columns, item_ids=None, min_rating=min_rating, options=options) for other in also
        )
        names, rows = _sorted(left.item_ids, left.items, (name for other in others for name in other.item_ids))
        left = replace(left, item_ids=names, items=rows)
    return left


def _read(
    table: TableReader,
    columns: ColumnsConfig,
    item_ids: Sequence[str] | None,
    user_ids: Sequence[str] | None,
    min_rating: float | None,
) -> Interactions:
    """Read all rows of known users and items; a pair may still occur several times."""
    user_column = table.require(columns.user_id, "user_id")
    item_column = table.require(columns.item_id, "item_id")
    if user_column == item_column:
        raise ConfigError(f"[data.columns] user_id and item_id are both {item_column!r}")
    rating = _optional(table, columns.rating, "rating")
    time = _optional(table, columns.timestamp, "timestamp")
    if min_rating is not None and columns.rating is False:
        raise ConfigError("min_rating is set, and [data.columns] rating = false", hint="remove one of the two")
    if min_rating is not None and rating is None:
        raise ConfigError(f"min_rating is set, and {table.path} has no rating column", hint="set [data.columns] rating")
    label = None if columns.label is None else parse_label_rule(columns.label, table)
    chosen = _Chosen(user_column, item_column, rating, time, label)
    roles = chosen.roles()
    try:
        return _read_blocks(table, table.array_blocks(roles), chosen, item_ids, user_ids)
    except (IrregularTableError, DataError):  # the first error of the file is told by its cells
        return _read_blocks(table, table.blocks(list(roles)), chosen, item_ids, user_ids)


class _Chosen(NamedTuple):
    """The columns to read."""

    user: str
    item: str
    rating: str | None
    time: str | None
    label: LabelRule | None

    def roles(self) -> dict[str, ColumnRole]:
        """Return the use of each column; as text, if it has several."""
        of_label: ColumnRole = "id" if self.label is None or self.label.bound is None else "number"
        uses: list[tuple[str | None, ColumnRole]] = [
            *((self.user, "id"), (self.item, "id"), (self.rating, "number"), (self.time, "time")),
            (None if self.label is None else self.label.column, of_label),
        ]
        roles: dict[str, ColumnRole] = {}
        for name, role in uses:
            if name is not None:
                roles[name] = role if roles.get(name, role) == role else "text"
        return roles


def _read_blocks(
    table: TableReader,
    blocks: Iterable[tuple[Sequence[int], Sequence[Column]]],
    chosen: _Chosen,
    item_ids: Sequence[str] | None,
    user_ids: Sequence[str] | None,
) -> Interactions:
    names = list(chosen.roles())
    user_vocabulary, item_vocabulary = Vocabulary(user_ids), Vocabulary(item_ids)
    parts: list[list[NDArray[np.generic]]] = [[], [], [], []]
    times: list[tuple[NDArray[np.int64], int]] = []
    rows = unknown_users = unknown_items = 0
    for numbers, columns in blocks:
        location = BlockLocation(table, numbers)
        block = dict(zip(names, columns, strict=True))
        users = user_vocabulary.rows(block[chosen.user], chosen.user, location)
        items = item_vocabulary.rows(block[chosen.item], chosen.item, location)
        known = (users >= 0) & (items >= 0)
        rows += len(users)
        unknown_items += int(np.count_nonzero(items < 0))
        unknown_users += int(np.count_nonzero((users < 0) & (items >= 0)))
        kept = slice(None) if known.all() else known
        parts[0].append(users[kept])
        parts[1].append(items[kept])
        if chosen.rating is not None:
            parts[2].append(ratings_of(block[chosen.rating], chosen.rating, location)[kept])
        if chosen.time is not None:
            moments, decimals = times_of(block[chosen.time], chosen.time, location)
            times.append((moments[kept], decimals))
        if chosen.label is not None:
            parts[3].append(labels_of(block[chosen.label.column], chosen.label, location)[kept])
    if not rows:
        raise DataError(f"{table.path} has a header but no rows", hint="check the path in [data]")
    aligned, time_decimals = align_times(times)
    times.clear()
    item_rows, respelt_items = item_vocabulary.settle(_whole(parts[1]).astype(np.int32, copy=False))
    user_rows, respelt_users = user_vocabulary.settle(_whole(parts[0]).astype(np.int32, copy=False))
    settled = (item_rows >= 0) & (user_rows >= 0)
    unknown_items += int(np.count_nonzero(item_rows < 0))
    unknown_users += int(np.count_nonzero((user_rows < 0) & (item_rows >= 0)))
    report = ReadReport(
        rows=rows,
        respelt_items=respelt_items,
        respelt_users=respelt_users,
        unknown_items=unknown_items,
        unknown_item_examples=tuple(item_vocabulary.unknown),
        unknown_users=unknown_users,
        unknown_user_examples=tuple(user_vocabulary.unknown),
    )
    read = Interactions(
        user_vocabulary.ids,
        item_vocabulary.ids,
        user_rows,
        item_rows,
        _whole(parts[2]).astype(np.float32, copy=False) if chosen.rating is not None else None,
        _whole(aligned) if chosen.time is not None else None,
        report,
        _whole(parts[3]).astype(np.float32, copy=False) if chosen.label is not None else None,
        time_decimals,
    )
    return read if settled.all() else read.take(settled)


def _whole(blocks: list[NDArray[N]]) -> NDArray[N]:
    """Return the blocks of a column as one array, and release them."""
    whole = np.concatenate(blocks)
    blocks.clear()
    return whole


def _optional(table: TableReader, name: str | Literal[False] | None, setting: str) -> str | None:
    if name is False:
        return None
    if name is not None:
        return table.require(name, setting)
    return setting if setting in table.columns else None


def _last_of_each_pair(read: Interactions) -> NDArray[np.int64] | None:
    """Return the position of the latest row of each pair, ascending; None if each pair occurs once.

    Ties of time are resolved by file order.
    """
    n = len(read)
    width = max(1, len(read.item_ids))
    pairs = read.users.astype(np.int64)
    pairs *= width
    pairs += read.items
    bits = n.bit_length()
    packed = (len(read.user_ids) * width) << bits < _LIMIT
    if packed:  # sorting integers takes a tenth of the time of sorting their positions
        pairs <<= bits
        for begin in range(0, n, _COMPARED):
            pairs[begin : begin + _COMPARED] |= np.arange(begin, min(begin + _COMPARED, n))
        pairs.sort()
    else:
        order = np.argsort(pairs, kind="stable")
        pairs = pairs[order]
    first = np.ones(n, np.bool_)
    for begin in range(1, n, _COMPARED):  # without a copy of all pairs
        part = pairs[begin - 1 : begin + _COMPARED] >> (bits if packed else 0)
        np.not_equal(part[1:], part[:-1], out=first[begin : begin + _COMPARED])
    if first.all():
        return None
    starts = np.flatnonzero(first)
    if packed:
        order = pairs & ((1 << bits) - 1)
    latest = order
    if read.timestamps is not None:
        times = read.timestamps[order]
        newest = np.repeat(np.maximum.reduceat(times, starts), np.diff(starts, append=n))
        latest = np.where(times == newest, order, -1)
    keep = np.zeros(n, np.bool_)
    keep[np.maximum.reduceat(latest, starts)] = True
    return np.flatnonzero(keep)


def _in_core(users: NDArray[np.int32], items: NDArray[np.int32], k: int) -> NDArray[np.bool_]:
    """Mask the pairs of the k-core: the largest set in which every user and item has at least k pairs."""
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
    """Sort a vocabulary and drop unused ids, so that the order of rows in the file has no effect.

    Args:
        ids: Id of each row number, each once.
        rows: Row numbers in use.
        further: Additional ids for the vocabulary.

    Returns:
        The sorted vocabulary, and ``rows`` renumbered for it.
    """
    used = np.flatnonzero(np.bincount(rows, minlength=len(ids)))
    names = ids if len(used) == len(ids) else [ids[n] for n in used.tolist()]
    names = [*names, *set(further).difference(names)]
    order = _order(names)
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names))
    new = np.zeros(len(ids), np.int32)
    new[used] = place[: len(used)]
    return [names[n] for n in order.tolist()], new[rows]


def _order(names: Sequence[str]) -> NDArray[np.int64]:
    """Return the positions of ids in ascending order: of numbers by size, of anything else as text."""
    whole = "".join(names)
    if not (whole.isascii() and whole.isdigit()):
        return np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    if max(map(len, names)) <= _DIGITS and ",0" not in f",{','.join(names)}".replace(",0,", ",", 1):
        return np.argsort(np.array(names, np.bytes_).astype(np.int64))
    by_text = sorted(range(len(names)), key=names.__getitem__)
    return np.array(sorted(by_text, key=lambda n: len(names[n])), np.int64)
