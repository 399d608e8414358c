"""Client of OpenAI's batch API (``/files`` and ``/batches``). Files are streamed from and to disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.contracts import BatchProvider, Completion, JobStatus
from enhancer.errors import ConnectionFailedError, DeadlineError, ProviderError, RequestError, ServerError
from enhancer_plugins.llm import _wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import aiohttp

    from enhancer.contracts import Request
    from enhancer.contracts.batch import JobState

_ENDPOINT = "/v1/chat/completions"
_TOKEN = "enhancer_job"  # noqa: S105 - name of a metadata field
_CALL_SECONDS = 60.0
_MIN_UPLOAD_RATE = 50_000.0
"""Bytes per second; a slower upload times out."""
_STALL_SECONDS = 60.0
"""Time without data after which a download times out."""
_PAGE = 100
_PAGES = 200
"""Maximum number of pages of past jobs to search, newest first."""
_MAX_LINE_BYTES = 32 * 1024 * 1024
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
class Transport:
    """Functions and settings of the provider: how to write requests, read completions and errors, and connect."""

    base: str
    payload: Callable[[Request], dict[str, Any]]
    completion: Callable[[bytes, dict[str, str]], Completion]
    error: Callable[[int, str, str, dict[str, str]], ProviderError]
    session: Callable[[], aiohttp.ClientSession]
    key: str
    proxy: str | None
    scrub: Callable[[str], str]
    max_body: int


class OpenAIBatches(BatchProvider):
    """Client of ``{api_base}/files`` and ``{api_base}/batches``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def line(self, custom_id: str, request: Request) -> bytes:
        """Return the request in the form of ``/v1/chat/completions``."""
        line = {"custom_id": custom_id, "method": "POST", "url": _ENDPOINT, "body": self._transport.payload(request)}
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"

    async def upload(self, file: Path) -> str:
        """Post the file as multipart form data with the purpose ``batch``."""
        import aiohttp

        size = file.stat().st_size  # noqa: ASYNC240 - a local file
        with file.open("rb") as stream:
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", stream, filename=file.name, content_type="application/jsonl")
            response = await self._call("POST", "/files", data=form, seconds=_CALL_SECONDS + size / _MIN_UPLOAD_RATE)
        return self._id(response)

    async def create(self, upload: str, token: str) -> JobStatus:
        """Post the job, with the token in its metadata."""
        body = {
            "input_file_id": upload,
            "endpoint": _ENDPOINT,
            "completion_window": "24h",
            "metadata": {_TOKEN: token},
        }
        # A server that supports the header answers a repeated call with the job of the first one.
        return self._status(await self._call("POST", "/batches", json=body, headers={"Idempotency-Key": token}))

    async def find(self, token: str) -> JobStatus | None:
        """Search the list of jobs, newest first."""
        after = ""
        for _ in range(_PAGES):
            query = {"limit": str(_PAGE), **({"after": after} if after else {})}
            page = await self._call("GET", "/batches", params=query)
            jobs = page.get("data")
            if not isinstance(jobs, list):
                raise ServerError(f"{self._transport.base} did not send a list of batches")
            for job in jobs:
                if (
                    isinstance(job, dict)
                    and isinstance(about := job.get("metadata"), dict)
                    and about.get(_TOKEN) == token
                ):
                    return self._status(job)
            if not page.get("has_more") or not jobs:
                return None
            after = self._id(jobs[-1])
        return None

    async def poll(self, job_id: str) -> JobStatus:
        """Get the status of the job."""
        return self._status(await self._call("GET", f"/batches/{job_id}"))

    async def cancel(self, job_id: str) -> None:
        """Post the cancellation of the job."""
        await self._call("POST", f"/batches/{job_id}/cancel")

    async def fetch(self, job: JobStatus, folder: Path) -> AsyncIterator[tuple[str, Completion | ProviderError]]:
        """Download the output file and then the error file to disk, and read them line by line."""
        for name in ("output_file_id", "error_file_id"):
            file_id = (job.results or {}).get(name)
            if not file_id:
                continue
            with tempfile.TemporaryFile(dir=folder) as file:
                await self._download(file_id, file)
                file.seek(0)
                for line in _lines(file):
                    result = self._result(line)
                    if result is not None:
                        yield result

    # -- results ----------------------------------------------------------------------------------------------------

    def _result(self, line: bytes) -> tuple[str, Completion | ProviderError] | None:
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
                    return custom_id, self._transport.completion(raw, {})
                except ProviderError as failure:
                    return custom_id, failure
            message, code = _wire.provider_message(raw)
            return custom_id, self._transport.error(status if isinstance(status, int) else 500, message, code, {})
        message, code = _wire.provider_message(json.dumps({"error": error}))
        if code in _CANCELLED:
            return None
        text = self._transport.scrub(f"{code}: {message}" if code else message)
        failed = ServerError(f"the batch job failed for this request: {text}")
        return custom_id, DeadlineError(text) if code in _EXPIRED else failed

    async def _download(self, file_id: str, file: Any) -> None:
        async with self._request("GET", f"/files/{file_id}/content") as response:
            if response.status != 200:
                await self._fail(response)
            while True:
                try:
                    async with asyncio.timeout(_STALL_SECONDS):
                        part = await response.content.readany()
                except TimeoutError:
                    raise DeadlineError(f"{self._transport.base} stopped sending {file_id}") from None
                if not part:
                    return
                file.write(part)

    # -- calls ------------------------------------------------------------------------------------------------------

    async def _call(self, method: str, path: str, *, seconds: float = _CALL_SECONDS, **more: Any) -> dict[str, Any]:
        """Make one call and return its response, a JSON object."""
        base = self._transport.base
        try:
            async with asyncio.timeout(seconds), self._request(method, path, **more) as received:
                if received.status not in (200, 201):
                    await self._fail(received)
                body = await self._body(received)
        except TimeoutError:
            raise DeadlineError(f"{base}{path} did not answer within {seconds:.0f} s") from None
        try:
            response: Any = json.loads(body)
        except (ValueError, RecursionError):
            response = None
        if not isinstance(response, dict):
            start = self._transport.scrub(_wire.shorten(body[:200].decode("utf-8", "replace")))
            raise ServerError(f"{base}{path} sent an answer that is not a JSON object: {start!r}")
        return response

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        transport = self._transport
        # Uncompressed: files are written to disk as received.
        send = {"Accept-Encoding": "identity", "User-Agent": "enhancer", **(headers or {})}
        if transport.key:
            send["Authorization"] = f"Bearer {transport.key}"
        call: AbstractAsyncContextManager[aiohttp.ClientResponse] = transport.session().request(
            method, transport.base + path, headers=send, allow_redirects=False, proxy=transport.proxy, **more
        )
        try:
            async with call as response:
                yield response
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            why = transport.scrub(_wire.shorten(str(error))) or type(error).__name__
            raise ConnectionFailedError(f"the connection to {transport.base} failed: {why}") from None
        except aiohttp.ClientError as error:
            why = transport.scrub(_wire.shorten(str(error))) or type(error).__name__
            raise ServerError(f"{transport.base} sent an invalid HTTP response: {why}") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the whole body, up to ``max_body`` bytes."""
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._transport.max_body:
                raise ServerError(
                    f"{self._transport.base} sent an answer of more than {self._transport.max_body:,} bytes"
                )
            parts.append(part)
        return b"".join(parts)

    async def _fail(self, response: aiohttp.ClientResponse) -> None:
        """Raise the error of a response."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        if 300 <= response.status < 400:
            raise RequestError(
                f"{self._transport.base} redirects to {self._transport.scrub(headers.get('location', 'nowhere'))}"
            )
        message, code = _wire.provider_message(await self._body(response))
        raise self._transport.error(response.status, message, code, headers)

    def _id(self, response: Mapping[str, Any]) -> str:
        value = response.get("id")
        if not isinstance(value, str) or not value or not value.isascii() or set(value) & set("/?#% "):
            raise ServerError(f"{self._transport.base} sent a response without a valid id")
        return value

    def _status(self, job: Mapping[str, Any]) -> JobStatus:
        status = job.get("status")
        if not isinstance(status, str):
            raise ServerError(f"{self._transport.base} sent a batch without a status")
        counts = job.get("request_counts")
        counts = counts if isinstance(counts, dict) else {}
        done = [n for n in (counts.get("completed"), counts.get("failed")) if isinstance(n, int)]
        total = counts.get("total")
        message, congested = _failure(job.get("errors"))
        return JobStatus(
            id=self._id(job),
            state=_STATES.get(status, "running"),
            said=status[:40],
            total=total if isinstance(total, int) else None,
            done=sum(done) if done else None,
            message=self._transport.scrub(message),
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
    return _wire.shorten("; ".join(messages)), bool(rows) and all(row.get("code") == _CONGESTED for row in rows)


def _lines(file: Any) -> Iterator[bytes]:
    """Yield the lines of a file, except for those that are too long."""
    while line := file.readline(_MAX_LINE_BYTES):
        if line.endswith(b"\n") or len(line) < _MAX_LINE_BYTES:
            if line.strip():
                yield line
            continue
        while (rest := file.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
