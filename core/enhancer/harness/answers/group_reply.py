"""Match the elements of a group reply to entities by id, never by position."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.harness.answers.parse import InvalidAnswerError, parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class GroupReply:
    """A group reply by id. Every requested id is in exactly one of the three attributes."""

    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Element of each id without its ``id`` key; not validated yet."""
    contradictory: dict[str, str] = field(default_factory=dict)
    """Ids with contradictory elements, and a description of the problem."""
    missing: list[str] = field(default_factory=list)
    """Ids without a usable element."""


def match_group_reply(
    text: str,
    ids: Sequence[str],
    field: str | None = "profile",
    *,
    cut_off: bool = False,
    earlier_rules: bool = False,
) -> GroupReply:
    """Match the elements of a reply to the requested ids.

    Elements may be in any order. An id that became a number is accepted if it can mean only one requested id. Elements
    with other ids are ignored. Equal elements with one id count once; different ones are contradictory. If several ids
    have the same profile, it counts for none of them, because one entry may have asked for it on behalf of all, or the
    model may have lost count. Those ids are missing and are asked about again in smaller groups.

    Args:
        text: The reply.
        ids: The requested ids, without duplicates.
        field: Key of the profile; None if an element holds several notes, which are then compared together.
        cut_off: See :func:`~enhancer.harness.answers.parse.parse_object`.
        earlier_rules: See :func:`~enhancer.harness.answers.parse.parse_object`.

    Raises:
        InvalidAnswerError: The reply as a whole is not valid.
    """
    reply = parse_object(text, cut_off=cut_off, earlier_rules=earlier_rules)
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
    for id_ in _with_same_profile(found, field):
        del found[id_]
    missing = [id_ for id_ in ids if id_ not in found and id_ not in contradictory]
    return GroupReply(found, contradictory, missing)


def _with_same_profile(found: dict[str, dict[str, Any]], field: str | None) -> list[str]:
    """Return the ids whose profile, or all of whose notes, equal those of another id, ignoring case and space."""
    by_profile: dict[tuple[str, ...], list[str]] = {}
    for id_, content in found.items():
        keys = sorted(content.keys() - {"confidence"}) if field is None else [field]
        texts = [" ".join(text.casefold().split()) for key in keys if isinstance(text := content.get(key), str)]
        if texts:
            by_profile.setdefault(tuple(texts), []).append(id_)
    return [id_ for ids in by_profile.values() if len(ids) > 1 for id_ in ids]


def _resolve(given: Any, exact: set[str], ids: Sequence[str]) -> str | None:
    """Return the requested id that ``given`` means, or None."""
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
        candidates = [id_ for id_ in ids if _as_number(id_) == given]
    else:
        candidates = [id_ for id_ in ids if id_.strip() == text.strip()]
    return candidates[0] if len(candidates) == 1 else None


def _as_number(id_: str) -> int | None:
    # int() also accepts "1_0" and digits of other scripts, and raises for very long numbers.
    return int(id_) if len(id_) < 40 and id_.isascii() and id_.isdigit() else None
