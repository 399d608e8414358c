"""Refuse integers that TOML does not have: it allows 64 bits, and Python's parser any number of digits."""

from __future__ import annotations

from typing import Any

from enhancer.errors import ConfigError

_LARGEST = 2**63 - 1


def check_integers(tree: dict[str, Any], where: str) -> None:
    """Check that every integer of a TOML document has at most 64 bits. Does not recurse.

    Args:
        tree: The parsed document, or a table of it.
        where: Name of the document for messages.

    Raises:
        ConfigError: One is larger.
    """
    open_values: list[tuple[str, Any]] = list(tree.items())
    while open_values:
        name, value = open_values.pop()
        if isinstance(value, dict):
            open_values += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            open_values += [(name, inner) for inner in value]
        elif isinstance(value, int) and not -_LARGEST - 1 <= value <= _LARGEST:
            raise ConfigError(f"{where}: {name} is an integer of more than 64 bits", hint="write a smaller number")
