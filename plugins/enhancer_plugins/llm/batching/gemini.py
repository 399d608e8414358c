"""Client of Gemini's batch mode (``models/MODEL:batchGenerateContent``).

Sources: https://ai.google.dev/gemini-api/docs/batch-api, https://ai.google.dev/api/batch-mode and the client library
google-genai 3.6. Requests are a file of lines, each with a key. The display name of a batch holds its token.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from enhancer.contracts import BatchProvider, Completion, JobStatus
from enhancer.errors import ProviderError, ServerError
from enhancer_plugins.llm import _reply
from enhancer_plugins.network import wire
from enhancer_plugins.network.batch_connection import PAGES, answers_first, upload_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from enhancer.contracts import LostJob, Request
    from enhancer.contracts.batch import JobState
    from enhancer_plugins.llm.batching.channel import Channel
    from enhancer_plugins.network.batch_connection import Connection

_PAGE = 100
_STATES: Mapping[str, JobState] = {
    "SUCCEEDED": "completed",
    "PARTIALLY_SUCCEEDED": "completed",
    "EXPIRED": "expired",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
}
_EXHAUSTED = 8
_HTTP: Mapping[int, int] = {3: 400, 4: 504, 5: 404, 7: 403, _EXHAUSTED: 429, 9: 400, 11: 400, 14: 503, 16: 401}
"""HTTP status of the codes of google.rpc.Status; others count as 500."""


class GeminiBatches(BatchProvider):
    """Client of ``/batches`` and ``/files``."""

    max_bytes = 2_000_000_000

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.endpoint = channel.endpoint

    @property
    def _connection(self) -> Connection:
        # The version, such as v1beta, follows "upload" and "download" in the paths of files.
        return self._channel.connect(lambda url: url.partition("/models/")[0].rpartition("/")[0])

    @property
    def _version(self) -> str:
        return self._channel.direct_url.partition("/models/")[0].rpartition("/")[2]

    def line(self, custom_id: str, request: Request) -> bytes:
        """Return a request and its key."""
        body, _ = self._channel.body(request)
        return f'{{"key":{json.dumps(custom_id)},"request":'.encode() + body + b"}\n"

    async def upload(self, file: Path) -> str:
        """Upload the file in two calls: one tells its size, the other sends it."""
        size = file.stat().st_size  # noqa: ASYNC240 - a local file
        kind = {"Content-Type": "application/json"}
        begin = {
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(size),
            "X-Goog-Upload-Header-Content-Type": "application/jsonl",
        }
        about = {"file": {"display_name": file.stem}}
        _, headers = await self._connection.exchange(
            "POST", f"/upload/{self._version}/files", json=about, headers={**begin, **kind}
        )
        where = urlsplit(headers.get("x-goog-upload-url", ""))
        if not where.path.startswith("/"):
            raise ServerError(f"{self._connection.base} did not say where to upload a file")
        send = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0", "Content-Length": str(size)}
        with file.open("rb") as stream:
            # The host of the API, whichever the answer names: the key goes to no other.
            response = await self._connection.call(
                "POST",
                f"{where.path}?{where.query}" if where.query else where.path,
                at_host=True,
                data=stream,
                headers=send,
                seconds=upload_seconds(size),
            )
        uploaded = response.get("file")
        return self._connection.id(uploaded if isinstance(uploaded, dict) else {}, "name", allowed="/")

    async def create(self, upload: str, token: str) -> JobStatus:
        """Post the batch, with the token as its name."""
        path = urlsplit(self._channel.direct_url).path.rpartition("/models/")[2].rpartition(":")[0]
        batch = {"display_name": token, "input_config": {"file_name": upload}}
        return self._status(
            await self._connection.call(
                "POST", f"/{self._version}/models/{path}:batchGenerateContent", json={"batch": batch}
            )
        )

    async def find(self, token: str, lost: LostJob | None = None) -> JobStatus | None:  # noqa: ARG002 - tokens suffice
        """Search the list of batches."""
        page = ""
        for _ in range(PAGES):
            query = {"pageSize": str(_PAGE), **({"pageToken": page} if page else {})}
            listed = await self._connection.call("GET", f"/{self._version}/batches", params=query)
            jobs = listed.get("operations", [])
            if not isinstance(jobs, list):
                raise ServerError(f"{self._connection.base} did not send a list of batches")
            for job in jobs:
                if isinstance(job, dict) and _metadata(job).get("displayName") == token:
                    return self._status(job)
            page = listed.get("nextPageToken") or ""
            if not page or not isinstance(page, str):
                return None
        return None

    async def poll(self, job_id: str) -> JobStatus:
        """Get the status of the batch."""
        return self._status(await self._connection.call("GET", f"/{self._version}/{_path(job_id)}"))

    async def cancel(self, job_id: str) -> None:
        """Post the cancellation of the batch."""
        await self._connection.call("POST", f"/{self._version}/{_path(job_id)}:cancel", json={})

    async def fetch(self, job: JobStatus, folder: Path) -> AsyncIterator[tuple[str, Completion | ProviderError]]:
        """Download the file of results and read it line by line, answers first. A batch that expired has none."""
        name = (job.results or {}).get("responses_file")
        if not name:
            return
        name = self._connection.id({"name": name}, "name", allowed="/")
        lines = self._connection.lines(f"/download/{self._version}/{name}:download?alt=media", folder)
        async for result in answers_first(lines, self._result):
            yield result

    # -- results ----------------------------------------------------------------------------------------------------

    def _result(self, line: bytes) -> tuple[str, Completion | ProviderError] | None:
        """Parse a line; return None for an unreadable line."""
        try:
            data = json.loads(line)
            key, response, error = data["key"], data.get("response"), data.get("error") or data.get("status")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None
        if not isinstance(key, str):
            return None
        if isinstance(response, dict):
            try:
                return key, completion(response, self._channel.scrub_exactly)
            except (KeyError, TypeError, AttributeError, IndexError):
                return key, ServerError(f"{self._connection.base} sent a result that is not a completion")
        status, message = _error(error)
        return key, self._connection.error(status, message, "", {})

    def _status(self, job: Mapping[str, Any]) -> JobStatus:
        about = _metadata(job)
        said = about.get("state")
        if not isinstance(said, str):
            raise ServerError(f"{self._connection.base} sent a batch without a state")
        said = said.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
        given = about.get("batchStats")
        stats = given if isinstance(given, dict) else {}
        done = [_count(stats, f"{kind}RequestCount") for kind in ("successful", "failed")]
        status, message = _error(job.get("error")) if job.get("error") else (0, "")
        return JobStatus(
            id=self._connection.id(job, "name", allowed="/"),
            state=_STATES.get(said, "running"),
            said=said[:40],
            total=_count(stats, "requestCount"),
            done=sum(n or 0 for n in done) or None,
            message=self._channel.scrub(message),
            congested=status == HTTPStatus.TOO_MANY_REQUESTS,
            results={"responses_file": _responses_file(job.get("response")) or _responses_file(about.get("output"))},
        )


def completion(response: Mapping[str, Any], scrub: Callable[[str], str] = str) -> Completion:
    """Return the completion in a response of ``generateContent``.

    Thought counts as part of the completion. A prompt that was blocked has no candidates.

    Raises:
        KeyError: It is no such response; or ``TypeError``, ``AttributeError``, ``IndexError``.
    """
    text, reason = "", _reply.ending("SAFETY")
    if response.get("candidates"):
        candidate = response["candidates"][0]
        parts = (candidate.get("content") or {}).get("parts") or []
        text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
        reason = _reply.ending(candidate.get("finishReason"))
    elif not (response.get("promptFeedback") or {}).get("blockReason"):
        raise KeyError("candidates")
    usage = response.get("usageMetadata") or {}
    thought = wire.tokens(usage.get("thoughtsTokenCount"))
    prompt, answer = _reply.counts(
        {
            "prompt_tokens": usage.get("promptTokenCount"),
            "completion_tokens": (wire.tokens(usage.get("candidatesTokenCount")) or 0) + (thought or 0),
            "total_tokens": usage.get("totalTokenCount"),
        }
    )
    return Completion(
        text=scrub(text),
        finish_reason=reason,
        prompt_tokens=prompt,
        completion_tokens=answer,
        reasoning_tokens=thought,
        cached_tokens=wire.tokens(usage.get("cachedContentTokenCount")),
        total_tokens=wire.tokens(usage.get("totalTokenCount")),
        model=scrub(str(response.get("modelVersion") or "")),
    )


def _metadata(job: Mapping[str, Any]) -> Mapping[str, Any]:
    about = job.get("metadata")
    return about if isinstance(about, dict) else {}


def _responses_file(output: Any) -> str | None:
    name = output.get("responsesFile") if isinstance(output, dict) else None
    return name if isinstance(name, str) and name else None


def _path(job_id: str) -> str:
    return job_id if job_id.startswith("batches/") else f"batches/{job_id}"


def _count(stats: Mapping[str, Any], name: str) -> int | None:
    """Return a count; JSON of protocol buffers writes them as strings."""
    value = stats.get(name)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return wire.tokens(value)


def _error(error: Any) -> tuple[int, str]:
    """Return the HTTP status and the message of a ``google.rpc.Status``, whose code may be either kind."""
    message, code = wire.provider_message(json.dumps({"error": error}))
    number = int(code) if code.isdecimal() else 0
    return (number if 400 <= number < 600 else _HTTP.get(number, 500)), message
