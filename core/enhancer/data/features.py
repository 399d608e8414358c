"""Read columns of a table as side features: numbers, categories and tags.

The kind of a column is determined by the first of these rules that applies:

1. the configuration: ``"zip:category"``;
2. the file, if it declares kinds: RecBole headers, lists in JSON Lines and Parquet;
3. the values: a column of numbers is a *number*; JSON lists, or a vertical bar in any value, make it *tags*; any other
   column is a *category*.

The table is read twice: once to infer the kinds, once to read the values. A few bytes are kept per value.
"""

from __future__ import annotations

import math
import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from enhancer.contracts.features import SideFeatures, Sides
from enhancer.data.alike_ids import NONE_RESPELT, FixedRows, Respelt
from enhancer.data.entities import id_column_of
from enhancer.data.readers import ListCell, TableOptions, TableReader, open_table
from enhancer.data.readers.list_text import elements_of
from enhancer.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config import ColumnsConfig
    from enhancer.config.data import DataConfig
    from enhancer.contracts.record import Kind

FeatureKind = Literal["number", "category", "tags"]
_FEATURE_KINDS: tuple[FeatureKind, ...] = ("number", "category", "tags")
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "\\n"})
"""Lower-case texts that mean a missing number. In categories and tags, only an empty value is missing."""
_MAX_DEVIATION = 5.0
"""Standard deviations to which numbers are clipped, so that one mistyped price does not dominate."""
_MAX_WORD_LENGTH = 200
"""Characters of a category or tag that are compared."""
_SEPARATORS = ("|", ";", ",")
_MAX_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class FeatureColumn:
    """Summary of one column that was read."""

    name: str
    kind: FeatureKind
    columns: int
    """Number of columns in the feature matrix."""
    missing: int
    """Number of entities without a value."""
    invalid_examples: tuple[str, ...] = ()
    """First few values of a numeric column that are not numbers; they count as missing."""

    def __str__(self) -> str:
        kind = "number" if self.kind == "number" else f"{self.columns:,} {'tags' if self.kind == 'tags' else 'values'}"
        return f"{self.name} ({kind}{f', {self.missing:,} missing' if self.missing else ''})"


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadFeatures:
    """Side features of the items or the users, with a summary of the columns they were read from."""

    features: SideFeatures
    columns: tuple[FeatureColumn, ...]
    absent: int
    """Number of entities without a row in the table; all their features are missing."""
    respelt: Respelt = NONE_RESPELT
    """Entities that the table spells otherwise, such as ``1`` for ``1.0``."""

    def lines(self, path: Path, kind: Kind) -> list[str]:
        """Describe invalid and missing values, one sentence each."""
        lines = [
            f"{path}: {each.name!r} has values that are not numbers and count as missing (such as "
            f"{', '.join(map(repr, each.invalid_examples))})"
            for each in self.columns
            if each.invalid_examples
        ]
        if self.absent:
            lines.append(f"{path} has no row of {self.absent:,} {kind}s: all their features are missing")
        if self.respelt.ids:
            lines.append(f"{path}: {self.respelt.words(f'{kind}s', 'the interactions')}")
        return lines


def read_sides(
    config: DataConfig, root: Path, user_ids: Sequence[str], item_ids: Sequence[str]
) -> dict[Kind, ReadFeatures]:
    """Read the side features that ``[data.features]`` names, by kind; see :func:`read_features`.

    Args:
        config: ``[data]``.
        root: Folder that the tables are relative to.
        user_ids: User id of each row of the result.
        item_ids: Item id of each row of the result.

    Raises:
        ConfigError: As in :func:`read_features`, or the table that should have the columns is not set.
        DataError: See :func:`read_features`.
    """
    found: dict[Kind, ReadFeatures] = {}
    sides: tuple[tuple[Kind, Path | None, list[str], Sequence[str]], ...] = (
        ("user", config.users, config.features.user, user_ids),
        ("item", config.items, config.features.item, item_ids),
    )
    for kind, path, wanted, ids in sides:
        if not wanted:
            continue
        if path is None:
            raise ConfigError(
                f"[data.features] {kind} names columns, but [data] {kind}s is not set", hint=f'{kind}s = "{kind}s.csv"'
            )
        found[kind] = read_features(
            root / path,
            kind,
            config.columns,
            wanted,
            ids,
            max_values=config.features.max_values,
            options=TableOptions.of(config, "items" if kind == "item" else "users"),
        )
    return found


def sides_of(found: Mapping[Kind, ReadFeatures]) -> Sides | None:
    """Return the side features for a backbone, or None if there are none."""
    users, items = found.get("user"), found.get("item")
    if users is None and items is None:
        return None
    return Sides(users=None if users is None else users.features, items=None if items is None else items.features)


def read_features(
    path: Path,
    kind: Kind,
    columns: ColumnsConfig,
    wanted: Sequence[str],
    ids: Sequence[str],
    *,
    max_values: int,
    options: TableOptions | None = None,
) -> ReadFeatures:
    """Read the side features of some entities.

    Numbers are standardised over these entities and clipped at five standard deviations; interactions play no part. A
    missing number becomes the mean, and a missing category has no entry. If a column is declared to be a number, values
    that are not numbers count as missing.

    Args:
        path: Path of the table.
        kind: Kind of its rows.
        columns: Column mapping, for the id column.
        wanted: Columns, such as ``"age"`` or ``"zip:category"``.
        ids: Entity id of each row of the result; other entities in the table are skipped.
        max_values: Maximum number of distinct values of a category or tags column.
        options: How the file is read.

    Raises:
        ConfigError: The file or a column is missing, a kind is unknown, or a category has too many values.
        DataError: A column is empty, or an id occurs again with other values.
    """
    table = open_table(path, options)
    table.scan_columns()
    id_column = id_column_of(table, kind, columns)
    parsed = [_parse_wanted(table, name, kind) for name in wanted]
    names = [name for name, _ in parsed]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"[data.features] {kind} names {duplicates[0]!r} twice")
    profiles = [_ColumnProfile(name) for name in names]
    row_of = FixedRows(ids)
    looked_up = [np.empty(0, np.int32)]
    for _, (table_ids, *block) in table.blocks([id_column, *names]):
        for profile, values in zip(profiles, block, strict=True):
            profile.update(values)
        found = np.fromiter((row_of[name.strip()] for name in table_ids), np.int32, len(table_ids))
        looked_up.append(found[found >= 0])
    places, respelt = row_of.places(np.concatenate(looked_up))
    declared = table.column_kinds()
    builders = [
        _make_builder(profile, configured or declared.get(profile.name), len(ids), max_values)
        for profile, (_, configured) in zip(profiles, parsed, strict=True)
    ]
    content_hashes = np.zeros(len(ids), np.int64)
    seen = np.zeros(len(ids), np.bool_)
    for numbers, (table_ids, *block) in table.blocks([id_column, *names]):
        for n, table_id in enumerate(table_ids):
            looked = row_of[table_id.strip()]
            if looked < 0 or (row := int(places[looked])) < 0:
                continue
            values = [column[n] for column in block]
            content = hash(tuple(value.elements if isinstance(value, ListCell) else value for value in values))
            if seen[row]:
                if content_hashes[row] != content:
                    problem = f"{table_id.strip()!r} occurs again with other features"
                    raise table.value_error(numbers[n], id_column, problem, hint="keep one row per id")
                continue
            seen[row], content_hashes[row] = True, content
            for builder, value in zip(builders, values, strict=True):
                builder.add(row, value)
        for builder in builders:
            builder.check_size(table, kind)
    parts = [builder.build() for builder in builders]
    for part, name in zip(parts, names, strict=True):
        if part.empty:
            raise DataError(
                f"{path}: column {name!r} has no value for any {kind}", hint=f"remove it from [data.features] {kind}"
            )
    return ReadFeatures(
        features=_concatenate(parts, len(ids)),
        columns=tuple(
            FeatureColumn(
                name=builder.name,
                kind=builder.kind,
                columns=len(part.names),
                missing=part.missing,
                invalid_examples=part.invalid_examples,
            )
            for builder, part in zip(builders, parts, strict=True)
        ),
        absent=int(np.count_nonzero(~seen)),
        respelt=respelt,
    )


def _parse_wanted(table: TableReader, name: str, kind: Kind) -> tuple[str, FeatureKind | None]:
    """Parse ``name`` or ``name:kind``. A column with exactly this name takes precedence."""
    if name in table.columns:
        return name, None
    bare, colon, suffix = name.rpartition(":")
    if colon and bare.strip() in table.columns:
        for known in _FEATURE_KINDS:
            if suffix.strip() == known:
                return bare.strip(), known
        raise ConfigError(
            f"[data.features] {kind}: {name!r} does not end in a kind of feature",
            hint=did_you_mean(suffix.strip(), _FEATURE_KINDS),
        )
    column = bare.strip() if colon and suffix.strip() in _FEATURE_KINDS else name
    raise ConfigError(
        f"{table.path} has no column {column!r} (see [data.features] {kind})", hint=did_you_mean(column, table.columns)
    )


@dataclass
class _ColumnProfile:
    """Properties of the values of a column, from which its kind is inferred."""

    name: str
    numbers: bool = True
    lists: bool = True
    separators: set[str] = field(default_factory=set)

    def update(self, values: list[str]) -> None:
        texts = [value for value in values if not isinstance(value, ListCell)]
        self.separators.update(
            mark for mark in _SEPARATORS if mark not in self.separators and any(mark in value for value in texts)
        )
        if self.numbers:
            self.numbers = len(texts) == len(values) and all(_number(value) is not None for value in texts)
        if self.lists:
            self.lists = all(not value.strip() or value.lstrip()[:1] == "[" for value in texts)

    @property
    def kind(self) -> FeatureKind:
        if self.numbers:
            return "number"
        return "tags" if self.lists or "|" in self.separators else "category"


def _number(value: str) -> float | None:
    """Parse a number. Return NaN for a missing value and None for anything else."""
    if value.strip().lower() in _MISSING:
        return math.nan
    try:
        number = float(value)
    except ValueError:
        return None
    # Leading zeros, as in "007", mean a code. Infinite values cannot be standardised.
    bare = value.strip().lstrip("+-")
    return None if not math.isfinite(number) or re.match(r"0[0-9]", bare) else number


@dataclass(frozen=True, eq=False)
class _Part:
    """Matrix entries of one column of the table."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]
    names: list[str]
    missing: int
    empty: bool = False
    invalid_examples: tuple[str, ...] = ()


class _NumberBuilder:
    """Collects a numeric column."""

    kind: FeatureKind = "number"

    def __init__(self, name: str, n: int) -> None:
        self.name = name
        self._values = np.full(n, np.nan)
        self._invalid: dict[str, None] = {}

    def add(self, row: int, value: str) -> None:
        number = _number(value)
        if number is not None:
            self._values[row] = number
        elif len(self._invalid) < _MAX_EXAMPLES:
            self._invalid[value[:40]] = None

    def check_size(self, table: TableReader, kind: Kind) -> None:
        pass

    def build(self) -> _Part:
        present = np.flatnonzero(~np.isnan(self._values))
        found = self._values[present]
        spread = float(found.std()) if len(found) else 0.0
        # A constant column carries no information.
        scaled = (
            np.clip((found - found.mean()) / spread, -_MAX_DEVIATION, _MAX_DEVIATION)
            if spread > 0
            else np.zeros_like(found)
        )
        missing = len(self._values) - len(present)
        column = np.zeros(len(present), np.int64)
        return _Part(
            present, column, scaled, [self.name], missing, empty=not len(present), invalid_examples=tuple(self._invalid)
        )


class _WordBuilder:
    """Collects a column of categories (one word per entity) or tags (any number)."""

    def __init__(
        self, name: str, kind: FeatureKind, n: int, max_values: int, split: Callable[[str], Sequence[str]]
    ) -> None:
        self.name, self.kind = name, kind
        self._n, self._max, self._split = n, max_values, split
        self._codes: dict[str, int] = {}
        self._rows, self._found, self._share = array("q"), array("q"), array("d")

    def add(self, row: int, value: str) -> None:
        words = list(
            dict.fromkeys(word for each in self._split(value) if (word := " ".join(each.split())[:_MAX_WORD_LENGTH]))
        )
        for word in words:
            self._rows.append(row)
            self._found.append(self._codes.setdefault(word, len(self._codes)))
            self._share.append(1 / len(words))

    def check_size(self, table: TableReader, kind: Kind) -> None:
        """Raise if there are too many distinct values. Called after each block, which bounds memory."""
        if len(self._codes) > self._max:
            raise ConfigError(
                f"{table.path}: column {self.name!r} has more than {self._max:,} different values, too many for a "
                "category; it seems to be an id or free text",
                hint=f"remove it from [data.features] {kind} or raise max_values",
            )

    def build(self) -> _Part:
        order = sorted(self._codes)  # makes the order of rows irrelevant
        position = np.empty(len(order), np.int64)
        position[[self._codes[word] for word in order]] = np.arange(len(order))
        rows, found = np.frombuffer(self._rows, np.int64), np.frombuffer(self._found, np.int64)
        missing = self._n - len(np.unique(rows))
        names = [f"{self.name}={word}" for word in order]
        return _Part(rows, position[found], np.frombuffer(self._share, np.float64), names, missing, empty=not len(rows))


def _make_builder(
    profile: _ColumnProfile, declared: str | None, n: int, max_values: int
) -> _NumberBuilder | _WordBuilder:
    name, kind = profile.name, profile.kind
    if declared in ("words", "list"):
        kind = "tags"
    for known in _FEATURE_KINDS:
        if declared == known:
            kind = known
    if kind == "number":
        return _NumberBuilder(name, n)
    if kind == "category":
        return _WordBuilder(name, kind, n, max_values, lambda value: [value])
    separator = None
    if declared == "list":
        return _WordBuilder(name, kind, n, max_values, lambda value: _tags(value, [value]))
    if declared != "words":
        separator = next((mark for mark in _SEPARATORS if mark in profile.separators), None)
    return _WordBuilder(name, kind, n, max_values, lambda value: _tags(value, value.split(separator)))


def _tags(value: str, otherwise: Sequence[str]) -> Sequence[str]:
    """Return the elements of a list, also of one that is written as JSON or as a Python literal."""
    elements = value.elements if isinstance(value, ListCell) else elements_of(value)
    return otherwise if elements is None else elements


def _concatenate(parts: Sequence[_Part], n: int) -> SideFeatures:
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
