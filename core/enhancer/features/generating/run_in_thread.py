"""Run async work from sync code, also under a running event loop (Jupyter), and end it gently at Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Protocol, TypeVar

from enhancer.features.generating.rare_collections import rare_collections

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from enhancer.features.generating.reports import GenerationReport

T = TypeVar("T")
_POLL_SECONDS = 0.5


def run_in_thread(make: Callable[[], Coroutine[object, object, T]], interrupt: Callable[[int], None]) -> T:
    """Run a coroutine in an event loop in a thread of its own, and wait for it.

    Args:
        make: Makes the coroutine; called in that thread.
        interrupt: Called in the loop at each Ctrl-C with its number, from 1; it must make the coroutine end soon.

    Raises:
        KeyboardInterrupt: After Ctrl-C, once the coroutine has ended.
        BaseException: Raised by the coroutine.
    """
    result: list[T] = []
    failure: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []
    interrupts: list[BaseException] = []
    ended = threading.Event()

    async def main() -> None:
        coroutine = make()
        loops.append(asyncio.get_running_loop())
        if interrupts:
            interrupt(len(interrupts))
        result.append(await coroutine)

    def work() -> None:
        try:
            with rare_collections():
                asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            failure.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="enhancer-generate", daemon=True)
    thread.start()
    while not ended.is_set():
        try:
            # Not join(), which considers the thread ended when Ctrl-C interrupts it. The time-out makes the wait
            # interruptible on every platform.
            ended.wait(_POLL_SECONDS)
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt, or SystemExit of a signal handler
            interrupts.append(error)
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                if loops:
                    loops[0].call_soon_threadsafe(interrupt, len(interrupts))
    thread.join()
    if interrupts:
        raise interrupts[0]
    if failure:
        raise failure[0]
    return result[0]


class Run(Protocol):
    """A run of ``generate``."""

    async def main(self) -> GenerationReport:
        """Run to the end."""

    def interrupt(self, times: int) -> None:
        """End soon."""

    def report(self) -> GenerationReport:
        """Return the counts so far."""


def run_to_end(make: Callable[[], Run]) -> GenerationReport:
    """Make a run, in the thread of its event loop, and run it to the end.

    Raises:
        KeyboardInterrupt: After Ctrl-C; its ``report`` holds the counts so far.
        BaseException: Raised by the run.
    """
    runs: list[Run] = []

    def begin() -> Coroutine[object, object, GenerationReport]:
        runs.append(make())
        return runs[0].main()

    def interrupt(times: int) -> None:
        runs[0].interrupt(times)

    try:
        return run_in_thread(begin, interrupt)
    except KeyboardInterrupt as stop:
        if runs:
            setattr(stop, "report", runs[0].report())  # noqa: B010  the type declares no such attribute
        raise
