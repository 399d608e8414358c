"""Batch jobs that learn from refused parameters, as direct calls do.

What the lines of a job are refused for is left out of the next job, which asks for the same once more. A refusal costs
nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from enhancer.contracts import BatchProvider, Completion
from enhancer.errors import ProviderError, RequestError, ServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from enhancer.contracts import JobStatus, LostJob, Request
    from enhancer_plugins.llm._dialect import Dialect

REFUSED = (400, 422)
"""Statuses of requests that the server understood and will not answer in this form."""
_UNKNOWN_LIMIT = 10**9
"""Stands for the token limit of requests that another process has written."""


class CorrectingBatches(BatchProvider):
    """Client of a batch API whose requests take the form that the endpoint was found to accept.

    Args:
        batches: The client.
        dialect: Form of the requests that it writes.
        model: Name of the model as it is sent.
    """

    def __init__(self, batches: BatchProvider, dialect: Dialect, model: str) -> None:
        self._batches = batches
        self._dialect = dialect
        self._model = model
        self.endpoint = batches.endpoint
        self.max_requests = batches.max_requests  # type: ignore[misc] # that of the client
        self.max_bytes = batches.max_bytes  # type: ignore[misc]
        self._versions: dict[str, int] = {}
        """Version of the dialect in which each job is written, by token."""
        self._tokens: dict[str, str] = {}
        """Token of each job, by the provider's identifier."""
        self._limit = 0
        self._corrected: set[str] = set()
        """Jobs that were refused as a whole for a parameter that the next job leaves out."""

    def line(self, custom_id: str, request: Request) -> bytes:
        """Return the line of the client."""
        # A job whose lines differ counts as written in the first form, so that all of them are asked again.
        self._versions.setdefault(_token(custom_id), self._dialect.version)
        self._limit = max(self._limit, request.max_tokens or 0)
        return self._batches.line(custom_id, request)

    async def upload(self, file: Path) -> str:
        """Upload the file."""
        return await self._batches.upload(file)

    async def create(self, upload: str, token: str) -> JobStatus:
        """Start a job."""
        status = await self._batches.create(upload, token)
        self._tokens[status.id] = token
        return status

    async def find(self, token: str, lost: LostJob | None = None) -> JobStatus | None:
        """Search for a job."""
        status = await self._batches.find(token, lost)
        if status is not None:
            self._tokens[status.id] = token
        return status

    async def poll(self, job_id: str) -> JobStatus:
        """Return the status; a job that was refused as a whole for a parameter has ended without results."""
        status = await self._batches.poll(job_id)
        if status.state == "failed" and not status.congested:
            if job_id not in self._corrected and self._corrects(status.message, self._tokens.get(job_id, "")):
                self._corrected.add(job_id)
            if job_id in self._corrected:
                return replace(status, state="completed")
        return status

    async def fetch(self, job: JobStatus, folder: Path) -> AsyncIterator[tuple[str, Completion | ProviderError]]:
        """Yield the results; a request that was refused for a parameter failed, and is asked again without it."""
        if job.id in self._corrected:
            return
        async for custom_id, result in self._batches.fetch(job, folder):
            if isinstance(result, RequestError) and result.status in REFUSED:
                message, status = result.message, result.status
                if self._corrects(message, _token(custom_id)):
                    yield custom_id, ServerError(f"{message} (asked again in another form)", status=status)
                    continue
            yield custom_id, result

    async def cancel(self, job_id: str) -> None:
        """End a job early."""
        await self._batches.cancel(job_id)

    def _corrects(self, message: str, token: str) -> bool:
        # What another process has written counts as written in the first form.
        version = self._versions.get(token, 0)
        return self._dialect.corrected(message, self._model, version, self._limit or _UNKNOWN_LIMIT)


def _token(custom_id: str) -> str:
    return custom_id.rpartition("-")[0]
