"""Further HTTP headers of a configuration: ``${NAME}`` in a value stands for an environment variable."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from enhancer.errors import AuthenticationError

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
"""Names of headers and parameters whose values are secrets."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OWN = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "accept-encoding", "connection"}
)


def validated(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers.

    Raises:
        ValueError: One cannot be sent, belongs to the HTTP client, or holds a secret that is no environment variable.
    """
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"{name!r} has a character that HTTP headers cannot have")
        if name.lower() in _OWN:
            raise ValueError(f"{name!r} is set by the HTTP client")
        if SECRET_NAME.search(name) and not _VARIABLE.search(value):
            raise ValueError(
                f"{name!r} looks like a secret, which does not belong into a project file: write"
                " '${NAME}' and set the environment variable NAME"
            )
    return headers


def variables(headers: Mapping[str, str]) -> list[str]:
    """Return the names of the environment variables that headers send."""
    return list(dict.fromkeys(name for value in headers.values() for name in _VARIABLE.findall(value)))


def filled(headers: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return headers with the values of their variables; without those whose variable is not set."""
    return {
        name: _VARIABLE.sub(lambda found: environment[found[1]].strip(), value)
        for name, value in headers.items()
        if all(environment.get(variable, "").strip() for variable in _VARIABLE.findall(value))
    }


def secrets(headers: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the values of the variables that headers send."""
    return [value for name in variables(headers) if (value := environment.get(name, "").strip())]


def check(headers: Mapping[str, str], where: str, environment: Mapping[str, str] = os.environ) -> None:
    """Check that the variables of headers are set.

    Args:
        headers: The headers.
        where: Key of the configuration, for messages.
        environment: The environment variables.

    Raises:
        AuthenticationError: One is not set, or holds a character that headers cannot have.
    """
    for name in variables(headers):
        value = environment.get(name, "").strip()
        if not value:
            raise AuthenticationError(
                f"{where} needs the environment variable {name}, which is not set", hint=f"export {name}=..."
            )
        if not _VALUE.fullmatch(value):
            raise AuthenticationError(
                f"{name} contains a character that HTTP headers cannot have", hint="set it again, on one line"
            )


def sends_credentials(headers: Mapping[str, str]) -> bool:
    """Return whether headers hold a credential, so that no API key is needed beside them."""
    return any(SECRET_NAME.search(name) for name in headers)
