"""The JSON schema of an answer, for one entity and for several."""

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
"""What an answer must be, where a template does not say otherwise."""


def check_schema(schema: Mapping[str, Any], where: str) -> None:
    """Refuse a schema that cannot describe a profile.

    Raises:
        ConfigError: It is not a JSON schema, or lacks the string property ``profile``, or refers to another document.
    """
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        raise ConfigError(f"{where}: [schema] is not a JSON schema: {error.message}") from None
    profile = schema.get("properties", {}).get("profile", {}) if isinstance(schema.get("properties"), dict) else {}
    if schema.get("type") != "object" or profile.get("type") != "string":
        raise ConfigError(
            f"{where}: [schema] must describe an object with a property 'profile' of type string",
            hint="other properties are yours; 'tags', if there, should be a list of strings",
        )
    if reference := _remote_reference(schema):
        raise ConfigError(
            f"{where}: [schema] refers to {reference!r}", hint="only references within the schema are followed"
        )


def batch_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an answer about several entities: ``{"items": [{"id": …, …}, …]}``.

    It does not name the ids, so that a provider that compiles schemas compiles one for the whole run.
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
    """The first ``$ref`` that leaves the document, found without recursion."""
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
