"""Client of the embeddings of the OpenAI protocol: OpenAI, TEI, infinity, vLLM, Ollama, llama.cpp, and gateways.

Each request is one POST of many texts over a shared connection pool, without an intermediate library.
"""

from __future__ import annotations

import binascii
import os
import re
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from pydantic import Field, field_validator

from enhancer.contracts import Context, Embeddings, Options, RemoteEmbedder
from enhancer.errors import AuthenticationError, ConfigError, ProviderError, RequestError, ServerError
from enhancer_plugins.network import headers as http_headers, wire
from enhancer_plugins.network.hosts import check_encrypted, checked_base, is_local, proxy_for
from enhancer_plugins.network.post import Poster
from enhancer_plugins.network.prices import list_price
from enhancer_plugins.network.vectors import VectorOptions, scale_to_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from enhancer_plugins.network.openai_batches import OpenAIEmbeddingBatches

_OFFICIAL = "https://api.openai.com/v1"
_DIMS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "enhancer",
}


class OpenAIOptions(VectorOptions):
    """``[embedder]`` with ``use = "openai"``."""

    model: str = "text-embedding-3-small"
    """Name of the model at the server."""
    api_base: str | None = None
    """Base URL; by default OPENAI_BASE_URL, else https://api.openai.com/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the API key. Servers on this machine or network need none."""
    batch_size: int | None = Field(default=None, ge=1, le=2048)
    """Texts in one request; by default 256 for OpenAI, else 32, the default limit of TEI."""
    encoding: Literal["auto", "base64", "float"] = "auto"
    """Form of the vectors in responses: ``auto`` asks for base64, and for numbers from a server that refuses that."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further headers. ``${NAME}`` stands for an environment variable, the only place for a secret."""
    allow_insecure: bool = False
    """Whether a key may be sent over plain http to a public address. Private networks are exempt."""
    server: str | None = None
    """Name of the server in the fingerprint, in place of its address: with it, a server that moves makes no vector
    stale."""
    max_body: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Largest response in bytes, decompressed."""
    batch_endpoint: str = Field(default="/v1/embeddings", pattern="^/[A-Za-z0-9_./-]+$")
    """Name of the endpoint in batch jobs, for servers that do not call it as OpenAI does."""

    @field_validator("headers")
    @classmethod
    def _headers_hold_no_secret(cls, given: dict[str, str]) -> dict[str, str]:
        return http_headers.validated(given)


class OpenAI(RemoteEmbedder):
    """Client of ``{api_base}/embeddings``."""

    options_class = OpenAIOptions

    def __init__(self, options: Options, context: Context) -> None:  # noqa: ARG002 - no option is a path
        assert isinstance(options, OpenAIOptions)
        self._options = options
        base = options.api_base or os.environ.get("OPENAI_BASE_URL", "").strip() or _OFFICIAL
        self._base = checked_base(base, table="embedder").removesuffix("/embeddings")
        host = urlsplit(self._base).hostname or ""
        self._local = is_local(host)
        self._official = host == "api.openai.com"
        self._key = os.environ.get(options.api_key_env, "").strip()
        proxy = proxy_for(self._base)
        password = (urlsplit(proxy).password if proxy else None) or ""
        self._scrub = wire.Scrubber([self._key, password, *http_headers.secrets(options.headers)])
        self._credentials = {
            **({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            **http_headers.filled(options.headers),
        }
        self._proxy = proxy
        self._http = Poster(
            f"{self._base}/embeddings",
            base=self._base,
            headers={**_HEADERS, **self._credentials},
            proxy=proxy,
            scrub=self._scrub,
            max_body=options.max_body,
        )
        self._base64 = options.encoding != "float"
        self._width = options.dimensions or (_DIMS.get(self.model) if self._official else None)

    @property
    def endpoint(self) -> str:
        """Base URL."""
        return self._base

    @property
    def model(self) -> str:
        """Name of the model, without the prefix of litellm's notation."""
        return self._options.model.removeprefix("openai/")

    @property
    def fingerprint(self) -> str:
        """Model, server, and the options that affect a vector."""
        options = self._options
        return f"openai:{self.model}@{options.server or self._base}{options.shaping}"

    @property
    def dim(self) -> int:
        """Dimension of the vectors. Embeds a word to find out, unless it is known."""
        if self._width is None:
            self.encode(["dimension"])
        assert self._width is not None
        return self._width

    @property
    def max_texts(self) -> int:
        """Largest number of texts in a request."""
        return self._options.batch_size or (256 if self._official else 32)

    @property
    def max_tokens(self) -> int | None:
        """OpenAI's limit on the tokens of a request, with a margin."""
        return 200_000 if self._official else None

    def price(self) -> float | None:
        """Return OpenAI's list price by the model's name, on any server; None for models of others."""
        listed = list_price(f"openai/{self.model}")
        return None if listed is None else listed.input

    @property
    def sent_variables(self) -> list[str]:
        """The variable of the key, if it is set, and those of headers."""
        own = [self._options.api_key_env] if self._key else []
        return list(dict.fromkeys([*own, *http_headers.variables(self._options.headers)]))

    def check(self) -> None:
        """Raise an error for a missing model, and for a missing or malformed API key."""
        if not self.model.strip():
            raise ConfigError("[embedder] model is empty", hint="name the model, such as 'text-embedding-3-small'")
        name = self._options.api_key_env
        if not self._key and not self._local and not self._options.headers:
            raise AuthenticationError(f"no API key for {self._base}: {name} is not set", hint=f"export {name}=...")
        http_headers.check(self._options.headers, "[embedder.headers]")
        if self.sent_variables:
            check_encrypted(self._base, allow_insecure=self._options.allow_insecure, table="embedder")
        if not (self._key.isascii() and self._key.isprintable()):
            raise AuthenticationError(
                f"{name} contains a character that API keys cannot have", hint="set it again, on one line"
            )

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Send one POST and read the response."""
        self.check()
        with_base64 = self._base64
        status, headers, body = await self._http.post(self._payload(texts, with_base64))
        if status in {400, 422} and with_base64 and self._options.encoding == "auto" and b"encoding_format" in body:
            self._base64 = False
            status, headers, body = await self._http.post(self._payload(texts, False))
        if status != 200:
            raise self._failure(status, {name.lower(): value for name, value in headers.items()}, body)
        return self._embeddings(body, len(texts), wire.rate_limits(headers.items()))

    def batches(self) -> OpenAIEmbeddingBatches:
        """Return a client of OpenAI's batch API. Of other servers it is not known whether they have it."""
        from enhancer_plugins.network.batch_connection import Connection
        from enhancer_plugins.network.openai_batches import OpenAIEmbeddingBatches, Transport

        connection = Connection(
            base=self._base,
            headers=self._credentials,
            session=self._http.session,
            error=self._error,
            scrub=self._scrub,
            proxy=self._proxy,
            max_body=self._options.max_body,
        )
        client = OpenAIEmbeddingBatches(
            Transport(
                connection=connection,
                payload=lambda text: self._parameters([text], self._options.encoding != "float"),
                answer=lambda body: self._embeddings(body, 1, {}),
                endpoint=self._options.batch_endpoint,
            )
        )
        client.known = self._official
        return client

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _payload(self, texts: Sequence[str], with_base64: bool) -> bytes:
        return wire.dumps(self._parameters(texts, with_base64))

    def _parameters(self, texts: Sequence[str], with_base64: bool) -> dict[str, Any]:
        options = self._options
        # OpenAI refuses an empty text, and some servers a blank one.
        inputs = [options.prepared(text) or " " for text in texts]
        payload: dict[str, Any] = {"model": self.model, "input": inputs}
        if options.encoding != "auto" or with_base64:
            payload["encoding_format"] = "base64" if with_base64 else "float"
        if options.dimensions is not None:
            payload["dimensions"] = options.dimensions
        return {**payload, **options.extra_body}

    def _failure(self, status: int, headers: dict[str, str], body: bytes) -> ProviderError:
        if 300 <= status < 400:
            where = self._scrub(headers.get("location", "nowhere"))
            return RequestError(f"{self._base} redirects to {where}", hint="set [embedder] api_base to that URL")
        return self._error(status, *wire.provider_message(body), headers)

    def _error(self, status: int, message: str, code: str, headers: dict[str, str]) -> ProviderError:
        error = wire.error_for(
            status,
            self._scrub(message),
            code=code,
            wait=wire.retry_after(headers),
            where=self._base,
            key_name=self._options.api_key_env,
        )
        if error.hint is not None:
            error.hint = error.hint.replace("[llm]", "[embedder]")
        return error

    def _embeddings(self, body: bytes, texts: int, limits: dict[str, str]) -> Embeddings:
        try:
            data = wire.loads(body)
        except (ValueError, RecursionError):
            start = self._scrub(wire.shorten(body[:200].decode("utf-8", "replace")))
            raise ServerError(f"{self._base} sent a response that is not JSON: {start!r}") from None
        if isinstance(data, dict) and data.get("error"):  # with status 200, by some gateways
            message, code = wire.provider_message(body)
            status = int(code) if re.fullmatch("[45][0-9]{2}", code) else 500
            raise wire.error_for(status, self._scrub(message), code=code, where=self._base)
        try:
            rows: list[Any] = [None] * texts
            for place, one in enumerate(data["data"]):
                index = one.get("index", place)
                if rows[index] is not None or index < 0:
                    raise ServerError(f"{self._base} sent two vectors of text {index}")
                rows[index] = _vector(one["embedding"])
            usage = data.get("usage")
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, binascii.Error):
            raise ServerError(f"{self._base} sent JSON that is not a list of {texts} embeddings") from None
        if missing := sum(row is None for row in rows):
            raise ServerError(f"{self._base} sent {texts - missing} vectors for {texts} texts")
        usage = usage if isinstance(usage, dict) else {}
        counts = [one for name in ("prompt_tokens", "total_tokens") if (one := wire.tokens(usage.get(name)))]
        return Embeddings(
            vectors=self._table(rows),
            tokens=max(counts, default=None),
            cost_usd=wire.dollars(usage.get("cost")),
            headers=limits,
        )

    def _table(self, rows: Sequence[bytes]) -> NDArray[np.float32]:
        widths = set(map(len, rows))
        width = max(widths)
        if not widths <= {0, width} or not width or width % 4:
            raise ServerError(f"{self._base} sent vectors of different lengths")
        if 0 in widths:
            lost = np.full(width // 4, np.nan, "<f4").tobytes()
            rows = [row or lost for row in rows]
        # An array upon a bytearray can be written to.
        table = np.frombuffer(bytearray().join(rows), "<f4").astype(np.float32, copy=False).reshape(len(rows), -1)
        self._width = table.shape[1]
        scale_to_unit(table)
        return table


@cache
def _base64_decoder() -> Callable[[str], bytes]:
    """Return a strict decoder of base64; pybase64 takes a sixth of the time of the standard library."""
    try:
        return partial(import_module("pybase64").b64decode, validate=True)
    except ImportError:
        return partial(binascii.a2b_base64, strict_mode=True)


def _vector(value: object) -> bytes:
    """Return the float32 bytes of a vector that was sent as base64 or as numbers; none for null."""
    if value is None:
        return b""
    if isinstance(value, str):
        return _base64_decoder()(value)
    if not isinstance(value, list) or not value:
        raise TypeError
    return np.array([np.nan if one is None else one for one in value] if None in value else value, "<f4").tobytes()
