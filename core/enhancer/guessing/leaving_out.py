"""Find the columns that do not belong into the text of an item or user, and say why.

Identifiers and URLs cost tokens and say nothing. Row numbers make every row stale when one is inserted. Aggregates of
interactions, such as ``ratings_count``, change with every interaction, and tell how popular an item will be in the test
period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from enhancer.errors import EnhancerError
from enhancer.guessing.names import aggregate_of, is_date, is_identifier, is_row_number, is_title
from enhancer.guessing.popularity import FOLLOWS, column_facts
from enhancer.guessing.values import hold_codes, hold_dates, hold_quantities, holds_urls, number_of, whole_stars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.guessing.popularity import ColumnFacts, Interacted
    from enhancer.guessing.tables import TableHead

Fault = Literal["identifier", "row number", "URLs", "aggregate", "empty"]
LEAKS: tuple[Fault, ...] = ("row number", "aggregate")
"""Faults that do harm, whatever the columns are used for; the others only cost tokens."""


@dataclass(frozen=True)
class LeftOut:
    """A column that does not belong into a text."""

    column: str
    fault: Fault
    reason: str
    """Reason in words, without a full stop."""


def left_out(
    table: TableHead, id_column: str | None, counted: Interacted | None = None, columns: Sequence[str] | None = None
) -> list[LeftOut]:
    """Return the columns of a table of items or users that do not belong into a text, in their order.

    The first rows show what a column is. Up to 100,000 rows are read where numbers may follow those of the rows or of
    the interactions.

    Args:
        table: The beginning of the table.
        id_column: Its ids, which are not looked at.
        counted: Interactions of each id; None without any.
        columns: Columns to look at; by default all.
    """
    looked_at = [name for name in (table.columns if columns is None else columns) if name != id_column]
    found = {name: fault for name in looked_at if (fault := _by_sample(table, name)) is not None}
    numeric = [name for name in looked_at if _may_follow(table, name)]
    facts = _facts(table, id_column, numeric, counted)
    if facts is not None:
        for name in numeric:
            if name in facts.row_numbers:
                found.setdefault(name, LeftOut(name, "row number", "counts the rows"))
            rho = facts.correlations.get(name)
            if rho is None or abs(rho) < FOLLOWS or is_date(name):
                continue
            if (earlier := found.get(name)) is None:
                told = (
                    f"follows the number of interactions, with a rank correlation of {rho:.2f} over {facts.rows:,} rows"
                )
                found[name] = LeftOut(name, "aggregate", told)
            elif earlier.fault == "aggregate":
                told = f"{earlier.reason} and by its values, with a rank correlation of {rho:.2f}"
                found[name] = LeftOut(name, "aggregate", told)
    return [found[name] for name in looked_at if name in found]


def may_follow_interactions(table: TableHead, columns: Sequence[str]) -> bool:
    """Return whether any of the columns has numbers that may follow those of interactions."""
    return any(_may_follow(table, name) for name in columns)


def _by_sample(table: TableHead, name: str) -> LeftOut | None:
    """Judge a column by its name and its first values."""
    values = table.values(name)
    if not values:
        return LeftOut(name, "empty", "empty") if table.rows else None
    if is_row_number(name) and _all_whole(values):
        return LeftOut(name, "row number", "row numbers, by its name")
    if holds_urls(values):
        return LeftOut(name, "URLs", "URLs")
    what = aggregate_of(name)
    if what is not None and _fits(what, values):
        return LeftOut(name, "aggregate", f"{what}, by its name")
    if is_identifier(name):
        return LeftOut(name, "identifier", "identifiers, by its name")
    if hold_codes(values) and not is_title(name):
        return LeftOut(name, "identifier", "identifiers: codes, no two of which are alike")
    return None


def _fits(what: str, values: Sequence[str]) -> bool:
    """Return whether the values of a column can be what its name says."""
    if what == "what was chosen together":
        return True
    if what == "a popularity":
        return all(any(map(str.isdigit, value)) for value in values)
    return hold_quantities(values) and not (what == "an average of ratings" and whole_stars(values) and _few(values))


def _few(values: Sequence[str]) -> bool:
    return len({*values}) <= 6


def _all_whole(values: Sequence[str]) -> bool:
    return all(number is not None and number == int(number) for number in map(number_of, values))


def _may_follow(table: TableHead, name: str) -> bool:
    """Return whether the numbers of a column may follow those of rows or of interactions."""
    numbers = [number_of(value) for value in table.values(name)]
    present = [number for number in numbers if number is not None]
    return bool(numbers) and len(present) == len(numbers) and not is_date(name) and not hold_dates(present)


def _facts(
    table: TableHead, id_column: str | None, numeric: Sequence[str], counted: Interacted | None
) -> ColumnFacts | None:
    """Read further rows where they can tell something; what cannot be read is told by whoever reads the table next."""
    if not numeric or table.damage is not None:
        return None
    try:
        return column_facts(
            table.path,
            id_column or numeric[0],
            numeric,
            counted=counted if id_column else None,
            options=table.options,
        )
    except EnhancerError:
        return None
