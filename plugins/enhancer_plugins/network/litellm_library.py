"""The library LiteLLM as all its clients use it: without retries, prints and network look-ups."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from enhancer.errors import (
    AuthenticationError,
    ConnectionFailedError,
    DeadlineError,
    PluginError,
    ServerError,
)
from enhancer_plugins.network import litellm_variables, wire
from enhancer_plugins.network.hosts import check_encrypted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from enhancer.errors import ProviderError
    from enhancer_plugins.network.litellm_variables import Use

# Their credentials need not be environment variables, so that their absence cannot be checked in advance.
_CLOUDS = frozenset({"azure", "azure_ai", "bedrock", "sagemaker", "sagemaker_chat", "vertex_ai", "vertex_ai_beta"})
_GATEWAYS = frozenset({"litellm_proxy"})
"""Providers that may well expect the key of OpenAI."""
_SECRET_NAMES = re.compile(r"(_API_KEY|_KEY|_TOKEN|_SECRET|_PASSWORD|_KEY_ID)$")
_PREFIX = re.compile(r"^(?:litellm\.\w+: ?)?(?:\w+: ?)?(?:\w+Exception ?-? ?)?(?:Error code: \d+ - )?")
# The library caches clients by event loop for the whole process. The last of ours in a loop closes them.
_clients_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()


def imported() -> Any:
    """Return the library, imported at the first call, without network look-ups, prints and retries."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # otherwise it reads a .env file in the working folder
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in the library and its dependencies
            import litellm

            if not litellm.suppress_debug_info:
                _widen(litellm.Message)
                litellm.ModelResponse()  # builds the models of the library, which warn
    except ImportError:
        raise PluginError("the library litellm is missing", hint='pip install "enhancer[openai]"') from None
    if not litellm.suppress_debug_info:
        litellm.suppress_debug_info = True
        litellm.telemetry = False
        # litellm 1.106.2: embeddings of the OpenAI protocol take `max_retries=0` as this default, which is 2.
        litellm.DEFAULT_MAX_RETRIES = 0
        warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)  # about such content
        # About types of its own, which it builds at the first response of some providers.
        warnings.filterwarnings("ignore", r"Items? .* on TypedDict class '_", UserWarning)
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return litellm


def secrets() -> list[str]:
    """Return the values of environment variables that look like keys."""
    return [value for name, value in os.environ.items() if len(value) >= 8 and _SECRET_NAMES.search(name)]


def enter(loop: asyncio.AbstractEventLoop) -> None:
    """Count a client of an event loop: the last one closes the library's connections."""
    _clients_by_loop[loop] = _clients_by_loop.get(loop, 0) + 1


async def leave(loop: asyncio.AbstractEventLoop) -> None:
    """Close the library's connections if this is the last client of the event loop."""
    _clients_by_loop[loop] -= 1
    if _clients_by_loop[loop] == 0:
        del _clients_by_loop[loop]
        await imported().close_litellm_async_clients()
        imported().in_memory_llm_clients_cache.flush_cache()


def provider_of(model: str) -> str | None:
    """Return the library's name of a model's provider; None if it knows none."""
    try:
        return str(imported().get_llm_provider(model)[1])
    except Exception:  # noqa: BLE001 - the library's own message is very long
        return None


def provider_at(model: str, base: str | None) -> str:
    """Return the library's name of the provider that answers for a model.

    Args:
        model: Name of the model.
        base: Base URL of the configuration; with one, an unknown name is a model that speaks OpenAI's protocol.
    """
    prefix = model.partition("/")[0]
    if litellm_variables.is_known(prefix):
        return prefix  # without an import of the library
    return provider_of(model) or ("openai" if base is not None else prefix)


def destination(model: str, base: str | None) -> str:
    """Return where requests about a model go, in words: an address, with the variable that sets it, or a provider.

    Args:
        model: Name of the model.
        base: Base URL of the configuration.
    """
    if base is not None:
        return base
    provider = provider_at(model, base)
    found = litellm_variables.address(provider)
    return provider if found is None else f"{found.url} ({found.variable})"


def check_address(model: str, base: str | None, *, allow_insecure: bool, table: str) -> None:
    """Check that a key is not sent over plain http to a public address.

    Args:
        model: Name of the model.
        base: Base URL of the configuration; without one, the environment may set it.
        allow_insecure: Whether to send it anyway.
        table: Table of the configuration.

    Raises:
        ConfigError: It would be.
    """
    if base is not None:
        check_encrypted(base, allow_insecure=allow_insecure, table=table)
    elif (found := litellm_variables.address(provider_at(model, base))) is not None:
        check_encrypted(found.url, allow_insecure=allow_insecure, table=table, origin=found.variable)


def check_key(model: str, provider: str, use: Use, *, base: str | None = None) -> None:
    """Raise an error for a missing API key, naming its variables.

    Args:
        model: Name of the model, such as ``voyage/voyage-3``.
        provider: The library's name of its provider.
        use: What it is asked for.
        base: Base URL of the configuration.

    Raises:
        AuthenticationError: The key is not set.
    """
    if provider in _CLOUDS or litellm_variables.own_set(provider, use):
        return
    own = [name for names in litellm_variables.own_variables(provider, use) for name in names]
    if base is None and own and provider not in _GATEWAYS and litellm_variables.borrows(provider, use):
        raise AuthenticationError(
            f"no API key for {model!r}: {' or '.join(own)} is not set,"
            f" and litellm would send OPENAI_API_KEY to {provider}",
            hint=f"export {own[0]}=...",
        )
    found = imported().validate_environment(model)
    missing = [name for name in found.get("missing_keys", []) if _SECRET_NAMES.search(name)]
    if missing and not found.get("keys_in_environment"):
        names = list(dict.fromkeys([*own, *missing]))
        raise AuthenticationError(
            f"no API key for {model!r}: {' or '.join(names)} is not set", hint=f"export {names[0]}=..."
        )


def error_of(
    error: Exception, where: str, scrub: Callable[[str], str], *, timeout: float | None = None
) -> ProviderError:
    """Return the error of the harness for one that the library raised.

    Args:
        error: The error.
        where: Name of the endpoint.
        scrub: Removes secrets from texts.
        timeout: Time limit of the call in seconds, for the message; None if the caller has none of its own.
    """
    library = imported()
    message = scrub(wire.shorten(_PREFIX.sub("", str(error), count=1))) or type(error).__name__
    if isinstance(error, library.Timeout):
        return DeadlineError(f"{where} did not answer {'in time' if timeout is None else f'within {timeout:g} s'}")
    if any(_is_connection(one) for one in _chain(error)):
        return ConnectionFailedError(f"the connection to {where} failed: {message}")
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or isinstance(error, library.APIConnectionError):
        return ServerError(f"{where} failed: {message}")
    received: Any = getattr(error, "litellm_response_headers", None) or {}
    headers = {str(name).lower(): str(value) for name, value in dict(received).items()}
    # The library drops the code; the error that caused this one has it.
    told = " ".join(str(one) for one in _chain(error))
    code = "insufficient_quota" if "insufficient_quota" in told else ""
    if wire.is_transient_refusal(told):
        return ServerError(f"{where} answered {status}: {message}", status=status)
    return wire.error_for(status, message, code=code, wait=wire.retry_after(headers), where=where)


def _widen(message: Any) -> None:
    """Let messages of the library have content in any form: it refuses lists of parts and objects otherwise."""
    with contextlib.suppress(AttributeError, KeyError, TypeError):  # another version may be built differently
        message.model_fields["content"].annotation = message.__annotations__["content"] = Any
        message.model_rebuild(force=True)


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(8):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def _is_connection(error: BaseException) -> bool:
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if isinstance(error, (ConnectionError, OSError)):
        return True
    if "openai.APIConnectionError" in kinds and not kinds & {"openai.APITimeoutError", "litellm.APIConnectionError"}:
        return True
    return bool(kinds & {"httpx.TransportError", "aiohttp.ClientConnectionError", "aiohttp.ClientPayloadError"})
