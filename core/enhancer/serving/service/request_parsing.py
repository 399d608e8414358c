"""Parse and validate requests to the service.

Anything unexpected is rejected, and the error names the parameter or key and what is expected of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import orjson

from enhancer.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from enhancer.serving.service.settings import Limits

_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_BODY_KEYS: Final = ("users", "histories", "k", "exclude_seen", "candidates", "exclude")
_SHOWN: Final = 60
"""Characters of a wrong name or value that are looked at or shown."""
_EXAMPLE_BODY: Final = 'send {"users": ["42"], "k": 10}'


@dataclass(frozen=True, slots=True)
class QueryParameters:
    """Parameters of a GET request."""

    id: str
    k: int
    exclude_seen: bool = True
    history: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RecommendBody:
    """Body of ``POST /recommend``."""

    users: list[str]
    k: int
    histories: dict[str, list[str]] = field(default_factory=dict)
    exclude_seen: bool = True
    candidates: list[str] | None = None
    exclude: list[str] | dict[str, list[str]] | None = None

    def without_unknown(self, known: Callable[[str], bool]) -> tuple[RecommendBody, dict[str, list[str]]]:
        """Return the request without unknown items in ``candidates`` and ``exclude``, and these items by key.

        Args:
            known: Checks whether an item exists.
        """
        found: dict[str, dict[str, None]] = {"candidates": {}, "exclude": {}}

        def keep(key: str, items: Sequence[str]) -> list[str]:
            kept = [item for item in items if known(item)]
            if len(kept) < len(items):
                found[key] |= dict.fromkeys(item for item in items if not known(item))
            return kept

        candidates = None if self.candidates is None else keep("candidates", self.candidates)
        exclude = self.exclude
        if isinstance(exclude, dict):
            exclude = {user: keep("exclude", items) for user, items in exclude.items()}
        elif exclude is not None:
            exclude = keep("exclude", exclude)
        return replace(self, candidates=candidates, exclude=exclude), {name: list(ids) for name, ids in found.items()}


def parse_query(parameters: Iterable[tuple[str, str]], limits: Limits, id_name: str, *optional: str) -> QueryParameters:
    """Parse the query string of a GET request.

    Args:
        parameters: Decoded names and values.
        limits: Limits on requests.
        id_name: Name of the required parameter.
        optional: Names of optional parameters. ``history`` may be given many times.

    Raises:
        DataError: A parameter is missing, unknown, repeated or invalid.
    """
    names = (id_name, *optional)
    given: dict[str, str] = {}
    history: list[str] = []
    for name, value in parameters:
        if name not in names:
            raise DataError(f"unknown parameter {name!r}", hint=did_you_mean(name[:_SHOWN], names))
        if name == "history":
            if not value:
                raise DataError("an item id in history is empty", hint="add &history=ITEM for each item")
            history.append(value)
            continue
        if name in given:
            raise DataError(f"{name} is given twice", hint="POST /recommend takes many users")
        given[name] = value
    if not given.get(id_name):
        raise DataError(f"{id_name} is missing", hint=f"add ?{id_name}=...")
    k: Any = given.get("k", min(10, limits.k))
    if isinstance(k, str):
        k = int(k) if k.isascii() and k.isdigit() and len(k) < 10 else k
    exclude_seen = given.get("exclude_seen", "true").lower()
    if exclude_seen not in _BOOLEANS:
        raise DataError(f"exclude_seen must be true or false, not {exclude_seen!r}")
    return QueryParameters(given[id_name], _checked_k(k, limits), _BOOLEANS[exclude_seen], history)


def parse_body(body: bytes, limits: Limits) -> RecommendBody:
    """Parse the body of ``POST /recommend``.

    Args:
        body: Bytes of a JSON object.
        limits: Limits on requests.

    Raises:
        DataError: The body is not JSON, or a key is missing, unknown or invalid.
    """
    try:
        given = orjson.loads(body)
    except ValueError:
        try:  # takes lone surrogates, which ids may have, and its messages name the place
            given = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise DataError(f"the body is not JSON: {error}", hint=_EXAMPLE_BODY) from None
    if not isinstance(given, dict):
        raise DataError("the body must be a JSON object", hint=_EXAMPLE_BODY)
    for key in given:
        if key not in _BODY_KEYS:
            raise DataError(f"unknown key {key!r}", hint=did_you_mean(key[:_SHOWN], _BODY_KEYS))
    users, histories = given.get("users", []), given.get("histories", {})
    if not _is_ids(users):
        raise DataError(f"users must be a list of ids, but {_culprit('users', users)}", hint='ids are strings: ["42"]')
    if not _is_ids_by_user(histories):
        raise DataError(
            f"histories must map new users to lists of item ids, but {_culprit('histories', histories, by_user=True)}",
            hint='for example {"new": ["1", "2"]}',
        )
    if not users and not histories:
        raise DataError("the request names no users", hint='send "users", "histories" or both')
    if twice := set(users) & set(histories):
        raise DataError(
            f"user {min(twice)!r} is in both users and histories", hint="name a new user in histories alone"
        )
    if len(users) + len(histories) > limits.batch:
        raise DataError(
            f"{len(users) + len(histories)} users in one request", hint=f"send at most {limits.batch} at a time"
        )
    candidates, exclude, exclude_seen = given.get("candidates"), given.get("exclude"), given.get("exclude_seen", True)
    if candidates is not None and not _is_ids(candidates):
        raise DataError(f"candidates must be a list of item ids, but {_culprit('candidates', candidates)}")
    if exclude is not None and not _is_ids(exclude) and not _is_ids_by_user(exclude):
        culprit = _culprit("exclude", exclude, by_user=True)
        raise DataError(f"exclude must be a list of item ids, or map users to such lists, but {culprit}")
    if not isinstance(exclude_seen, bool):
        raise DataError(f"exclude_seen must be true or false, not {_json(exclude_seen)}")
    k = _checked_k(given.get("k", min(10, limits.k)), limits)
    return RecommendBody(users, k, histories, exclude_seen, candidates, exclude)


def _checked_k(k: Any, limits: Limits) -> int:
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= limits.k:
        raise DataError(f"k must be a whole number from 1 to {limits.k}, not {_json(k)}")
    return k


def _is_id(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value)


def _is_ids(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def _is_ids_by_user(value: Any) -> TypeGuard[dict[str, list[str]]]:
    return isinstance(value, dict) and "" not in value and all(map(_is_ids, value.values()))


def _culprit(name: str, value: Any, *, by_user: bool = False) -> str:
    """Name the first part of an invalid value that is wrong, such as ``users[0] is 1``."""
    if isinstance(value, list) and not _is_ids(value):
        place = next(place for place, one in enumerate(value) if not _is_id(one))
        return f"{name}[{place}] is {_json(value[place])}"
    if by_user and isinstance(value, dict):
        if "" in value:
            return f"a user id in {name} is empty"
        user = next(user for user, ids in value.items() if not _is_ids(ids))
        return _culprit(f"{name}[{_json(user)}]", value[user])
    return f"{name} is {_json(value)}"


def _json(value: Any) -> str:
    """Return the start of a value as JSON."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
