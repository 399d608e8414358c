"""OpenAI's ``/v1/files`` and ``/v1/batches`` on the loopback server, and what can go wrong with them on demand.

In tests::

    batches = LoopbackBatches(default=Plan(polls=2), plans=[Plan(missing={3}), Plan(expires_from=5)])
    with LoopbackServer(plug=batches.plug) as server:
        ...
        assert batches.submitted == 2

As a process of its own::

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
Where = Literal["upload", "create", "list", "poll", "content", "cancel"]
Trouble = Literal["lost", "reset", "half"] | int
"""``lost``: done, but the connection breaks before the answer; ``reset``: it breaks before anything is done; ``half``:
half of the answer, then a clean end; a number: that HTTP status."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What becomes of one job. Lines are counted from 0."""

    polls: int = 0
    """Looks that find it running."""
    seconds: float = 0.0
    """How long it runs."""
    answer: Callable[[int, Body], Behaviour | None] | None = None
    """How a line is answered; None leaves it to the server's default."""
    missing: frozenset[int] | set[int] = frozenset()
    """Lines that neither file says anything of."""
    doubled: frozenset[int] | set[int] = frozenset()
    """Lines that are told twice, the second time with another answer."""
    shuffled: bool = False
    truncated: bool = False
    """The output file ends amid its last line."""
    junk: bool = False
    """Between the lines stand some that are no JSON, and some of requests that nobody made."""
    expires_from: int | None = None
    """Lines from here on have no turn: the error file says so."""
    cancelled_from: int | None = None
    """It is cancelled at the provider; lines from here on had no turn."""
    refused: tuple[Mapping[str, Any], ...] = ()
    """It fails as a whole, with these errors."""


@dataclass
class Job:
    """One batch."""

    id: str
    body: Body
    plan: Plan
    lines: list[Body]
    began: float
    looks: int = 0
    status: str = "validating"
    errors: list[Mapping[str, Any]] = field(default_factory=list)
    output: str | None = None
    error: str | None = None


class LoopbackBatches:
    """State of the two routes.

    Attributes:
        plans: Used up from the front, one a job; then ``default``.
        troubles: What befalls the next calls of each route, one a call.
        jobs: Everything that was created, in order.
        asked: How often each custom id's body was submitted, by what was asked.
        listed: Whether ``GET /batches`` exists.
        most_running: Jobs that may run at once; more are refused for want of room.
    """

    def __init__(self, *, default: Plan | None = None, plans: list[Plan] | None = None) -> None:
        self.default = default or Plan()
        self.plans = plans or []
        self.troubles: dict[Where, list[Trouble]] = {}
        self.jobs: dict[str, Job] = {}
        self.files: dict[str, bytes] = {}
        self.uploads: list[int] = []
        self.calls: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.listed = True
        self.most_running: int | None = None
        self._server: LoopbackServer | None = None
        self._lock = threading.Lock()

    # -- what tests read ------------------------------------------------------------------------------------------

    @property
    def submitted(self) -> int:
        """Requests of all jobs that were not refused as a whole."""
        return sum(len(job.lines) for job in self.jobs.values() if job.status != "failed")

    @property
    def bodies(self) -> list[Body]:
        """What was asked, in all jobs."""
        return [line["body"] for job in self.jobs.values() for line in job.lines]

    # -- routes -----------------------------------------------------------------------------------------------------

    def plug(self, app: web.Application, server: LoopbackServer) -> None:
        """Add the routes."""
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

    def _befalls(self, where: Where) -> Trouble | None:
        self.calls[where] += 1
        waiting = self.troubles.get(where)
        return waiting.pop(0) if waiting else None

    async def _answer(self, request: web.Request, trouble: Trouble | None, told: Body | bytes) -> web.StreamResponse:
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        if trouble == "lost":
            _reset(request)
            return web.Response()
        if trouble == "half":
            response = web.StreamResponse(headers={"Content-Length": str(len(body))})
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
            await asyncio.sleep(0.02)
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=body, content_type="application/json")

    def _before(self, request: web.Request, trouble: Trouble | None) -> web.Response | None:
        self.keys.add(request.headers.get("Authorization", ""))
        if trouble == "reset":
            _reset(request)
            return web.Response()
        if isinstance(trouble, int):
            return _error(trouble, f"loopback says {trouble} to {request.headers.get('Authorization')}")
        return None

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        trouble = self._befalls("upload")
        if (early := self._before(request, trouble)) is not None:
            return early
        # Part by part: `request.post()` leaves its temporary file open when a client dies half-way.
        purpose, content = "", None
        async for part in await request.multipart():
            if part.name == "purpose":
                purpose = await part.text()
            elif part.name == "file" and part.filename:
                content = bytes(await part.read())
        if purpose != "batch" or content is None:
            return _error(400, "purpose must be 'batch', with a file")
        self.uploads.append(len(content))
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return await self._answer(request, trouble, {"id": name, "object": "file", "purpose": "batch"})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        trouble = self._befalls("content")
        if (early := self._before(request, trouble)) is not None:
            return early
        content = self.files.get(request.match_info["id"])
        if content is None:
            return _error(404, f"No such File object: {request.match_info['id']}")
        return await self._answer(request, trouble, content)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        trouble = self._befalls("create")
        if (early := self._before(request, trouble)) is not None:
            return early
        body = await request.json()
        if body.get("endpoint") != "/v1/chat/completions" or body.get("completion_window") != "24h":
            return _error(400, "Invalid value for endpoint or completion_window")
        if (content := self.files.get(body.get("input_file_id"))) is None:
            return _error(400, f"Invalid file id: {body.get('input_file_id')}")
        with self._lock:
            plan = self.plans.pop(0) if self.plans else self.default
            job = Job(f"batch_{len(self.jobs)}", body, plan, [], time.monotonic())
            self.jobs[job.id] = job
        job.errors = list(plan.refused) or self._validate(job, content)
        return await self._answer(request, trouble, self._told(job))

    def _validate(self, job: Job, content: bytes) -> list[Mapping[str, Any]]:
        running = sum(
            other.status not in ("completed", "failed", "expired", "cancelled") for other in self.jobs.values()
        )
        if self.most_running is not None and running > self.most_running:
            return [{"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached."}]
        errors: list[Mapping[str, Any]] = []
        seen: set[str] = set()
        for number, raw in enumerate(content.splitlines(), 1):
            try:
                line = json.loads(raw)
                assert line["method"] == "POST"
                assert line["url"] == "/v1/chat/completions"
                assert line["custom_id"] not in seen
                assert len(line["custom_id"]) <= 64
                assert line["body"]["messages"]
            except (ValueError, KeyError, AssertionError):
                errors.append(
                    {"code": "invalid_request", "line": number, "message": "This line is not a valid request."}
                )
                continue
            seen.add(line["custom_id"])
            job.lines.append(line)
        return errors or ([] if job.lines else [{"code": "empty_file", "line": None, "message": "The file is empty."}])

    async def _list(self, request: web.Request) -> web.StreamResponse:
        trouble = self._befalls("list")
        if (early := self._before(request, trouble)) is not None:
            return early
        if not self.listed:
            return _error(404, "Not Found")
        newest = list(reversed(self.jobs.values()))
        if after := request.query.get("after"):
            newest = newest[[job.id for job in newest].index(after) + 1 :]
        page = newest[: int(request.query.get("limit", "20"))]
        told = {"object": "list", "data": [self._told(job) for job in page], "has_more": len(page) < len(newest)}
        return await self._answer(request, trouble, told)

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        trouble = self._befalls("poll")
        if (early := self._before(request, trouble)) is not None:
            return early
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return _error(404, f"No batch found with id '{request.match_info['id']}'.")
        job.looks += 1
        self._advance(job)
        return await self._answer(request, trouble, self._told(job))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        trouble = self._befalls("cancel")
        if (early := self._before(request, trouble)) is not None:
            return early
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return _error(404, f"No batch found with id '{request.match_info['id']}'.")
        if job.status in ("completed", "failed", "expired", "cancelled"):
            return _error(409, f"Cannot cancel a batch with status '{job.status}'.")
        job.status = "cancelling"
        return await self._answer(request, trouble, self._told(job))

    # -- what becomes of a job ----------------------------------------------------------------------------------------

    def _advance(self, job: Job) -> None:
        plan = job.plan
        if job.status in ("completed", "failed", "expired", "cancelled"):
            return
        if job.errors:
            job.status = "failed"
        elif job.status == "cancelling":
            self._finish(job, cancelled_from=len(job.lines) // 2)
        elif job.looks <= plan.polls or time.monotonic() - job.began < plan.seconds:
            job.status = "in_progress" if job.looks < plan.polls else "finalizing"
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
                code, message = (
                    "batch_expired",
                    "This request could not be executed before the completion window expired.",
                )
            if cancelled_from is not None and number >= cancelled_from:
                code, message = "batch_cancelled", "This request was not executed because the batch was cancelled."
            if code is not None:
                whole = {"custom_id": line["custom_id"], "response": None, "error": {"code": code, "message": message}}
                errors.append(json.dumps({"id": f"batch_req_{number}", **whole}).encode())
                continue
            for _ in range(2 if number in plan.doubled else 1):
                self._line(job, number, line, outputs, errors)
        if plan.shuffled:
            random.Random(7).shuffle(outputs)
        if plan.junk:
            stranger = {"custom_id": f"{'0' * 32}-0", "response": {"status_code": 200, "body": {}}, "error": None}
            outputs[1:1] = [
                b"not json",
                b"[1, 2]",
                b'{"custom_id": 3}',
                json.dumps(stranger).encode(),
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
        good = behaviour.status == 200
        answer = json.loads(completion_body(behaviour, body, len(outputs))) if good else {"error": behaviour.error}
        response = {"status_code": behaviour.status, "request_id": f"req-{number}", "body": answer}
        whole = {"id": f"batch_req_{number}", "custom_id": line["custom_id"], "response": response, "error": None}
        (outputs if good else errors).append(json.dumps(whole).encode())

    def _told(self, job: Job) -> Body:
        ended = job.status in ("completed", "expired", "cancelled")
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": {"object": "list", "data": list(job.errors)} if job.status == "failed" else None,
            "input_file_id": job.body["input_file_id"],
            "completion_window": "24h",
            "status": job.status,
            "output_file_id": job.output,
            "error_file_id": job.error,
            "request_counts": {"total": len(job.lines), "completed": len(job.lines) if ended else 0, "failed": 0},
            "metadata": job.body.get("metadata"),
        }


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "loopback_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=status)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="OpenAI's protocol and its batch API on 127.0.0.1, until stdin closes."
    )
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--polls", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    batches = LoopbackBatches(default=Plan(polls=given.polls, seconds=given.seconds))
    with LoopbackServer(Script(), port=given.port, keep_requests=False, plug=batches.plug) as server:
        print(json.dumps({"url": server.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
