"""Offline batch jobs: an optional capability of LLM providers and of remote embedders.

A job is a file of requests, answered within a day at a discount. A provider with the capability implements
:meth:`OffersBatches.batches`, and an embedder :meth:`OffersEmbeddingBatches.batches`: they return a client of the batch
API. The harness decides the order of the calls, records each step before the next, and does all retries::

    line … line ──> upload ──> create (with a token) ──> poll … poll ──> fetch
                                  └─ response lost: find(token)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from enhancer.contracts.embedder import Embeddings
from enhancer.contracts.llm import Completion, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from enhancer.errors import ProviderError

Q = TypeVar("Q")
A = TypeVar("A")
JobState = Literal["running", "completed", "expired", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """Status of a batch job, as reported by the provider."""

    id: str
    """Identifier assigned by the provider."""
    state: JobState
    """``running``: not ended yet. ``completed``, ``expired``, ``cancelled``: ended, possibly with results.
    ``failed``: rejected as a whole, with no results and no charge."""
    said: str = ""
    """The provider's own name of the state, for display."""
    total: int | None = None
    """Number of requests; None if the provider does not report it."""
    done: int | None = None
    """Number of requests that were answered or failed."""
    message: str = ""
    """The provider's error message, without secrets."""
    congested: bool = False
    """Whether the job failed only because the provider's queue was full, so that a later attempt may succeed."""
    results: Mapping[str, Any] | None = None
    """Data that :meth:`BatchClient.fetch` needs to find the results; opaque to the harness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostJob:
    """Knowledge of the journal about a job whose creation was begun, and perhaps completed."""

    requests: int
    """Number of its requests."""
    begun: str
    """Time before the creation, by the clock of this machine: UTC, ISO 8601."""
    others: frozenset[str] = frozenset()
    """Identifiers of the other jobs in the journal, at the same endpoint."""


class BatchClient(ABC, Generic[Q, A]):
    """Client of a batch API. It uses the event loop of its provider or embedder and is closed with it.

    Methods do not retry. They raise the same subclasses of ``ProviderError`` as direct calls. Messages of errors
    contain no secrets.
    """

    max_requests: ClassVar[int] = 50_000
    """Maximum number of requests in a job."""
    max_bytes: ClassVar[int] = 200_000_000
    """Maximum size of a job's file in bytes."""
    endpoint: str | None = None
    """Name under which jobs are recorded. None stands for the endpoint of the LLM provider, or for that of the embedder
    with ``/embeddings`` behind it, so that both find their own jobs."""

    @abstractmethod
    def line(self, custom_id: str, request: Q) -> bytes:
        """Return one line of the file, including the line feed.

        Args:
            custom_id: At most 64 letters, digits and hyphens; returned with the result.
            request: The request; the line must ask for what a direct call would.
        """

    @abstractmethod
    async def upload(self, file: Path) -> str:
        """Upload the file as a stream and return its identifier. Uploading is free of charge.

        Where the API has no upload, the identifier is the path of the file, which is kept until the job is created.
        """

    @abstractmethod
    async def create(self, upload: str, token: str) -> JobStatus:
        """Start a job for an uploaded file. The provider charges for it.

        Args:
            upload: Identifier returned by :meth:`upload`.
            token: Stored with the job for :meth:`find`.
        """

    @abstractmethod
    async def find(self, token: str, lost: LostJob | None = None) -> JobStatus | None:
        """Return the job that was created with this token; None if there is none.

        Args:
            token: The token.
            lost: What else is known of the job, for providers whose jobs carry no token.

        Raises:
            RequestError: The provider does not support the search.
            ProviderError: It cannot be told yet whether the job exists; the message says until when.
        """

    @abstractmethod
    async def poll(self, job_id: str) -> JobStatus:
        """Return the status of a job."""

    @abstractmethod
    def fetch(self, job: JobStatus, folder: Path) -> AsyncIterator[tuple[str, A | ProviderError]]:
        """Stream the results of a job that has ended.

        The order is arbitrary, except that errors follow answers. Requests without a result and unreadable lines
        are omitted.

        Args:
            job: Status returned by :meth:`poll`.
            folder: Folder for temporary files, which are removed at the end.

        Yields:
            Custom id, and the answer or the error of the request: ``DeadlineError`` if the job expired before the
            request was processed, ``RequestError`` if it was rejected permanently.
        """

    @abstractmethod
    async def cancel(self, job_id: str) -> None:
        """End a job early. Requests that were already answered are charged, and their results can be fetched."""


class BatchProvider(BatchClient[Request, Completion]):
    """Client of an LLM provider's batch API."""


class EmbeddingBatches(BatchClient[str, Embeddings]):
    """Client of an embedder's batch API. A request is one text, and its answer a table of one vector."""

    known: bool = True
    """Whether the server is known to have a batch API. Otherwise only ``[embedder] batch = true`` uses it."""


@runtime_checkable
class OffersBatches(Protocol):
    """LLM provider that supports batch jobs."""

    def batches(self, model: str) -> BatchProvider:
        """Return a client of the batch API that has the model. Opens no connection.

        Raises:
            ConfigError: There is none for the model.
        """


@runtime_checkable
class OffersEmbeddingBatches(Protocol):
    """Remote embedder that supports batch jobs."""

    def batches(self) -> EmbeddingBatches:
        """Return a client of the batch API. Opens no connection."""
