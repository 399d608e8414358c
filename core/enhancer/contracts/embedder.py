"""Embedders: map texts to unit vectors, by a model in this process or by a server."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


class Embedder(ABC):
    """Maps texts to float32 vectors of unit L2 length. Construction is cheap; the model is loaded on first use."""

    options_class: ClassVar[type[Options]] = Options

    @abstractmethod
    def __init__(self, options: Options, context: Context) -> None:
        """Store the options. Must not import heavy libraries or load the model."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identifier of everything that affects a vector: weights, revision, tokenizer, pooling, prefix, truncation.

        Embedders with equal fingerprints return equal vectors. Stores compare vectors by this string alone.
        """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension of the vectors. May load the model."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        The vector of a text does not depend on the other texts, up to floating-point rounding.

        Args:
            texts: Texts of any length; long ones are truncated.

        Returns:
            float32 ``[len(texts), dim]``, rows of unit L2 length in the order of ``texts``; ``[0, dim]`` for no texts.
            The row of a text without a vector, such as one of unknown words alone, is zero; the harness puts its
            entity into quarantine.
        """

    def truncates(self, texts: Sequence[str]) -> Sequence[bool] | None:
        """Return which texts are longer than the model reads, so that their ends do not count; None if unknown.

        Must not use the network and must not load weights: the answer is None if it takes them, and they are not loaded
        yet. Every text to embed is asked about, so it must be much faster than :meth:`encode`.
        """
        del texts
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Response of a server to one request for vectors."""

    vectors: NDArray[np.float32]
    """float32 ``[len(texts), dim]``, rows of unit L2 length in the order of the texts. The row of a text without a
    vector is zero or not finite."""
    tokens: int | None = None
    """Tokens of the texts, as charged; None if the server reports none."""
    cost_usd: float | None = None
    """Cost reported by the server; None if it reports none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Rate-limit headers (lower-case ``x-ratelimit-*``), for the rate limiter."""


class RemoteEmbedder(Embedder):
    """Client of a server that embeds texts. The harness calls it: with rate limits, budget, retries and journal.

    An instance is used in one event loop at a time. After :meth:`aclose` it may be used again, in another one. API keys
    come from environment variables, never from the options.
    """

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """Address of the server, for messages."""

    @property
    def model(self) -> str:
        """Name of the model in the ledger; by default the fingerprint."""
        return self.fingerprint

    @abstractmethod
    def price(self) -> float | None:
        """Return the list price in USD per million tokens; None if unknown. Makes no network request."""

    @abstractmethod
    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Send one request, without retries.

        Args:
            texts: From one to :attr:`max_texts` texts.

        Raises:
            ProviderError: One of its subclasses, with a message that contains no secret. A ``RequestError`` says that
                at least one of the texts was refused: the harness finds out which.
        """

    @property
    def sent_variables(self) -> Sequence[str]:
        """Names of the environment variables whose values are sent to :attr:`destination`, for display."""
        return ()

    @property
    def destination(self) -> str:
        """Where requests go, for display; by default :attr:`endpoint`."""
        return self.endpoint

    @property
    def max_texts(self) -> int:
        """Largest number of texts in a request."""
        return 32

    @property
    def max_tokens(self) -> int | None:
        """Largest number of tokens in a request, over all texts; None without a limit."""
        return None

    @property
    def capacity(self) -> int | None:
        """Largest number of concurrent requests; None if only ``[embedder] concurrency`` limits them."""
        return None

    def check(self) -> None:
        """Raise an error if calls cannot succeed, such as for a missing API key. Makes no network request.

        Raises:
            AuthenticationError: The API key is missing; the message names its environment variable.
            ConfigError: The options cannot work.
        """

    async def aclose(self) -> None:
        """Close the connections of the current event loop."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts outside the harness: one request after another, without retries, budget or journal.

        Raises:
            ProviderError: A request failed.
        """
        import numpy as np

        async def whole() -> list[NDArray[np.float32]]:
            try:
                step = self.max_texts
                return [(await self.embed(texts[at : at + step])).vectors for at in range(0, len(texts), step)]
            finally:
                await self.aclose()

        parts: list[NDArray[np.float32]] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                parts.extend(asyncio.run(whole()))
            except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
                failures.append(error)

        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        thread = threading.Thread(target=work, name="enhancer-encode", daemon=True)  # the caller's loop may be running
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return np.concatenate(parts)
