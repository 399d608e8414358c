"""Guess which tables in a folder hold items, users and interactions, and what their columns mean."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enhancer.errors import ConfigError, DataError, EnhancerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SAMPLE = 200
_MAX_FILES = 500

# Common column names, without case and punctuation; earlier ones take precedence.
_THINGS = ["item", "movie", "film", "product", "article", "book", "track", "song", "video", "business", "listing"]
_THINGS += ["game", "anime", "news", "recipe", "title"]
_PEOPLE = ["user", "customer", "reviewer", "member", "account", "visitor", "reader", "profile", "author"]
_ITEM = [*(f"{thing}id" for thing in _THINGS), "parentasin", "asin", "isbn", "sku", "gmapid", "iid", *_THINGS[:8]]
_USER = [*(f"{person}id" for person in _PEOPLE), "uid", *_PEOPLE[:6]]
_RATING = ["rating", "ratings", "stars", "overall", "score", "rate", "bookrating", "reviewscore"]
_TIME = ["timestamp", "unixreviewtime", "time", "ts", "unixtime", "date"]
_REVIEW = ["reviewtext", "review", "text", "reviewbody", "body", "comment", "content"]
_TITLE = ["title", "name", *(f"{thing}{end}" for thing in _THINGS for end in ("title", "name"))]
_INTERACTIONS_NAMED = re.compile(r"rating|interaction|review|inter|event|click|purchase|order|train", re.IGNORECASE)
_HELD_OUT_NAMED = re.compile(r"test|valid|dev|holdout|sample", re.IGNORECASE)
_ITEMS_NAMED = re.compile("|".join(["catalog", "meta", *_THINGS[:-1]]), re.IGNORECASE)
_USERS_NAMED = re.compile("|".join(_PEOPLE), re.IGNORECASE)


@dataclass(frozen=True)
class TableHead:
    """The columns of a file, and its first rows as text."""

    path: Path
    columns: list[str]
    rows: list[dict[str, str]]
    damage: DataError | None = None
    """The error that stopped reading rows, if any; ``rows`` is empty then."""

    def first(self, names: Iterable[str]) -> str | None:
        """Return the column with the first of ``names`` that exists, ignoring case and punctuation."""
        plain = {re.sub(r"[^a-z0-9]", "", column.lower()): column for column in reversed(self.columns)}
        return next((plain[name] for name in names if name in plain), None)

    def numeric(self, column: str) -> bool:
        """Return whether a column has values and all sampled ones are numbers."""
        values = [value for row in self.rows if (value := row.get(column, "").strip())]
        try:
            return bool([float(value) for value in values])
        except ValueError:
            return False

    def wordless(self, column: str) -> bool:
        """Return whether a column has no text for a profile: it is empty, or all sampled values are URLs."""
        values = [value for row in self.rows if (value := row.get(column, "").strip())]
        return not values or all(re.match(r"https?://|www\.", value) for value in values)


@dataclass
class Guess:
    """The tables that ``enhancer init`` proposes, and their id columns."""

    items: TableHead | None = None
    users: TableHead | None = None
    interactions: TableHead | None = None
    item_id: str | None = None
    user_id: str | None = None
    items_id: str | None = None
    """Item-id column of the items table, if it differs from ``item_id``."""
    notes: list[str] = field(default_factory=list)
    """Remarks for the user."""


def read_head(path: Path, wanted: Iterable[str] = ()) -> TableHead:
    """Read the beginning of a table, with the same reader as all other commands.

    Args:
        path: The table.
        wanted: Columns to look for in the whole file if they are not at its beginning.

    Raises:
        ConfigError: The file does not exist or has an unknown format, or a library is missing.
        DataError: The file is empty, or its header is damaged.
    """
    from enhancer.data.readers import BLANK, open_table

    table = open_table(path)
    rows: list[tuple[str, ...]] = []
    damage = None
    try:
        if not set(wanted) <= set(table.columns):
            table.scan_columns()
        if (block := next(table.blocks(table.columns), None)) is not None:
            rows = list(itertools.islice(zip(*block[1], strict=True), _SAMPLE))
    except DataError as error:
        damage = error
    except OSError as error:
        damage = DataError(f"cannot read {path}: {error.strerror or error}")
    named = [dict(zip(table.columns, row, strict=True)) for row in rows if BLANK not in row]
    return TableHead(path, table.columns, named, damage)


def find_tables(folder: Path) -> list[TableHead]:
    """Return the readable tables in a folder and its direct subfolders."""
    from enhancer.data.readers import ENDINGS

    found = [
        *folder.iterdir(),
        *(inner for sub in sorted(folder.iterdir()) if _searched(sub) for inner in sub.iterdir()),
    ]
    paths = sorted(path for path in found if path.suffix.lower() in ENDINGS and path.is_file())
    tables = []
    for path in paths[:_MAX_FILES]:
        try:
            tables.append(read_head(path))
        except EnhancerError:
            continue  # not a table
    return [table for table in tables if len(table.columns) > 1]


def _searched(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith((".", "_"))


def item_column(table: TableHead) -> str | None:
    """Return the column of item ids; a plain ``id`` counts if the file name suggests items."""
    named = table.path.suffix == ".item" or _ITEMS_NAMED.search(table.path.stem)
    return table.first(_ITEM) or (table.first(["id"]) if named and not table.first(_USER) else None)


def user_column(table: TableHead) -> str | None:
    """Return the column of user ids; a plain ``id`` counts if the file name suggests users."""
    named = table.path.suffix == ".user" or _USERS_NAMED.search(table.path.stem)
    return table.first(_USER) or (table.first(["id"]) if named and not table.first(_ITEM) else None)


def rating_column(table: TableHead) -> str | None:
    """Return the column of ratings."""
    return next((c for name in _RATING if (c := table.first([name])) and table.numeric(c)), None)


def time_column(table: TableHead) -> str | None:
    """Return the column of times in seconds."""
    return next((c for name in _TIME if (c := table.first([name])) and table.numeric(c)), None)


def title_column(table: TableHead) -> str | None:
    """Return the column of item titles."""
    return table.first(_TITLE)


def guess(tables: list[TableHead], items: Path | None = None, interactions: Path | None = None) -> Guess:
    """Choose the tables of a project.

    Args:
        tables: Candidates.
        items: Path of the items table, if given.
        interactions: Path of the interactions table, if given.

    Raises:
        ConfigError: A given table does not exist or lacks a column of ids.
        DataError: A given table is damaged.
    """
    chosen = Guess()
    chosen.interactions = read_head(interactions) if interactions else _best_interactions(tables)
    if table := chosen.interactions:
        chosen.item_id, chosen.user_id = _ids_of_interactions(table)
    others = [each for each in tables if chosen.interactions is None or each.path != chosen.interactions.path]
    chosen.items = read_head(items) if items else _best_items(others, chosen.item_id)
    if table := chosen.items:
        _settle_item_id(chosen, table)
    chosen.users = _best_users([each for each in others if each != chosen.items], chosen.user_id)
    for found in (chosen.items, chosen.users, chosen.interactions):
        if found is not None and found.damage is not None:
            chosen.notes.append(str(found.damage))
    return chosen


def _ids_of_interactions(table: TableHead) -> tuple[str, str]:
    item, user = table.first(_ITEM), table.first(_USER)
    if item is None or user is None:
        missing = "item" if item is None else "user"
        raise ConfigError(
            f"{table.path} has no column that looks like {missing} ids; its columns: {', '.join(table.columns)}",
            hint=f"name it {missing}_id, or write enhancer.toml yourself with [data.columns] {missing}_id",
        )
    return item, user


def _settle_item_id(chosen: Guess, table: TableHead) -> None:
    if chosen.item_id in table.columns:
        return
    own = item_column(table) or (table.first(["id"]))
    if chosen.item_id is None and own is not None:
        chosen.item_id = own
    elif chosen.interactions is not None and own is not None:
        chosen.items_id = own
    else:
        raise ConfigError(
            f"{table.path} has no column that looks like item ids; its columns: {', '.join(table.columns)}",
            hint="name it item_id, or write enhancer.toml yourself with [data.columns] item_id",
        )


def _best_interactions(tables: list[TableHead]) -> TableHead | None:
    candidates = [table for table in tables if table.first(_ITEM) and table.first(_USER)]

    def rank(table: TableHead) -> tuple[bool, bool, bool, int]:
        name = table.path.name
        held_out = bool(_HELD_OUT_NAMED.search(name))
        # Reviews are of those interactions that somebody wrote about; a table without their texts has all of them.
        plain = table.first([*_RATING, *_TIME]) is not None and table.first(_REVIEW) is None
        return (not held_out, plain, bool(_INTERACTIONS_NAMED.search(name)), table.path.stat().st_size)

    return max(candidates, key=rank, default=None)


def _best_items(tables: list[TableHead], item_id: str | None) -> TableHead | None:
    candidates = [table for table in tables if item_column(table) and not table.first(_USER)]

    def rank(table: TableHead) -> tuple[bool, bool, int, int]:
        words = sum(not table.numeric(column) and not table.wordless(column) for column in table.columns)
        return (item_id in table.columns, bool(_ITEMS_NAMED.search(table.path.stem)), words, table.path.stat().st_size)

    return max(candidates, key=rank, default=None)


def _best_users(tables: list[TableHead], user_id: str | None) -> TableHead | None:
    candidates = [table for table in tables if user_id in table.columns and not table.first(_ITEM)]
    return max(
        candidates, key=lambda table: (bool(_USERS_NAMED.search(table.path.stem)), len(table.columns)), default=None
    )
