"""Client of the OpenAI protocol: OpenAI, vLLM, llama.cpp, Ollama, LM Studio, and gateways.

Each call is one POST over a shared connection pool, without an intermediate library.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from enhancer.contracts import Completion, Context, LLMProvider, Options, Price, Request
from enhancer.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionFailedError,
    DeadlineError,
    ProviderError,
    RequestError,
    ServerError,
)
from enhancer_plugins.llm import _reply, _wire
from enhancer_plugins.llm._hosts import checked_base, is_local, proxy_for
from enhancer_plugins.llm._post import Poster
from enhancer_plugins.llm._prices import list_price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer_plugins.llm._openai_batch import OpenAIBatches

_OFFICIAL = "https://api.openai.com/v1"
# Encodes a string as ASCII JSON, faster than json.dumps().
_quoted = json.encoder.encode_basestring_ascii
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "enhancer",
}
# Reasoning models reject sampling parameters.
_REASONING = re.compile(r"^(o\d|gpt-5)(?!.*chat)")


class OpenAIOptions(Options):
    """Options of ``openai``."""

    api_base: str | None = None
    """Base URL; by default OPENAI_BASE_URL, else https://api.openai.com/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the API key. Servers on this machine or network need none."""
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    """Way of requesting the schema: enforced by the server, as any JSON object, or only in the prompt."""
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
        self._official = host == "api.openai.com"
        self._key = os.environ.get(options.api_key_env, "").strip()
        self._proxy = proxy_for(self._base)
        self._scrub = _wire.Scrubber([self._key, (urlsplit(self._proxy).password if self._proxy else None) or ""])
        self._schema: Mapping[str, Any] | None = None
        self._strict: Any = None
        self._constant: tuple[Mapping[str, Any] | None, tuple[object, ...], str] | None = None
        self._poster = Poster(
            f"{self._base}/chat/completions",
            base=self._base,
            headers={**_HEADERS, **({"Authorization": f"Bearer {self._key}"} if self._key else {})},
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
        """Mode of structured output; omitted for the default, so that older cache keys stay valid."""
        structured = self._options.structured
        return {} if structured == "json_schema" else {"structured": structured}

    def price(self, model: str) -> Price | None:
        """Return OpenAI's list price by the model's name, on any endpoint; None for models of other providers."""
        return list_price(f"openai/{self._name(model)}")

    def check(self, model: str) -> None:
        """Raise an error for a missing model, and for a missing or malformed API key."""
        if not self._name(model).strip():
            raise ConfigError("[llm] model is empty", hint="name the model, such as 'gpt-4o-mini'")
        if not self._key and not self._local:
            name = self._options.api_key_env
            raise AuthenticationError(f"no API key for {self._base}: {name} is not set", hint=f"export {name}=...")
        if not (self._key.isascii() and self._key.isprintable()):
            raise AuthenticationError(
                f"{self._options.api_key_env} contains a character that API keys cannot have",
                hint="set it again, on one line",
            )

    async def complete(self, request: Request) -> Completion:
        """Send one POST and read the response, within ``request.timeout`` seconds in total."""
        if request.model != self._checked:
            self.check(request.model)
            self._checked = request.model
        payload = self._body(request)
        try:
            async with asyncio.timeout(request.timeout) as deadline:
                status, headers, body = await self._poster.post(payload)
        except TimeoutError:
            if not deadline.expired():  # a timeout of the operating system, such as for the connection
                raise ConnectionFailedError(f"{self._base} timed out while connecting") from None
            raise DeadlineError(f"{self._base} did not answer within {request.timeout:g} s") from None
        if status != 200:
            return self._fail(status, {name.lower(): value for name, value in headers.items()}, body)
        # The gateway of litellm tells the cost in a header.
        cost = _wire.dollars_in(headers.get("x-litellm-response-cost"))
        return self._completion(body, _wire.rate_limits(headers.items()), cost)

    def batches(self, model: str) -> OpenAIBatches:  # noqa: ARG002 - any model may be in a job
        """Return a client of OpenAI's batch API."""
        from enhancer_plugins.llm._openai_batch import OpenAIBatches, Transport
        from enhancer_plugins.llm.batching.connection import Connection

        connection = Connection(
            base=self._base,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            session=self._poster.session,
            error=self._error,
            scrub=self._scrub,
            proxy=self._proxy,
            max_body=self._options.max_body,
        )
        return OpenAIBatches(
            Transport(
                connection=connection,
                payload=self._payload,
                completion=self._completion,
                endpoint=self._options.batch_endpoint,
            )
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._poster.aclose()

    # -- the request ------------------------------------------------------------------------------------------------

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
        )
        known = self._constant
        if known is None or known[0] is not request.schema or known[1] != fixed:
            rest = self._payload(request)
            del rest["messages"]
            known = self._constant = (request.schema, fixed, json.dumps(rest)[1:])
        messages = ", ".join(
            f'{{"role": {_quoted(message.role)}, "content": {_quoted(message.content)}}}'
            for message in request.messages
        )
        return f'{{"messages": [{messages}], {known[2]}'.encode()

    def _payload(self, request: Request) -> dict[str, Any]:
        model = self._name(request.model)
        payload: dict[str, Any] = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        }
        if not (self._official and _REASONING.match(model)):
            if request.temperature is not None:
                payload["temperature"] = request.temperature
            if request.top_p is not None:
                payload["top_p"] = request.top_p
        if request.max_tokens is not None:
            # OpenAI renamed the parameter; other servers support only the older name.
            payload["max_completion_tokens" if self._official else "max_tokens"] = request.max_tokens
        if request.seed is not None:
            payload["seed"] = request.seed
        if request.schema is not None and self._options.structured == "json_schema":
            if request.schema is not self._schema:  # usually the same for the whole run
                self._schema, self._strict = request.schema, _wire.strict_schema(dict(request.schema))
            schema = {"name": request.schema_name, "strict": True, "schema": self._strict}
            payload["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.schema is not None and self._options.structured == "json_object":
            payload["response_format"] = {"type": "json_object"}
        return payload

    # -- the answer -------------------------------------------------------------------------------------------------

    def _fail(self, status: int, headers: dict[str, str], body: bytes) -> Completion:
        if 300 <= status < 400:
            raise RequestError(
                f"{self._base} redirects to {self._scrub(headers.get('location', 'nowhere'))}",
                hint="set [llm] api_base to that URL",
            )
        message, code = _wire.provider_message(body)
        raise self._error(status, message, code, headers)

    def _error(self, status: int, message: str, code: str, headers: dict[str, str]) -> ProviderError:
        return _wire.error_for(
            status,
            self._scrub(message),
            code=code,
            wait=_wire.retry_after(headers),
            where=self._base,
            key_name=self._options.api_key_env,
        )

    def _completion(self, body: bytes, limits: dict[str, str], cost: float | None = None) -> Completion:
        try:
            data = json.loads(body.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ServerError(f"{self._base} sent a response that is not UTF-8 (byte {error.start})") from None
        except (ValueError, RecursionError):
            start = self._scrub(_wire.shorten(body[:200].decode("utf-8", "replace")))
            raise ServerError(f"{self._base} sent a response that is not JSON: {start!r}") from None
        if isinstance(data, dict) and data.get("error"):
            # Some gateways report upstream failures with status 200.
            message, code = _wire.provider_message(body)
            raise self._error(_wire.status_in_success(code), message, code, {})
        return _reply.completion(data, where=self._base, scrub=self._scrub.exact, headers=limits, told_cost=cost)
