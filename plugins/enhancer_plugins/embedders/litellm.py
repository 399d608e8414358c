"""Embedding models of many providers through the library LiteLLM: Voyage, Cohere, Gemini, Mistral, Bedrock and others.

The library is imported on first use, which takes seconds. Prefer ``openai`` for servers that speak its protocol.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from enhancer.contracts import Context, Embeddings, Options, RemoteEmbedder
from enhancer.errors import ConfigError, ConnectionFailedError, ServerError
from enhancer_plugins.network import litellm_library, litellm_variables, wire
from enhancer_plugins.network.hosts import is_local_url
from enhancer_plugins.network.prices import list_price
from enhancer_plugins.network.vectors import VectorOptions, scale_to_unit

if TYPE_CHECKING:
    from collections.abc import Sequence


class LiteLLMOptions(VectorOptions):
    """``[embedder]`` with ``use = "litellm"``."""

    model: str = "openai/text-embedding-3-small"
    """Name of the model as LiteLLM writes it, such as ``voyage/voyage-3``, ``cohere/embed-v4.0``,
    ``gemini/gemini-embedding-001`` or ``mistral/mistral-embed``."""
    api_base: str | None = None
    """Base URL of the endpoint; by default the provider's own."""
    batch_size: int = Field(default=32, ge=1, le=2048)
    """Texts in one request."""
    allow_insecure: bool = False
    """Whether a key may be sent over plain http to a public address. Private networks are exempt."""


class LiteLLM(RemoteEmbedder):
    """Embedding models by LiteLLM's names."""

    options_class = LiteLLMOptions

    def __init__(self, options: Options, context: Context) -> None:  # noqa: ARG002 - no option is a path
        assert isinstance(options, LiteLLMOptions)
        self._options = options
        self._base = options.api_base.rstrip("/") if options.api_base else None
        self._local = self._base is not None and is_local_url(self._base)
        self._scrub = wire.Scrubber(litellm_library.secrets())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._width = options.dimensions

    @property
    def endpoint(self) -> str:
        """Base URL; the name of the model if none is set, since that determines the endpoint."""
        return self._base or self._options.model

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._options.model

    @property
    def fingerprint(self) -> str:
        """Model, endpoint, and the options that affect a vector."""
        options = self._options
        return f"litellm:{options.model}{f'@{self._base}' if self._base else ''}{options.shaping}"

    @property
    def dim(self) -> int:
        """Dimension of the vectors. Embeds a word to find out, unless it is set."""
        if self._width is None:
            self.encode(["dimension"])
        assert self._width is not None
        return self._width

    @property
    def max_texts(self) -> int:
        """Largest number of texts in a request."""
        return self._options.batch_size

    def price(self) -> float | None:
        """Return the list price from the price map of the library, which is not imported for it; None if unknown."""
        listed = list_price(self._options.model)
        return None if listed is None else listed.input

    @property
    def sent_variables(self) -> list[str]:
        """The variables that the library reads for the model's provider, as far as they are set."""
        provider = litellm_library.provider_at(self._options.model, self._base)
        read = litellm_variables.own_set if self._local else litellm_variables.sent
        return read(provider, "embedding")

    @property
    def destination(self) -> str:
        """Base URL, that of the environment, or the name of the provider."""
        return litellm_library.destination(self._options.model, self._base)

    def check(self) -> None:
        """Raise an error for a missing API key, naming its variable, and for a model of an unknown provider."""
        if not self._options.model.strip():
            raise ConfigError("[embedder] model is empty", hint="name the model, such as 'voyage/voyage-3'")
        if not self._local:
            provider = litellm_library.provider_of(self._options.model)
            if provider is None:
                raise ConfigError(
                    f"[embedder] model: {self._options.model!r} has no provider that litellm knows",
                    hint="write it as 'provider/model', such as 'voyage/voyage-3'",
                )
            litellm_library.check_key(self._options.model, provider, "embedding", base=self._base)
        if self.sent_variables:
            litellm_library.check_address(
                self._options.model, self._base, allow_insecure=self._options.allow_insecure, table="embedder"
            )

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Send one request."""
        library = litellm_library.imported()
        self._enter()
        options = self._options
        arguments: dict[str, Any] = {
            "model": options.model,
            # Most providers refuse an empty text.
            "input": [options.prepared(text).strip() or "." for text in texts],
            "dimensions": options.dimensions,
            "api_base": self._base,
            # Local servers need no key, and the library insists on one.
            "api_key": "none" if self._local and not self.sent_variables else None,
            # One retry layer: the harness.
            "max_retries": 0,
            "num_retries": 0,
            "no-log": True,
            **options.extra_body,
        }
        try:
            response = await library.aembedding(**{k: value for k, value in arguments.items() if value is not None})
        except Exception as error:  # noqa: BLE001 - the library passes on the errors of its providers
            raise litellm_library.error_of(error, self.endpoint, self._scrub) from None
        return self._embeddings(response, len(texts))

    async def aclose(self) -> None:
        """Close the library's connections if this is the last client of the event loop."""
        loop, self._loop = self._loop, None
        if loop is not None:
            await litellm_library.leave(loop)

    def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            litellm_library.enter(loop)
        elif self._loop is not loop:
            raise ConnectionFailedError(
                "this embedder was opened in another event loop", hint="close it before it is used in another one"
            )

    def _embeddings(self, response: Any, texts: int) -> Embeddings:
        try:
            rows: list[Any] = [None] * texts
            for place, one in enumerate(response.data):
                get = one.get if isinstance(one, dict) else lambda name, one=one: getattr(one, name, None)
                index = get("index")
                # Some providers number no rows, and the library numbers them all 0.
                rows[index if index is not None and rows[index] is None else place] = get("embedding")
            table = np.array(rows, np.float32)
        except (AttributeError, IndexError, TypeError, ValueError):
            raise ServerError(f"{self.endpoint} sent no list of {texts} vectors") from None
        if table.ndim != 2 or not table.shape[1]:
            raise ServerError(f"{self.endpoint} sent an array of shape {list(table.shape)} for {texts} texts")
        if self._options.dimensions not in (None, table.shape[1]):
            raise ConfigError(
                f"[embedder] dimensions = {self._options.dimensions}, but {self._options.model!r} makes vectors of"
                f" {table.shape[1]:,} numbers",
                hint="leave it out, or choose a model that can shorten its vectors",
            )
        self._width = table.shape[1]
        scale_to_unit(table)
        usage = getattr(response, "usage", None)
        # The library reports zeros where it knows nothing.
        cost = wire.dollars((getattr(response, "_hidden_params", None) or {}).get("response_cost"))
        headers = getattr(response, "_response_headers", None) or {}
        return Embeddings(
            vectors=table,
            tokens=wire.tokens(getattr(usage, "prompt_tokens", None)) or None,
            cost_usd=cost or None,
            headers=wire.rate_limits((str(k), str(v)) for k, v in dict(headers).items()),
        )
