"""Models of many providers through the library LiteLLM, without its retries, prints and network look-ups.

The library is imported on first use, which takes seconds. It reads whole responses into memory without a limit. Prefer
``openai`` for speed, and for endpoints that are not trusted.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from enhancer.contracts import Completion, Context, LLMProvider, Options, Price, Request
from enhancer.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionFailedError,
    DeadlineError,
    EnhancerError,
    ProviderError,
    ServerError,
    did_you_mean,
)
from enhancer_plugins.llm import _reply
from enhancer_plugins.llm._asking import AskingOptions
from enhancer_plugins.llm._dialect import MAX_CORRECTIONS, Dialect
from enhancer_plugins.llm._thinkers import thinks
from enhancer_plugins.network import headers, litellm_library, litellm_variables, wire
from enhancer_plugins.network.hosts import checked_base, is_local_url
from enhancer_plugins.network.prices import list_price

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

    from enhancer.contracts import BatchProvider

# Their requests are passed on as OpenAI's protocol has them.
_OPENAI_LIKE = frozenset({"openai", "azure", "openrouter", "deepseek", "hosted_vllm", "groq", "xai", "dashscope"})


class LiteLLMOptions(AskingOptions):
    """Options of ``litellm``."""

    api_base: str | None = None
    """Base URL of the endpoint; by default the provider's own."""
    drop_params: bool = True
    """Omit parameters that the model does not support (such as temperature) instead of failing."""


class LiteLLM(LLMProvider):
    """Models by LiteLLM's names, such as ``openai/gpt-4o-mini`` or ``anthropic/claude-3-5-haiku-latest``."""

    options_class = LiteLLMOptions

    def __init__(self, options: Options, context: Context) -> None:  # noqa: ARG002 - no option is a path
        assert isinstance(options, LiteLLMOptions)
        self._options = options
        self._base = checked_base(options.api_base) if options.api_base else None
        self._local = self._base is not None and is_local_url(self._base)
        self._scrub = wire.Scrubber([*litellm_library.secrets(), *options.header_secrets()])
        self._headers = options.filled_headers()
        self._dialect = Dialect(
            urlsplit(self._base or "").hostname or "",
            structured=options.structured,
            max_tokens_parameter=options.max_tokens_parameter,
            library=True,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def endpoint(self) -> str:
        """Base URL; ``litellm`` if none is set, since the name of the model determines the endpoint."""
        return self._base or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE") or "litellm"

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Mode of structured output and further parameters; empty for the defaults, so that older keys stay valid."""
        return self._options.sampling

    def price(self, model: str) -> Price | None:
        """Return the list price from the price map of the library, which is not imported for it; None if unknown."""
        return list_price(model)

    def thinks(self, model: str) -> bool | None:
        """Return whether the model thinks, by its name, the price map and what ``extra_body`` asks for."""
        return thinks(model, self._options.extra_body)

    def sent_variables(self, model: str) -> list[str]:
        """Return the variables that the library reads for the model's provider and that are set; those of headers."""
        own = litellm_variables.sent(litellm_library.provider_at(model, self._base), "chat")
        return list(dict.fromkeys([*own, *self._options.header_variables]))

    def destination(self, model: str) -> str:
        """Return the base URL, that of the environment, or the name of the provider."""
        return litellm_library.destination(model, self._base)

    def check(self, model: str) -> None:
        """Raise an error for a missing API key, naming its variable, and for a model of an unknown provider."""
        if not model.strip():
            raise ConfigError("[llm] model is empty", hint="name the model, such as 'openai/gpt-4o-mini'")
        self._options.check_headers()
        if self._base is not None or self.sent_variables(model):  # the library sends whichever key it finds
            allow = self._options.allow_insecure
            litellm_library.check_address(model, self._base, allow_insecure=allow, table="llm")
        if headers.sends_credentials(self._options.headers):
            return
        if self._local or (model.startswith("openai/") and os.environ.get("OPENAI_API_KEY", "").strip()):
            return
        if model.startswith("openai/"):
            raise AuthenticationError("OPENAI_API_KEY is not set", hint="export OPENAI_API_KEY=...")
        litellm_library.check_key(model, self._provider(model), "chat", base=self._base)

    async def complete(self, request: Request) -> Completion:
        """Send the request once, within ``request.timeout`` seconds in total."""
        library = litellm_library.imported()
        self._enter()
        try:
            async with asyncio.timeout(request.timeout):
                response = await self._exchange(library, request)
            return _cut_off(self._completion(response, self._where(request)), request.max_tokens)
        except EnhancerError:
            raise
        except TimeoutError:
            raise DeadlineError(f"{self._where(request)} did not answer within {request.timeout:g} s") from None
        except Exception as error:  # noqa: BLE001 - the library passes on the errors of its providers
            raise self._error(error, request) from None

    def batches(self, model: str) -> BatchProvider:
        """Return a client of the batch API of the model's provider: Anthropic's, Gemini's or Mistral's.

        Jobs are recorded under the name of that provider, so that a job of one is never looked for at another.
        """
        from enhancer_plugins.llm._correcting import CorrectingBatches
        from enhancer_plugins.llm.batching.channel import Channel
        from enhancer_plugins.llm.batching.dialects import DIALECTS, client_of
        from enhancer_plugins.llm.batching.recorder import Recorder

        prefix = model.partition("/")[0]
        name = prefix if prefix in DIALECTS else self._provider(model)
        if name not in DIALECTS:
            raise ConfigError(
                f"[llm] model: litellm has no batch API for {model!r}, so --batch cannot be used with it",
                hint=f'it has one for models of {", ".join(sorted(DIALECTS))}; for OpenAI\'s set [llm] use = "openai"',
            )
        channel = Channel(
            model,
            self._base or f"litellm/{name}",
            Recorder(
                _completion_of_library,
                _recording_client,
                self._arguments,
                lambda: self._dialect.version,
            ),
            refusal=self._error,
            session=self._open_session,
            scrub=self._scrub,
            scrub_exactly=self._scrub.exact,
            error=self._batch_error,
        )
        return CorrectingBatches(client_of(name, channel), self._dialect, model)

    async def aclose(self) -> None:
        """Close the library's connections if this is the last provider of the event loop."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        loop, self._loop = self._loop, None
        if loop is not None:
            await litellm_library.leave(loop)

    # -- the request ------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            litellm_library.enter(loop)
        elif self._loop is not loop:
            raise ConnectionFailedError(
                "this provider was opened in another event loop", hint="create one provider for each event loop"
            )

    async def _exchange(self, library: Any, request: Request) -> Any:
        """Send the request, again in another form as long as the server refuses a parameter that it can do without."""
        for _ in range(MAX_CORRECTIONS):
            version = self._dialect.version
            try:
                return await library.acompletion(**self._arguments(request))
            except library.BadRequestError as error:
                if not self._dialect.corrected(str(error), request.model, version, request.max_tokens):
                    raise
        return await library.acompletion(**self._arguments(request))

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            **self._dialect.parameters(request, request.model),
            "timeout": request.timeout,
            "drop_params": self._options.drop_params,
            # One retry layer: the harness.
            "max_retries": 0,
            "num_retries": 0,
            "no-log": True,
        }
        if self._base is not None:
            arguments["api_base"] = self._base
            provider = self._provider(request.model)
            if provider == "openai":
                arguments["custom_llm_provider"] = "openai"
                if self._local and not os.environ.get("OPENAI_API_KEY", "").strip():
                    arguments["api_key"] = "none"
        if self._headers:
            arguments["extra_headers"] = self._headers
        if request.reasoning_effort is not None and "custom_llm_provider" in arguments:
            # The library would leave it out for models that it does not know.
            arguments["allowed_openai_params"] = ["reasoning_effort"]
        if self._options.extra_body:
            self._add_body(arguments)
        return arguments

    def _add_body(self, arguments: dict[str, Any]) -> None:
        """Add the further parameters: as they are where the protocol is OpenAI's, else for the library to place."""
        body = self._options.extra_body
        if self._provider(arguments["model"]) in _OPENAI_LIKE:
            arguments["extra_body"] = body
        else:
            arguments |= body

    def _provider(self, model: str) -> str:
        provider = litellm_library.provider_of(model)
        if provider is not None:
            return provider
        if self._base is not None:
            return "openai"  # protocol of self-hosted endpoints
        first = model.split("/", 1)[0]
        known = [str(getattr(p, "value", p)) for p in litellm_library.imported().provider_list]
        near = did_you_mean(first, known) or ""
        raise ConfigError(
            f"[llm] model: {model!r} has no provider that litellm knows",
            hint=near if near.startswith("did") else "write it as 'provider/model', such as 'openai/gpt-4o-mini'",
        )

    def _where(self, request: Request) -> str:
        return self._base or request.model

    def _open_session(self) -> aiohttp.ClientSession:
        from enhancer_plugins.network.batch_connection import open_session

        self._enter()
        if self._session is None:
            self._session = open_session()
        return self._session

    def _batch_error(self, status: int, message: str, code: str, headers: dict[str, str], where: str) -> ProviderError:
        wait = wire.retry_after(headers)
        return wire.error_for(status, self._scrub(message), code=code, wait=wait, where=where)

    # -- the answer -------------------------------------------------------------------------------------------------

    def _completion(self, response: Any, where: str) -> Completion:
        try:
            data = response.model_dump(warnings=False)
        except Exception:  # noqa: BLE001 - not an object of the library
            raise ServerError(f"{where} sent a response that is not a chat completion") from None
        received = getattr(response, "_response_headers", None) or {}
        if not isinstance(data, dict):
            raise ServerError(f"{where} sent a response that is not a chat completion")
        if data.get("error"):
            message, code = wire.provider_message(json.dumps({"error": data["error"]}, default=str))
            raise wire.error_for(wire.status_in_success(code), self._scrub(message), code=code, where=where)
        told = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
        return _reply.completion(
            data,
            where=where,
            scrub=self._scrub.exact,
            headers=wire.rate_limits(dict(received).items()),
            # The library computes it from the list price. It is 0 for models that the list does not have.
            told_cost=wire.dollars(told) or None,
            zero_is_unknown=True,
        )

    def _error(self, error: Exception, request: Request) -> ProviderError:
        return litellm_library.error_of(error, self._where(request), self._scrub, timeout=request.timeout)


def _completion_of_library(**arguments: Any) -> Any:
    return litellm_library.imported().completion(**arguments)


def _recording_client(receive: Callable[[Any], None]) -> Any:
    """Return a client of the library that hands each request to ``receive`` and sends none."""
    litellm_library.imported()
    import httpx
    from litellm.llms.custom_httpx.http_handler import HTTPHandler

    def refuse(request: httpx.Request) -> httpx.Response:
        receive(request)
        return httpx.Response(400, json={"error": {"message": "recorded"}})

    return HTTPHandler(client=httpx.Client(transport=httpx.MockTransport(refuse)))


def _cut_off(completion: Completion, max_tokens: int | None) -> Completion:
    """Let an answer that used up its tokens end by ``length``: the library calls many other endings "stop"."""
    used_up = max_tokens is not None and (completion.completion_tokens or 0) >= max_tokens
    if used_up and completion.finish_reason in ("stop", "other"):
        return replace(completion, finish_reason="length")
    return completion
