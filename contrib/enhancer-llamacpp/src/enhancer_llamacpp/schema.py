"""Prepare schemas for llama.cpp: fix the ids of a group, and leave out what no grammar can enforce."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_UNENFORCED: Final = frozenset(
    {
        *("not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains", "propertyNames"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems"),
        *("$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"),
    }
)
"""Keywords any of which switches off llguidance for the whole answer."""
_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
"""Formats that llguidance enforces; any other switches it off."""
_IRREGULAR: Final = re.compile(r"\(\?(?:[=!]|<[=!])|\\[bB1-9]")
"""Parts of a pattern that no automaton decides: look-around, word boundaries and references to groups."""
_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_DATA: Final = frozenset({"enum", "const", "default", "examples"})
_LAYOUT: Final = {
    "whitespace_flexible": False,  # otherwise small models write line breaks until max_tokens
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": True,  # otherwise alternatives that overlap switch it off
}


def enforceable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without the keywords that would switch off its enforcement, and with the layout of answers.

    >>> enforceable({"type": "array", "uniqueItems": True})["type"]
    'array'
    """
    return {**_stripped(schema), "x-guidance": dict(_LAYOUT)}


def unenforced(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keywords of a schema that are not enforced, or only in part, each once and sorted.

    >>> unenforced({"properties": {"not": {"format": "isbn", "maxLength": 9}}, "uniqueItems": True})
    ('format = "isbn"', 'uniqueItems')
    """
    return tuple(sorted(dict.fromkeys(_found(schema))))


def _left_out(key: str, value: Any) -> bool:
    if key == "format":
        return value not in _FORMATS
    if key == "pattern":
        return isinstance(value, str) and _IRREGULAR.search(value) is not None
    return key in _UNENFORCED


def _stripped(part: Any) -> Any:
    if isinstance(part, list):
        return [_stripped(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {key: _inside(key, value) for key, value in part.items() if not _left_out(key, value)}


def _inside(key: str, value: Any) -> Any:
    if key in _DATA:
        return value
    if key in _BY_NAME and isinstance(value, dict):
        return {name: _stripped(each) for name, each in value.items()}
    return _stripped(value)


def _found(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _found(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            if _left_out(key, value):
                yield f'{key} = "{value}"' if key in ("format", "pattern") else key
            elif key in _BY_NAME and isinstance(value, dict):
                yield from _found(list(value.values()))
            elif key not in _DATA:
                if key == "oneOf":
                    yield "oneOf (as anyOf)"
                yield from _found(value)


def pin_ids(schema: dict[str, Any], ids: Sequence[str]) -> dict[str, Any]:
    """Return the schema with one element for each id, in order.

    Args:
        schema: Schema of ``{"items": [{"id": …, …}, …]}``. A schema of another form is returned unchanged.
        ids: Ids of the entities.

    >>> element = {"type": "object", "properties": {"id": {"type": "string"}, "profile": {"type": "string"}}}
    >>> pinned = pin_ids({"properties": {"items": {"type": "array", "items": element}}}, ["7", "8"])
    >>> [each["properties"]["id"] for each in pinned["properties"]["items"]["prefixItems"]]
    [{'const': '7'}, {'const': '8'}]
    """
    try:
        element = schema["properties"]["items"]["items"]
        properties = element["properties"]
    except (KeyError, TypeError):
        return schema
    if not ids or "id" not in properties:
        return schema
    each = [{**element, "properties": {**properties, "id": {"const": id_}}} for id_ in ids]
    exact = {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    return {**schema, "properties": {**schema["properties"], "items": exact}}
