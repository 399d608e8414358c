"""Find an item by its id or its title."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from enhancer.data.alike_ids import plain_number
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NEAR = 3
"""Largest number of titles that a hint names."""
_COMPARED = 20_000
"""Largest number of titles that a misspelt one is compared with: those that share a word with it, if there are more."""


def item_called(given: str, titles: Mapping[str, str | None]) -> str:
    """Return the id of the item with this id or title.

    An id counts before a title, and a title before another spelling of an id, such as ``1.0`` for ``1``. Titles are
    compared without regard to case and blanks, and a title may leave out what stands behind it in parentheses, such as
    a year.

    Args:
        given: An id or a title.
        titles: Title of each item, by id.

    Returns:
        The id; ``given`` itself if it resembles no title, so that whoever knows ids says that it is none.

    Raises:
        DataError: Several items have the title, or none has, and some have one like it.
    """
    if given in titles:
        return given
    wanted = _plain(given)
    by_title: dict[str, list[str]] = {}
    for id_, title in titles.items():
        if title:
            by_title.setdefault(_plain(title), []).append(id_)
    found = by_title.get(wanted) or [
        id_ for title, ids in by_title.items() if _without_remark(title) == wanted for id_ in ids
    ]
    if len(found) == 1:
        return found[0]
    if found:
        named = ", ".join(f"{id_} ({titles[id_]})" for id_ in found[:_NEAR])
        raise DataError(f"{len(found)} items have the title {given!r}", hint=f"pass an id: {named}")
    number = plain_number(given)
    spelt = [] if number is None else [id_ for id_ in titles if plain_number(id_) == number]
    if len(spelt) == 1:
        return spelt[0]
    near = _near(wanted, by_title)
    if not near:
        return given
    named = " or ".join(f"{titles[ids[0]]!r} ({ids[0]})" for ids in (by_title[title] for title in near))
    raise DataError(f"no item has the id or title {given!r}", hint=f"did you mean {named}?")


def _plain(title: str) -> str:
    return " ".join(title.casefold().split())


def _without_remark(title: str) -> str:
    return title[: title.rindex("(")].rstrip() if title.endswith(")") and "(" in title[1:] else title


def _near(wanted: str, titles: Iterable[str]) -> list[str]:
    """Return titles that hold all of the words, or else those of a similar spelling."""
    words = set(wanted.split())
    holding = sorted((title for title in titles if words and words <= set(title.split())), key=len)
    if holding:
        return holding[:_NEAR]
    candidates = list(titles)
    if len(candidates) > _COMPARED:
        candidates = [title for title in candidates if words & set(title.split())][:_COMPARED]
    spelling = {_without_remark(title): title for title in candidates} | {title: title for title in candidates}
    close = difflib.get_close_matches(wanted, spelling, n=_NEAR, cutoff=0.75)
    return list(dict.fromkeys(spelling[each] for each in close))
