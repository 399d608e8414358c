"""Run ranking in worker threads, and answer concurrent single-user requests together.

While all threads are busy, single-user requests collect in a bounded queue. A thread that becomes free takes all of
them and answers them with one matrix product: one for 32 users costs a fraction of 32 products. Where a product takes
no more than a few milliseconds, one thread makes them all, because the others would only share its users among them.
No request waits for others to come.

A job that has timed out, or whose client has left, is never started. One that is under way is told to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Protocol

from enhancer.errors import EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.serving.ranker import Ranker

    Stop = Callable[[], bool]
    Done = Callable[[Any, BaseException | None], None]
    """Called once in the loop's thread, with an answer or an error."""

_QUICK_SECONDS: Final = 0.004
"""CPU time of a product during which single-user requests wait for it although a thread is free."""
_MAX_USERS: Final = 64
"""Maximum users in one product; bounds the time that a thread is occupied."""


class BusyError(EnhancerError):
    """The queue of waiting requests is full."""


class LateError(EnhancerError):
    """A request was not answered before its timeout."""


class RankTogether(Protocol):
    """Answers single-user requests; called in a worker thread."""

    def __call__(self, ranker: Ranker, jobs: Sequence[Job], *, exclude_seen: bool, stop: Stop) -> Sequence[Any]:
        """Return one answer for each job, or the error for it. Users with a history are different ones."""


class Job:
    """One request: a function to call, or a user to rank for."""

    __slots__ = ("deadline", "done", "exclude_seen", "finished", "history", "k", "ranker", "user", "work")

    def __init__(self, done: Done, deadline: float) -> None:
        self.done, self.deadline = done, deadline
        self.finished = False
        """Answered, timed out or cancelled. Worker threads read it to know when to stop."""
        self.work: Callable[[Stop], Any] | None = None
        self.ranker: Ranker | None = None
        self.user, self.k, self.exclude_seen = "", 0, True
        self.history: Sequence[str] = ()

    def can_join(self, other: Job) -> bool:
        """Return whether this single-user request can share a product with another one."""
        return self.work is None and self.ranker is other.ranker and self.exclude_seen == other.exclude_seen


class MicroBatcher:
    """Hands work from an event loop to threads. All methods must be called in the loop's thread.

    Args:
        threads: Number of worker threads.
        waiting: Maximum number of queued requests; further ones are rejected.
        timeout: Seconds until an unanswered request fails, time in the queue included.
        together: Answers single-user requests.
    """

    def __init__(self, *, threads: int, waiting: int, timeout: float, together: RankTogether) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="enhancer-ranker")
        self._free_threads, self._max_waiting, self._timeout = threads, waiting, timeout
        self._together = together
        self._queue: deque[Job] = deque()
        self._open: dict[Job, None] = {}  # in the order of their deadlines
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._products = 0
        """Products under way."""
        self._product_seconds = 0.0
        """CPU time of recent products, averaged."""
        self.running = 0
        """Number of threads at work."""

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return len(self._queue)

    def recommend(
        self, ranker: Ranker, user: str, k: int, *, exclude_seen: bool, done: Done, history: Sequence[str] = ()
    ) -> Job:
        """Recommend for one user, in a product shared with other waiting requests.

        The ranker must know the user, unless there is a history.

        Raises:
            BusyError: Too many requests are waiting.
        """
        job = Job(done, time.monotonic() + self._timeout)
        job.ranker, job.user, job.k, job.exclude_seen, job.history = ranker, user, k, exclude_seen, history
        return self._submit(job)

    def run(self, work: Callable[[Stop], Any], done: Done) -> Job:
        """Call a function in a worker thread. It is given a function that tells whether to stop.

        Raises:
            BusyError: Too many requests are waiting.
        """
        job = Job(done, time.monotonic() + self._timeout)
        job.work = work
        return self._submit(job)

    def cancel(self, job: Job) -> None:
        """Drop a job: its answer is wanted no more."""
        if not job.finished:
            self._finish(job)
            with contextlib.suppress(ValueError):  # under way
                self._queue.remove(job)

    def close(self) -> None:
        """Stop running work and wait for it; queued work is dropped."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, job: Job) -> Job:
        if len(self._queue) >= self._max_waiting:
            raise BusyError(
                f"{len(self._queue)} requests are waiting", hint="try again in a second, or send many users a request"
            )
        self._open[job] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self._expire)
        self._queue.append(job)
        self._start()
        return job

    def _finish(self, job: Job) -> Done:
        """Close a job, and return whom to tell. What it refers to is let go, as a replaced artifact must be."""
        done, job.finished = job.done, True
        del self._open[job], job.done, job.work, job.ranker
        return done

    def _expire(self) -> None:
        """Fail the jobs whose time is over, and set the timer for the next one."""
        now, self._timer = time.monotonic(), None
        while self._open:
            job = next(iter(self._open))
            if job.deadline > now:
                self._timer = asyncio.get_running_loop().call_later(job.deadline - now, self._expire)
                return
            with contextlib.suppress(ValueError):  # under way
                self._queue.remove(job)
            message, hint = f"not answered within {self._timeout:g} seconds", "send fewer users a request, or try again"
            self._finish(job)(None, LateError(message, hint=hint))

    def _start(self) -> None:
        while self._queue and self._free_threads:
            first = self._next()
            if first is None:
                return
            together = self._with_others(first) if first.work is None and self._queue else [first]
            self._free_threads -= 1
            self.running += 1
            self._products += first.work is None
            self._pool.submit(self._work, asyncio.get_running_loop(), together, first.work, first.ranker)

    def _next(self) -> Job | None:
        """Take the job to start next out of the queue; None if all wait for the product that is under way."""
        if self._products and self._product_seconds < _QUICK_SECONDS:
            job = next((job for job in self._queue if job.work is not None), None)
            if job is not None:
                self._queue.remove(job)
            return job
        return self._queue.popleft()

    def _with_others(self, first: Job) -> list[Job]:
        """Return a single-user job and those that can share its product, which leave the queue."""
        together, rest = [first], deque[Job]()
        users, placed = {first.user}, {first.user} if first.history else set[str]()
        for job in self._queue:
            # A history holds for its own request alone.
            apart = job.user in users and (job.history or job.user in placed)
            if len(together) == _MAX_USERS or apart or not job.can_join(first):
                rest.append(job)
                continue
            together.append(job)
            users.add(job.user)
            if job.history:
                placed.add(job.user)
        self._queue = rest
        return together

    def _work(
        self,
        loop: asyncio.AbstractEventLoop,
        jobs: list[Job],
        work: Callable[[Stop], Any] | None,
        ranker: Ranker | None,
    ) -> None:
        """Answer jobs; runs in a worker thread."""

        def stop() -> bool:
            return self._closing or all(job.finished for job in jobs)

        answers: Sequence[Any] = ()
        failure: BaseException | None = None
        begun = time.thread_time()
        try:
            if work is not None:
                answers = [work(stop)]
            elif ranker is not None:
                answers = self._together(ranker, jobs, exclude_seen=jobs[0].exclude_seen, stop=stop)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed while this ran
            seconds = None if work is not None else time.thread_time() - begun
            loop.call_soon_threadsafe(self._deliver, jobs, answers, failure, seconds)

    def _deliver(
        self, jobs: list[Job], answers: Sequence[Any], failure: BaseException | None, seconds: float | None
    ) -> None:
        self._free_threads += 1
        self.running -= 1
        if seconds is not None:
            self._products -= 1
            self._product_seconds += (seconds - self._product_seconds) / 8
        self._start()  # before anything else: a thread is free
        for place, job in enumerate(jobs):
            if not job.finished:
                error = failure or (answers[place] if isinstance(answers[place], BaseException) else None)
                self._finish(job)(None if error is not None else answers[place], error)
