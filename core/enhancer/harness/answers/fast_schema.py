"""Whether a value fits a JSON schema, for the plain schemas that profiles have, some fifty times faster.

It only ever says yes or "ask the validator": what it does not know for certain, and everything that it would refuse, is
judged by jsonschema, which also finds the words for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Check = Callable[[Any], bool]
_WORDS_ONLY = frozenset({"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"})
_TYPES: Mapping[str, type] = {"boolean": bool, "integer": int, "null": type(None)}
_OBJECT = frozenset({"properties", "required", "additionalProperties"})
_ARRAY = frozenset({"items", "minItems", "maxItems"})
_STRING = frozenset({"minLength", "maxLength", "enum"})


def shortcut(schema: Mapping[str, Any]) -> Check | None:
    """Compile the check; None where the schema says more than is understood here.

    >>> check = shortcut({"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 2})
    >>> check(["a", "b"]), check(["a", ""]), check("a")
    (True, False, False)
    >>> shortcut({"type": "string", "pattern": "^a"}) is None
    True
    """
    if not isinstance(schema, dict):
        return None
    said = {key for key in schema if key not in _WORDS_ONLY}
    kind = schema.get("type")
    if kind == "object" and said <= _OBJECT | {"type"}:
        return _object(schema)
    if kind == "array" and said <= _ARRAY | {"type"}:
        return _array(schema)
    if kind == "string" and said <= _STRING | {"type"}:
        return _string(schema)
    if isinstance(kind, str) and kind in _TYPES and said == {"type"}:
        exact = _TYPES[kind]
        # By exact type: True is an int to Python and none to JSON.
        return lambda value: type(value) is exact
    return None


def _object(schema: Mapping[str, Any]) -> Check | None:
    properties, required, more = (
        schema.get("properties", {}),
        schema.get("required", []),
        schema.get("additionalProperties", True),
    )
    if not isinstance(properties, dict) or not isinstance(required, list) or not isinstance(more, bool):
        return None
    checks: dict[str, Check] = {}
    for name, part in properties.items():
        check = shortcut(part)
        if check is None:
            return None
        checks[name] = check
    needed = frozenset(required)

    def fits(value: Any) -> bool:
        if type(value) is not dict or not needed <= value.keys():
            return False
        for name, content in value.items():
            check = checks.get(name)
            if check is None:
                if not more:
                    return False
            elif not check(content):
                return False
        return True

    return fits


def _array(schema: Mapping[str, Any]) -> Check | None:
    least, most = _limit(schema, "minItems", 0), _limit(schema, "maxItems", 1 << 62)
    each = shortcut(schema["items"]) if "items" in schema else (lambda _: True)
    if least is None or most is None or each is None:
        return None
    return lambda value: type(value) is list and least <= len(value) <= most and all(map(each, value))


def _string(schema: Mapping[str, Any]) -> Check | None:
    least, most = _limit(schema, "minLength", 0), _limit(schema, "maxLength", 1 << 62)
    if least is None or most is None:
        return None
    if "enum" in schema:
        enum = schema["enum"]
        if not isinstance(enum, list):
            return None
        allowed = frozenset(word for word in enum if isinstance(word, str))
        return lambda value: type(value) is str and value in allowed and least <= len(value) <= most
    return lambda value: type(value) is str and least <= len(value) <= most


def _limit(schema: Mapping[str, Any], name: str, otherwise: int) -> int | None:
    """A length; None where it is no plain number."""
    value = schema.get(name, otherwise)
    return value if type(value) is int else None
