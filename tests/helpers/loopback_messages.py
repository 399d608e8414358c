"""Serve Anthropic's ``/v1/messages`` and ``/v1/messages/batches`` on the loopback server, with failures on demand.

Written from the public API reference (https://platform.claude.com/docs/en/api/messages/batches, 2026-12-01): creation
takes the requests themselves, states are ``in_progress``, ``canceling`` and ``ended``, counts are zero until the end,
and lists are paged by ``after_id``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from loopback import Behaviour, LoopbackServer, completion_body
from loopback_batch import Body, Job, LoopbackBatches

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_TYPES |= {413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}


def as_chat(params: Mapping[str, Any]) -> Body:
    """Return the body of a message as one of a chat completion."""
    messages = [{"role": "system", "content": _text(params["system"])}] if params.get("system") else []
    messages += [{"role": m["role"], "content": _text(m["content"])} for m in params["messages"]]
    schema = (params.get("output_format") or (params.get("output_config") or {}).get("format") or {}).get("schema")
    if schema is None and params.get("tools"):
        schema = params["tools"][0]["input_schema"]
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    return {"model": params["model"], "messages": messages, **({"response_format": form} if schema else {})}


def message_of(behaviour: Behaviour, params: Mapping[str, Any], number: int) -> Body:
    """Return the message that answers a request."""
    chat = json.loads(completion_body(behaviour, as_chat(params), number))
    choice, usage = chat["choices"][0], chat.get("usage", {})
    text = choice["message"]["content"] or choice["message"].get("refusal") or ""
    reason = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}.get(choice["finish_reason"])
    block: Body = {"type": "text", "text": text}
    if params.get("tools"):
        block = {"type": "tool_use", "id": "toolu_1", "name": params["tools"][0]["name"], "input": _loaded(text)}
        reason = "tool_use" if reason == "end_turn" else reason
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": params["model"],
        "content": [block],
        "stop_reason": "refusal" if choice["message"].get("refusal") else reason,
        "stop_sequence": None,
        "usage": {"input_tokens": usage.get("prompt_tokens"), "output_tokens": usage.get("completion_tokens")},
    }


class LoopbackMessageBatches(LoopbackBatches):
    """Message batches of a loopback server."""

    upload_route = "create"
    """The route that receives the requests: there are no files."""

    def add_routes(self, app: web.Application, server: LoopbackServer) -> None:
        """Add the routes to an application."""
        self._server = server
        app.router.add_post("/v1/messages", self._message)
        app.router.add_post("/v1/messages/batches", self._create)
        app.router.add_get("/v1/messages/batches", self._list)
        app.router.add_get("/v1/messages/batches/{id}", self._retrieve)
        app.router.add_get("/v1/messages/batches/{id}/results", self._content)
        app.router.add_post("/v1/messages/batches/{id}/cancel", self._cancel)

    def key_of(self, request: web.Request) -> str:
        return request.headers.get("x-api-key", "")

    def error(self, status: int, message: str) -> web.Response:
        error = {"type": _TYPES.get(status, "api_error"), "message": message}
        return web.json_response({"type": "error", "error": error, "request_id": "req_1"}, status=status)

    async def _message(self, request: web.Request) -> web.Response:
        assert self._server is not None
        params = await request.json()
        self._server.record(request, params)
        return web.json_response(message_of(self._server.script.default, params, 0))

    async def _create(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("create")
        body = await request.json()
        if (early := self._fail_early(request, failure)) is not None:
            return early
        if (full := self.full()) is not None:
            return full
        self.uploads.append(request.content_length or 0)
        lines = body.get("requests")
        if not lines or any(set(line) != {"custom_id", "params"} or len(line["custom_id"]) > 64 for line in lines):
            return self.error(400, "requests: invalid")
        if len({line["custom_id"] for line in lines}) != len(lines):
            return self.error(400, "requests: custom ids must be unique")
        for line in lines:
            if line["params"].get("output_format") and "structured-outputs" not in request.headers.get(
                "anthropic-beta", ""
            ):
                return self.error(400, "output_format: Extra inputs are not permitted")
        job = self.begin(body, [{**line, "body": as_chat(line["params"])} for line in lines])
        if job.errors:
            del self.jobs[job.id]
            return self.error(400, job.errors[0]["message"])
        return await self._answer(request, failure, self._job_json(job))

    async def _content(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("content")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        job = self.jobs.get(request.match_info["id"])
        if job is None or job.status not in ("completed", "expired", "cancelled"):
            return self.error(404, "no results")
        content = self.files.get(job.output or "", b"") + self.files.get(job.error or "", b"")
        return await self._answer(request, failure, content)

    def page(self, request: web.Request, newest: list[Job]) -> Body:
        if after := request.query.get("after_id"):
            newest = newest[[job.id for job in newest].index(after) + 1 :]
        page = newest[: int(request.query.get("limit", "20"))]
        for job in page:
            self._advance(job)
        ids = {"first_id": page[0].id, "last_id": page[-1].id} if page else {"first_id": None, "last_id": None}
        return {"data": [self._job_json(job) for job in page], "has_more": len(page) < len(newest), **ids}

    def ended_line(self, line: Body, code: str) -> Body:
        return {"custom_id": line["custom_id"], "result": {"type": code.removeprefix("batch_").replace("ll", "l")}}

    def answered_line(self, line: Body, behaviour: Behaviour, number: int) -> Body:
        if behaviour.status == 200:
            return {
                "custom_id": line["custom_id"],
                "result": {"type": "succeeded", "message": message_of(behaviour, line["params"], number)},
            }
        error = {"type": _TYPES.get(behaviour.status, "api_error"), "message": (behaviour.error or {}).get("message")}
        return {
            "custom_id": line["custom_id"],
            "result": {"type": "errored", "error": {"type": "error", "error": error, "request_id": None}},
        }

    def stranger(self) -> Body:
        return {"custom_id": f"{'0' * 32}-0", "result": {"type": "succeeded", "message": {}}}

    def _job_json(self, job: Job) -> Body:
        ended = job.status in ("completed", "expired", "cancelled")
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if not ended:
            counts["processing"] = len(job.lines)
        for raw in (self.files.get(job.output or "", b"") + self.files.get(job.error or "", b"")).splitlines():
            kind = (_loaded(raw.decode("utf-8", "replace")).get("result") or {}).get("type")
            if kind in counts:
                counts[kind] += 1
        cancelled = job.status in ("cancelling", "cancelled")
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "canceling" if job.status == "cancelling" else "in_progress",
            "request_counts": counts,
            "created_at": _moment(job.began),
            "expires_at": _moment(job.began + 86400),
            "ended_at": _moment(time.monotonic()) if ended else None,
            "archived_at": None,
            "cancel_initiated_at": _moment(time.monotonic()) if cancelled else None,
            "results_url": f"https://elsewhere.invalid/{job.id}" if ended else None,
        }


def _moment(monotonic: float) -> str:
    return datetime.fromtimestamp(time.time() - time.monotonic() + monotonic, UTC).isoformat()


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _loaded(text: str) -> Body:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
