"""Read what a column is from its name, by the words that the name consists of.

``movieId``, ``movie_id``, ``Movie-ID`` and ``movieid`` are all of the words *movie* and *id*. No list of names of
columns is needed: an identifier ends in a word such as *id*, and a person is named by a word such as *user*.
"""

from __future__ import annotations

import re
from functools import lru_cache

from enhancer.guessing.vocabulary import (
    AVERAGES,
    COUNTS,
    DATES,
    EVENTS,
    FILLERS,
    MAKERS,
    MARKS,
    MEANS,
    NAMES_OF_PEOPLE,
    NO_IDS,
    OPINIONS,
    PEOPLE,
    POPULARITY,
    STAND_INS,
    THINGS,
    TOGETHER,
    USES,
)

_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_FOREIGN_PIECE = re.compile(r"[A-Za-zÀ-ɏ]+|[^\W\d_A-Za-zÀ-ɏ]+|\d+")
_ROW_NUMBER = re.compile(
    r"|#|unnamed(: ?\d+)?(\.\d+)?|index|level_\d+|row_?(id|no|num|number|index)?|idx|rownames?|", re.IGNORECASE
)
_VOCABULARY = (
    PEOPLE | MAKERS | frozenset(THINGS) | EVENTS | MARKS | COUNTS | AVERAGES | OPINIONS | USES | POPULARITY | DATES
) | {"name", "title", "session", "device", "cookie", "parent", "wishing", "by", "five", "gmap", "text", "profile"}
_WORDS = frozenset(word for word in _VOCABULARY if len(word) > 1) - {"no", "nb", "ad", "by", "ts", "hits", "doc"}


@lru_cache(maxsize=1 << 16)
def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name, in lower case.

    >>> words_of("parentAsin"), words_of("artistID"), words_of("userid"), words_of("ISBN13"), words_of("gmap_ids")
    (('parent', 'asin'), ('artist', 'id'), ('user', 'id'), ('isbn', '13'), ('gmap', 'ids'))
    """
    pattern = _PIECE if name.isascii() else _FOREIGN_PIECE
    pieces = [piece.lower() for piece in pattern.findall(name.replace("IDs", "Ids"))]
    return tuple(word for piece in pieces for word in _parted(piece))


def _parted(piece: str) -> tuple[str, ...]:
    """Part a word of several, such as ``playcount``; as few parts as possible."""
    if piece in _VOCABULARY or not piece.isascii() or not piece.isalpha() or piece in NO_IDS:
        return (piece,)
    best: list[tuple[str, ...] | None] = [()] + [None] * len(piece)
    for end in range(1, len(piece) + 1):
        for start in range(end):
            before = best[start]
            if before is not None and piece[start:end] in _WORDS:
                now = best[end]
                if now is None or len(before) + 1 < len(now):
                    best[end] = (*before, piece[start:end])
    whole = best[len(piece)]
    if whole is not None:
        return whole
    for mark in ("ids", "id"):
        stem = piece.removesuffix(mark)
        if stem != piece and stem:
            return (stem, mark)
    return (piece,)


def is_identifier(name: str) -> bool:
    """Return whether a name ends as those of identifiers do: ``imdb_id``, ``ISBN13``, ``genre_ids``, ``bar code``."""
    words = [word for word in words_of(name) if not word.isdigit()]
    return bool(words) and (words[-1] in MARKS or words[-2:] in (["bar", "code"], ["serial", "number"]))


def is_person(name: str) -> bool:
    """Return whether a name is one of ids of people: ``userId``, ``username``, ``Customer ID``, ``reviewer``."""
    words = [word for word in words_of(name) if not word.isdigit()]
    if not words or MAKERS & {*words}:
        return False
    if len(words) == 1:
        return words[0] in PEOPLE
    return words[-1] in MARKS | NAMES_OF_PEOPLE and not PEOPLE.isdisjoint(words) and words[-2] not in EVENTS


def stands_for_person(name: str) -> bool:
    """Return whether a name is one of ids of sessions, devices and the like, which stand for unknown people."""
    words = words_of(name)
    return not STAND_INS.isdisjoint(words) and (len(words) == 1 or words[-1] in MARKS)


def is_event(name: str) -> bool:
    """Return whether a name is one of ids of interactions themselves: ``review_id``, ``order_id``."""
    words = words_of(name)
    return words[-1:] == ("id",) and words[-2:-1] != () and words[-2] in EVENTS


def thing_rank(name: str) -> int | None:
    """Return how likely a name is one of ids of items, 0 for the likeliest; None if it does not look like one.

    >>> thing_rank("parent_asin") < thing_rank("item_id") < thing_rank("anime_id") < thing_rank("original_id")
    True
    """
    words = [word for word in words_of(name) if not word.isdigit()]
    if words[-2:] == ["parent", "asin"]:
        return 0
    if len(words) >= 2 and words[-1] == "id" and words[-2] in THINGS:
        return 1 + THINGS.index(words[-2])
    if words and words[-1] in ("asin", "isbn", "sku"):
        return 1 + len(THINGS)
    if len(words) == 1 and words[0] in THINGS[:10]:
        return 2 + len(THINGS) + THINGS.index(words[0])
    return None


def is_maker(name: str) -> bool:
    """Return whether a name is about who makes or offers an item."""
    return not MAKERS.isdisjoint(words_of(name))


def is_date(name: str) -> bool:
    """Return whether a name is one of years, dates or times."""
    return not DATES.isdisjoint(words_of(name)) or words_of(name)[-1:] == ("at",)


def is_title(name: str) -> bool:
    """Return whether a name is one of titles, which may look like codes: ``title``, ``product_name``."""
    return words_of(name)[-1:] in (("title",), ("name",))


def is_row_number(name: str) -> bool:
    """Return whether a name is one that data frames and spreadsheets give to row numbers."""
    return _ROW_NUMBER.fullmatch(name.strip()) is not None


def aggregate_of(name: str) -> str | None:
    """Return what a name says that a column sums up over the people who used an item; None if it says nothing.

    >>> aggregate_of("work_text_reviews_count"), aggregate_of("ratings_5"), aggregate_of("averageRating")
    ('a number of interactions', 'a number of interactions', 'an average of ratings')
    >>> aggregate_of("salesRank"), aggregate_of("also_bought"), aggregate_of("books_count"), aggregate_of("num_pages")
    ('a popularity', 'what was chosen together', None, None)
    """
    words = [word for word in words_of(name) if not word.isdigit()]
    found = {*words}
    if not words or not found.isdisjoint(DATES):
        return None
    used = USES | {*THINGS, "items", "books"}
    if not found.isdisjoint(TOGETHER) and (len(words) == 1 or not found.isdisjoint(used)):
        return "what was chosen together"
    if found & POPULARITY and found <= POPULARITY | USES | OPINIONS | FILLERS | {"index"}:
        return "a popularity"
    if words == ["rate"]:  # as likely a price
        return None
    known = COUNTS | AVERAGES | OPINIONS | USES | FILLERS
    if found <= AVERAGES - {"overall"} or (found & {"positive", "negative"} and found & {"ratio", "percent", "share"}):
        return "an average of ratings"
    if not found <= known or found.isdisjoint(OPINIONS | USES):
        return None
    if not found.isdisjoint(AVERAGES) and not found.isdisjoint(OPINIONS):
        return "an average of ratings"
    numbered = len(words) < len(words_of(name))  # ratings_5, 5_star
    if found & MEANS and found.isdisjoint(COUNTS | USES) and not numbered:
        return "an average of ratings"
    return "a number of interactions"
