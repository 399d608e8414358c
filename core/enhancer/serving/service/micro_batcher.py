"""Ranking off the event loop: a few threads, a bounded queue, and single users answered together.

While the threads are busy, requests for single users gather; a free thread takes all that have gathered and answers
them by one matrix product. Nobody waits for company, and one product for thirty-two users costs a fraction of
thirty-two products.
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
_TOGETHER = 64
"""Users in one product at most: a batch holds a thread no longer than it must."""


class BusyError(EnhancerError):
    """More requests wait than may."""


class LateError(EnhancerError):
    """A request was not answered in its time."""


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any] | None
    """What to call; None for a single user."""
    answer: asyncio.Future[Any]
    ranker: Ranker | None = None
    user: str = ""
    k: int = 0
    exclude_seen: bool = True

    def goes_with(self, other: _Job) -> bool:
        """Whether both are single users of one ranker who want alike."""
        return self.work is None and self.ranker is other.ranker and self.exclude_seen == other.exclude_seen


class MicroBatcher:
    """Takes work from an event loop to threads. All methods belong to the loop's thread.

    Args:
        threads: How many pieces of work run at once.
        waiting: How many may wait beyond that; one more is refused.
        timeout: Seconds that a request waits for its answer, the queue included.
    """

    def __init__(self, *, threads: int, waiting: int, timeout: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="enhancer-ranker")
        self._free, self._most, self._timeout = threads, waiting, timeout
        self._queue: deque[_Job] = deque()
        self.running = 0
        """Pieces of work in threads just now."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread."""
        return len(self._queue)

    async def recommend(self, ranker: Ranker, user: str, k: int, *, exclude_seen: bool) -> Recommendation:
        """One user, together with whoever else is waiting. The user must be known to the ranker."""
        job = _Job(None, asyncio.get_running_loop().create_future(), ranker, user, k, exclude_seen)
        answer: Recommendation = await self._ask(job)
        return answer

    async def run(self, work: Callable[[], T]) -> T:
        """Any other work."""
        answer: T = await self._ask(_Job(work, asyncio.get_running_loop().create_future()))
        return answer

    def close(self) -> None:
        """Let what runs finish."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _ask(self, job: _Job) -> Any:
        if len(self._queue) >= self._most:
            raise BusyError(
                f"{len(self._queue)} requests wait already", hint="try again in a second, or send users in batches"
            )
        self._queue.append(job)
        self._start()
        try:
            async with asyncio.timeout(self._timeout):
                return await job.answer
        except TimeoutError:
            raise LateError(
                f"not answered within {self._timeout:g} seconds", hint="ask for fewer users at once, or try again"
            ) from None
        finally:
            if job.answer.cancelled():  # given up, by the clock or the client: it shall take nobody's place
                with contextlib.suppress(ValueError):
                    self._queue.remove(job)

    def _start(self) -> None:
        while self._queue and self._free:
            first = self._queue.popleft()
            if first.answer.done():  # timed out, or its client went away
                continue
            jobs = [first]
            if first.work is None:
                left: deque[_Job] = deque()
                for job in self._queue:
                    if len(jobs) < _TOGETHER and job.goes_with(first):
                        if not job.answer.done():
                            jobs.append(job)
                    else:
                        left.append(job)
                self._queue = left
            self._free -= 1
            self.running += 1
            task = asyncio.get_running_loop().run_in_executor(self._pool, _work, jobs)
            task.add_done_callback(lambda done, jobs=jobs: self._finish(jobs, done))  # type: ignore[misc]

    def _finish(self, jobs: list[_Job], done: asyncio.Future[list[Any]]) -> None:
        self._free += 1
        self.running -= 1
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        answers = [None] * len(jobs) if error is not None else done.result()
        for job, answer in zip(jobs, answers, strict=True):
            if job.answer.done():
                continue
            if error is not None:
                job.answer.set_exception(error)
            else:
                job.answer.set_result(answer)
        self._start()


def _work(jobs: list[_Job]) -> list[Any]:
    first = jobs[0]
    if first.work is not None:
        return [first.work()]
    assert first.ranker is not None
    # Ties go to the earlier item whatever k is: the best of the longest list are the best of each.
    found = first.ranker.recommend(
        [job.user for job in jobs], max(job.k for job in jobs), exclude_seen=first.exclude_seen
    )
    return [type(one)(one.user_id, one.items[: job.k]) for one, job in zip(found, jobs, strict=True)]
