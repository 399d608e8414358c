"""Compare the input hash of a stored record with the one that its entity has now."""

from __future__ import annotations

ADOPTED = "adopted:"
"""Prefix of the input hash of an imported user profile: it is current, but what it was made from is unknown."""


def is_current(stored: str, wanted: str) -> bool:
    """Check whether a record with the input hash ``stored`` answers the prompt with the input hash ``wanted``."""
    return stored == wanted or stored == ADOPTED + wanted
