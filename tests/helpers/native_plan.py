"""A plan of who touched what, and when, over which made-up data sets are written.

User ``u`` touches the items ``u``, ``u + 1``, ``u + 2`` and ``u + 3`` modulo :data:`ITEMS`, in this order, an hour apart.
Files hold the touches in the reverse order, so that a split by time depends on the times that are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

USERS, ITEMS, TOUCHES = 8, 6, 4
START = 1_500_000_000
TITLES = ("Fog", "Nets, Lines & Hooks", 'The "Grey" Sea', "Mûre", "It's Rust", "Two: A Sequel")
TAGS = (("Grey, Wet", "Calm"), ("Fishing",), ("Calm", "Fishing"), (), ("Grey, Wet",), ("Calm", "Sequels"))
"""Tags of each item; one holds a comma."""
PLAIN_TAGS = tuple(tuple(tag.partition(",")[0] for tag in tags) for tags in TAGS)
"""Tags without commas, for forms that separate them by one."""


@dataclass(frozen=True)
class NativeSet:
    """A data set, and what a person reads in its files."""

    make: Callable[[Path], None]
    data: dict[str, object]
    """What ``enhancer init`` writes into ``[data]``."""
    user: Callable[[int], str] = lambda u: str(u + 1)
    """Id of a user."""
    item: Callable[[int], str] = lambda i: str(i + 1)
    """Id of an item."""
    text: Callable[[int], str] = lambda i: f"title: {TITLES[i]}"
    """Text of an item."""
    tags: str | None = None
    """Column of tags."""
    tags_of: tuple[tuple[str, ...], ...] = TAGS
    split: str = "leave-one-out"
    """Split to use; with ``files`` that of the data set, in which a user's last touch is in a file of its own."""
    duplicates: int = 0
    """Rows of a pair that occurs again."""
    evaluation: dict[str, object] = field(default_factory=dict)


def touches() -> Iterator[tuple[int, int, int]]:
    """Yield user, item and time in seconds of each touch, the last first."""
    for step in reversed(range(TOUCHES)):
        for u in range(USERS):
            yield u, (u + step) % ITEMS, START + 3600 * step + u


def iso(seconds: int, form: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def rows_of(form: Callable[[int, int, int], str]) -> str:
    return "".join(form(*touch) + "\n" for touch in touches())


def lines(*objects: object, literal: bool = False) -> str:
    return "".join(f"{each!r}\n" if literal else json.dumps(each) + "\n" for each in objects)


def with_lines(text: str, line: str) -> str:
    return f"{text}\n{line}" if line else text


def tagged(name: str, tags: tuple[tuple[str, ...], ...] = TAGS) -> Callable[[int], str]:
    return lambda i: f"{name}: {', '.join(tags[i])}" if tags[i] else ""
