"""Client of Mistral's batch jobs (``/v1/files`` and ``/v1/batch/jobs``).

Sources: https://docs.mistral.ai/capabilities/batch, the API reference and the client library mistralai 3.7. Files and
their lines are OpenAI's, except that the job has the model; jobs are paged by number and have metadata.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from enhancer.contracts import JobStatus
from enhancer.errors import ServerError
from enhancer_plugins.llm import _reply
from enhancer_plugins.network import wire
from enhancer_plugins.network.batch_connection import PAGES
from enhancer_plugins.network.openai_batches import OpenAIBatches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts import Completion, LostJob, Request
    from enhancer.contracts.batch import JobState
    from enhancer_plugins.llm.batching.channel import Channel
    from enhancer_plugins.network.batch_connection import Connection

_ENDPOINT = "/v1/chat/completions"
_TOKEN = "enhancer_job"  # noqa: S105 - name of a metadata field
_PAGE = 100
_MODEL = re.compile(rb'^\{"model":"[^"]*",')
_STATES: Mapping[str, JobState] = {
    "SUCCESS": "completed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
}


class MistralBatches(OpenAIBatches):
    """Client of ``/v1/batch/jobs``."""

    max_requests = 100_000
    max_bytes = 500_000_000

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.endpoint = channel.endpoint

    @property
    def _connection(self) -> Connection:
        return self._channel.connect(lambda url: url.removesuffix("/chat/completions"))

    def line(self, custom_id: str, request: Request) -> bytes:
        """Return the body of a direct call without its model, which the job has."""
        body, _ = self._channel.body(request)
        return f'{{"custom_id":{json.dumps(custom_id)},"body":'.encode() + _MODEL.sub(b"{", body, count=1) + b"}\n"

    async def create(self, upload: str, token: str) -> JobStatus:
        """Post the job, with the token in its metadata."""
        job = {
            "input_files": [upload],
            "endpoint": _ENDPOINT,
            "model": self._channel.direct_body["model"],
            "metadata": {_TOKEN: token},
            "timeout_hours": 24,
        }
        return self._status(await self._connection.call("POST", "/batch/jobs", json=job))

    async def find(self, token: str, lost: LostJob | None = None) -> JobStatus | None:  # noqa: ARG002 - tokens suffice
        """Search the list of jobs, newest first."""
        for number in range(PAGES):
            query = {"page": str(number), "page_size": str(_PAGE), "order_by": "-created"}
            page = await self._connection.call("GET", "/batch/jobs", params=query)
            jobs = page.get("data") or []
            if not isinstance(jobs, list):
                raise ServerError(f"{self._connection.base} did not send a list of batch jobs")
            for job in jobs:
                if (
                    isinstance(job, dict)
                    and isinstance(about := job.get("metadata"), dict)
                    and about.get(_TOKEN) == token
                ):
                    return self._status(job)
            if len(jobs) < _PAGE:
                return None
        return None

    async def poll(self, job_id: str) -> JobStatus:
        """Get the status of the job."""
        return self._status(await self._connection.call("GET", f"/batch/jobs/{job_id}"))

    async def cancel(self, job_id: str) -> None:
        """Post the cancellation of the job."""
        await self._connection.call("POST", f"/batch/jobs/{job_id}/cancel")

    def _answer(self, body: bytes) -> Completion:
        return _reply.completion(
            json.loads(body), where=self._connection.base, scrub=self._channel.scrub_exactly, headers={}
        )

    def _status(self, job: Mapping[str, Any]) -> JobStatus:
        said = job.get("status")
        if not isinstance(said, str):
            raise ServerError(f"{self._connection.base} sent a batch job without a status")
        results = {"output_file_id": job.get("output_file"), "error_file_id": job.get("error_file")}
        state = _STATES.get(said, "running")
        if state == "failed" and any(results.values()):
            state = "completed"  # what was answered is paid for
        errors = job.get("errors")
        rows = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
        message = "; ".join(str(one.get("message")) for one in rows[:3])
        return JobStatus(
            id=self._connection.id(job),
            state=state,
            said=said[:40],
            total=wire.tokens(job.get("total_requests")),
            done=wire.tokens(job.get("completed_requests")) or None,
            message=self._channel.scrub(wire.shorten(message)),
            results=results,
        )
