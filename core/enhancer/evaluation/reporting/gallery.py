"""What the profiles look like: a map of some hundreds, and some to be read beside prompt, answer and neighbours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.agreement import LEAST, by_behaviour
from enhancer.evaluation.diagnosing.echoes import words_of
from enhancer.evaluation.diagnosing.geometry import neighbours, unit
from enhancer.evaluation.measuring.strata import popularity_groups
from enhancer.evaluation.reporting.projection import plane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.views import Views

POINTS, CARDS = 400, 36
"""Items on the map, and items that can be read: bounds the page."""
_NEIGHBOURS, _GROUPS = 5, 6
_LONG = 1200
_SHORT = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of one item in words."""

    title: str
    text: str = ""
    prompt: str = ""
    """The rendered question; empty where no LLM took part."""
    profile: str = ""
    tags: Sequence[str] = ()
    about: str = ""
    """Model, tokens, cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An item on the map; ``x`` and ``y`` from 0 to 1."""

    x: float
    y: float
    title: str
    words: str
    group: int | None
    """Place in :attr:`Gallery.groups`."""
    size: float
    """From 0 to 1, by popularity."""
    cold: bool
    card: int | None
    """Place in :attr:`Gallery.cards`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An item to be read."""

    stratum: str
    told: Told
    near: list[tuple[str, float]]
    """Titles and cosines of the nearest by vector."""
    together: list[str]
    """Titles of the nearest by behaviour; empty where too few people took it."""
    taken: int
    """Training interactions."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Everything that the report shows of profiles."""

    points: list[Point] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    """The commonest words of the tags on the map."""
    cards: list[Card] = field(default_factory=list)
    system: str = ""
    """The system prompt, which all prompts share."""
    items: int = 0
    """Items with a vector, of which the map shows some."""
    cost_usd: float | None = None
    """What the profiles cost; None where unknown."""
    tokens: int = 0


def build(
    vectors: NDArray[np.float32],
    views: Views,
    tell: Callable[[Sequence[int]], Mapping[int, Told]],
    titles: Callable[[Sequence[int]], Sequence[str]],
    *,
    system: str = "",
    seed: int = 0,
) -> Gallery:
    """Choose, place and describe.

    Args:
        vectors: float32 ``[n_items, d]``, zero rows for items without one.
        views: The split; only training counts.
        tell: What is known of the items of these rows.
        titles: Names of the items of these rows.
        system: The system prompt.
        seed: Draws the items that are shown.
    """
    able = np.flatnonzero(vectors.any(axis=1))
    rng = np.random.default_rng(seed)
    groups = popularity_groups(views.popularity)
    read = _to_read(able, groups, rng)
    others = np.setdiff1d(able, list(read))
    some = rng.permutation(others)[: max(0, POINTS - len(read))]
    shown = np.sort(np.concatenate([np.array(list(read), np.int64), some]))
    told = tell(shown.tolist())
    themes = {row: _themes(one.tags) for row, one in told.items()}
    common = Counter(word for words in themes.values() for word in words)
    names = [word for word, count in common.most_common(_GROUPS) if count > 1]
    where = plane(vectors[shown]) if len(shown) > 1 else np.full((len(shown), 2), 0.5)
    fame = np.sqrt(views.popularity / max(int(views.popularity.max(initial=0)), 1))
    cards = _cards(vectors, views, read, told, titles)
    order = {row: place for place, row in enumerate(read)}
    return Gallery(
        points=[
            Point(
                x=float(where[place, 0]),
                y=float(where[place, 1]),
                title=told[row].title,
                words=shorten(told[row].profile or told[row].text, _SHORT),
                group=next((number for number, word in enumerate(names) if word in themes[row]), None),
                size=float(fame[row]),
                cold=not views.popularity[row],
                card=order.get(row),
            )
            for place, row in enumerate(shown.tolist())
        ],
        groups=names,
        cards=cards,
        system=shorten(system, 2 * _LONG),
        items=len(able),
    )


def _themes(tags: Sequence[str]) -> list[str]:
    """The telling words of tags: tags themselves are seldom shared.

    >>> _themes(["family-adventure", "coming-of-age", "family"])
    ['family', 'adventure', 'coming']
    """
    return list(dict.fromkeys(word for tag in tags for word in words_of(tag) if len(word) > 3))


def _to_read(
    able: NDArray[np.int64], groups: Mapping[str, NDArray[np.bool_]], rng: np.random.Generator
) -> dict[int, str]:
    """Rows and their strata: as many of each stratum, as far as there are."""
    there = {name: rng.permutation(able[mask[able]]) for name, mask in groups.items()}
    there = {name: rows for name, rows in there.items() if len(rows)}
    each = CARDS // max(len(there), 1)
    return {int(row): name for name, rows in there.items() for row in rows[:each]}


def _cards(
    vectors: NDArray[np.float32],
    views: Views,
    read: Mapping[int, str],
    told: Mapping[int, Told],
    titles: Callable[[Sequence[int]], Sequence[str]],
) -> list[Card]:
    rows = np.array(list(read), np.int64)
    able = np.flatnonzero(vectors.any(axis=1))
    k = min(_NEIGHBOURS, len(able) - 1)
    near: dict[int, list[tuple[int, float]]] = {}
    if k > 0:
        directions = unit(vectors[able])
        queries = np.searchsorted(able, rows)
        for row, query, found in zip(rows.tolist(), queries, neighbours(directions, queries, k), strict=True):
            near[row] = [(int(able[other]), float(directions[query] @ directions[other])) for other in found]
    known = np.flatnonzero(views.popularity >= LEAST)
    asked = rows[np.isin(rows, known)]
    together: dict[int, list[int]] = {}
    if len(known) > _NEIGHBOURS and len(asked):
        train = views.split.train
        sides = (train.items, train.users)
        rng = np.random.default_rng(0)
        found_rows = by_behaviour(
            known, np.searchsorted(known, asked), sides, views.popularity, views.n_users, rng, _NEIGHBOURS
        )
        together = {row: known[found].tolist() for row, found in zip(asked.tolist(), found_rows, strict=True)}
    wanted = sorted(
        {other for pairs in near.values() for other, _ in pairs} | {o for v in together.values() for o in v}
    )
    named = dict(zip(wanted, titles(wanted), strict=True))
    return [
        Card(
            stratum=stratum,
            told=_shortened(told[row]),
            near=[(named[other], cosine) for other, cosine in near.get(row, [])],
            together=[named[other] for other in together.get(row, [])],
            taken=int(views.popularity[row]),
        )
        for row, stratum in read.items()
    ]


def _shortened(told: Told) -> Told:
    return Told(
        title=shorten(told.title, _SHORT),
        text=shorten(told.text, _LONG),
        prompt=shorten(told.prompt, 2 * _LONG),
        profile=shorten(told.profile, _LONG),
        tags=list(told.tags)[:12],
        about=told.about,
    )


def shorten(text: str, length: int) -> str:
    """Text of bounded length.

    >>> shorten("A long story", 7)
    'A long…'
    """
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
