"""Which element of a batched reply belongs to whom: by id, never by position."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.harness.answers.parse import InvalidAnswerError, parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class GroupReply:
    """A batched reply, sorted out. Every id that was asked about is in exactly one of the three."""

    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The element of each id, without its ``id``; not yet judged."""
    contradictory: dict[str, str] = field(default_factory=dict)
    """Ids that the reply contradicts itself about, and how."""
    missing: list[str] = field(default_factory=list)


def match_group_reply(text: str, ids: Sequence[str]) -> GroupReply:
    """Sort out a reply about ``ids`` (which are distinct).

    Elements may come in any order. An id that turned into a number is taken for the asked id that it can only mean.
    Elements under ids that nobody asked about are ignored. Two equal elements of one id count as one; two that differ
    leave that id in doubt. One profile under several ids counts for none of them: an entry may have said
    "write this for every id", or the model lost count. Those ids are missing, and asked about again in smaller groups.

    Raises:
        InvalidAnswerError: The reply as a whole cannot be used.
    """
    reply = parse_object(text)
    elements = reply.get("items")
    if not isinstance(elements, list):
        raise InvalidAnswerError("the object must have one key, 'items', that holds a list")
    found: dict[str, dict[str, Any]] = {}
    contradictory: dict[str, str] = {}
    exact = set(ids)
    for element in elements:
        if not isinstance(element, dict) or "id" not in element:
            continue
        id_ = _resolve(element["id"], exact, ids)
        if id_ is None:
            continue
        content = {key: value for key, value in element.items() if key != "id"}
        if id_ in found and found[id_] != content:
            contradictory[id_] = "the reply holds two different elements for this id"
        found.setdefault(id_, content)
    for id_ in contradictory:
        del found[id_]
    for id_ in _alike(found):
        del found[id_]
    missing = [id_ for id_ in ids if id_ not in found and id_ not in contradictory]
    return GroupReply(found, contradictory, missing)


def _alike(found: dict[str, dict[str, Any]]) -> list[str]:
    """Ids whose profile is another id's too, but for case and space."""
    by_profile: dict[str, list[str]] = {}
    for id_, content in found.items():
        if isinstance(profile := content.get("profile"), str):
            by_profile.setdefault(" ".join(profile.casefold().split()), []).append(id_)
    return [id_ for ids in by_profile.values() if len(ids) > 1 for id_ in ids]


def _resolve(given: Any, exact: set[str], ids: Sequence[str]) -> str | None:
    """The asked id that ``given`` means, or None."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    if isinstance(given, float):
        if not given.is_integer():
            return None
        given = int(given)
    text = str(given)
    if text in exact:
        return text
    if isinstance(given, int):
        near = [id_ for id_ in ids if _as_number(id_) == given]
    else:
        near = [id_ for id_ in ids if id_.strip() == text.strip()]
    return near[0] if len(near) == 1 else None


def _as_number(id_: str) -> int | None:
    # Not int(): that also reads "1_0", and digits of other scripts; and it refuses very long ones by an exception.
    return int(id_) if len(id_) < 40 and id_.isascii() and id_.isdigit() else None
