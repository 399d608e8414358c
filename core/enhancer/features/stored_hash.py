"""Compare the input hash of a stored record with the one that its entity has now."""

from __future__ import annotations

ADOPTED = "adopted:"
"""Prefix of the input hash of an imported profile of a user, or of an item whose prompt shows reviews: it is current,
but what it was made from is unknown."""
LOW = "low:"
"""Prefix of the input hash of a note of low confidence that was written from what the model knows. If a fallback is
configured, such a note is asked for again."""

FALLBACK = "fallback:"
"""Prefix of the input hash of a note that was asked for from the text alone, after one of low confidence: a note that
was never asked for from what the model knows has none."""


def is_current(stored: str, wanted: str) -> bool:
    """Check whether a record with the input hash ``stored`` answers the prompt with the input hash ``wanted``."""
    return stored in (wanted, LOW + wanted, ADOPTED + wanted, FALLBACK + wanted)


def plain_hash(stored: str) -> str:
    """Return the input hash of a stored record without its prefix.

    >>> plain_hash("low:abc"), plain_hash("abc")
    ('abc', 'abc')
    """
    return stored.removeprefix(LOW).removeprefix(FALLBACK).removeprefix(ADOPTED)
