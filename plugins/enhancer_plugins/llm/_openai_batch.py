"""OpenAI's batch API: ``/files`` and ``/batches``, with files streamed from and to the disk."""

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
_TOKEN = "enhancer_job"  # noqa: S105 - the name of a metadata field
_CALL_SECONDS = 60.0
_SLOWEST = 50_000.0
"""Bytes a second below which an upload is given up."""
_SILENCE_SECONDS = 60.0
"""How long a download may say nothing."""
_PAGE = 100
_PAGES = 200
"""Pages of past jobs that are looked through for one of ours: newest come first, so the first few do."""
_LONGEST_LINE = 32 * 1024 * 1024
_STATES: Mapping[str, JobState] = {
    "completed": "completed",
    "expired": "expired",
    "cancelled": "cancelled",
    "failed": "failed",
}
_CONGESTED = "token_limit_exceeded"
_NO_TURN = frozenset({"batch_expired"})
_CALLED_OFF = frozenset({"batch_cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """What the provider lends: how it writes requests, reads answers, tells errors and reaches its server."""

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
    """Speaks to ``{api_base}/files`` and ``{api_base}/batches``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def line(self, custom_id: str, request: Request) -> bytes:
        """One request, as ``/v1/chat/completions`` takes it."""
        whole = {"custom_id": custom_id, "method": "POST", "url": _ENDPOINT, "body": self._transport.payload(request)}
        return json.dumps(whole, separators=(",", ":")).encode() + b"\n"

    async def upload(self, file: Path) -> str:
        """POST the file as multipart, with purpose ``batch``."""
        import aiohttp

        size = file.stat().st_size  # noqa: ASYNC240 - a file of ours
        with file.open("rb") as stream:
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", stream, filename=file.name, content_type="application/jsonl")
            told = await self._call("POST", "/files", data=form, seconds=_CALL_SECONDS + size / _SLOWEST)
        return self._name(told)

    async def create(self, upload: str, token: str) -> JobStatus:
        """POST the job, with our token in its metadata."""
        body = {
            "input_file_id": upload,
            "endpoint": _ENDPOINT,
            "completion_window": "24h",
            "metadata": {_TOKEN: token},
        }
        # Not every server heeds the header; one that does answers a repeated call with the first one's job.
        return self._status(await self._call("POST", "/batches", json=body, headers={"Idempotency-Key": token}))

    async def find(self, token: str) -> JobStatus | None:
        """Look through the list of jobs, newest first."""
        after = ""
        for _ in range(_PAGES):
            query = {"limit": str(_PAGE), **({"after": after} if after else {})}
            told = await self._call("GET", "/batches", params=query)
            jobs = told.get("data")
            if not isinstance(jobs, list):
                raise ServerError(f"{self._transport.base} sent no list of batches")
            for job in jobs:
                if (
                    isinstance(job, dict)
                    and isinstance(about := job.get("metadata"), dict)
                    and about.get(_TOKEN) == token
                ):
                    return self._status(job)
            if not told.get("has_more") or not jobs:
                return None
            after = self._name(jobs[-1])
        return None

    async def poll(self, job_id: str) -> JobStatus:
        """GET the job."""
        return self._status(await self._call("GET", f"/batches/{job_id}"))

    async def cancel(self, job_id: str) -> None:
        """POST its cancellation."""
        await self._call("POST", f"/batches/{job_id}/cancel")

    async def fetch(self, job: JobStatus, folder: Path) -> AsyncIterator[tuple[str, Completion | ProviderError]]:
        """Download the output file, then the error file, each to the disk first and then line by line."""
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
        """What a line says; None where it cannot be read, or says that nobody got to it before it was called off."""
        try:
            told = json.loads(line)
            custom_id = told["custom_id"]
            response, error = told.get("response"), told.get("error")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None
        if not isinstance(custom_id, str):
            return None
        if isinstance(response, dict):
            status, body = response.get("status_code"), response.get("body")
            text = json.dumps(body).encode()
            if status == 200:
                try:
                    return custom_id, self._transport.completion(text, {})
                except ProviderError as failure:
                    return custom_id, failure
            message, code = _wire.provider_message(text)
            return custom_id, self._transport.error(status if isinstance(status, int) else 500, message, code, {})
        message, code = _wire.provider_message(json.dumps({"error": error}))
        if code in _CALLED_OFF:
            return None
        said = self._transport.scrub(f"{code}: {message}" if code else message)
        return custom_id, DeadlineError(said) if code in _NO_TURN else ServerError(f"the batch answered {said}")

    async def _download(self, file_id: str, file: Any) -> None:
        async with self._request("GET", f"/files/{file_id}/content") as response:
            if response.status != 200:
                await self._fail(response)
            while True:
                try:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        part = await response.content.readany()
                except TimeoutError:
                    raise DeadlineError(f"{self._transport.base} fell silent while sending {file_id}") from None
                if not part:
                    return
                file.write(part)

    # -- calls ------------------------------------------------------------------------------------------------------

    async def _call(self, method: str, path: str, *, seconds: float = _CALL_SECONDS, **more: Any) -> dict[str, Any]:
        """One call, and the JSON object that it answers."""
        base = self._transport.base
        try:
            async with asyncio.timeout(seconds), self._request(method, path, **more) as response:
                if response.status not in (200, 201):
                    await self._fail(response)
                body = await self._body(response)
        except TimeoutError:
            raise DeadlineError(f"{base}{path} gave no whole answer within {seconds:.0f} s") from None
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            start = self._transport.scrub(_wire.shorten(body[:200].decode("utf-8", "replace")))
            raise ServerError(f"{base}{path} sent an answer that is not a JSON object: {start!r}")
        return told

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        transport = self._transport
        # Not compressed: a file is written to the disk as it comes.
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
            raise ServerError(f"{transport.base} does not speak HTTP as agreed: {why}") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body, which must be small."""
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
        """Raise what the answer stands for."""
        told = {name.lower(): value for name, value in response.headers.items()}
        if 300 <= response.status < 400:
            raise RequestError(
                f"{self._transport.base} redirects to {self._transport.scrub(told.get('location', 'nowhere'))}"
            )
        message, code = _wire.provider_message(await self._body(response))
        raise self._transport.error(response.status, message, code, told)

    def _name(self, told: Mapping[str, Any]) -> str:
        name = told.get("id")
        if not isinstance(name, str) or not name or not name.isascii() or set(name) & set("/?#% "):
            raise ServerError(f"{self._transport.base} answered without a usable id")
        return name

    def _status(self, told: Mapping[str, Any]) -> JobStatus:
        said = told.get("status")
        if not isinstance(said, str):
            raise ServerError(f"{self._transport.base} told no status of a batch")
        counts = told.get("request_counts")
        counts = counts if isinstance(counts, dict) else {}
        done = [n for n in (counts.get("completed"), counts.get("failed")) if isinstance(n, int)]
        total = counts.get("total")
        message, congested = _why(told.get("errors"))
        return JobStatus(
            id=self._name(told),
            state=_STATES.get(said, "running"),
            said=said[:40],
            total=total if isinstance(total, int) else None,
            done=sum(done) if done else None,
            message=self._transport.scrub(message),
            congested=congested,
            results={name: told.get(name) for name in ("output_file_id", "error_file_id")},
        )


def _why(errors: object) -> tuple[str, bool]:
    """Why a job was refused, and whether that may pass."""
    found = errors.get("data") if isinstance(errors, dict) else None
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    said = []
    for row in rows[:3]:
        where = f"line {row['line']}: " if isinstance(row.get("line"), int) else ""
        said.append(where + str(row.get("message") or row.get("code") or "?"))
    if len(rows) > len(said):
        said.append(f"and {len(rows) - len(said)} more")
    return _wire.shorten("; ".join(said)), bool(rows) and all(row.get("code") == _CONGESTED for row in rows)


def _lines(file: Any) -> Iterator[bytes]:
    """Lines of a file, those of absurd length left out."""
    while line := file.readline(_LONGEST_LINE):
        if line.endswith(b"\n") or len(line) < _LONGEST_LINE:
            if line.strip():
                yield line
            continue
        while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
