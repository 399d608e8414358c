"""Serve Gemini's ``generateContent``, files and batch mode on the loopback server, with failures on demand.

Written from https://ai.google.dev/api/batch-mode, https://ai.google.dev/api/files and google-genai 3.6 (2026-12-01):
resumable uploads, operations with metadata, counts as strings, states ``BATCH_STATE_*``; expired batches have no results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from loopback import Behaviour, LoopbackServer, completion_body
from loopback_batch import Body, Job, LoopbackBatches

_STATES = {"validating": "PENDING", "completed": "SUCCEEDED", "cancelling": "RUNNING", "in_progress": "RUNNING"}
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 429: 8, 500: 13, 503: 14}
_ENDINGS = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


def as_chat(body: Mapping[str, Any]) -> Body:
    """Return a request of ``generateContent`` as a chat completion."""
    messages = (
        [{"role": "system", "content": _text(body["system_instruction"])}] if "system_instruction" in body else []
    )
    roles = {"user": "user", "model": "assistant"}
    messages += [{"role": roles[content["role"]], "content": _text(content)} for content in body["contents"]]
    schema = (body.get("generationConfig") or {}).get("response_json_schema")
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    return {"messages": messages, **({"response_format": form} if schema else {})}


def response_of(behaviour: Behaviour, body: Mapping[str, Any], number: int) -> Body:
    """Return the response to a request."""
    chat = json.loads(completion_body(behaviour, as_chat(body), number))
    choice, usage = chat["choices"][0], chat.get("usage", {})
    parts = [{"text": choice["message"]["content"] or ""}]
    return {
        "candidates": [
            {
                "content": {"role": "model", "parts": parts},
                "finishReason": _ENDINGS[choice["finish_reason"]],
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": usage.get("prompt_tokens"),
            "candidatesTokenCount": usage.get("completion_tokens"),
            "totalTokenCount": usage.get("total_tokens"),
        },
        "modelVersion": "gemini-loopback",
    }


class LoopbackGemini(LoopbackBatches):
    """Batch mode of a loopback server."""

    def add_routes(self, app: web.Application, server: LoopbackServer) -> None:
        """Add the routes to an application."""
        self._server = server
        app.router.add_post("/v1beta/models/{model}:generateContent", self._generate)
        app.router.add_post("/v1beta/models/{model}:batchGenerateContent", self._create)
        app.router.add_post("/upload/v1beta/files", self._upload)
        app.router.add_get("/download/v1beta/files/{id}:download", self._content)
        app.router.add_get("/v1beta/batches", self._list)
        app.router.add_get("/v1beta/batches/{id}", self._retrieve)
        app.router.add_post("/v1beta/batches/{id}:cancel", self._cancel)

    def key_of(self, request: web.Request) -> str:
        return request.headers.get("x-goog-api-key", "")

    def error(self, status: int, message: str) -> web.Response:
        error = {"code": status, "message": message, "status": "LOOPBACK"}
        return web.json_response({"error": error}, status=status)

    async def _generate(self, request: web.Request) -> web.Response:
        assert self._server is not None
        body = await request.json()
        self._server.record(request, body)
        return web.json_response(response_of(self._server.script.default, body, 0))

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        command = request.headers.get("X-Goog-Upload-Command", "")
        if command == "start":
            failure = self._next_failure("upload")
            if (early := self._fail_early(request, failure)) is not None:
                return early
            if request.headers["X-Goog-Upload-Protocol"] != "resumable" or "file" not in await request.json():
                return self.error(400, "not a resumable upload")
            size = request.headers["X-Goog-Upload-Header-Content-Length"]
            # Another host, as a wrong or a hostile answer might name.
            where = f"https://elsewhere.invalid/upload/v1beta/files?upload_id=u&size={size}"
            return web.Response(headers={"X-Goog-Upload-URL": where})
        content = await request.read()
        if command != "upload, finalize" or str(len(content)) != request.query["size"]:
            return self.error(400, "the upload is not complete")
        self.uploads.append(len(content))
        name = f"files/in{len(self.files)}"
        self.files[name] = content
        return web.json_response({"file": {"name": name, "sizeBytes": str(len(content))}})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("create")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        if (full := self.full()) is not None:
            return full
        batch = (await request.json())["batch"]
        if (content := self.files.get(batch["input_config"]["file_name"])) is None:
            return self.error(400, "no such file")
        lines = [json.loads(raw) for raw in content.splitlines()]
        for line in lines:
            line["body"] = as_chat(line["request"])
        job = self.begin({**batch, "model": request.match_info["model"]}, lines)
        return await self._answer(request, failure, self._job_json(job))

    async def _content(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("content")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        job = self.jobs[request.match_info["id"].removeprefix("out")]
        content = self.files.get(job.output or "", b"") + self.files.get(job.error or "", b"")
        return await self._answer(request, failure, content)

    def page(self, request: web.Request, newest: list[Job]) -> Body:
        start = int(request.query.get("pageToken") or 0)
        page = newest[start : start + int(request.query.get("pageSize", "20"))]
        more = {"nextPageToken": str(start + len(page))} if start + len(page) < len(newest) else {}
        return {"operations": [self._job_json(job) for job in page], **more} if page else {}

    def ended_line(self, line: Body, code: str) -> Body:
        return {"key": line["key"], "error": {"code": 1, "message": code}}

    def answered_line(self, line: Body, behaviour: Behaviour, number: int) -> Body:
        if behaviour.status == 200:
            return {"key": line["key"], "response": response_of(behaviour, line["request"], number)}
        code = _CODES.get(behaviour.status, 2)
        return {"key": line["key"], "error": {"code": code, "message": (behaviour.error or {}).get("message")}}

    def stranger(self) -> Body:
        return {"key": f"{'0' * 32}-0", "response": {}}

    def _job_json(self, job: Job) -> Body:
        state = f"BATCH_STATE_{_STATES.get(job.status, job.status.upper())}"
        ended = job.status in ("completed", "expired", "cancelled", "failed")
        about: Body = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "displayName": job.body["display_name"],
            "model": f"models/{job.body['model']}",
            "state": state,
            "batchStats": {"requestCount": str(len(job.lines)), "pendingRequestCount": str(len(job.lines))},
        }
        operation: Body = {"name": f"batches/{job.id}", "metadata": about}
        if ended:
            operation["done"] = True
        if job.status == "failed":
            operation["error"] = {"code": 3, "message": job.errors[0]["message"]}
        elif job.status == "completed":
            operation["response"] = {"responsesFile": f"files/out{job.id}"}
        return operation


def _text(content: Mapping[str, Any]) -> str:
    return "".join(part["text"] for part in content["parts"])
