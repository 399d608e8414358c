"""Tell a server that is down or broken from one that fails at some texts: ask it for one plain text."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from enhancer.errors import AuthenticationError, CircuitOpenError, EmbedderError, ProviderError
from enhancer.harness.calls.retry import retrying

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PLAIN_TEXT = "a film about friendship"
"""Text that every embedder can embed."""
_ATTEMPTS = 6
"""Attempts at the plain text. With the waits between them, a server has time to restart."""


class ServerTrial:
    """Sends one plain text after a failure, before the texts of the failed request are sent again. For one event loop.

    All other requests wait meanwhile, so that a broken server meets a few requests instead of all attempts at all
    texts.

    Args:
        ask: Sends the plain text once. Raises an error if it is not answered.
        name: Name of the embedder, for messages.
        hint: What to do about a broken server.
        sleep: Waits between attempts.

    Attributes:
        answers: Number of answers so far, to whatever request.
        unanswered: Number of requests without an answer since the last one.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        *,
        name: str,
        hint: str,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._ask = ask
        self._name = name
        self._hint = hint
        self._retry = retrying(_ATTEMPTS, sleep=sleep)
        self._lock = asyncio.Lock()
        self._error: EmbedderError | AuthenticationError | None = None
        self.answers = self.unanswered = 0

    def answered(self) -> None:
        """Count an answer."""
        self.answers += 1
        self.unanswered = 0

    def failed(self) -> None:
        """Count a request without an answer."""
        self.unanswered += 1

    @property
    def running(self) -> bool:
        """Whether other requests must wait for :meth:`ended`."""
        return self._error is not None or self._lock.locked()

    async def ended(self) -> None:
        """Wait for the end of a trial.

        Raises:
            EmbedderError: The server failed at it.
            AuthenticationError: It rejects the API key.
        """
        async with self._lock:
            if self._error is not None:
                raise self._error

    async def run(self, answers: int) -> bool:
        """Return once the server has answered any request, or answers the plain text.

        Args:
            answers: Number of answers when the request was sent that has failed.

        Returns:
            Whether the plain text was sent.

        Raises:
            EmbedderError: The server does not answer the plain text either.
            AuthenticationError: It rejects the API key.
        """
        async with self._lock:
            if self._error is not None:
                raise self._error
            if self.answers > answers:
                return False
            try:
                await self._retry(self._once, answers)
            except ProviderError as error:
                self._error = self._verdict(error)
                raise self._error from error
            except CircuitOpenError as error:
                self._error = EmbedderError(error.message, hint=self._hint)
                raise self._error from error
            return True

    async def _once(self, answers: int) -> None:
        if self.answers == answers:  # another request may have been answered while this one waited
            await self._ask()

    def _verdict(self, error: ProviderError) -> EmbedderError | AuthenticationError:
        if isinstance(error, AuthenticationError):
            return AuthenticationError(
                f"the embedder {self._name!r} failed: {error.message}", hint=error.hint, status=error.status
            )
        count = "its first request" if self.unanswered == 1 else f"{self.unanswered} requests in a row"
        return EmbedderError(
            f"the embedder {self._name!r} failed at {count}, the last of them one plain text"
            f" ({PLAIN_TEXT!r}), so the texts are not at fault: {error.message}",
            hint="; ".join(filter(None, (error.hint, self._hint))),
        )
