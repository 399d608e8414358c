"""What a request asks for, read strictly: whatever is not understood is an error that says what would be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from enhancer.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enhancer.serving.service.settings import Limits

_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False}
_KEYS: Final = ("users", "histories", "k", "exclude_seen", "candidates", "exclude")


@dataclass(frozen=True, slots=True)
class Query:
    """What a GET asks for."""

    id: str
    k: int
    exclude_seen: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What a batch asks for."""

    users: list[str]
    k: int
    histories: dict[str, list[str]] = field(default_factory=dict)
    exclude_seen: bool = True
    candidates: list[str] | None = None
    exclude: list[str] | dict[str, list[str]] | None = None

    def named_items(self) -> Iterator[str]:
        """Items that must be known."""
        yield from self.candidates or ()
        if isinstance(self.exclude, dict):
            for items in self.exclude.values():
                yield from items
        else:
            yield from self.exclude or ()


def read_query(parameters: Sequence[tuple[str, str]], limits: Limits, id_name: str, *others: str) -> Query:
    """Read the parameters of a GET.

    Args:
        parameters: Names and values as they came.
        limits: What may be asked for.
        id_name: The parameter that must be there.
        others: Those that may be.

    Raises:
        DataError: One is missing, unknown, given twice, or not what it should be.
    """
    names = (id_name, *others)
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in names:
            raise DataError(f"unknown parameter {name!r}", hint=did_you_mean(name, names))
        if name in given:
            raise DataError(f"{name} is given twice", hint="POST /recommend takes many users")
        given[name] = value
    if not given.get(id_name):
        raise DataError(f"{id_name} is missing", hint=f"add ?{id_name}=...")
    k: Any = given.get("k", min(10, limits.k))
    if isinstance(k, str):
        k = int(k) if k.isascii() and k.isdigit() and len(k) < 10 else k
    seen = given.get("exclude_seen", "true").lower()
    if seen not in _TRUTH:
        raise DataError(f"exclude_seen must be true or false, not {seen!r}")
    return Query(given[id_name], _count(k, limits), _TRUTH[seen])


def read_batch(body: bytes, limits: Limits) -> Asked:
    """Read the body of a POST.

    Args:
        body: JSON.
        limits: What may be asked for.

    Raises:
        DataError: It is not JSON, or not what it should be.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body is not JSON: {error}", hint='send {"users": ["42"], "k": 10}') from None
    if not isinstance(given, dict):
        raise DataError("the body must be an object", hint='send {"users": ["42"], "k": 10}')
    for key in given:
        if key not in _KEYS:
            raise DataError(f"unknown key {key!r}", hint=did_you_mean(key, _KEYS))
    users, histories = given.get("users", []), given.get("histories", {})
    if not _ids(users):
        raise DataError("users must be a list of ids", hint='ids are strings: ["42"]')
    if not _by_user(histories):
        raise DataError("histories must give a list of item ids by user", hint='{"new": ["1", "2"]}')
    if not users and not histories:
        raise DataError("nobody is asked about", hint='send "users", "histories" or both')
    if twice := set(users) & set(histories):
        raise DataError(f"user {min(twice)!r} is in users and in histories", hint="a new user has a history only")
    if len(users) + len(histories) > limits.batch:
        raise DataError(
            f"{len(users) + len(histories)} users in one request", hint=f"send at most {limits.batch} at a time"
        )
    candidates, exclude, seen = given.get("candidates"), given.get("exclude"), given.get("exclude_seen", True)
    if candidates is not None and not _ids(candidates):
        raise DataError("candidates must be a list of item ids")
    if exclude is not None and not _ids(exclude) and not _by_user(exclude):
        raise DataError("exclude must be a list of item ids, or such lists by user")
    if not isinstance(seen, bool):
        raise DataError(f"exclude_seen must be true or false, not {seen!r}")
    return Asked(users, _count(given.get("k", min(10, limits.k)), limits), histories, seen, candidates, exclude)


def _count(k: Any, limits: Limits) -> int:
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= limits.k:
        raise DataError(f"k must be a whole number from 1 to {limits.k}, not {k!r}")
    return k


def _ids(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def _by_user(value: Any) -> TypeGuard[dict[str, list[str]]]:
    return isinstance(value, dict) and "" not in value and all(map(_ids, value.values()))
