"""Load a model with llama.cpp (through xllamacpp) and generate completions, one at a time per slot."""

from __future__ import annotations

import json
import logging
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.contracts import Completion
from enhancer.errors import ConfigError, ProviderError, RequestError, ServerError
from enhancer_llamacpp.schema import enforceable, pin_ids

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from enhancer.contracts.llm import FinishReason

_log = logging.getLogger("enhancer.llamacpp")
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Settings for loading a model."""

    path: Path
    context: int
    """Tokens per slot."""
    slots: int
    threads: int
    gpu_layers: int | None
    chat_template: str


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Engine:
    """A loaded model. Up to one thread per slot may use it at a time.

    Raises:
        ConfigError: llama.cpp cannot load the model.
    """

    def __init__(self, options: EngineOptions) -> None:
        import xllamacpp  # type: ignore[import-untyped, unused-ignore]

        params = xllamacpp.CommonParams()
        params.verbosity = -1  # stderr is reserved for progress
        params.model.path = str(options.path)
        params.model_alias = {options.path.stem}
        params.n_ctx = options.context * options.slots
        params.n_parallel = options.slots
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
        if options.gpu_layers is not None:
            params.n_gpu_layers = options.gpu_layers
        if options.chat_template:
            params.chat_template = options.chat_template
        params.enable_reasoning = 0  # profiles need no reasoning, which would use up max_tokens
        params.cache_ram_mib = 0  # prompts differ; their common prefix is cached in the slot
        # The engine always opens a local port as well; a random key blocks its use.
        params.api_keys = [secrets.token_urlsafe(32)]
        params.hostnames = ["127.0.0.1"]
        params.n_threads_http = 1
        params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ConfigError(
                f"llama.cpp cannot load {options.path}: {error}",
                hint="the file may be damaged, too large for the memory (a smaller [llm] context takes less),"
                " or of an architecture that this version does not support",
            ) from None
        self._name = options.path.stem
        self._convert: Any = xllamacpp.json_schema_to_grammar
        self._held: dict[str, bool] = {}

    def constraint(
        self, schema: Mapping[str, Any], stop: threading.Event, *, ids: Sequence[str] = (), name: str = "answer"
    ) -> dict[str, Any]:
        """Return the parameters of a request that make llama.cpp enforce a schema.

        They hold a grammar of llguidance, which enforces more than ``response_format`` does. Without an error,
        llama.cpp ignores a grammar that llguidance does not accept, so each schema is tried once, with one token. One
        that is not accepted is left to ``response_format``.

        Args:
            schema: The schema.
            stop: Ends the trial.
            ids: Ids of the entities, for a schema of several.
            name: Name of the schema.

        Raises:
            ProviderError: The trial failed.
        """
        key = json.dumps(schema)
        held = self._held.get(key)
        if held is None:
            held = self._holds(self._convert(enforceable(schema)), stop)
            if not held and not stop.is_set():
                _log.warning("llguidance does not accept the schema %s: llama.cpp enforces it in part", name)
            if not stop.is_set():
                self._held[key] = held
        whole = pin_ids(dict(schema), ids)
        if held:
            return {"grammar": self._convert(enforceable(whole))}
        form = {"name": name, "strict": True, "schema": whole}
        return {"response_format": {"type": "json_schema", "json_schema": form}}

    def _holds(self, grammar: str, stop: threading.Event) -> bool:
        """Return whether a grammar is enforced: whether it keeps a strongly favoured ``Z`` from being the answer."""
        asked = {"messages": [{"role": "user", "content": "Z"}], "temperature": 0.0, "max_tokens": 1}
        return "Z" not in self.ask({**asked, "logit_bias": [["Z", 100.0]], "grammar": grammar}, stop).text

    def ask(self, payload: dict[str, Any], stop: threading.Event) -> Completion:
        """Generate one completion. Blocks, and ends at the next token after ``stop`` is set.

        Raises:
            RequestError: The prompt does not fit into the context, or the schema cannot be enforced.
            ServerError: llama.cpp failed.
        """
        texts: list[str] = []
        last: dict[str, Any] = {}

        def receive(chunk: dict[str, Any]) -> bool:
            if error := chunk.get("error"):
                last["error"] = error
            if usage := chunk.get("usage"):
                last["usage"] = usage
            for choice in chunk.get("choices") or ():
                if text := (choice.get("delta") or {}).get("content"):
                    texts.append(text)
                if reason := choice.get("finish_reason"):
                    last["reason"] = reason
            return stop.is_set()

        try:
            self._server.handle_chat_completions(
                {**payload, "stream": True, "stream_options": {"include_usage": True}}, receive
            )
        except ValueError as error:  # an unsupported schema or template
            raise RequestError(f"llama.cpp rejects the request: {str(error)[:500]}", status=400) from None
        except RuntimeError as error:
            raise ServerError(f"llama.cpp failed: {str(error)[:500]}") from None
        if "error" in last:
            raise _failure(last["error"])
        usage = last.get("usage") or {}
        return Completion(
            text="".join(texts),
            finish_reason=_REASONS.get(last.get("reason", ""), "other"),
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            cost_usd=0.0,
            model=self._name,
        )

    def close(self) -> None:
        """Free the memory of the model."""
        self._server = None


def _failure(error: dict[str, Any]) -> ProviderError:
    message = str(error.get("message", error))[:500]
    code = error.get("code")
    if error.get("type") == "exceed_context_size_error":
        return RequestError(f"llama.cpp: {message}", hint="raise [llm] context, or lower [data] max_text", status=413)
    if isinstance(code, int) and 400 <= code < 500:
        return RequestError(f"llama.cpp: {message}", status=code)
    return ServerError(f"llama.cpp: {message}", status=code if isinstance(code, int) else None)
