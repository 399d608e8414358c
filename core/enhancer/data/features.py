"""Columns of a table as side features: numbers, categories and tags.

What a column is, the first of these decides:

1. the configuration: ``"zip:category"``;
2. the file, where it says so: RecBole's headers, lists in JSON lines and Parquet;
3. its values: all numbers are a *number*; JSON lists, or a vertical bar in any value, make *tags*; the rest is a
   *category*.

The table is read twice: once to see what its columns are, once to take them in. Kept are a few bytes a value.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from enhancer.contracts.features import SideFeatures, Sides
from enhancer.data.entities import id_column_of
from enhancer.data.readers import BLANK, Table, open_table
from enhancer.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config import ColumnsConfig
    from enhancer.config.schema import DataConfig
    from enhancer.contracts.record import Kind

FeatureKind = Literal["number", "category", "tags"]
_NAMED: tuple[FeatureKind, ...] = ("number", "category", "tags")
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "\\n"})
"""What stands for a gap among numbers, in small letters. Among categories and tags only nothing at all does."""
_FAR = 5.0
"""Standard deviations at which a number is cut off: one price with three zeros too many must not drown the rest."""
_LONGEST = 200
"""Characters of a value that tell it from others."""
_MARKS = ("|", ";", ",")
_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class FeatureColumn:
    """What became of one column."""

    name: str
    kind: FeatureKind
    columns: int
    """Columns of the matrix."""
    missing: int
    """Entities without a value."""
    odd: tuple[str, ...] = ()
    """Of a number: the first values that are none, and count as missing."""

    def __str__(self) -> str:
        what = "number" if self.kind == "number" else f"{self.columns:,} {'tags' if self.kind == 'tags' else 'values'}"
        return f"{self.name} ({what}{f', {self.missing:,} missing' if self.missing else ''})"


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadFeatures:
    """The features of one kind of entities, and what they were made of."""

    features: SideFeatures
    columns: tuple[FeatureColumn, ...]
    absent: int
    """Entities that the table has no row of: all their features are missing."""

    def lines(self, path: Path, kind: Kind) -> list[str]:
        """What one might not expect, a sentence each."""
        lines = [
            f"{path}: {each.name!r} has values that are no numbers (such as {', '.join(map(repr, each.odd))}): missing"
            for each in self.columns
            if each.odd
        ]
        if self.absent:
            lines.append(f"{path} has no row of {self.absent:,} {kind}s: all their features are missing")
        return lines


def read_sides(
    config: DataConfig, root: Path, user_ids: Sequence[str], item_ids: Sequence[str]
) -> dict[Kind, ReadFeatures]:
    """The side features that ``[data.features]`` names, by kind; see :func:`read_features`.

    Args:
        config: ``[data]``.
        root: Folder that the tables are relative to.
        user_ids: Users, in the order of rows.
        item_ids: Items, likewise.

    Raises:
        ConfigError: Also where the table that has the columns is not set.
        DataError: See :func:`read_features`.
    """
    found: dict[Kind, ReadFeatures] = {}
    asked: tuple[tuple[Kind, Path | None, list[str], Sequence[str]], ...] = (
        ("user", config.users, config.features.user, user_ids),
        ("item", config.items, config.features.item, item_ids),
    )
    for kind, path, wanted, ids in asked:
        if not wanted:
            continue
        if path is None:
            raise ConfigError(
                f"[data.features] {kind} names columns, and [data] {kind}s is not set", hint=f'{kind}s = "{kind}s.csv"'
            )
        found[kind] = read_features(
            root / path, kind, config.columns, wanted, ids, max_values=config.features.max_values
        )
    return found


def sides_of(found: Mapping[Kind, ReadFeatures]) -> Sides | None:
    """What a backbone learns from; None where nothing was read."""
    users, items = found.get("user"), found.get("item")
    if users is None and items is None:
        return None
    return Sides(users=None if users is None else users.features, items=None if items is None else items.features)


def read_features(
    path: Path, kind: Kind, columns: ColumnsConfig, wanted: Sequence[str], ids: Sequence[str], *, max_values: int
) -> ReadFeatures:
    """Read the side features of some entities.

    Numbers are standardised over these entities (whatever their part of a split: no interaction is looked at) and cut
    off at five standard deviations. A missing number counts as the mean, a missing category as none. Where a column is
    said to be of numbers, what is no number counts as missing.

    Args:
        path: The table.
        kind: What its rows are.
        columns: Which column is the id.
        wanted: Columns, such as ``"age"`` or ``"zip:category"``.
        ids: The entities, in the order of the result's rows; others in the table are passed over.
        max_values: Different values that a category, or tags, may have.

    Raises:
        ConfigError: The file or a column is missing, a kind is unknown, or a category has too many values.
        DataError: A column holds nothing, or an id comes again with other values.
    """
    table = open_table(path)
    table.look_through()
    id_column = id_column_of(table, kind, columns)
    asked = [_asked(table, name, kind) for name in wanted]
    names = [name for name, _ in asked]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"[data.features] {kind} names {twice[0]!r} twice")
    looks = [_Look(name) for name in names]
    for _, block in table.blocks([id_column, *names]):
        for look, values in zip(looks, block[1:], strict=True):
            look.at(values)
    said = table.kinds()
    takers = [
        _taker(table, look, given or said.get(look.name), len(ids), max_values)
        for look, (_, given) in zip(looks, asked, strict=True)
    ]
    row_of = {name: n for n, name in enumerate(ids)}
    before = np.zeros(len(ids), np.int64)
    seen = np.zeros(len(ids), np.bool_)
    for first, (given_ids, *block) in table.blocks([id_column, *names]):
        for n, given in enumerate(given_ids):
            row = row_of.get(given.strip(), -1)
            if row < 0 or given == BLANK:
                continue
            values = [column[n] for column in block]
            content = hash(tuple(values))
            if seen[row]:
                if before[row] != content:
                    what = f"{given.strip()!r} comes a second time, with other features"
                    raise table.fault(first + n, id_column, what, hint="keep one row an id")
                continue
            seen[row], before[row] = True, content
            for taker, value in zip(takers, values, strict=True):
                taker.take(row, value)
        for taker in takers:
            taker.check(table, kind)
    made = [taker.made() for taker in takers]
    for part, name in zip(made, names, strict=True):
        if part.empty:
            raise DataError(
                f"{path}: column {name!r} has no value for any {kind}", hint=f"leave it out of [data.features] {kind}"
            )
    return ReadFeatures(
        features=_side_by_side(made, len(ids)),
        columns=tuple(
            FeatureColumn(name=taker.name, kind=taker.kind, columns=len(part.names), missing=part.missing, odd=part.odd)
            for taker, part in zip(takers, made, strict=True)
        ),
        absent=int(np.count_nonzero(~seen)),
    )


def _asked(table: Table, name: str, kind: Kind) -> tuple[str, FeatureKind | None]:
    """``name`` or ``name:kind``; a column that is really called so comes first."""
    if name in table.columns:
        return name, None
    bare, colon, how = name.rpartition(":")
    if colon and bare.strip() in table.columns:
        for known in _NAMED:
            if how.strip() == known:
                return bare.strip(), known
        raise ConfigError(
            f"[data.features] {kind}: {name!r} is no kind of feature", hint=did_you_mean(how.strip(), _NAMED)
        )
    column = bare.strip() if colon and how.strip() in _NAMED else name
    raise ConfigError(
        f"{table.path} has no column {column!r} (see [data.features] {kind})", hint=did_you_mean(column, table.columns)
    )


@dataclass
class _Look:
    """What the values of a column look like, seen block by block."""

    name: str
    numbers: bool = True
    lists: bool = True
    marks: set[str] = field(default_factory=set)

    def at(self, values: list[str]) -> None:
        self.marks.update(mark for mark in _MARKS if mark not in self.marks and any(mark in value for value in values))
        if self.numbers:
            self.numbers = all(value == BLANK or _number(value) is not None for value in values)
        if self.lists:
            self.lists = all(value == BLANK or not value.strip() or value.lstrip()[:1] == "[" for value in values)

    @property
    def kind(self) -> FeatureKind:
        if self.numbers:
            return "number"
        return "tags" if self.lists or "|" in self.marks else "category"


def _number(value: str) -> float | None:
    """The number; NaN for a gap, None for what is neither."""
    if value.strip().lower() in _MISSING:
        return math.nan
    try:
        number = float(value)
    except ValueError:
        return None
    # "007" is a code. What is infinite is nothing that can be standardised.
    bare = value.strip().lstrip("+-")
    return None if not math.isfinite(number) or re.match(r"0[0-9]", bare) else number


@dataclass(frozen=True, eq=False)
class _Part:
    """The entries of one column of the table."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]
    names: list[str]
    missing: int
    empty: bool = False
    odd: tuple[str, ...] = ()


class _Numbers:
    kind: FeatureKind = "number"

    def __init__(self, name: str, n: int) -> None:
        self.name = name
        self._values = np.full(n, np.nan)
        self._odd: dict[str, None] = {}

    def take(self, row: int, value: str) -> None:
        number = _number(value)
        if number is not None:
            self._values[row] = number
        elif len(self._odd) < _EXAMPLES:
            self._odd[value[:40]] = None

    def check(self, table: Table, kind: Kind) -> None:
        pass

    def made(self) -> _Part:
        there = np.flatnonzero(~np.isnan(self._values))
        found = self._values[there]
        spread = float(found.std()) if len(found) else 0.0
        # Where all are alike there is nothing to tell.
        scaled = np.clip((found - found.mean()) / spread, -_FAR, _FAR) if spread > 0 else np.zeros_like(found)
        missing = len(self._values) - len(there)
        column = np.zeros(len(there), np.int64)
        return _Part(there, column, scaled, [self.name], missing, empty=not len(there), odd=tuple(self._odd))


class _Words:
    """Categories and tags: several words an entity, or one."""

    def __init__(
        self, name: str, kind: FeatureKind, n: int, max_values: int, split: Callable[[str], Sequence[str]]
    ) -> None:
        self.name, self.kind = name, kind
        self._n, self._max, self._split = n, max_values, split
        self._codes: dict[str, int] = {}
        self._rows, self._found, self._share = array("q"), array("q"), array("d")

    def take(self, row: int, value: str) -> None:
        words = list(dict.fromkeys(word for each in self._split(value) if (word := " ".join(each.split())[:_LONGEST])))
        for word in words:
            self._rows.append(row)
            self._found.append(self._codes.setdefault(word, len(self._codes)))
            self._share.append(1 / len(words))

    def check(self, table: Table, kind: Kind) -> None:
        """Refuse more values than there may be; asked after each block, so that memory stays what it is."""
        if len(self._codes) > self._max:
            raise ConfigError(
                f"{table.path}: column {self.name!r} has more than {self._max:,} different values, too many for a "
                "category: an id or a text, it seems, and nothing that entities share",
                hint=f"leave it out of [data.features] {kind}, or raise max_values",
            )

    def made(self) -> _Part:
        order = sorted(self._codes)  # the order of rows decides nothing
        place = np.empty(len(order), np.int64)
        place[[self._codes[word] for word in order]] = np.arange(len(order))
        rows, found = np.frombuffer(self._rows, np.int64), np.frombuffer(self._found, np.int64)
        missing = self._n - len(np.unique(rows))
        names = [f"{self.name}={word}" for word in order]
        return _Part(rows, place[found], np.frombuffer(self._share, np.float64), names, missing, empty=not len(rows))


def _taker(table: Table, look: _Look, said: str | None, n: int, max_values: int) -> _Numbers | _Words:
    as_list = table.kinds().get(look.name) == "list"
    words = said == "words"
    how: FeatureKind = look.kind
    if said in ("words", "list"):
        how = "tags"
    for known in _NAMED:
        if said == known:
            how = known
    if how == "number":
        return _Numbers(look.name, n)
    if how == "category":
        return _Words(look.name, how, n, max_values, lambda value: [value])
    if as_list:
        return _Words(look.name, how, n, max_values, lambda value: value.split(", "))
    mark = None if words else next((mark for mark in _MARKS if mark in look.marks), None)
    return _Words(look.name, how, n, max_values, lambda value: list(_tags(value, mark)))


def _tags(value: str, mark: str | None) -> Iterator[str]:
    """The words of a JSON list, else what stands between marks (between blanks, if None)."""
    if value.lstrip()[:1] == "[":
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            yield from (word if isinstance(word, str) else json.dumps(word) for word in found if word is not None)
            return
    yield from value.split(mark)


def _side_by_side(parts: Sequence[_Part], n: int) -> SideFeatures:
    widths = [len(part.names) for part in parts]
    starts = np.cumsum([0, *widths])
    rows = np.concatenate([part.rows for part in parts])
    columns = np.concatenate([part.columns + start for part, start in zip(parts, starts, strict=False)])
    values = np.concatenate([part.values for part in parts]).astype(np.float32)
    keep = values != 0
    rows, columns, values = rows[keep], columns[keep], values[keep]
    order = np.lexsort((columns, rows))
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=indptr[1:])
    return SideFeatures(
        indptr=indptr,
        indices=columns[order].astype(np.int32),
        values=values[order],
        names=tuple(name for part in parts for name in part.names),
    )
