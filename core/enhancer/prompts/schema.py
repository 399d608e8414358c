"""Check and build the JSON schemas of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

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


_DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data, not schemas."""


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
    except RecursionError:
        raise ConfigError(f"{where}: [schema] is nested too deeply", hint="write it more simply") from None
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
    _check_references(schema, where)


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


def _check_references(schema: Mapping[str, Any], where: str) -> None:
    """Check that every reference leads somewhere, and that none leads back to itself for the same value.

    Raises:
        ConfigError: One does not. A schema that applies to itself could never be validated.
    """
    finished: set[int] = set()
    for start in _subschemas(schema):
        # Depth-first search without recursion, over the schemas that apply to the same value.
        path: dict[int, None] = {}
        stack: list[tuple[dict[str, Any], bool]] = [(start, False)]
        while stack:
            node, done = stack.pop()
            if done:
                del path[id(node)]
                finished.add(id(node))
                continue
            if id(node) in path:
                raise ConfigError(
                    f"{where}: [schema] refers to itself without end",
                    hint="let a schema refer to itself only below properties or items",
                )
            if id(node) in finished:
                continue
            path[id(node)] = None
            stack.append((node, True))
            stack += [(other, False) for other in _in_place(node, schema, where)]


def _subschemas(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    found, stack = [], [dict(schema) if not isinstance(schema, dict) else schema]
    while stack:
        node: Any = stack.pop()
        if isinstance(node, dict):
            found.append(node)
            stack.extend(value for key, value in node.items() if key not in _DATA)
        elif isinstance(node, list):
            stack.extend(node)
    return found


def _in_place(node: dict[str, Any], root: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Return the schemas that apply to the same value as a schema does."""
    others = [node.get(key) for key in ("not", "if", "then", "else")]
    for key in ("allOf", "anyOf", "oneOf"):
        members = node.get(key)
        others += members if isinstance(members, list) else []
    reference = node.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        others.append(_target(reference, root, where))
    return [other for other in others if isinstance(other, dict)]


def _target(reference: str, root: Mapping[str, Any], where: str) -> object:
    node: Any = root
    for part in unquote(reference).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            node = node[int(key)] if isinstance(node, list) else node[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ConfigError(f"{where}: [schema] refers to {reference!r}, which it does not have") from None
    return node
