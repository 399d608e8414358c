"""Select profiles for the report: a map of some hundred items, and cards to read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.agreement import MIN_INTERACTIONS, neighbours_by_interactions
from enhancer.evaluation.diagnosing.geometry import neighbours, unit_rows
from enhancer.evaluation.diagnosing.wording import words_of
from enhancer.evaluation.measuring.strata import popularity_groups
from enhancer.evaluation.reporting.projection import project_to_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.views import Views

POINTS, CARDS = 400, 36
"""Maximum numbers of items on the map and of cards; they bound the size of the page."""
_NEIGHBOURS, _GROUPS = 5, 6
_LONG = 1200
_SHORT = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDescription:
    """Texts about one item."""

    title: str
    text: str = ""
    prompt: str = ""
    """Rendered user prompt; empty if no LLM wrote the profile."""
    profile: str = ""
    tags: Sequence[str] = ()
    about: str = ""
    """Model, tokens and cost, on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPoint:
    """An item on the map; ``x`` and ``y`` are between 0 and 1."""

    x: float
    y: float
    title: str
    excerpt: str
    """Beginning of the profile, or of the text if there is no profile."""
    group: int | None
    """Index into :attr:`Gallery.groups`; None if the item has none of these tag words."""
    size: float
    """Square root of the popularity, relative to the most popular item."""
    cold: bool
    """Whether the item has no training interaction."""
    card: int | None
    """Index into :attr:`Gallery.cards`; None if the item has no card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCard:
    """An item with its profile, prompt and neighbours."""

    stratum: str
    item: ItemDescription
    by_vector: list[tuple[str, float]]
    """Titles and cosines of the nearest neighbours by vector."""
    by_interactions: list[str]
    """Titles of the nearest neighbours by interactions; empty for items with too few interactions."""
    interactions: int
    """Number of training interactions."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The map, the cards and the cost of profiles."""

    points: list[MapPoint] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    """Most frequent words of the tags on the map."""
    cards: list[ProfileCard] = field(default_factory=list)
    system: str = ""
    """System prompt, shared by all items."""
    items: int = 0
    """Number of items with a vector."""
    cost_usd: float | None = None
    """Cost of all profiles; None if unknown."""
    tokens: int = 0
    """Prompt and completion tokens of all profiles."""


def build_gallery(
    vectors: NDArray[np.float32],
    views: Views,
    describe: Callable[[Sequence[int]], Mapping[int, ItemDescription]],
    titles: Callable[[Sequence[int]], Sequence[str]],
    *,
    system: str = "",
    seed: int = 0,
) -> Gallery:
    """Select the items of the map and the cards, the latter evenly from all strata of popularity.

    Args:
        vectors: float32 ``[n_items, d]``, with rows of zeros for items without a vector.
        views: The split; only training interactions are used.
        describe: Returns the descriptions of items, by row.
        titles: Returns the titles of items, in the order of the rows.
        system: The system prompt.
        seed: Seed of the selection.
    """
    able = np.flatnonzero(vectors.any(axis=1))
    rng = np.random.default_rng(seed)
    groups = popularity_groups(views.popularity)
    card_strata = _select_cards(able, groups, rng)
    others = np.setdiff1d(able, list(card_strata))
    sample = rng.permutation(others)[: max(0, POINTS - len(card_strata))]
    shown = np.sort(np.concatenate([np.array(list(card_strata), np.int64), sample]))
    described = describe(shown.tolist())
    tag_words = {row: _tag_words(one.tags) for row, one in described.items()}
    common = Counter(word for words in tag_words.values() for word in words)
    names = [word for word, count in common.most_common(_GROUPS) if count > 1]
    positions = project_to_plane(vectors[shown]) if len(shown) > 1 else np.full((len(shown), 2), 0.5)
    sizes = np.sqrt(views.popularity / max(int(views.popularity.max(initial=0)), 1))
    cards = _cards(vectors, views, card_strata, described, titles)
    order = {row: place for place, row in enumerate(card_strata)}
    return Gallery(
        points=[
            MapPoint(
                x=float(positions[place, 0]),
                y=float(positions[place, 1]),
                title=described[row].title,
                excerpt=shorten(described[row].profile or described[row].text, _SHORT),
                group=next((number for number, word in enumerate(names) if word in tag_words[row]), None),
                size=float(sizes[row]),
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


def _tag_words(tags: Sequence[str]) -> list[str]:
    """Split tags into words of more than three letters, which items share more often than whole tags.

    >>> _tag_words(["family-adventure", "coming-of-age", "family"])
    ['family', 'adventure', 'coming']
    """
    return list(dict.fromkeys(word for tag in tags for word in words_of(tag) if len(word) > 3))


def _select_cards(
    able: NDArray[np.int64], groups: Mapping[str, NDArray[np.bool_]], rng: np.random.Generator
) -> dict[int, str]:
    """Return the rows of the cards with their strata, equally many of each stratum if it has enough."""
    members = {name: rng.permutation(able[mask[able]]) for name, mask in groups.items()}
    members = {name: rows for name, rows in members.items() if len(rows)}
    each = CARDS // max(len(members), 1)
    return {int(row): name for name, rows in members.items() for row in rows[:each]}


def _cards(
    vectors: NDArray[np.float32],
    views: Views,
    card_strata: Mapping[int, str],
    described: Mapping[int, ItemDescription],
    titles: Callable[[Sequence[int]], Sequence[str]],
) -> list[ProfileCard]:
    rows = np.array(list(card_strata), np.int64)
    able = np.flatnonzero(vectors.any(axis=1))
    k = min(_NEIGHBOURS, len(able) - 1)
    by_vector: dict[int, list[tuple[int, float]]] = {}
    if k > 0:
        directions = unit_rows(vectors[able])
        places = np.searchsorted(able, rows)
        for row, place, found in zip(rows.tolist(), places, neighbours(directions, places, k), strict=True):
            by_vector[row] = [(int(able[other]), float(directions[place] @ directions[other])) for other in found]
    known = np.flatnonzero(views.popularity >= MIN_INTERACTIONS)
    queries = rows[np.isin(rows, known)]
    by_interactions: dict[int, list[int]] = {}
    if len(known) > _NEIGHBOURS and len(queries):
        train = views.split.train
        sides = (train.items, train.users)
        rng = np.random.default_rng(0)
        found_rows = neighbours_by_interactions(
            known, np.searchsorted(known, queries), sides, views.popularity, views.n_users, rng, _NEIGHBOURS
        )
        by_interactions = {row: known[found].tolist() for row, found in zip(queries.tolist(), found_rows, strict=True)}
    wanted = sorted(
        {other for pairs in by_vector.values() for other, _ in pairs} | {o for v in by_interactions.values() for o in v}
    )
    named = dict(zip(wanted, titles(wanted), strict=True))
    return [
        ProfileCard(
            stratum=stratum,
            item=_shortened(described[row]),
            by_vector=[(named[other], cosine) for other, cosine in by_vector.get(row, [])],
            by_interactions=[named[other] for other in by_interactions.get(row, [])],
            interactions=int(views.popularity[row]),
        )
        for row, stratum in card_strata.items()
    ]


def _shortened(item: ItemDescription) -> ItemDescription:
    return ItemDescription(
        title=shorten(item.title, _SHORT),
        text=shorten(item.text, _LONG),
        prompt=shorten(item.prompt, 2 * _LONG),
        profile=shorten(item.profile, _LONG),
        tags=list(item.tags)[:12],
        about=item.about,
    )


def shorten(text: str, length: int) -> str:
    """Cut a text to a maximum length.

    >>> shorten("A long story", 7)
    'A long…'
    """
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
