"""Run the service: bind the port, handle signals, stop gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from typing import TYPE_CHECKING, Any, Final

from enhancer.errors import ConfigError
from enhancer.serving.service.settings import GRACE, HOST, PORT, WATCH, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.serving.service.live_ranker import LiveRanker
    from enhancer.serving.service.metrics import Metrics

INSTALL: Final = 'pip install "enhancer[serve]"'
_BACKLOG: Final = 2048
_SPARE_FILES: Final = 256
"""File descriptors beyond those of connections."""

_log = logging.getLogger("enhancer.serving")


def serve(
    live: LiveRanker,
    *,
    host: str = HOST,
    port: int = PORT,
    limits: Limits | None = None,
    watch: float = WATCH,
    grace: float = GRACE,
    access_log: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads the artifact. Must be called in the main thread.

    Args:
        live: Ranker to serve.
        host: Address to bind.
        port: Port; 0 lets the system choose, and the log names the choice.
        limits: Limits on requests.
        watch: Seconds between checks for a new artifact; 0 disables them.
        grace: Seconds that running requests may take to finish after SIGTERM or SIGINT.
        access_log: Log each request.

    Returns:
        0, or 130 after SIGINT.

    Raises:
        ConfigError: Libraries are missing, or the address cannot be bound.
    """
    check_libraries()
    limits = (limits or Limits()).checked()
    with listen(host, port) as listener:
        received = run(live, listener, limits=limits, watch=watch, grace=grace, access_log=access_log)
    _log.info("stopped")
    return 130 if received == signal.SIGINT else 0


def check_libraries() -> None:
    """Check that what the service needs is installed.

    Raises:
        ConfigError: A library is missing.
    """
    try:
        import httptools  # noqa: F401 - both are imported where they are used
        import orjson  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"the service needs {error.name}, which is not installed", hint=INSTALL) from None


def run(
    live: LiveRanker,
    listener: socket.socket,
    *,
    limits: Limits,
    watch: float,
    grace: float,
    access_log: bool,
    metrics: Metrics | None = None,
    parent: int | None = None,
) -> int:
    """Serve on a listening socket until a signal to stop.

    Args:
        live: As for :func:`serve`.
        listener: Listening socket.
        limits: As for :func:`serve`.
        watch: As for :func:`serve`.
        grace: As for :func:`serve`.
        access_log: As for :func:`serve`.
        metrics: Numbers of this process, where there are several.
        parent: File descriptor that is at its end once the process that supervises this one has ended.

    Returns:
        The signal that stopped it, or 0.
    """
    received: list[int] = []
    # For a signal that arrives before the event loop listens to them.
    old = {number: signal.signal(number, lambda got, _: received.append(got)) for number in _stop_signals(metrics)}
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(live, listener, limits, watch, grace, access_log, metrics, parent, received))
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return received[0] if received else 0


def _stop_signals(metrics: Metrics | None) -> tuple[int, ...]:
    # Ctrl-C reaches all processes of a terminal; workers leave it to their supervisor.
    return (signal.SIGTERM, signal.SIGINT) if metrics is None else (signal.SIGTERM,)


async def _run(
    live: LiveRanker,
    listener: socket.socket,
    limits: Limits,
    watch: float,
    grace: float,
    access_log: bool,
    metrics: Metrics | None,
    parent: int | None,
    received: list[int],
) -> None:
    from enhancer.serving.service.endpoints import Endpoints
    from enhancer.serving.service.http.connection import Connections

    loop = asyncio.get_running_loop()
    endpoints = Endpoints(live, limits, metrics)
    connections = Connections(endpoints, access_log=access_log)
    stopped, at_once = asyncio.Event(), asyncio.Event()
    reloads: set[asyncio.Task[bool]] = set()

    def stop(number: int) -> None:
        received.append(number)
        (at_once if stopped.is_set() else stopped).set()

    def orphaned(parent: int) -> None:
        loop.remove_reader(parent)
        stop(signal.SIGTERM)

    def reload() -> None:
        task = asyncio.create_task(asyncio.to_thread(live.reload))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    _on_signals(loop, _stop_signals(metrics), stop)
    if hasattr(signal, "SIGHUP"):  # missing on Windows
        loop.add_signal_handler(signal.SIGHUP, reload)
    if parent is not None:
        loop.add_reader(parent, orphaned, parent)
    _raise_file_limit(limits.connections)
    server = await loop.create_server(connections.connect, sock=listener, backlog=_BACKLOG)
    tasks = [asyncio.create_task(connections.watch())]
    tasks += [asyncio.create_task(live.watch(watch))] if watch > 0 else []
    endpoints.metrics.put("workers", 1)
    worker = "" if metrics is None else f" by worker {metrics.worker}"
    _log.info("serving %r on http://%s%s", live.ranker, address(listener), worker)
    if received:  # before the loop listened to signals
        stopped.set()
    observing = asyncio.create_task(_observe(endpoints)) if metrics is not None else None
    await stopped.wait()
    server.close()
    closing = asyncio.create_task(connections.close(grace))
    second = asyncio.create_task(at_once.wait())
    await asyncio.wait([closing, second], return_when=asyncio.FIRST_COMPLETED)
    if not closing.done():
        closing.cancel()
        await connections.close(0.0)
    for task in [*tasks, closing, second, *([observing] if observing else [])]:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await asyncio.to_thread(endpoints.batcher.close)


async def _observe(endpoints: Any) -> None:
    """Keep the numbers of this process current, so that others can report them."""
    while True:
        endpoints.observe()
        await asyncio.sleep(1)


def _on_signals(loop: asyncio.AbstractEventLoop, numbers: tuple[int, ...], stop: Callable[[int], None]) -> None:
    for number in numbers:
        try:
            loop.add_signal_handler(number, stop, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda got, _: loop.call_soon_threadsafe(stop, got))


def _raise_file_limit(connections: int) -> None:
    """Let this process open as many files as it may have connections, as far as it is allowed."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    wanted = connections + _SPARE_FILES
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid even the question
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        if hard != resource.RLIM_INFINITY and hard < wanted:
            _log.warning("%d connections are allowed, but no more than %d open files", connections, hard)
            wanted = hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ModuleNotFoundError:  # not available on Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def address(listener: socket.socket) -> str:
    """Return the address of a socket, as it stands in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a listening socket.

    Args:
        host: Address to bind.
        port: Port to bind; 0 lets the system choose.
        shared: Let other sockets listen on the same port (``SO_REUSEPORT``).

    Raises:
        ConfigError: The address cannot be bound.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(place, family=family, backlog=_BACKLOG, reuse_port=shared)
    except socket.gaierror:
        raise ConfigError(
            f"{host!r} is not an address of this machine", hint="use --host 127.0.0.1, or 0.0.0.0 for all"
        ) from None
    except OverflowError:
        raise ConfigError(f"{port} is not a valid port", hint="use one from 1 to 65535") from None
    except OSError as error:
        hints = {
            errno.EADDRINUSE: "stop the program that uses it, or choose another with --port",
            errno.EACCES: "use one above 1023 with --port",
            errno.EADDRNOTAVAIL: "use --host 127.0.0.1, or 0.0.0.0 for all addresses of this machine",
        }
        reason = {errno.EADDRINUSE: "the port is in use"}.get(error.errno or 0, error.strerror)
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}", hint=hints.get(error.errno or 0)) from None
