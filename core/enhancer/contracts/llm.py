"""LLM providers: one completion for each request. They do not retry; the harness does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.contracts.record import Key

FinishReason = Literal["stop", "length", "content_filter", "refusal", "other"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that determines a completion, plus ``subjects`` and ``timeout``, which do not."""

    messages: tuple[Message, ...]
    model: str
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer; providers request structured output where the model supports it."""
    schema_name: str = "profile"
    temperature: float | None = 0.0
    top_p: float | None = None
    max_tokens: int | None = None
    """Maximum length of the answer in tokens, thought included."""
    reasoning_effort: str | None = None
    """Effort of a reasoning model, such as ``low``; None leaves it to the provider."""
    seed: int | None = None
    subjects: tuple[Key, ...] = ()
    """Entities of the request, in order. Not part of the cache key; used by recorded answers."""
    grouped: bool = False
    """Whether the answer is ``{"items": [{"id": …}, …]}``, one element for each subject, instead of one profile."""
    timeout: float = 60.0
    """Time limit of the whole call in seconds, also enforced by the harness. Not part of the cache key."""

    @property
    def batched(self) -> bool:
        """Former name of :attr:`grouped`."""
        return self.grouped


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Raw response of a provider."""

    text: str
    finish_reason: FinishReason = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Tokens that the model generated, thought included."""
    reasoning_tokens: int | None = None
    """Part of ``completion_tokens`` that went into thought; None if the provider does not tell."""
    cached_tokens: int | None = None
    """Part of ``prompt_tokens`` that the provider read from its prompt cache; None if it does not tell."""
    cost_usd: float | None = None
    """Cost reported by the provider; None if it reports none."""
    model: str = ""
    """Name of the model that answered, as reported by the provider."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Rate-limit headers (lower-case ``x-ratelimit-*``), for the rate limiter."""
    total_tokens: int | None = None
    """All tokens of the call, for calls with counts that are unknown or impossible. They count by the dearer price."""


@dataclass(frozen=True, slots=True)
class Price:
    """Price in USD per million tokens.

    >>> Price(input=0.15, output=0.6).cost(1_000_000, 500_000)
    0.45
    >>> Price(input=0.15, output=0.6, cached_input=0.05).cost(1_000_000, 500_000, 1_000_000)
    0.35
    """

    input: float
    output: float
    cached_input: float | None = None
    """Price of prompt tokens read from the provider's cache; None if unknown, and they cost as much as others."""

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """Return the cost of one call in USD. ``cached_tokens`` are part of ``prompt_tokens``."""
        cached = min(cached_tokens, prompt_tokens) if self.cached_input is not None else 0
        rest = prompt_tokens - cached
        return (rest * self.input + cached * (self.cached_input or 0.0) + completion_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What an inference server tells about itself, for display; None where it does not tell."""

    engine: str
    """Name of the software, such as ``vLLM``."""
    version: str | None = None
    models: tuple[str, ...] = ()
    """Names of the models that it serves."""
    refuses_unknown_models: bool = True
    """Whether a request for a model that it does not serve fails, instead of being answered by the model it has."""
    context: int | None = None
    """Maximum number of tokens of prompt and answer together."""
    cache_tokens: int | None = None
    """Tokens that its KV cache holds, of all calls together."""
    most_calls: int | None = None
    """Maximum number of calls that it works on at once."""
    running: int | None = None
    """Calls that it works on."""
    waiting: int | None = None
    """Calls in its queue."""
    keeps_prefixes: bool | None = None
    """Whether it computes the common beginning of prompts once (prefix caching)."""
    prefix_hits: float | None = None
    """Share of prompt tokens that came from the prefix cache, since the server was started."""
    remedies: Mapping[str, str] = field(default_factory=dict)
    """Flags of the server by what they change: ``context``, ``prefix`` and ``metrics``."""


class LLMProvider(ABC):
    """Client of one endpoint. An instance belongs to one event loop and is closed by ``aclose``.

    API keys come from the provider's environment variables, never from the options.
    """

    options_class: ClassVar[type[Options]] = Options
    keeps_deadlines: ClassVar[bool] = False
    """Whether :meth:`complete` always ends within ``request.timeout``. For other providers the harness sets a timer for
    each call, which costs a busy event loop a few per cent."""

    @abstractmethod
    def __init__(self, options: Options, context: Context) -> None:
        """Store the options. Must not open connections or import heavy libraries."""

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """Source of the answers (a base URL, the digest of a file, ...). Part of the cache key."""

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Options of this provider that affect its answers, as JSON values. Part of the cache key."""
        return {}

    @property
    def capacity(self) -> int | None:
        """Maximum number of concurrent calls; None if only ``[llm] concurrency`` limits them."""
        return None

    @abstractmethod
    async def complete(self, request: Request) -> Completion:
        """Send the request once, without retries.

        Raises:
            ProviderError: One of its subclasses, with a message that contains no secret.
        """

    @abstractmethod
    def price(self, model: str) -> Price | None:
        """Return the price of a model; None if unknown. Makes no network request."""

    def thinks(self, model: str) -> bool | None:  # noqa: ARG002
        """Return whether the model thinks before it answers; None if unknown. Makes no network request.

        The harness gives such a model room for thought in ``max_tokens``, beside the room for the answer.
        """
        return None

    def sent_variables(self, model: str) -> Sequence[str]:  # noqa: ARG002
        """Return the names of the environment variables whose values are sent to :meth:`destination`, for display."""
        return ()

    def destination(self, model: str) -> str:  # noqa: ARG002
        """Return where requests about a model go, for display; by default :attr:`endpoint`."""
        return self.endpoint

    def describe(self, model: str) -> str:
        """Return a short description of the model for display; by default its name."""
        return model

    def unenforced(self, schema: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG002
        """Return keywords of a schema that are known not to be enforced while the model writes, for display.

        By default none. The harness validates every answer against the whole schema.
        """
        return ()

    async def server_facts(self, model: str, *, public: bool) -> ServerFacts | None:  # noqa: ARG002
        """Ask the server about itself; None if it is of no kind that the provider knows.

        Makes network requests that cost nothing, and calls no model. By default None.

        Args:
            model: Model that is going to be asked for.
            public: Whether to ask a server outside this machine and its network, too.

        Raises:
            ProviderError: The server does not answer, or refuses the API key.
        """
        return None

    def check(self, model: str) -> None:
        """Raise an error if calls cannot succeed, such as for a missing API key. Makes no network request.

        Raises:
            AuthenticationError: The API key is missing; the message names its environment variable.
            ConfigError: The provider does not have the model.
        """

    async def aclose(self) -> None:
        """Close connections. A closed provider must not be used again."""
