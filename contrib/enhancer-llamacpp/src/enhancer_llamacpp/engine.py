"""llama.cpp itself, by way of xllamacpp: loads a model, and answers one call at a time for each slot."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.contracts import Completion
from enhancer.errors import ConfigError, ProviderError, RequestError, ServerError

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from enhancer.contracts.llm import FinishReason

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How a model is loaded."""

    path: Path
    context: int
    """Tokens of one slot."""
    slots: int
    threads: int
    gpu_layers: int | None
    chat_template: str


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Engine:
    """One loaded model. May be asked from as many threads as it has slots.

    Raises:
        ConfigError: llama.cpp cannot load it.
    """

    def __init__(self, options: EngineOptions) -> None:
        import xllamacpp  # type: ignore[import-untyped, unused-ignore]

        params = xllamacpp.CommonParams()
        params.verbosity = -1  # nothing on stderr: that is the progress line's
        params.model.path = str(options.path)
        params.model_alias = {options.path.stem}
        params.n_ctx = options.context * options.slots
        params.n_parallel = options.slots
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
        if options.gpu_layers is not None:
            params.n_gpu_layers = options.gpu_layers
        if options.chat_template:
            params.chat_template = options.chat_template
        params.enable_reasoning = 0  # a profile needs no thoughts, and they would use up its room
        params.cache_ram_mib = 0  # each prompt is new; their common beginning stays in the slot without it
        # The engine always listens on a port of this machine as well. Nobody is told the key.
        params.api_keys = [secrets.token_urlsafe(32)]
        params.hostnames = ["127.0.0.1"]
        params.n_threads_http = 1
        params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ConfigError(
                f"llama.cpp cannot load {options.path}: {error}",
                hint="the file may be damaged, of an architecture that this version does not know, or too large for"
                " the memory; a smaller [llm] context takes less",
            ) from None
        self._name = options.path.stem

    def ask(self, payload: dict[str, Any], stop: threading.Event) -> Completion:
        """One answer. Blocks; gives up at the next token once ``stop`` is set.

        Raises:
            RequestError: It does not fit into the context, or its schema cannot be enforced.
            ServerError: llama.cpp failed.
        """
        texts: list[str] = []
        last: dict[str, Any] = {}

        def hear(chunk: dict[str, Any]) -> bool:
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
                {**payload, "stream": True, "stream_options": {"include_usage": True}}, hear
            )
        except ValueError as error:  # what it says of a schema or a template that it cannot use
            raise RequestError(f"llama.cpp refuses the request: {str(error)[:500]}", status=400) from None
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
        """Free the model's memory."""
        self._server = None


def _failure(error: dict[str, Any]) -> ProviderError:
    message = str(error.get("message", error))[:500]
    code = error.get("code")
    if error.get("type") == "exceed_context_size_error":
        return RequestError(f"llama.cpp: {message}", hint="raise [llm] context, or lower [data] max_text", status=413)
    if isinstance(code, int) and 400 <= code < 500:
        return RequestError(f"llama.cpp: {message}", status=code)
    return ServerError(f"llama.cpp: {message}", status=code if isinstance(code, int) else None)
