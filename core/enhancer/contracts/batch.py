"""Offline batches: an optional capability of an LLM provider. Many requests in a file, answered within a day, for less.

A provider that has it offers :meth:`OffersBatches.batches`; what that gives speaks to the provider's batch API. The
harness owns the order of the steps, remembers each before it takes the next, and alone retries::

    line … line ──> upload ──> create (with our token) ──> poll … poll ──> fetch
                                  └─ lost the answer? find(token)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from enhancer.contracts.llm import Completion, Request
    from enhancer.errors import ProviderError

JobState = Literal["running", "completed", "expired", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What a provider says of one job."""

    id: str
    """The provider's name for the job."""
    state: JobState
    """``running``: not ended yet. ``completed``, ``expired``, ``cancelled``: ended, and there may be results.
    ``failed``: refused as a whole; nothing was answered and nothing charged."""
    said: str = ""
    """The provider's own word for it, for people."""
    total: int | None = None
    """Requests in it, where the provider tells."""
    done: int | None = None
    """Those that were answered or have failed."""
    message: str = ""
    """Why it failed, in the provider's words, without secrets."""
    congested: bool = False
    """Whether it failed only because too much is queued at the moment: sent again later it may pass."""
    results: Mapping[str, Any] | None = None
    """What :meth:`BatchProvider.fetch` needs to find the results; nobody else looks into it."""


class BatchProvider(ABC):
    """The batch API of one provider. Belongs to the provider it came from: same event loop, closed with it.

    No method retries. Each raises the subclasses of ``ProviderError`` that ``LLMProvider.complete`` raises, and no
    message ever holds a secret.
    """

    max_requests: ClassVar[int] = 50_000
    """Requests that a job may have."""
    max_bytes: ClassVar[int] = 200_000_000
    """Bytes that the file of a job may have."""

    @abstractmethod
    def line(self, custom_id: str, request: Request) -> bytes:
        """One line of the file, its line feed included.

        Args:
            custom_id: At most 64 letters, digits and hyphens; comes back with the answer.
            request: What is asked, exactly as ``complete`` would ask it.
        """

    @abstractmethod
    async def upload(self, file: Path) -> str:
        """Send the file, as a stream; gives the provider's name for it. Sending costs nothing."""

    @abstractmethod
    async def create(self, upload: str, token: str) -> JobStatus:
        """Start a job over an uploaded file. From here on it costs money.

        Args:
            upload: What :meth:`upload` gave.
            token: Kept with the job, so that :meth:`find` finds it.
        """

    @abstractmethod
    async def find(self, token: str) -> JobStatus | None:
        """The job that was created with this token; None where there is none.

        Raises:
            RequestError: This provider cannot tell.
        """

    @abstractmethod
    async def poll(self, job_id: str) -> JobStatus:
        """How a job stands."""

    @abstractmethod
    def fetch(self, job: JobStatus, folder: Path) -> AsyncIterator[tuple[str, Completion | ProviderError]]:
        """The results of a job that has ended, as a stream: custom id, and an answer or the error that came instead.

        In any order, errors after answers. Requests without a result are left out; so are lines that cannot be read.

        Args:
            job: As :meth:`poll` gave it.
            folder: For files that are needed meanwhile; nothing of them is left at the end.

        Yields:
            ``DeadlineError`` stands for a request that had no turn before the job expired, ``RequestError`` for one
            that is refused for good.
        """

    @abstractmethod
    async def cancel(self, job_id: str) -> None:
        """Have a job end early; what is answered already stays paid and can be fetched."""


@runtime_checkable
class OffersBatches(Protocol):
    """A provider with the capability."""

    def batches(self) -> BatchProvider:
        """The batch API of this provider. Opens no connection yet."""
