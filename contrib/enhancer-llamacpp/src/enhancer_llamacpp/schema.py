"""Fix the ids in the schema of a request for several entities, so that the model cannot omit, repeat or invent one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


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
