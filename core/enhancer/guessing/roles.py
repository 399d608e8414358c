"""Guess which tables hold items, users and interactions, and which of their columns are ids, ratings and times."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enhancer.data.readers import TableOptions
from enhancer.errors import ConfigError, did_you_mean
from enhancer.guessing.names import (
    is_event,
    is_identifier,
    is_maker,
    is_person,
    stands_for_person,
    thing_rank,
    words_of,
)
from enhancer.guessing.tables import TableHead, read_head
from enhancer.guessing.values import holds_urls
from enhancer.guessing.vocabulary import PEOPLE, THINGS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.data.readers import Role

_RATING = ["rating", "ratings", "stars", "overall", "score", "rate", "bookrating", "reviewscore"]
_TIME = ["timestamp", "unixreviewtime", "time", "ts", "unixtime", "datetime", "date"]
_RATING_ENDS = frozenset(["rating", "stars", "overall", "score"])
_TIME_ENDS = frozenset(["timestamp", "time", "ts", "date", "datetime", "at"])
_REVIEW = ["reviewtext", "review", "text", "reviewbody", "body", "comment", "content"]
_TITLE = ["title", "name"]
_INTERACTIONS_NAMED = re.compile(r"rating|interaction|review|inter|event|click|purchase|order|train|log", re.IGNORECASE)
_HELD_OUT_NAMED = re.compile(r"test|valid|dev|holdout|sample", re.IGNORECASE)
_ITEMS_NAMED = re.compile("|".join(["catalog", "meta", *THINGS[:10], "game", "anime", "news", "recipe"]), re.IGNORECASE)
_USERS_NAMED = re.compile("|".join(sorted(PEOPLE - {"nick", "uid", "login"})), re.IGNORECASE)
_MAX_CANDIDATES = 12


@dataclass(frozen=True)
class Given:
    """Answers that the user has given outright; None and empty where there is none."""

    items: Path | None = None
    users: Path | None = None
    interactions: Path | None = None
    item_id: str | None = None
    user_id: str | None = None
    text: Sequence[str] = ()


@dataclass
class Guess:
    """The tables that ``enhancer init`` proposes, and their columns."""

    items: TableHead | None = None
    users: TableHead | None = None
    interactions: TableHead | None = None
    item_id: str | None = None
    user_id: str | None = None
    items_id: str | None = None
    """Item-id column of the items table, if it differs from ``item_id``."""
    users_id: str | None = None
    """User-id column of the users table, if it differs from ``user_id``."""
    undecided: dict[str, list[str]] = field(default_factory=dict)
    """Candidates for what could not be told, by key: tables for ``items`` and ``interactions``, columns for the ids."""
    notes: list[str] = field(default_factory=list)
    """Remarks for the user."""


def guess(tables: Sequence[TableHead], given: Given | None = None) -> Guess:
    """Choose the tables of a project and their ids.

    Args:
        tables: Candidates.
        given: What need not be guessed.

    Raises:
        ConfigError: A given table or column does not exist.
        DataError: A given table is damaged.
    """
    given = given or Given()
    chosen = Guess()
    chosen.interactions = _read(given.interactions) or _best_interactions(
        _of_training(_may_be(tables, "interactions")), given
    )
    if (table := chosen.interactions) is not None:
        others = [each for each in tables if each.path != table.path]
        chosen.item_id = _settle(
            chosen, "item_id", _given_in(table, given.item_id) or _item_candidates(table, others, given)
        )
        chosen.user_id = _settle(chosen, "user_id", _given_in(table, given.user_id) or _user_candidates(table, given))
    others = [each for each in tables if chosen.interactions is None or each.path != chosen.interactions.path]
    chosen.items = _read(given.items) or _best_items(
        _beside(_may_be(others, "items"), chosen.interactions), chosen.item_id, given
    )
    if chosen.items is None and chosen.interactions is not None:
        chosen.items = _items_within(chosen.interactions)
    if chosen.items is not None:
        _settle_item_id(chosen, chosen.items, given)
    others = [each for each in others if chosen.items is None or each.path != chosen.items.path]
    chosen.users = _read(given.users) or _best_users(_may_be(others, "users"), chosen.user_id)
    if chosen.users is not None:
        _settle_user_id(chosen, chosen.users, given)
    left = [each for each in others if chosen.users is None or each.path != chosen.users.path]
    for key in ("items", "interactions"):
        if getattr(chosen, key) is None and (found := _possible(left, key)):
            chosen.undecided[key] = [str(each.path) for each in found[:_MAX_CANDIDATES]]
    _check_given(chosen, given)
    _take_known_ids(chosen, given)
    for table in (chosen.items, chosen.users, chosen.interactions):
        if table is not None and table.damage is not None:
            chosen.notes.append(str(table.damage))
    return chosen


def rating_column(table: TableHead) -> str | None:
    """Return the column of ratings."""
    usual = [c for name in _RATING if (c := table.first([name]))]
    further = [column for column in table.columns if words_of(column)[-1:] and words_of(column)[-1] in _RATING_ENDS]
    return next((column for column in [*usual, *further] if table.numeric(column)), None)


def time_column(table: TableHead) -> str | None:
    """Return the column of times: numbers or ISO 8601 dates."""
    usual = [c for name in _TIME if (c := table.first([name]))]
    further = [column for column in table.columns if words_of(column)[-1:] and words_of(column)[-1] in _TIME_ENDS]
    return next((column for column in [*usual, *further] if table.holds_times(column)), None)


def title_column(table: TableHead, id_column: str | None = None) -> str | None:
    """Return the column of item titles; that of ids such as ``course_id`` may be ``course_name``."""
    of_ids = words_of(id_column)[:-1] if id_column else ()
    things = [*(["".join(of_ids)] if of_ids else []), *THINGS]
    return table.first([*_TITLE, *(f"{thing}{end}" for thing in things for end in ("title", "name"))])


def holds_reviews(table: TableHead) -> bool:
    """Return whether a table of interactions has a column of what users wrote."""
    return table.first(_REVIEW) is not None


def _may_be(tables: Sequence[TableHead], role: Role) -> list[TableHead]:
    """Return the tables that may have a role: those known to have it if there are any, else those of no known role."""
    of_role = [table for table in tables if table.native is not None and table.native.role == role]
    known = [table for table in of_role if _is_known(table, role)]
    return known or [*of_role, *(table for table in tables if table.native is None)]


def _of_training(tables: Sequence[TableHead]) -> list[TableHead]:
    """Leave out files in folders such as ``dev``, of those that have the same name in another folder."""
    held_out = [table for table in tables if _HELD_OUT_NAMED.search(table.path.parent.name)]
    others = {table.path.name for table in tables if table not in held_out}
    return [table for table in tables if table not in held_out or table.path.name not in others]


def _beside(tables: Sequence[TableHead], other: TableHead | None) -> list[TableHead]:
    """Of files that have the same name in several folders, keep the one beside another file."""
    if other is None:
        return list(tables)
    here = {table.path.name for table in tables if table.path.parent == other.path.parent}
    return [table for table in tables if table.path.parent == other.path.parent or table.path.name not in here]


def _is_known(table: TableHead, role: Role) -> bool:
    """Return whether a table is of a public data set in which it has a role."""
    return table.native is not None and table.native.role == role and table.native.has_text


def _items_within(interactions: TableHead) -> TableHead | None:
    """Return the items that a file of interactions of a public data set holds, too."""
    if interactions.native is None or not interactions.native.holds_items:
        return None
    return read_head(interactions.path, options=TableOptions(format=interactions.native.name, table="items"))


def _take_known_ids(chosen: Guess, given: Given) -> None:
    """Take over the columns of ids that the forms of public data sets tell."""
    for thing, table in (("item", chosen.items), ("user", chosen.users)):
        shared, own = f"{thing}_id", f"{thing}s_id"
        if getattr(given, shared) is not None:
            continue
        if chosen.interactions is not None and chosen.interactions.native is not None:
            setattr(chosen, shared, str(chosen.interactions.native.columns.get(shared, shared)))
            chosen.undecided.pop(shared, None)
        if table is not None and table.native is not None:
            known = table.native.columns
            name = str(known.get(own, known.get(shared, shared)))
            if chosen.interactions is None:
                setattr(chosen, shared, name)
            setattr(chosen, own, name if name != getattr(chosen, shared) else None)
            chosen.undecided.pop(own, None)


def _read(path: Path | None) -> TableHead | None:
    return None if path is None else read_head(path)


def _given_in(table: TableHead, column: str | None) -> list[str]:
    return [column] if column is not None and column in table.columns else []


def _settle(chosen: Guess, key: str, candidates: Sequence[str]) -> str | None:
    """Return the only candidate; note several as undecided."""
    if len(candidates) == 1:
        return candidates[0]
    chosen.undecided[key] = list(candidates[:_MAX_CANDIDATES])
    return None


def _user_candidates(table: TableHead, given: Given) -> list[str]:
    """Return the column of user ids of a table of interactions, or all that may be it if that cannot be told."""
    people = [column for column in table.columns if is_person(column) and column != given.item_id]
    with_mark = [column for column in people if is_identifier(column) or len(words_of(column)) == 1]
    if people:
        return (with_mark or people)[:1]
    others = [column for column in table.columns if stands_for_person(column) and column != given.item_id]
    rated = rating_column(table) or time_column(table)
    if others := [column for column in others if rated or not is_maker(column)]:
        return others[:1]
    return _any_ids(table, [given.item_id, *_things(table)])


def _item_candidates(table: TableHead, others: Sequence[TableHead], given: Given) -> list[str]:
    """Return the column of item ids of a table of interactions, or all that may be it if that cannot be told."""
    people = [given.user_id] if given.user_id else _user_candidates(table, given)
    users = people if len(people) == 1 else []
    ids = [column for column in _things(table) if column not in users and not is_person(column)]
    catalogues = [each for each in others if not _names_people(each)]

    def rank(column: str) -> tuple[bool, int]:
        shared = any(each.like(column) and each.distinct(each.like(column) or column) for each in catalogues)
        known = thing_rank(column)
        return (not shared, len(THINGS) * 3 if known is None else known)

    ids.sort(key=rank)
    if ids and (len(ids) == 1 or rank(ids[0]) < rank(ids[1])):
        return ids[:1]
    return ids or _any_ids(table, users)


def _things(table: TableHead) -> list[str]:
    """Return the columns whose names are those of ids of things."""
    found = [
        column
        for column in table.columns
        if (is_identifier(column) or thing_rank(column) is not None)
        and not (is_person(column) or stands_for_person(column) or is_event(column) or is_maker_id(column))
    ]
    return [column for column in found if words_of(column) != ("id",) or not table.distinct(column)]


def is_maker_id(column: str) -> bool:
    """Return whether a column has ids of makers that are not what is recommended, as artists may be."""
    return is_maker(column) and thing_rank(column) is None


def _any_ids(table: TableHead, but: Sequence[str | None]) -> list[str]:
    """Return the columns that may be ids for all that their values show: those without fractions and without text."""
    rated, timed = rating_column(table), time_column(table)
    others = [column for column in table.columns if column not in (*but, rated, timed)]
    short = [
        column for column in others if all(" " not in value and len(value) <= 64 for value in table.values(column))
    ]
    return short or others


def _names_people(table: TableHead) -> bool:
    return any(is_person(column) and is_identifier(column) for column in table.columns)


def item_column(table: TableHead) -> str | None:
    """Return the column of item ids of a table of items; a plain ``id`` counts if nothing better is there."""
    ids = [column for column in _things(table) if thing_rank(column) is not None]
    ids.sort(key=lambda column: thing_rank(column) or 0)
    named = _ITEMS_NAMED.search(table.path.stem) or table.path.suffix == ".item"
    plain = table.first(["id"])
    if plain is not None and not table.distinct(plain):
        plain = None
    of_file = [column for column in ids if "".join(words_of(column)[:-1]) in "".join(words_of(table.path.stem))]
    unlike = [column for column in (*of_file, *ids) if table.distinct(column)]
    if plain is not None and named and not of_file:
        return plain
    return next(iter(unlike), plain) or _only([c for c in _things(table) if table.distinct(c)])


def _only(columns: Sequence[str]) -> str | None:
    return columns[0] if len(columns) == 1 else None


def user_column(table: TableHead) -> str | None:
    """Return the column of user ids of a table of users; a plain ``id`` counts if the file name suggests users."""
    people = [column for column in table.columns if is_person(column)]
    named = table.path.suffix == ".user" or _USERS_NAMED.search(table.path.stem)
    marked = [column for column in people if is_identifier(column)]
    return next(iter(marked or people), table.first(["id"]) if named else None)


def _settle_item_id(chosen: Guess, table: TableHead, given: Given) -> None:
    """Find the ids of the items table."""
    own = given.item_id if given.item_id in table.columns else None
    if own is None and chosen.item_id is not None:
        own = table.like(chosen.item_id)
    own = own or item_column(table)
    if own is None:
        candidates = [column for column in _things(table) if table.distinct(column)]
        candidates += [column for column in table.columns if table.distinct(column) and column not in candidates]
        key = "item_id" if chosen.interactions is None else "items_id"
        chosen.undecided[key] = (candidates or list(table.columns))[:_MAX_CANDIDATES]
    elif chosen.interactions is None:
        chosen.item_id = own
    elif own != chosen.item_id:
        chosen.items_id = own


def _settle_user_id(chosen: Guess, table: TableHead, given: Given) -> None:
    """Find the ids of the users table."""
    own = given.user_id if given.user_id in table.columns else None
    own = own or (table.like(chosen.user_id) if chosen.user_id else None) or user_column(table)
    if own is None:
        chosen.undecided["users_id" if chosen.interactions else "user_id"] = list(table.columns[:_MAX_CANDIDATES])
    elif chosen.interactions is None:
        chosen.user_id = own
    elif own != chosen.user_id:
        chosen.users_id = own


def _best_interactions(tables: Sequence[TableHead], given: Given) -> TableHead | None:
    def is_one(table: TableHead) -> bool:
        if _is_known(table, "interactions"):
            return True
        item = _given_in(table, given.item_id) or _things(table)
        user = _given_in(table, given.user_id) or _people(table)
        return any(one != other for one in item for other in user)

    candidates = [table for table in tables if table.path not in (given.items, given.users) and is_one(table)]

    def rank(table: TableHead) -> tuple[bool, bool, bool, bool, bool, int]:
        name = table.path.name
        held_out = bool(_HELD_OUT_NAMED.search(name))
        people = [column for column in table.columns if is_person(column)]
        # Reviews are of those interactions that somebody wrote about; a table without their texts has all of them.
        used = rating_column(table) is not None or time_column(table) is not None
        plain = used and not holds_reviews(table)
        named = bool(_INTERACTIONS_NAMED.search(name))
        return (bool(people), not held_out, plain, named, used, table.path.stat().st_size)

    return max(candidates, key=rank, default=None)


def _people(table: TableHead) -> list[str]:
    """Return the columns of users; those that stand for users count beside a rating or a time."""
    found = [column for column in table.columns if is_person(column)]
    if found or not (rating_column(table) or time_column(table)) or _looks_like_items(table):
        return found
    return [column for column in table.columns if stands_for_person(column)]


def _looks_like_items(table: TableHead) -> bool:
    """Return whether a table has a title and no two rows of the same id."""
    own = item_column(table)
    return own is not None and table.rows > 1 and table.distinct(own) and title_column(table, own) is not None


def _best_items(tables: Sequence[TableHead], item_id: str | None, given: Given) -> TableHead | None:
    def own_column(table: TableHead) -> str | None:
        if given.item_id in table.columns:
            return given.item_id
        return (table.like(item_id) if item_id else None) or item_column(table)

    candidates = [
        table
        for table in tables
        if table.path != given.users
        and (
            _is_known(table, "items")
            or (own_column(table) and not (_names_people(table) and not _looks_like_items(table)))
        )
    ]
    noun = "".join(words_of(item_id)[:-1]) if item_id else ""

    def rank(table: TableHead) -> tuple[bool, bool, bool, int, int]:
        own = own_column(table)
        words = sum(_holds_words(table, column) for column in table.columns if column != own)
        stem = table.path.stem
        named = bool(_ITEMS_NAMED.search(stem)) or bool(noun and noun in "".join(words_of(stem)))
        return (words > 0, bool(item_id and table.like(item_id)), named, words, table.path.stat().st_size)

    return max(candidates, key=rank, default=None)


def _holds_words(table: TableHead, column: str) -> bool:
    """Return whether a column has something to say in a text: not ids, numbers or URLs alone."""
    values = table.values(column)
    return bool(values) and not (is_identifier(column) or table.numeric(column) or holds_urls(values))


def _best_users(tables: Sequence[TableHead], user_id: str | None) -> TableHead | None:
    def is_one(table: TableHead) -> bool:
        named = _USERS_NAMED.search(table.path.stem) or table.path.suffix == ".user"
        own = (table.like(user_id) if user_id else None) or (user_column(table) if named else None)
        return own is not None and (not _things(table) or bool(named)) and table.distinct(own)

    candidates = [table for table in tables if _is_known(table, "users") or is_one(table)]
    return max(
        candidates, key=lambda table: (bool(_USERS_NAMED.search(table.path.stem)), len(table.columns)), default=None
    )


def _possible(tables: Sequence[TableHead], key: str) -> list[TableHead]:
    """Return the tables that may be of items or of interactions; the likelier ones first."""
    pattern = _ITEMS_NAMED if key == "items" else _INTERACTIONS_NAMED
    return sorted(tables, key=lambda table: (not pattern.search(table.path.name), -table.path.stat().st_size))


def _check_given(chosen: Guess, given: Given) -> None:
    """Raise an error for a given column that none of the tables has."""
    for flag, column, tables in (
        ("--item-id", given.item_id, (chosen.items, chosen.interactions)),
        ("--user-id", given.user_id, (chosen.users, chosen.interactions)),
        *(("--text", column, (chosen.items,)) for column in given.text),
    ):
        present = [table for table in tables if table is not None]
        known = [name for table in present for name in table.columns]
        if column is None or column in known:
            continue
        if not present:
            raise ConfigError(
                f"{flag} {column}: found no table that may have this column", hint="pass --interactions FILE"
            )
        where = " and ".join(str(table.path) for table in present)
        raise ConfigError(f"{flag}: no column {column!r} in {where}", hint=did_you_mean(column, known))
