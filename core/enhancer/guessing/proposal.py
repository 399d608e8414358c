"""Propose a configuration for tables: their roles, the columns that texts take, and what is done about HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enhancer.data.html_text import looks_like_html
from enhancer.data.readers.list_text import not_plain
from enhancer.errors import EnhancerError
from enhancer.guessing.leaving_out import LeftOut, left_out
from enhancer.guessing.names import is_identifier
from enhancer.guessing.popularity import MAX_ENTITIES, Interacted, column_facts, count_interactions
from enhancer.guessing.roles import Given, Guess, guess, rating_column, time_column, title_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.data.readers.native import NativeFormat
    from enhancer.data.readers.native.formats import Setting
    from enhancer.guessing.tables import TableHead

_IDS = ("item_id", "items_id", "user_id", "users_id")
_MATCHED, _UNMATCHED = 0.9, 0.5


@dataclass
class Proposal:
    """Tables and columns that ``enhancer init`` writes."""

    guess: Guess
    item_text: list[str] = field(default_factory=list)
    """Columns of an item's text."""
    user_text: list[str] = field(default_factory=list)
    """Columns of a user's text."""
    item_left_out: list[LeftOut] = field(default_factory=list)
    """Columns of the items table that its text does not take, and why."""
    user_left_out: list[LeftOut] = field(default_factory=list)
    """Columns of the users table that its text does not take, and why."""
    html: bool = False
    plain_cells: bool = False
    encoding: str = "utf-8"
    """Whether the texts look like HTML."""
    rating: str | None = None
    timestamp: str | None = None
    title: str | None = None
    known: dict[str, Setting] = field(default_factory=dict)
    """Keys of ``[data.columns]`` that the form of a public data set tells, beside those above."""
    remarks: dict[str, str] = field(default_factory=dict)
    """Remarks on these keys."""

    @property
    def items_key(self) -> str | None:
        """Item-id column of the items table."""
        return self.guess.items_id or self.guess.item_id

    @property
    def users_key(self) -> str | None:
        """User-id column of the users table."""
        return self.guess.users_id or self.guess.user_id


def propose(tables: Sequence[TableHead], given: Given) -> Proposal:
    """Propose a configuration.

    Beyond the first rows of each table, at most 2,000,000 interactions are counted, and at most 100,000 items and users
    compared with them.

    Args:
        tables: The tables that were found.
        given: What need not be guessed.

    Raises:
        ConfigError: A given table or column does not exist.
        DataError: A given table is damaged.
    """
    found = guess(tables, given)
    proposal = Proposal(found)
    items, users, interactions = found.items, found.users, found.interactions
    counted: Mapping[str, Interacted] = {}
    if interactions is not None:
        proposal.rating, proposal.timestamp = rating_column(interactions), time_column(interactions)
        _leave_unreadable(proposal, interactions)
        wanted = (found.item_id if items else None, found.user_id if users else None)
        counted = _counted(found, interactions, [column for column in wanted if column is not None])
    if items is not None:
        if (counts := counted.get(found.item_id or "")) is not None:
            _check_items_id(found, items, counts, given)
        proposal.title = title_column(items, proposal.items_key)
        counts = counted.get(found.item_id or "")
        if given.text:
            proposal.item_text = list(given.text)
        else:
            proposal.item_text, proposal.item_left_out = _text(found, items, proposal.items_key, counts)
    if users is not None:
        counts = counted.get(found.user_id or "")
        proposal.user_text, proposal.user_left_out = _text(found, users, proposal.users_key, counts)
    for table in (interactions, users, items):
        if table is not None and table.native is not None:
            _take_known(proposal, table, table.native)
    texts = ((items, proposal.item_text), (users, proposal.user_text))
    proposal.html = any(
        looks_like_html(value) for table, names in texts if table for name in names for value in table.values(name)
    )
    proposal.plain_cells = any(
        not_plain(table.sample[name]) for table, names in texts if table for name in names if name in table.sample
    )
    read = (table.options for table in (items, users, interactions) if table is not None)
    named = (options.encoding for options in read if options is not None)
    proposal.encoding = next((encoding for encoding in named if encoding != "utf-8"), "utf-8")
    return proposal


def _leave_unreadable(proposal: Proposal, interactions: TableHead) -> None:
    """Leave out ratings and times that would be read by default and cannot be."""
    for key, what in (("rating", "numbers"), ("timestamp", "times")):
        if getattr(proposal, key) is None and key in interactions.columns and interactions.rows:
            proposal.known[key] = False
            proposal.remarks[key] = f"not read: not all of its values are {what}"


def _take_known(proposal: Proposal, table: TableHead, native: NativeFormat) -> None:
    """Take over what the form of a public data set tells about its columns."""
    for key, value in native.columns.items():
        if isinstance(value, list):
            names = [name for name in value if name in table.columns]
            kept = {"item_text": proposal.item_left_out, "user_text": proposal.user_left_out}[key]
            kept[:] = [each for each in kept if each.column not in names]
            setattr(proposal, key, names)
        elif key not in _IDS:
            proposal.known[key] = value
    proposal.remarks |= native.remarks


def _text(
    found: Guess, table: TableHead, key: str | None, counted: Interacted | None
) -> tuple[list[str], list[LeftOut]]:
    """Return the columns of a text, and those that are left out; none are if nothing else would be left."""
    every = [column for column in table.columns if column != key]
    without = left_out(table, key, counted)
    dropped = {each.column for each in without}
    if kept := [column for column in every if column not in dropped]:
        return kept, without
    if without:
        told = "; ".join(f"{each.column}: {each.reason}" for each in without)
        found.notes.append(f"{table.path} has no column that makes a good text ({told}): all are taken")
    return every, []


def _counted(found: Guess, interactions: TableHead, columns: Sequence[str]) -> Mapping[str, Interacted]:
    if interactions.damage is not None or not columns:
        return {}
    try:
        counted = count_interactions(interactions.path, columns, options=interactions.options)
    except EnhancerError as error:
        found.notes.append(str(error))
        return {}
    one = next(iter(counted.values()))
    if not one.whole:
        found.notes.append(f"{interactions.path} is long: popularity was judged by its first {one.rows:,} rows")
    return counted


def _check_items_id(found: Guess, items: TableHead, counted: Interacted, given: Given) -> None:
    """Choose the ids of the items table by what the interactions name, where names of columns mislead.

    A table may have the ids of another catalogue under the very name, such as ``book_id`` beside ``id``.
    """
    own = found.items_id or found.item_id
    if own is None or items.damage is not None or given.item_id in items.columns:
        return
    others = [name for name in items.columns if is_identifier(name) and items.distinct(name)]
    candidates = list(dict.fromkeys([own, *others]))
    try:
        facts = column_facts(items.path, own, [], ids=candidates, counted=counted, options=items.options)
    except EnhancerError as error:
        found.notes.append(str(error))
        return
    share = facts.joined[own]
    best = max(candidates, key=lambda name: facts.joined[name])
    if share < _UNMATCHED and facts.joined[best] >= _MATCHED:
        found.notes.append(
            f"the ids of {items.path} are its column {best!r}, which {facts.joined[best]:.0%} of the interactions name;"
            f" {own!r} would match {share:.0%}"
        )
        found.items_id = best if best != found.item_id else None
    elif share < _UNMATCHED and facts.rows < MAX_ENTITIES:
        found.notes.append(f"{share:.0%} of the interactions name an item of {items.path}, by its column {own!r}")
