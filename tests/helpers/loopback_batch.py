"""Serve OpenAI's ``/v1/files`` and ``/v1/batches`` on the loopback server, with failures on demand.

In tests::

    batches = LoopbackBatches(default=Plan(polls=2), plans=[Plan(missing={3}), Plan(expires_from=5)])
    with LoopbackServer(add_routes=batches.add_routes) as server:
        ...
        assert batches.submitted == 2

As a separate process::

    python tests/helpers/loopback_batch.py --seconds 5     # prints {"url": ...}; jobs take five seconds each
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from loopback import Behaviour, LoopbackServer, Script, _reset, completion_body

Body = dict[str, Any]
Route = Literal["upload", "create", "list", "poll", "content", "cancel"]
Failure = Literal["lost", "reset", "half"] | int
"""``lost``: the request takes effect, but the connection breaks before the answer; ``reset``: it breaks before the request
takes effect; ``half``: half of the answer, then a normal close; a number: that HTTP status."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Course of one batch job. Lines are counted from 0."""

    polls: int = 0
    """Number of polls that find it running."""
    seconds: float = 0.0
    """Running time in seconds."""
    answer: Callable[[int, Body], Behaviour | None] | None = None
    """Called with a line's number and body; None falls back to the server's default answer."""
    missing: frozenset[int] | set[int] = frozenset()
    """Lines that are in neither result file."""
    doubled: frozenset[int] | set[int] = frozenset()
    """Lines with two results, which differ."""
    shuffled: bool = False
    truncated: bool = False
    """The output file ends within its last line."""
    junk: bool = False
    """The output file has extra lines that are not JSON, or belong to unknown requests."""
    expires_from: int | None = None
    """Lines from here on expire; they are listed in the error file."""
    cancelled_from: int | None = None
    """The job is cancelled at the provider; lines from here on have no answer."""
    refused: tuple[Mapping[str, Any], ...] = ()
    """The whole job fails, with these errors."""


@dataclass
class Job:
    """A batch job."""

    id: str
    body: Body
    plan: Plan
    lines: list[Body]
    began: float
    polls: int = 0
    status: str = "validating"
    errors: list[Mapping[str, Any]] = field(default_factory=list)
    output: str | None = None
    error: str | None = None


class LoopbackBatches:
    """Files and batch jobs of a loopback server.

    Attributes:
        plans: Courses of the next jobs, consumed from the front; then ``default``.
        failures: Failures of the next calls of each route, one per call.
        jobs: Created jobs by id, in order.
        has_list_route: Whether ``GET /batches`` exists.
        endpoint: Its name of the endpoint; Azure's is ``/chat/completions``.
        max_running: Maximum number of running jobs; further ones fail with ``token_limit_exceeded``, or are not created.
    """

    def __init__(self, *, default: Plan | None = None, plans: list[Plan] | None = None) -> None:
        self.default = default or Plan()
        self.plans = plans or []
        self.failures: dict[Route, list[Failure]] = {}
        self.jobs: dict[str, Job] = {}
        self.files: dict[str, bytes] = {}
        self.uploads: list[int] = []
        self.calls: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.has_list_route = True
        self.endpoint = "/v1/chat/completions"
        self.max_running: int | None = None
        self._server: LoopbackServer | None = None
        self._lock = threading.Lock()

    @property
    def submitted(self) -> int:
        """Number of requests in jobs that did not fail as a whole."""
        return sum(len(job.lines) for job in self.jobs.values() if job.status != "failed")

    @property
    def endpoints(self) -> set[str]:
        """Names of the endpoints that requests may be for."""
        return {self.endpoint}

    @property
    def bodies(self) -> list[Body]:
        """Bodies of the requests of all jobs."""
        return [line["body"] for job in self.jobs.values() for line in job.lines]

    # -- routes -----------------------------------------------------------------------------------------------------

    def add_routes(self, app: web.Application, server: LoopbackServer) -> None:
        """Add the routes to an application."""
        self._server = server
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._retrieve)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)
        app.router.add_get("/stats/batches", self._stats)

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response({"jobs": len(self.jobs), "submitted": self.submitted, "uploads": self.uploads})

    # -- what other dialects replace --------------------------------------------------------------------------------

    def key_of(self, request: web.Request) -> str:
        """Return the header with the API key."""
        return request.headers.get("Authorization", "")

    def error(self, status: int, message: str) -> web.Response:
        """Return an error of the server."""
        error = {"message": message, "type": "loopback_error", "param": None, "code": None}
        return web.json_response({"error": error}, status=status)

    def page(self, request: web.Request, newest: list[Job]) -> Body:
        """Return a page of the list of jobs."""
        if after := request.query.get("after"):
            newest = newest[[job.id for job in newest].index(after) + 1 :]
        page = newest[: int(request.query.get("limit", "20"))]
        return {"object": "list", "data": [self._job_json(job) for job in page], "has_more": len(page) < len(newest)}

    def ended_line(self, line: Body, code: str) -> Body:
        """Return the result of a request that was not processed: ``batch_expired`` or ``batch_cancelled``."""
        message = {
            "batch_expired": "This request could not be executed before the completion window expired.",
            "batch_cancelled": "This request was not executed because the batch was cancelled.",
        }[code]
        return {
            "id": "r",
            "custom_id": line["custom_id"],
            "response": None,
            "error": {"code": code, "message": message},
        }

    def answered_line(self, line: Body, behaviour: Behaviour, number: int) -> Body:
        """Return the result of a request that was processed."""
        good = behaviour.status == 200
        answer = json.loads(completion_body(behaviour, line["body"], number)) if good else {"error": behaviour.error}
        response = {"status_code": behaviour.status, "request_id": f"req-{number}", "body": answer}
        return {"id": "r", "custom_id": line["custom_id"], "response": response, "error": None}

    def stranger(self) -> Body:
        """Return the result of a request of another job."""
        return {"custom_id": f"{'0' * 32}-0", "response": {"status_code": 200, "body": {}}, "error": None}

    # -- the server -------------------------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Number of jobs that have not ended."""
        return sum(job.status not in ("completed", "failed", "expired", "cancelled") for job in self.jobs.values())

    def full(self) -> web.Response | None:
        """Return the refusal of a job that the queue has no room for, for APIs that refuse the creation."""
        return self.error(429, "too many requests are queued") if self.running == self.max_running else None

    def begin(self, body: Body, lines: list[Body]) -> Job:
        """Create a job with the next plan."""
        with self._lock:
            plan = self.plans.pop(0) if self.plans else self.default
            job = Job(f"batch_{len(self.jobs)}", body, plan, lines, time.monotonic())
            self.jobs[job.id] = job
        job.errors = list(plan.refused)
        return job

    def _next_failure(self, route: Route) -> Failure | None:
        self.calls[route] += 1
        waiting = self.failures.get(route)
        return waiting.pop(0) if waiting else None

    async def _answer(self, request: web.Request, failure: Failure | None, content: Body | bytes) -> web.StreamResponse:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        if failure == "lost":
            _reset(request)
            return web.Response()
        if failure == "half":
            response = web.StreamResponse(headers={"Content-Length": str(len(body))})
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
            await asyncio.sleep(0.02)
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=body, content_type="application/json")

    def _fail_early(self, request: web.Request, failure: Failure | None) -> web.Response | None:
        self.keys.add(self.key_of(request))
        if failure == "reset":
            _reset(request)
            return web.Response()
        if isinstance(failure, int):
            return self.error(failure, f"loopback says {failure} to {self.key_of(request)}")
        return None

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("upload")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        # Read part by part: `request.post()` leaks its temporary file if the client dies during the upload.
        purpose, content = "", None
        async for part in await request.multipart():
            if part.name == "purpose":
                purpose = await part.text()
            elif part.name == "file" and part.filename:
                content = bytes(await part.read())
        if purpose != "batch" or content is None:
            return self.error(400, "purpose must be 'batch', with a file")
        self.uploads.append(len(content))
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return await self._answer(request, failure, {"id": name, "object": "file", "purpose": "batch"})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("content")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        content = self.files.get(request.match_info["id"])
        if content is None:
            return self.error(404, f"No such File object: {request.match_info['id']}")
        return await self._answer(request, failure, content)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("create")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        body = await request.json()
        if body.get("endpoint") not in self.endpoints or body.get("completion_window") != "24h":
            return self.error(400, "Invalid value for endpoint or completion_window")
        if (content := self.files.get(body.get("input_file_id"))) is None:
            return self.error(400, f"Invalid file id: {body.get('input_file_id')}")
        job = self.begin(body, [])
        job.errors = job.errors or self._validate(job, content)
        return await self._answer(request, failure, self._job_json(job))

    def _validate(self, job: Job, content: bytes) -> list[Mapping[str, Any]]:
        if self.max_running is not None and self.running > self.max_running:
            return [{"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached."}]
        errors: list[Mapping[str, Any]] = []
        seen: set[str] = set()
        for number, raw in enumerate(content.splitlines(), 1):
            try:
                line = json.loads(raw)
                assert line["method"] == "POST"
                assert line["url"] == job.body["endpoint"]
                assert line["custom_id"] not in seen
                assert len(line["custom_id"]) <= 64
                assert line["body"].get("messages") or line["body"]["input"]
            except (ValueError, KeyError, AssertionError):
                errors.append(
                    {"code": "invalid_request", "line": number, "message": "This line is not a valid request."}
                )
                continue
            seen.add(line["custom_id"])
            job.lines.append(line)
        return errors or ([] if job.lines else [{"code": "empty_file", "line": None, "message": "The file is empty."}])

    async def _list(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("list")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        if not self.has_list_route:
            return self.error(404, "Not Found")
        newest = list(reversed(self.jobs.values()))
        return await self._answer(request, failure, self.page(request, newest))

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("poll")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return self.error(404, f"No batch found with id '{request.match_info['id']}'.")
        job.polls += 1
        self._advance(job)
        return await self._answer(request, failure, self._job_json(job))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        failure = self._next_failure("cancel")
        if (early := self._fail_early(request, failure)) is not None:
            return early
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return self.error(404, f"No batch found with id '{request.match_info['id']}'.")
        if job.status in ("completed", "failed", "expired", "cancelled"):
            return self.error(409, f"Cannot cancel a batch with status '{job.status}'.")
        job.status = "cancelling"
        return await self._answer(request, failure, self._job_json(job))

    def _advance(self, job: Job) -> None:
        plan = job.plan
        if job.status in ("completed", "failed", "expired", "cancelled"):
            return
        if job.errors:
            job.status = "failed"
        elif job.status == "cancelling":
            self._finish(job, cancelled_from=len(job.lines) // 2)
        elif job.polls <= plan.polls or time.monotonic() - job.began < plan.seconds:
            job.status = "in_progress" if job.polls < plan.polls else "finalizing"
        else:
            self._finish(job, cancelled_from=plan.cancelled_from)

    def _finish(self, job: Job, cancelled_from: int | None) -> None:
        plan = job.plan
        outputs: list[bytes] = []
        errors: list[bytes] = []
        for number, line in enumerate(job.lines):
            if number in plan.missing:
                continue
            code = None
            if plan.expires_from is not None and number >= plan.expires_from:
                code = "batch_expired"
            if cancelled_from is not None and number >= cancelled_from:
                code = "batch_cancelled"
            if code is not None:
                errors.append(json.dumps(self.ended_line(line, code)).encode())
                continue
            for _ in range(2 if number in plan.doubled else 1):
                self._line(job, number, line, outputs, errors)
        if plan.shuffled:
            random.Random(7).shuffle(outputs)
        if plan.junk:
            outputs[1:1] = [
                b"not json",
                b"[1, 2]",
                b'{"custom_id": 3}',
                json.dumps(self.stranger()).encode(),
                b"\xff\xfe",
                b"",
            ]
        content = b"".join(line + b"\n" for line in outputs)
        if plan.truncated:
            content = content[: len(content) - len(outputs[-1]) // 2]
        if outputs:
            job.output = f"file-out-{job.id}"
            self.files[job.output] = content
        if errors:
            job.error = f"file-err-{job.id}"
            self.files[job.error] = b"".join(line + b"\n" for line in errors)
        job.status = "expired" if plan.expires_from is not None else "completed"
        if cancelled_from is not None:
            job.status = "cancelled"

    def _line(self, job: Job, number: int, line: Body, outputs: list[bytes], errors: list[bytes]) -> None:
        assert self._server is not None
        body = line["body"]
        behaviour = job.plan.answer(number, body) if job.plan.answer else None
        behaviour = behaviour or self._server.script.default
        whole = self.answered_line(line, behaviour, len(outputs))
        (outputs if behaviour.status == 200 else errors).append(json.dumps(whole).encode())

    def _job_json(self, job: Job) -> Body:
        ended = job.status in ("completed", "expired", "cancelled")
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.body.get("endpoint"),
            "errors": {"object": "list", "data": list(job.errors)} if job.status == "failed" else None,
            "input_file_id": job.body["input_file_id"],
            "completion_window": "24h",
            "status": job.status,
            "output_file_id": job.output,
            "error_file_id": job.error,
            "request_counts": {"total": len(job.lines), "completed": len(job.lines) if ended else 0, "failed": 0},
            "metadata": job.body.get("metadata"),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="OpenAI's protocol and its batch API on 127.0.0.1, until stdin closes."
    )
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--polls", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    batches = LoopbackBatches(default=Plan(polls=given.polls, seconds=given.seconds))
    with LoopbackServer(Script(), port=given.port, keep_requests=False, add_routes=batches.add_routes) as server:
        print(json.dumps({"url": server.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
