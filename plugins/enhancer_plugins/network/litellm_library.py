"""The library LiteLLM as all its clients use it: without retries, prints and network look-ups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from enhancer.errors import AuthenticationError, ConfigError, ConnectionFailedError, DeadlineError, ServerError
from enhancer_plugins.llm.litellm import (
    _CLOUDS,
    _PREFIX,
    _SECRET_NAMES,
    _chain,
    _is_connection,
    _library,
    _providers_by_loop,
)
from enhancer_plugins.network import common

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from enhancer.errors import ProviderError


def library() -> Any:
    """Return the library, imported at the first call."""
    found = _library()
    # litellm 1.106.2: embeddings of the OpenAI protocol take `max_retries=0` as this default, which is 2.
    found.DEFAULT_MAX_RETRIES = 0
    return found


def secrets() -> list[str]:
    """Return the values of environment variables that look like keys."""
    return [value for name, value in os.environ.items() if len(value) >= 8 and _SECRET_NAMES.search(name)]


def enter(loop: asyncio.AbstractEventLoop) -> None:
    """Count a client of an event loop: the last one closes the library's connections."""
    _providers_by_loop[loop] = _providers_by_loop.get(loop, 0) + 1


async def leave(loop: asyncio.AbstractEventLoop) -> None:
    """Close the library's connections if this is the last client of the event loop."""
    _providers_by_loop[loop] -= 1
    if _providers_by_loop[loop] == 0:
        del _providers_by_loop[loop]
        await library().close_litellm_async_clients()
        library().in_memory_llm_clients_cache.flush_cache()


def check_key(model: str, table: str) -> None:
    """Raise an error for a missing API key, naming its variable, and for a model of an unknown provider.

    Args:
        model: Name of the model, such as ``voyage/voyage-3``.
        table: Table of the configuration, for messages.

    Raises:
        AuthenticationError: The key is not set.
        ConfigError: The library knows no such provider.
    """
    try:
        provider = str(library().get_llm_provider(model)[1])
    except Exception:  # noqa: BLE001 - the library's own message is very long
        raise ConfigError(
            f"{table} model: {model!r} has no provider that litellm knows",
            hint="write it as 'provider/model', such as 'voyage/voyage-3'",
        ) from None
    if provider in _CLOUDS:
        return
    found = library().validate_environment(model)
    missing = [name for name in found.get("missing_keys", []) if _SECRET_NAMES.search(name)]
    if missing and not found.get("keys_in_environment"):
        names = " or ".join(missing)
        raise AuthenticationError(f"no API key for {model!r}: {names} is not set", hint=f"export {missing[0]}=...")


def error_of(error: Exception, where: str, scrub: Callable[[str], str]) -> ProviderError:
    """Return the error of the harness for one that the library raised."""
    message = scrub(common.shorten(_PREFIX.sub("", str(error), count=1))) or type(error).__name__
    if isinstance(error, library().Timeout):
        return DeadlineError(f"{where} did not answer in time")
    if any(_is_connection(one) for one in _chain(error)):
        return ConnectionFailedError(f"the connection to {where} failed: {message}")
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or isinstance(error, library().APIConnectionError):
        return ServerError(f"{where} failed: {message}")
    received: Any = getattr(error, "litellm_response_headers", None) or {}
    headers = {str(name).lower(): str(value) for name, value in dict(received).items()}
    code = "insufficient_quota" if any("insufficient_quota" in str(one) for one in _chain(error)) else ""
    return common.error_for(status, message, code=code, wait=common.retry_after(headers), where=where)
