"""Client of Anthropic's Message Batches API (``/v1/messages/batches``).

Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing and the API reference. There is no file
to upload: the requests are the body of the creation. A batch carries no name and no metadata, but the custom ids of its
requests are in its results.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancer.contracts import BatchProvider, Completion, JobStatus
from enhancer.errors import DeadlineError, ProviderError, RequestError, ServerError
from enhancer_plugins.llm import _reply
from enhancer_plugins.network import wire
from enhancer_plugins.network.batch_connection import PAGES, answers_first, upload_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from enhancer.contracts import LostJob, Request
    from enhancer.contracts.batch import JobState
    from enhancer_plugins.llm.batching.channel import Channel
    from enhancer_plugins.network.batch_connection import Connection

_PAGE = 100
_CLOCK_SLACK = timedelta(minutes=5)
"""Largest time by which a batch may be older than recorded."""
_BETA = "anthropic-beta"
_BETAS = re.compile(rb'\{"betas":("[^"]*"),')
_TOOL = "json_tool_call"
"""Tool whose input is the answer, for models without structured output."""
_PIECE = 256 * 1024
_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""HTTP status of each type of error; others count as 500."""


class AnthropicBatches(BatchProvider):
    """Client of ``/v1/messages/batches``."""

    max_requests = 100_000
    max_bytes = 250_000_000

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.endpoint = channel.endpoint

    @property
    def _connection(self) -> Connection:
        return self._channel.connect(lambda url: url.removesuffix("/messages"), drop=[_BETA])

    def line(self, custom_id: str, request: Request) -> bytes:
        """Return one element of ``requests``. Beta features are headers of a call, and so precede it as ``betas``."""
        body, headers = self._channel.body(request)
        betas = f'"betas":{json.dumps(headers[_BETA])},' if headers.get(_BETA) else ""
        return f'{{{betas}"custom_id":{json.dumps(custom_id)},"params":'.encode() + body + b"}\n"

    async def upload(self, file: Path) -> str:
        """Return the path of the file; it is sent by :meth:`create`."""
        return str(file.resolve())  # noqa: ASYNC240 - a local file

    async def create(self, upload: str, token: str) -> JobStatus:  # noqa: ARG002 - batches carry no token
        """Post the requests of the file."""
        try:
            with Path(upload).open("rb") as file:  # noqa: ASYNC230 - a local file
                betas = _BETAS.match(file.readline())
                size = sum(len(piece) for piece in _pieces(file))
                headers = {"Content-Type": "application/json", "Content-Length": str(size)}
                if betas:
                    headers[_BETA] = json.loads(betas[1])
                sent = self._connection.call(
                    "POST", "/messages/batches", data=_stream(file), headers=headers, seconds=upload_seconds(size)
                )
                return self._status(await sent)
        except FileNotFoundError:
            raise RequestError(f"the file of the job is missing: {upload}") from None

    async def find(self, token: str, lost: LostJob | None = None) -> JobStatus | None:
        """Search the list of batches for one that no other job has, of the same size, and not older.

        A batch that has ended names its requests, and so its job. If one batch that is running may be the job, it is:
        requests that are not found in its results are asked for again.

        Raises:
            RequestError: ``lost`` is not given.
            ProviderError: Several running batches may be the job.
        """
        if lost is None:
            raise RequestError("Anthropic's batches carry no token")
        running: list[JobStatus] = []
        async for batch in self._younger(lost):
            status = self._status(batch)
            if status.id in lost.others or status.total != lost.requests:
                continue
            if status.state == "running":
                running.append(status)
            elif await self._holds(status.id, token):
                return status
        if len(running) > 1:
            names = ", ".join(status.id for status in running)
            raise ProviderError(
                f"a batch job may have been created, and any of these running batches may be it: {names}",
                hint="run the same command again when they have ended: then they tell which",
            )
        return running[0] if running else None

    async def poll(self, job_id: str) -> JobStatus:
        """Get the status of the batch."""
        return self._status(await self._connection.call("GET", f"/messages/batches/{job_id}"))

    async def cancel(self, job_id: str) -> None:
        """Post the cancellation of the batch."""
        await self._connection.call("POST", f"/messages/batches/{job_id}/cancel")

    async def fetch(self, job: JobStatus, folder: Path) -> AsyncIterator[tuple[str, Completion | ProviderError]]:
        """Download the results to disk and read them line by line, those that succeeded first."""
        # The documented path, and not `results_url`: the key goes to no other host.
        lines = self._connection.lines(f"/messages/batches/{job.id}/results", folder)
        async for result in answers_first(lines, self._result):
            yield result

    # -- the list ---------------------------------------------------------------------------------------------------

    async def _younger(self, lost: LostJob) -> AsyncIterator[dict[str, Any]]:
        """Yield the batches that were created since the job was begun, newest first."""
        after = ""
        for _ in range(PAGES):
            query = {"limit": str(_PAGE), **({"after_id": after} if after else {})}
            page, headers = await self._connection.exchange("GET", "/messages/batches", params=query)
            batches = page.get("data")
            if not isinstance(batches, list):
                raise ServerError(f"{self._connection.base} did not send a list of batches")
            since = _time(lost.begun) + _ahead(headers.get("date", "")) - _CLOCK_SLACK
            for batch in batches:
                if not isinstance(batch, dict):
                    continue
                if _time(batch.get("created_at")) < since:
                    return
                yield batch
            after = page.get("last_id") or ""
            if not page.get("has_more") or not batches or not isinstance(after, str) or not after:
                return

    async def _holds(self, batch: str, token: str) -> bool:
        """Return whether the first result of a batch belongs to the job with this token."""
        try:
            line = await self._connection.first_line(f"/messages/batches/{batch}/results")
        except RequestError:  # archived
            return False
        try:
            return str(json.loads(line)["custom_id"]).startswith(f"{token}-")
        except (ValueError, RecursionError, KeyError, TypeError):
            return False

    def _status(self, batch: Mapping[str, Any]) -> JobStatus:
        status = batch.get("processing_status")
        if not isinstance(status, str):
            raise ServerError(f"{self._connection.base} sent a batch without a processing_status")
        given = batch.get("request_counts")
        counts = {k: v for k, v in given.items() if isinstance(v, int)} if isinstance(given, dict) else {}
        state: JobState = "running"
        if status == "ended":
            state = "expired" if counts.get("expired") else "completed"
            if batch.get("cancel_initiated_at") or counts.get("canceled"):
                state = "cancelled"
        return JobStatus(
            id=self._connection.id(batch),
            state=state,
            said=status[:40],
            total=sum(counts.values()) if counts else None,
            done=sum(counts.values()) - counts.get("processing", 0) or None,
        )

    # -- results ----------------------------------------------------------------------------------------------------

    def _result(self, line: bytes) -> tuple[str, Completion | ProviderError] | None:
        """Parse a line; return None for an unreadable line, or a request that was cancelled before it was processed."""
        try:
            data = json.loads(line)
            custom_id, result = data["custom_id"], data["result"]
            kind = result["type"]
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        if not isinstance(custom_id, str) or kind == "canceled":
            return None
        if kind == "succeeded":
            try:
                return custom_id, completion(result["message"], self._channel.scrub_exactly)
            except (KeyError, TypeError, AttributeError, ValueError):
                return custom_id, ServerError(f"{self._connection.base} sent a result that is not a message")
        if kind == "expired":
            return custom_id, DeadlineError("the batch expired before the request was processed")
        message, code = wire.provider_message(json.dumps(_innermost(result.get("error"))))
        return custom_id, self._connection.error(_STATUS.get(code, 500), message, code, {})


def completion(message: Mapping[str, Any], scrub: Any = str) -> Completion:
    """Return the completion in a message, as LiteLLM reads it.

    Raises:
        KeyError: It is not a message; or ``TypeError``, ``AttributeError``.
    """
    text = "".join(block["text"] for block in message["content"] if block["type"] == "text")
    answers = [block["input"] for block in message["content"] if block["type"] == "tool_use" and block["name"] == _TOOL]
    reason = _reply.ending(message.get("stop_reason"))
    if answers:
        answer = answers[0]
        wrapped = answer.get("values") if isinstance(answer, dict) else None
        text = json.dumps(answer if wrapped is None else wrapped)
        reason = "stop" if message.get("stop_reason") == "tool_use" else reason
    usage = message.get("usage") or {}
    cached = wire.tokens(usage.get("cache_read_input_tokens"))
    prompt = wire.tokens(usage.get("input_tokens"))
    if prompt is not None:
        prompt += (cached or 0) + (wire.tokens(usage.get("cache_creation_input_tokens")) or 0)
    return Completion(
        text=scrub(text),
        finish_reason=reason,
        prompt_tokens=prompt,
        completion_tokens=wire.tokens(usage.get("output_tokens")),
        reasoning_tokens=wire.tokens((usage.get("output_tokens_details") or {}).get("thinking_tokens")),
        cached_tokens=cached,
        model=scrub(str(message.get("model") or "")),
    )


def _innermost(error: Any) -> Any:
    """Return the error with a type of its own: errored results wrap it in an object of the type ``error``."""
    while isinstance(error, dict) and error.get("type") == "error" and isinstance(error.get("error"), dict):
        error = error["error"]
    return {"error": error}


def _pieces(file: Any) -> Iterator[bytes]:
    """Yield the body of the creation in pieces."""
    file.seek(0)
    piece = b'{"requests":['
    for number, line in enumerate(file):
        piece += (b"," if number else b"") + _BETAS.sub(b"{", line, count=1)
        if len(piece) >= _PIECE:
            yield piece
            piece = b""
    yield piece + b"]}"


async def _stream(file: Any) -> AsyncIterator[bytes]:
    for piece in _pieces(file):
        yield piece


def _time(value: object) -> datetime:
    """Return a time; for an unreadable one, the latest of all, so that the batch counts as young."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None:
        return datetime.max.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _ahead(date: str) -> timedelta:
    """Return how far the provider's clock is ahead of this machine's, by the header ``Date``."""
    try:
        return parsedate_to_datetime(date) - datetime.now(UTC)
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)
