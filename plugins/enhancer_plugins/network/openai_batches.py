"""Client of OpenAI's batch API (``/files`` and ``/batches``), for completions and for vectors.

Files are streamed from and to disk. Source: https://platform.openai.com/docs/guides/batch and the API reference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from enhancer.contracts import (
    BatchClient,
    BatchProvider,
    Completion,
    EmbeddingBatches,
    Embeddings,
    JobStatus,
    Request,
)
from enhancer.errors import DeadlineError, ProviderError, ServerError
from enhancer_plugins.network import wire
from enhancer_plugins.network.batch_connection import PAGES, upload_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from enhancer.contracts.batch import JobState, LostJob
    from enhancer_plugins.network.batch_connection import Connection

Q = TypeVar("Q")
A = TypeVar("A")
_TOKEN = "enhancer_job"  # noqa: S105 - name of a metadata field
_PAGE = 100
_STATES: Mapping[str, JobState] = {
    "completed": "completed",
    "expired": "expired",
    "cancelled": "cancelled",
    "failed": "failed",
}
_CONGESTED = "token_limit_exceeded"
_EXPIRED = frozenset({"batch_expired"})
_CANCELLED = frozenset({"batch_cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport(Generic[Q, A]):
    """Functions of the provider: how to write requests, read answers, and connect."""

    connection: Connection
    payload: Callable[[Q], dict[str, Any]]
    """Return the JSON of a direct call."""
    answer: Callable[[bytes], A]
    """Read the body of its response."""
    endpoint: str
    """Path of direct calls, by the name that the batch API has for it."""


class OpenAIBatchClient(BatchClient[Q, A]):
    """Client of ``{api_base}/files`` and ``{api_base}/batches``."""

    def __init__(self, transport: Transport[Q, A]) -> None:
        self._transport = transport

    @property
    def _connection(self) -> Connection:
        return self._transport.connection

    def line(self, custom_id: str, request: Q) -> bytes:
        """Return the request in the form of a direct call."""
        line = {
            "custom_id": custom_id,
            "method": "POST",
            "url": self._transport.endpoint,
            "body": self._transport.payload(request),
        }
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"

    async def upload(self, file: Path) -> str:
        """Post the file as multipart form data with the purpose ``batch``."""
        import aiohttp

        size = file.stat().st_size  # noqa: ASYNC240 - a local file
        with file.open("rb") as stream:
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", stream, filename=file.name, content_type="application/jsonl")
            response = await self._connection.call("POST", "/files", data=form, seconds=upload_seconds(size))
        return self._connection.id(response)

    async def create(self, upload: str, token: str) -> JobStatus:
        """Post the job, with the token in its metadata."""
        body = {
            "input_file_id": upload,
            "endpoint": self._transport.endpoint,
            "completion_window": "24h",
            "metadata": {_TOKEN: token},
        }
        # A server that supports the header answers a repeated call with the job of the first one.
        return self._status(
            await self._connection.call("POST", "/batches", json=body, headers={"Idempotency-Key": token})
        )

    async def find(self, token: str, lost: LostJob | None = None) -> JobStatus | None:  # noqa: ARG002 - tokens suffice
        """Search the list of jobs, newest first."""
        after = ""
        for _ in range(PAGES):
            query = {"limit": str(_PAGE), **({"after": after} if after else {})}
            page = await self._connection.call("GET", "/batches", params=query)
            jobs = page.get("data")
            if not isinstance(jobs, list):
                raise ServerError(f"{self._connection.base} did not send a list of batches")
            for job in jobs:
                if (
                    isinstance(job, dict)
                    and isinstance(about := job.get("metadata"), dict)
                    and about.get(_TOKEN) == token
                ):
                    return self._status(job)
            if not page.get("has_more") or not jobs:
                return None
            after = self._connection.id(jobs[-1])
        return None

    async def poll(self, job_id: str) -> JobStatus:
        """Get the status of the job."""
        return self._status(await self._connection.call("GET", f"/batches/{job_id}"))

    async def cancel(self, job_id: str) -> None:
        """Post the cancellation of the job."""
        await self._connection.call("POST", f"/batches/{job_id}/cancel")

    async def fetch(self, job: JobStatus, folder: Path) -> AsyncIterator[tuple[str, A | ProviderError]]:
        """Download the output file and then the error file to disk, and read them line by line."""
        for name in ("output_file_id", "error_file_id"):
            file_id = (job.results or {}).get(name)
            if not file_id:
                continue
            async for line in self._connection.lines(f"/files/{file_id}/content", folder):
                result = self._result(line)
                if result is not None:
                    yield result

    # -- results ----------------------------------------------------------------------------------------------------

    def _result(self, line: bytes) -> tuple[str, A | ProviderError] | None:
        """Parse a line; return None for an unreadable line, or a request that was cancelled before it was processed."""
        try:
            result = json.loads(line)
            custom_id = result["custom_id"]
            response, error = result.get("response"), result.get("error")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None
        if not isinstance(custom_id, str):
            return None
        if isinstance(response, dict):
            status, body = response.get("status_code"), response.get("body")
            raw = json.dumps(body).encode()
            if status == 200:
                try:
                    return custom_id, self._answer(raw)
                except ProviderError as failure:
                    return custom_id, failure
            message, code = wire.provider_message(raw)
            return custom_id, self._connection.error(status if isinstance(status, int) else 500, message, code, {})
        message, code = wire.provider_message(json.dumps({"error": error}))
        if code in _CANCELLED:
            return None
        text = self._connection.scrub(f"{code}: {message}" if code else message)
        failed = ServerError(f"the batch job failed for this request: {text}")
        return custom_id, DeadlineError(text) if code in _EXPIRED else failed

    def _answer(self, body: bytes) -> A:
        """Return the answer in the body of a result."""
        return self._transport.answer(body)

    # -- states -----------------------------------------------------------------------------------------------------

    def _status(self, job: Mapping[str, Any]) -> JobStatus:
        status = job.get("status")
        if not isinstance(status, str):
            raise ServerError(f"{self._connection.base} sent a batch without a status")
        counts = job.get("request_counts")
        counts = counts if isinstance(counts, dict) else {}
        done = [n for n in (counts.get("completed"), counts.get("failed")) if isinstance(n, int)]
        total = counts.get("total")
        message, congested = _failure(job.get("errors"))
        return JobStatus(
            id=self._connection.id(job),
            state=_STATES.get(status, "running"),
            said=status[:40],
            total=total if isinstance(total, int) else None,
            done=sum(done) if done else None,
            message=self._connection.scrub(message),
            congested=congested,
            results={name: job.get(name) for name in ("output_file_id", "error_file_id")},
        )


def _failure(errors: object) -> tuple[str, bool]:
    """Return the error message of a failed job, and whether its only cause is a full queue."""
    found = errors.get("data") if isinstance(errors, dict) else None
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    messages = []
    for row in rows[:3]:
        where = f"line {row['line']}: " if isinstance(row.get("line"), int) else ""
        messages.append(where + str(row.get("message") or row.get("code") or "?"))
    if len(rows) > len(messages):
        messages.append(f"and {len(rows) - len(messages)} more")
    return wire.shorten("; ".join(messages)), bool(rows) and all(row.get("code") == _CONGESTED for row in rows)


class OpenAIBatches(OpenAIBatchClient[Request, Completion], BatchProvider):
    """Batch API of chat completions."""


class OpenAIEmbeddingBatches(OpenAIBatchClient[str, Embeddings], EmbeddingBatches):
    """Batch API of embeddings. OpenAI allows 50,000 texts in a job, whatever the number of requests."""
