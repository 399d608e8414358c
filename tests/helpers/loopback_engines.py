"""Serve the dialects of vLLM and SGLang on the loopback server, with a prefix cache.

Written from vLLM 0.33.0 (``vllm/entrypoints``, ``vllm/v1/metrics/loggers.py``) and SGLang 0.5.23
(``sglang/srt/entrypoints``, ``sglang/srt/managers/tokenizer_manager.py``, ``sglang/srt/observability``)::

    with LoopbackEngine("vllm") as engine:
        ...                                # [llm] api_base = engine.url
        assert engine.prefix_hits > 0.5

A prompt is the concatenation of its messages, and a token is four of its characters. Where the schema is enforced, the
answer is an instance of it; otherwise it is prose, as a small model writes without guidance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web
from loopback import Behaviour, Body, LoopbackServer, Received, instance_of

Dialect = Literal["vllm", "sglang"]
PROSE = "Here is a profile: a warm film about friendship."
THOUGHT = "The item is a film, so let me think about what it feels like."
_TOKEN = 4
"""Characters of a token."""
_BLOCK = 16
"""Tokens of a block of the prefix cache."""
_REMOVED = ("guided_json", "guided_regex", "guided_choice", "guided_grammar")
"""Parameters that vLLM before 0.12 took, and that later versions ignore."""


@dataclass(kw_only=True)
class Flags:
    """How the engine was started."""

    model: str = "Qwen/Qwen3-8B"
    context: int = 32_768
    caching: bool = True
    metrics: bool = True
    report_cached: bool = False
    """``--enable-prompt-tokens-details`` of vLLM, ``--enable-cache-report`` of SGLang."""
    thinks: bool = False
    """Whether the model thinks unless its chat template is told not to, and a reasoning parser is set."""
    cache_tokens: int = 400_000
    most_calls: int = 256
    api_key: str = ""


@dataclass
class LoopbackEngine:
    """One engine.

    Attributes:
        dialect: ``vllm`` or ``sglang``.
        flags: How it was started.
        queried: Prompt tokens that were looked for in the prefix cache.
        hits: Those that were there.
    """

    dialect: Dialect
    flags: Flags = field(default_factory=Flags)
    queried: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        self._cached: set[str] = set()
        self.pages: list[str] = []
        """Paths of the pages that were fetched."""
        self.server = LoopbackServer(add_routes=self._add_routes)
        card = {"id": self.flags.model, "object": "model", "created": 1, "owned_by": self.dialect, "root": "/models/m"}
        self.server.script.models = [{**card, "parent": None, "max_model_len": self.flags.context}]
        self.server.script.choose = self._choose

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    @property
    def url(self) -> str:
        """Base URL, for ``api_base``."""
        return self.server.url

    @property
    def prefix_hits(self) -> float:
        """Share of prompt tokens from the prefix cache."""
        return self.hits / self.queried

    @property
    def calls(self) -> list[Received]:
        """Calls for completions, in order."""
        return [received for received in self.server.requests if received.path.endswith("/chat/completions")]

    # -- calls ------------------------------------------------------------------------------------------------------

    def _choose(self, number: int, body: Body) -> Behaviour:
        prompt = "".join(message["content"] for message in body["messages"])
        tokens = len(prompt) // _TOKEN
        wanted = body.get("max_completion_tokens") or body.get("max_tokens") or 16
        refused = (self._refused_by_vllm if self.dialect == "vllm" else self._refused_by_sglang)(body, tokens, wanted)
        if refused is not None:
            return refused
        cached = self._look_up(prompt)
        room = min(wanted, self.flags.context - tokens)  # vLLM shortens the answer; SGLang has refused it
        schema = self._schema(body)
        text = PROSE if schema is None else json.dumps(instance_of(schema, prompt))
        message: Body = {"role": "assistant", "content": text}
        thought = len(THOUGHT) // _TOKEN if self._thinks(body) else 0
        if thought:
            message["reasoning" if self.dialect == "vllm" else "reasoning_content"] = THOUGHT
        spent = thought + len(text) // _TOKEN
        ending = "stop"
        if spent > room:
            ending, spent, message["content"] = "length", room, text[: max(0, room - thought) * _TOKEN]
        usage: Body = {"prompt_tokens": tokens, "completion_tokens": spent, "total_tokens": tokens + spent}
        usage["prompt_tokens_details"] = {"cached_tokens": cached} if self.flags.report_cached else None
        if thought:
            usage["completion_tokens_details"] = {"reasoning_tokens": thought}
        if self.dialect == "sglang":
            usage["reasoning_tokens"] = thought
        return Behaviour(message=message, finish_reason=ending, usage=False, usage_override=usage)

    def _refused_by_vllm(self, body: Body, tokens: int, wanted: int) -> Behaviour | None:
        context = self.flags.context
        if body.get("model") not in (None, self.flags.model):
            error = {"message": f"The model `{body['model']}` does not exist.", "type": "NotFoundError"}
            return Behaviour(status=404, error={**error, "param": "model", "code": 404})
        name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
        message = ""
        if wanted > context:
            message = (
                f"{name}={wanted} cannot be greater than max_model_len={context}. Please request fewer output tokens."
            )
        elif tokens > context:
            message = (
                f"This model's maximum context length is {context} tokens. However, your prompt contains {tokens} input"
                " tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input"
                " prompt."
            )
        if not message:
            return None
        return Behaviour(status=400, error={"message": message, "type": "BadRequestError", "param": name, "code": 400})

    def _refused_by_sglang(self, body: Body, tokens: int, wanted: int) -> Behaviour | None:
        context = self.flags.context
        message = ""
        if body.get("seed") is not None and not isinstance(body["seed"], int):
            message = "seed must be an integer"
        elif wanted > context:
            message = (
                f"max_completion_tokens is too large: {wanted}.This model supports at most {context} completion tokens."
            )
        elif tokens >= context:
            message = f"The input ({tokens} tokens) is longer than the model's context length ({context} tokens)."
        elif tokens + wanted > context:
            message = (
                f"Requested token count exceeds the model's maximum context length of {context} tokens. You requested a"
                f" total of {tokens + wanted} tokens: {tokens} tokens from the input messages and {wanted} tokens for the"
                " completion. Please reduce the number of tokens in the input messages or the completion to fit within"
                " the limit."
            )
        if not message:
            return None
        error = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
        return Behaviour(status=400, error=error, flat_error=True)

    def _schema(self, body: Body) -> Mapping[str, Any] | None:
        """Return the schema that guides the answer; unknown parameters are ignored without a word."""
        form = body.get("response_format") or {}
        if form.get("type") == "json_schema":
            return form["json_schema"]["schema"]
        if form.get("type") == "json_object":
            return {"type": "object"}
        if self.dialect == "vllm":
            return (body.get("structured_outputs") or {}).get("json")
        return None

    def _thinks(self, body: Body) -> bool:
        return self.flags.thinks and (body.get("chat_template_kwargs") or {}).get("enable_thinking") is not False

    def _look_up(self, prompt: str) -> int:
        """Return the tokens of whole blocks at the beginning that are in the cache, and put all of them there."""
        tokens = len(prompt) // _TOKEN
        self.queried += tokens
        found, missed = 0, not self.flags.caching
        for end in range(_BLOCK, tokens + 1, _BLOCK):
            beginning = prompt[: end * _TOKEN]
            missed = missed or beginning not in self._cached
            found += 0 if missed else _BLOCK
            self._cached.add(beginning)
        self.hits += found
        return found

    # -- pages ------------------------------------------------------------------------------------------------------

    def _add_routes(self, app: web.Application, _: LoopbackServer) -> None:
        pages = {"/health": self._health, "/metrics": self._metrics}
        pages |= {"/version": self._version} if self.dialect == "vllm" else {"/server_info": self._server_info}
        for path, page in pages.items():
            app.router.add_get(path, page)
        app.middlewares.append(self._guard)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse a wrong key: vLLM guards ``/v1`` alone, SGLang all but health and metrics."""
        open_pages = ("/health", "/metrics") if self.dialect == "sglang" else ("/health", "/metrics", "/version")
        self.pages.append(request.path)
        given = request.headers.get("Authorization", "")
        if self.flags.api_key and request.path not in open_pages and given != f"Bearer {self.flags.api_key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.33.0"})

    async def _server_info(self, _: web.Request) -> web.Response:
        flags = self.flags
        told = {
            "model_path": "/models/m",
            "served_model_name": flags.model,
            "api_key": flags.api_key or None,
            "launch_command": f"python -m sglang.launch_server --model-path /models/m --api-key {flags.api_key}",
            "context_length": flags.context,
            "disable_radix_cache": not flags.caching,
            "max_running_requests": None,
            "max_total_num_tokens": flags.cache_tokens,
            "max_req_input_len": flags.context - 6,
            "internal_states": [{"effective_max_running_requests_per_dp": flags.most_calls}],
            "version": "0.5.23",
        }
        return web.json_response(told)

    async def _metrics(self, _: web.Request) -> web.Response:
        if not self.flags.metrics:
            return web.json_response({"detail": "Not Found"}, status=404)
        lines = self._metrics_of_vllm() if self.dialect == "vllm" else self._metrics_of_sglang()
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")

    def _metrics_of_vllm(self) -> list[str]:
        labels = f'{{engine="0",model_name="{self.flags.model}"}}'
        blocks = self.flags.cache_tokens // _BLOCK
        config = f'block_size="{_BLOCK}",enable_prefix_caching="{self.flags.caching}",num_gpu_blocks="{blocks}"'
        return [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{labels} {self.server.in_flight:.1f}",
            f"vllm:num_requests_waiting{labels} 0.0",
            f"vllm:kv_cache_usage_perc{labels} 0.0",
            f"vllm:prefix_cache_queries_total{labels} {self.queried:.1f}",
            f"vllm:prefix_cache_queries_created{labels} 1.7900000000000000e+09",
            f"vllm:prefix_cache_hits_total{labels} {self.hits:.1f}",
            f'vllm:cache_config_info{{cache_dtype="auto",{config},engine="0"}} 1.0',
        ]

    def _metrics_of_sglang(self) -> list[str]:
        labels = f'model_name="{self.flags.model}",engine_type="unified",tp_rank="0"'
        return [
            "# HELP sglang:num_running_reqs The number of running requests.",
            "# TYPE sglang:num_running_reqs gauge",
            f"sglang:num_running_reqs{{{labels}}} {self.server.in_flight:.1f}",
            f"sglang:num_queue_reqs{{{labels}}} 0.0",
            f'sglang:prompt_tokens_total{{{labels},is_streaming="false"}} {self.queried:.1f}',
            f'sglang:cached_tokens_total{{{labels},cache_source="device"}} {self.hits:.1f}',
            f"sglang:cache_hit_rate{{{labels}}} 0.5",
        ]
