"""Run ranking in worker threads, and answer concurrent single-user requests together.

While all threads are busy, single-user requests collect in a bounded queue. A thread that becomes free takes all of
them and answers them with one matrix product. No request is delayed to wait for others, and one product for 32 users
costs a fraction of 32 products.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from enhancer.errors import EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.serving.ranker import Ranker
    from enhancer.serving.results import Recommendation

T = TypeVar("T")
_MAX_USERS = 64
"""Maximum users in one product; bounds the time that a thread is occupied."""


class BusyError(EnhancerError):
    """The queue of waiting requests is full."""


class LateError(EnhancerError):
    """A request was not answered before its timeout."""


@dataclass(slots=True, eq=False)
class _PendingRequest:
    work: Callable[[], Any] | None
    """Function to call; None for a single-user request."""
    answer: asyncio.Future[Any]
    ranker: Ranker | None = None
    user: str = ""
    k: int = 0
    exclude_seen: bool = True

    def can_join(self, other: _PendingRequest) -> bool:
        """Return whether this single-user request can share a product with another one."""
        return self.work is None and self.ranker is other.ranker and self.exclude_seen == other.exclude_seen


class MicroBatcher:
    """Hands work from an event loop to threads. All methods must be called in the loop's thread.

    Args:
        threads: Number of worker threads.
        waiting: Maximum number of queued requests; further ones are rejected.
        timeout: Seconds until an unanswered request fails, time in the queue included.
    """

    def __init__(self, *, threads: int, waiting: int, timeout: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="enhancer-ranker")
        self._free_threads, self._max_waiting, self._timeout = threads, waiting, timeout
        self._queue: deque[_PendingRequest] = deque()
        self.running = 0
        """Number of threads at work."""

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return len(self._queue)

    async def recommend(self, ranker: Ranker, user: str, k: int, *, exclude_seen: bool) -> Recommendation:
        """Recommend for one user, in a product shared with other waiting requests. The ranker must know the user."""
        request = _PendingRequest(None, asyncio.get_running_loop().create_future(), ranker, user, k, exclude_seen)
        answer: Recommendation = await self._submit(request)
        return answer

    async def run(self, work: Callable[[], T]) -> T:
        """Call a function in a worker thread."""
        answer: T = await self._submit(_PendingRequest(work, asyncio.get_running_loop().create_future()))
        return answer

    def close(self) -> None:
        """Wait for running work to finish; queued work is cancelled."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _submit(self, request: _PendingRequest) -> Any:
        if len(self._queue) >= self._max_waiting:
            raise BusyError(
                f"{len(self._queue)} requests are waiting", hint="try again in a second, or send many users a request"
            )
        self._queue.append(request)
        self._start()
        try:
            async with asyncio.timeout(self._timeout):
                return await request.answer
        except TimeoutError:
            raise LateError(
                f"not answered within {self._timeout:g} seconds", hint="send fewer users a request, or try again"
            ) from None
        finally:
            if request.answer.cancelled():  # by the timeout or because the client left: free its place in the queue
                with contextlib.suppress(ValueError):
                    self._queue.remove(request)

    def _start(self) -> None:
        while self._queue and self._free_threads:
            first = self._queue.popleft()
            if first.answer.done():  # timed out, or the client left
                continue
            together = [first]
            if first.work is None:
                rest: deque[_PendingRequest] = deque()
                for request in self._queue:
                    if len(together) < _MAX_USERS and request.can_join(first):
                        if not request.answer.done():
                            together.append(request)
                    else:
                        rest.append(request)
                self._queue = rest
            self._free_threads -= 1
            self.running += 1
            task = asyncio.get_running_loop().run_in_executor(self._pool, _answer, together)
            task.add_done_callback(lambda done, together=together: self._finish(together, done))  # type: ignore[misc]

    def _finish(self, requests: list[_PendingRequest], done: asyncio.Future[list[Any]]) -> None:
        self._free_threads += 1
        self.running -= 1
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        answers = [None] * len(requests) if error is not None else done.result()
        for request, answer in zip(requests, answers, strict=True):
            if request.answer.done():
                continue
            if error is not None:
                request.answer.set_exception(error)
            else:
                request.answer.set_result(answer)
        self._start()


def _answer(requests: list[_PendingRequest]) -> list[Any]:
    first = requests[0]
    if first.work is not None:
        return [first.work()]
    assert first.ranker is not None
    # Ties go to the earlier item regardless of k, so each shorter list is a prefix of the longest one.
    found = first.ranker.recommend(
        [request.user for request in requests],
        max(request.k for request in requests),
        exclude_seen=first.exclude_seen,
    )
    return [type(one)(one.user_id, one.items[: request.k]) for one, request in zip(found, requests, strict=True)]
