"""Run async work from sync code, under a running event loop too (Jupyter), and stop it gently at Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
_POLL = 0.5


def run_private(make: Callable[[], Coroutine[object, object, T]], interrupt: Callable[[int], None]) -> T:
    """Run a coroutine in a thread and a loop of its own, and wait for it.

    Args:
        make: Makes the coroutine, inside that thread.
        interrupt: Called in the loop at each Ctrl-C with its number, from 1; it must make the coroutine end soon.

    Raises:
        KeyboardInterrupt: Once the coroutine has ended.
        BaseException: What the coroutine raised.
    """
    result: list[T] = []
    failure: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    pressed: list[BaseException] = []
    ended = threading.Event()

    async def main() -> None:
        coroutine = make()
        loops.append(asyncio.get_running_loop())
        if pressed:
            interrupt(len(pressed))
        result.append(await coroutine)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failure.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="enhancer-generate", daemon=True)
    thread.start()
    while not ended.is_set():
        try:
            # Not join(), which takes the thread for ended when Ctrl-C interrupts it; and with a time-out, so that the
            # wait can be interrupted on every platform.
            ended.wait(_POLL)
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt, or a signal handler's SystemExit
            pressed.append(error)
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                if loops:
                    loops[0].call_soon_threadsafe(interrupt, len(pressed))
    thread.join()
    if pressed:
        raise pressed[0]
    if failure:
        raise failure[0]
    return result[0]
