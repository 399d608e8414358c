"""Serve Mistral's chat completions, files and batch jobs on the loopback server, with failures on demand.

Written from https://docs.mistral.ai/api and mistralai 3.7 (2026-12-01): files are OpenAI's, a job has the model and
metadata, lists are paged by number, and results are in ``output_file`` and ``error_file``.
"""

from __future__ import annotations

import json

from aiohttp import web
from loopback import LoopbackServer
from loopback_batch import Body, Job, LoopbackBatches

_STATES = {
    "validating": "QUEUED",
    "in_progress": "RUNNING",
    "finalizing": "RUNNING",
    "completed": "SUCCESS",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelling": "CANCELLATION_REQUESTED",
}


class LoopbackMistral(LoopbackBatches):
    """Batch jobs of a loopback server."""

    def add_routes(self, app: web.Application, server: LoopbackServer) -> None:
        """Add the routes to an application."""
        self._server = server
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batch/jobs", self._create)
        app.router.add_get("/v1/batch/jobs", self._list)
        app.router.add_get("/v1/batch/jobs/{id}", self._retrieve)
        app.router.add_post("/v1/batch/jobs/{id}/cancel", self._cancel)

    def error(self, status: int, message: str) -> web.Response:
        return web.json_response(
            {"object": "error", "message": message, "type": "loopback", "code": None}, status=status
        )

    async def _create(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("create")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        if (full := self.full()) is not None:
            return full
        body = await request.json()
        (name,) = body["input_files"]
        if body["endpoint"] != "/v1/chat/completions" or not body["model"] or name not in self.files:
            return self.error(422, "invalid job")
        lines = [json.loads(raw) for raw in self.files[name].splitlines()]
        if any(set(line) != {"custom_id", "body"} or "model" in line["body"] for line in lines):
            return self.error(422, "invalid line")
        return await self._answer(request, failure, self._job_json(self.begin(body, lines)))

    def page(self, request: web.Request, newest: list[Job]) -> Body:
        size = int(request.query["page_size"])
        start = int(request.query["page"]) * size
        page = newest[start : start + size]
        return {"object": "list", "total": len(newest), "data": [self._job_json(job) for job in page]}

    def ended_line(self, line: Body, code: str) -> Body:
        return {"custom_id": line["custom_id"], "response": None, "error": {"code": code, "message": code}}

    def _job_json(self, job: Job) -> Body:
        return {
            "id": job.id,
            "object": "batch",
            "input_files": job.body["input_files"],
            "endpoint": job.body["endpoint"],
            "model": job.body["model"],
            "metadata": job.body.get("metadata"),
            "status": _STATES.get(job.status, job.status.upper()),
            "errors": [{"message": error["message"], "count": 1} for error in job.errors],
            "output_file": job.output,
            "error_file": job.error,
            "total_requests": len(job.lines),
            "completed_requests": len(job.lines) if job.output else 0,
            "succeeded_requests": 0,
            "failed_requests": 0,
        }
