"""Check and build the JSON schemas of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROFILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "profile": {"type": "string", "minLength": 20, "maxLength": 2000},
        "tags": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 60},
            "minItems": 1,
            "maxItems": 8,
        },
    },
    "required": ["profile", "tags"],
    "additionalProperties": False,
}
"""Schema of an answer, unless a template has its own."""


def check_schema(schema: Mapping[str, Any], where: str) -> None:
    """Check that a schema can describe a profile.

    Args:
        schema: The schema.
        where: Name of the template for error messages.

    Raises:
        ConfigError: It is not a JSON schema, lacks the string property ``profile``, or refers to another document.
    """
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        raise ConfigError(f"{where}: [schema] is not a JSON schema: {error.message}") from None
    profile = schema.get("properties", {}).get("profile", {}) if isinstance(schema.get("properties"), dict) else {}
    if schema.get("type") != "object" or profile.get("type") != "string":
        raise ConfigError(
            f"{where}: [schema] must describe an object with a property 'profile' of type string",
            hint="other properties are optional; 'tags' should be a list of strings",
        )
    if reference := _remote_reference(schema):
        raise ConfigError(
            f"{where}: [schema] refers to {reference!r}", hint="only references within the schema are supported"
        )


def group_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an answer about a group of entities: ``{"items": [{"id": …, …}, …]}``.

    It does not list the ids, so a provider that compiles schemas compiles one per run.
    """
    element: dict[str, Any] = {
        **schema,
        "properties": {"id": {"type": "string"}, **schema.get("properties", {})},
        "required": ["id", *schema.get("required", ())],
    }
    definitions: dict[str, Any] = {key: element.pop(key) for key in ("$defs", "definitions") if key in element}
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": element}},
        "required": ["items"],
        "additionalProperties": False,
        **definitions,
    }


def _remote_reference(node: object) -> str | None:
    """Return the first ``$ref`` to another document, searching without recursion."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            for key in ("$ref", "$dynamicRef"):
                target = current.get(key)
                if isinstance(target, str) and not target.startswith("#"):
                    return target
            stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)
    return None
