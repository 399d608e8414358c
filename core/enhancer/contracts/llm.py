"""LLM providers: one request in, one completion out. They never retry: the harness does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts.record import Key

FinishReason = Literal["stop", "length", "content_filter", "refusal", "other"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that determines an answer, and a little that does not (``subjects``, ``timeout``)."""

    messages: tuple[Message, ...]
    model: str
    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer must satisfy; a provider asks for structured output where it can."""
    schema_name: str = "profile"
    temperature: float | None = 0.0
    top_p: float | None = None
    max_tokens: int | None = None
    """Room for the answer, in tokens."""
    seed: int | None = None
    subjects: tuple[Key, ...] = ()
    """The entities that are asked about, in order. Not part of the cache key: only recorded answers need it."""
    batched: bool = False
    """Whether the answer is ``{"items": [{"id": …}, …]}``, one element a subject, rather than one profile."""
    timeout: float = 60.0
    """Seconds for the whole call. The harness enforces it too; not part of the cache key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What came back, raw."""

    text: str
    finish_reason: FinishReason = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    """As told by the provider; None when it does not tell."""
    model: str = ""
    """The model that answered, as told by the provider."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Rate-limit headers (lower-case ``x-ratelimit-*``), for the gate."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens.

    >>> Price(input=0.15, output=0.6).cost(1_000_000, 500_000)
    0.45
    """

    input: float
    output: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD for one call."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


class LLMProvider(ABC):
    """Speaks to one endpoint. One instance serves one event loop; ``aclose`` ends it.

    Keys come from the provider's own environment variables, never from the options.
    """

    options_class: ClassVar[type[Options]] = Options
    keeps_deadlines: ClassVar[bool] = False
    """Whether :meth:`complete` ends within ``request.timeout`` whatever happens, by a timer that covers all of it. The
    harness sets a timer of its own for those that do not promise it: each costs a busy loop a few per cent."""

    @abstractmethod
    def __init__(self, options: Options, context: Context) -> None:
        """Take the options; open no connection and import nothing heavy yet."""

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """Names where the answers come from (a base URL, a file's digest, ...); part of the cache key."""

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Options of this provider that change what it answers (JSON values); part of the cache key."""
        return {}

    @property
    def capacity(self) -> int | None:
        """Calls that it can work on at the same time; None where the other side decides, and ``concurrency`` holds."""
        return None

    @abstractmethod
    async def complete(self, request: Request) -> Completion:
        """Ask once, without retrying.

        Raises:
            ProviderError: One of its subclasses; no message ever holds a secret.
        """

    @abstractmethod
    def price(self, model: str) -> Price | None:
        """The model's price, or None when unknown. Calls nothing over the network."""

    def describe(self, model: str) -> str:
        """Who answers, in a few words for people; by default the model."""
        return model

    def check(self, model: str) -> None:
        """Refuse early what cannot work: a missing key, an unknown model. Calls nothing over the network.

        Raises:
            AuthenticationError: The environment variable that must hold the key is named.
            ConfigError: The model cannot be served.
        """

    async def aclose(self) -> None:
        """Close connections; a closed provider is not used again."""
