"""Client of the OpenAI protocol: OpenAI, vLLM, SGLang, llama.cpp, Ollama, LM Studio, and gateways.

Each call is one POST over a shared connection pool, without an intermediate library.
"""

from __future__ import annotations

import asyncio
import json
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field

from enhancer.contracts import Completion, Context, LLMProvider, Options, Price, Request
from enhancer.errors import (
    AuthenticationError,
    ConfigError,
    DeadlineError,
    ProviderError,
    RequestError,
    ServerError,
)
from enhancer_plugins.llm import _reply
from enhancer_plugins.llm._asking import AskingOptions
from enhancer_plugins.llm._dialect import MAX_CORRECTIONS, Dialect
from enhancer_plugins.llm._thinkers import thinks
from enhancer_plugins.network import wire
from enhancer_plugins.network.headers import sends_credentials
from enhancer_plugins.network.hosts import check_encrypted, checked_base, is_local, proxy_for
from enhancer_plugins.network.post import Poster
from enhancer_plugins.network.prices import list_price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts import BatchProvider, Message, ServerFacts
    from enhancer_plugins.network.post import Reply

_OFFICIAL = "https://api.openai.com/v1"
# Encodes a string as ASCII JSON, faster than json.dumps().
_quoted = json.encoder.encode_basestring_ascii

_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "enhancer",
}
_REFUSED = (400, 422)
"""Statuses of requests that the server understood and will not answer in this form."""


class OpenAIOptions(AskingOptions):
    """Options of ``openai``."""

    api_base: str | None = None
    """Base URL; by default OPENAI_BASE_URL, else https://api.openai.com/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the API key. Servers on this machine or network need none."""
    batch_endpoint: str = Field(default="/v1/chat/completions", pattern="^/[A-Za-z0-9_./-]+$")
    """Name of the endpoint in batch jobs; Azure's is ``/chat/completions``."""
    max_body: int = Field(default=8 * 1024 * 1024, ge=1024)
    """Maximum size of a response in bytes, decompressed."""


class OpenAI(LLMProvider):
    """Client of ``{api_base}/chat/completions``."""

    options_class = OpenAIOptions
    keeps_deadlines = True

    def __init__(self, options: Options, context: Context) -> None:  # noqa: ARG002 - no option is a path
        assert isinstance(options, OpenAIOptions)
        self._options = options
        base = options.api_base or os.environ.get("OPENAI_BASE_URL", "").strip() or _OFFICIAL
        self._base = checked_base(base)
        host = urlsplit(self._base).hostname or ""
        self._local = is_local(host)
        self._keeps_prefix = host == "openrouter.ai"
        self._dialect = Dialect(host, structured=options.structured, max_tokens_parameter=options.max_tokens_parameter)
        self._key = os.environ.get(options.api_key_env, "").strip()
        self._proxy = proxy_for(self._base)
        proxy_password = (urlsplit(self._proxy).password if self._proxy else None) or ""
        self._scrub = wire.Scrubber([self._key, proxy_password, *options.header_secrets()])
        added = options.filled_headers()
        own = self._key and not any(name.lower() == "authorization" for name in added)
        self._credentials = {**({"Authorization": f"Bearer {self._key}"} if own else {}), **added}
        self._constant: tuple[Mapping[str, Any] | None, tuple[object, ...], str] | None = None
        self._poster = Poster(
            f"{self._base}/chat/completions",
            base=self._base,
            headers={**_HEADERS, **self._credentials},
            proxy=self._proxy,
            scrub=self._scrub,
            max_body=options.max_body,
        )
        self._checked = ""
        """Model that :meth:`check` has passed."""

    @property
    def endpoint(self) -> str:
        """Base URL."""
        return self._base

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Mode of structured output and further parameters; empty for the defaults, so that older keys stay valid."""
        return self._options.sampling

    def price(self, model: str) -> Price | None:
        """Return OpenAI's list price by the model's name, on any endpoint; None for models of other providers."""
        return list_price(f"openai/{self._name(model)}")

    def thinks(self, model: str) -> bool | None:
        """Return whether the model thinks, by its name, the price map and what ``extra_body`` asks for."""
        return thinks(model, self._options.extra_body)

    def sent_variables(self, model: str) -> list[str]:  # noqa: ARG002 - whatever the model
        """Return the variable of the key, if it is set, and those of headers."""
        replaced = any(name.lower() == "authorization" for name in self._options.filled_headers())
        own = [self._options.api_key_env] if self._key and not replaced else []
        return [*own, *self._options.header_variables]

    def check(self, model: str) -> None:
        """Raise an error for a missing model, and for a missing or malformed API key or variable of a header."""
        if not self._name(model).strip():
            raise ConfigError("[llm] model is empty", hint="name the model, such as 'gpt-4o-mini'")
        self._options.check_headers()
        if not self._key and not self._local and not sends_credentials(self._options.headers):
            name = self._options.api_key_env
            raise AuthenticationError(f"no API key for {self._base}: {name} is not set", hint=f"export {name}=...")
        if self.sent_variables(model):
            check_encrypted(self._base, allow_insecure=self._options.allow_insecure)
        if not (self._key.isascii() and self._key.isprintable()):
            raise AuthenticationError(
                f"{self._options.api_key_env} contains a character that API keys cannot have",
                hint="set it again, on one line",
            )

    async def server_facts(self, model: str, *, public: bool) -> ServerFacts | None:
        """Ask a server of vLLM or SGLang about itself; None for any other."""
        if not (self._local or public):
            return None
        from enhancer_plugins.llm._engines import server_facts
        from enhancer_plugins.network.pages import Pages

        pages = Pages(
            base=self._base,
            headers=self._credentials,
            session=self._poster.session,
            error=self._error,
            scrub=self._scrub,
            proxy=self._proxy,
            max_body=self._options.max_body,
        )
        return await server_facts(self._base, self._name(model), pages.get)

    async def complete(self, request: Request) -> Completion:
        """Send one POST and read the response, within ``request.timeout`` seconds in total."""
        if request.model != self._checked:
            self.check(request.model)
            self._checked = request.model
        try:
            status, headers, body = await self._exchange(request)
        except TimeoutError:
            raise DeadlineError(f"{self._base} did not answer within {request.timeout:g} s") from None
        if status != 200:
            return self._fail(status, headers, body)
        # The gateway of litellm tells the cost in a header.
        cost = wire.dollars_in(headers.get("x-litellm-response-cost"))
        return self._completion(body, wire.rate_limits(headers.items()), cost)

    def batches(self, model: str) -> BatchProvider:
        """Return a client of OpenAI's batch API."""
        from enhancer_plugins.llm._correcting import CorrectingBatches
        from enhancer_plugins.network.batch_connection import Connection
        from enhancer_plugins.network.openai_batches import OpenAIBatches, Transport

        connection = Connection(
            base=self._base,
            headers=self._credentials,
            session=self._poster.session,
            error=self._error,
            scrub=self._scrub,
            proxy=self._proxy,
            max_body=self._options.max_body,
        )
        transport = Transport(
            connection=connection,
            payload=self._payload,
            answer=lambda body: self._completion(body, {}),
            endpoint=self._options.batch_endpoint,
        )
        return CorrectingBatches(OpenAIBatches(transport), self._dialect, self._name(model))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._poster.aclose()

    # -- the request ------------------------------------------------------------------------------------------------

    async def _exchange(self, request: Request) -> Reply:
        """Send the request, again in another form as long as the server refuses a parameter that it can do without."""
        deadline = asyncio.get_running_loop().time() + request.timeout
        for _ in range(MAX_CORRECTIONS):
            version = self._dialect.version
            reply = await self._poster.post(self._body(request), deadline)
            if reply.status not in _REFUSED:
                return reply
            message, _ = wire.provider_message(reply.body)
            if not self._dialect.corrected(message, self._name(request.model), version, request.max_tokens):
                return reply
        return await self._poster.post(self._body(request), deadline)

    def _name(self, model: str) -> str:
        # Accept litellm's notation, so that providers can be exchanged. The published name openai/gpt-oss is kept.
        if self._keeps_prefix or model.startswith("openai/gpt-oss"):
            return model
        return model.removeprefix("openai/")

    def _body(self, request: Request) -> bytes:
        """Return the payload as JSON. Everything but the messages is encoded once and cached."""
        fixed = (
            request.model,
            request.temperature,
            request.top_p,
            request.max_tokens,
            request.seed,
            request.schema_name,
            request.reasoning_effort,
            self._dialect.version,
        )
        known = self._constant
        if known is None or known[0] is not request.schema or known[1] != fixed:
            rest = self._payload(request)
            del rest["messages"]
            known = self._constant = (request.schema, fixed, json.dumps(rest)[1:])
        return f'{{"messages": [{", ".join(map(_message, request.messages))}], {known[2]}'.encode()

    def _payload(self, request: Request) -> dict[str, Any]:
        model = self._name(request.model)
        return {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            **self._dialect.parameters(request, model),
            **self._options.extra_body,
        }

    # -- the answer -------------------------------------------------------------------------------------------------

    def _fail(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        if 300 <= status < 400:
            raise RequestError(
                f"{self._base} redirects to {self._scrub(headers.get('location', 'nowhere'))}",
                hint="set [llm] api_base to that URL",
            )
        message, code = wire.provider_message(body)
        raise self._error(status, message, code, headers)

    def _error(self, status: int, message: str, code: str, headers: Mapping[str, str]) -> ProviderError:
        return wire.error_for(
            status,
            self._scrub(message),
            code=code,
            wait=wire.retry_after(headers),
            where=self._base,
            key_name=self._options.api_key_env,
        )

    def _completion(self, body: bytes, limits: dict[str, str], cost: float | None = None) -> Completion:
        try:
            data = wire.loads(body)
        except UnicodeDecodeError as error:
            raise ServerError(f"{self._base} sent a response that is not UTF-8 (byte {error.start})") from None
        except (ValueError, RecursionError):
            start = self._scrub(wire.shorten(body[:200].decode("utf-8", "replace")))
            raise ServerError(f"{self._base} sent a response that is not JSON: {start!r}") from None
        if isinstance(data, dict) and data.get("error"):
            # Some gateways report upstream failures with status 200.
            message, code = wire.provider_message(body)
            raise self._error(wire.status_in_success(code), message, code, {})
        return _reply.completion(data, where=self._base, scrub=self._scrub.exact, headers=limits, told_cost=cost)


def _message(message: Message) -> str:
    """Encode a message as JSON."""
    content = _quoted_system(message.content) if message.role == "system" else _quoted(message.content)
    return f'{{"role": {_quoted(message.role)}, "content": {content}}}'


@lru_cache(maxsize=32)
def _quoted_system(content: str) -> str:
    """Encode a system text, which is the same in every call."""
    return _quoted(content)
