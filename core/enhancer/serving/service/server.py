"""Run the service: bind the port, handle signals, stop gracefully."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import signal
import socket
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, EnhancerError
from enhancer.serving.service.app import INSTALL, create_app
from enhancer.serving.service.head_limits import with_head_limits
from enhancer.serving.service.live_ranker import LiveRanker
from enhancer.serving.service.settings import GRACE, HOST, PORT, WATCH, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    try:
        import uvicorn
        from uvicorn.protocols.http.auto import AutoHTTPProtocol
    except ModuleNotFoundError as error:
        raise ConfigError(f"the service needs {error.name}, which is not installed", hint=INSTALL) from None
    limits = limits or Limits()
    app = create_app(live, limits, watch=watch)
    listener = _bind(host, port)
    config = uvicorn.Config(
        app,
        http=with_head_limits(AutoHTTPProtocol, limits.arrival),
        ws="none",
        log_config=None,
        log_level="info" if access_log else "warning",
        access_log=access_log,
        server_header=False,
        timeout_graceful_shutdown=max(round(grace), 1),
    )
    server, stopped = uvicorn.Server(config), []

    def stop(received: int, _: Any) -> None:
        stopped.append(received)
        server.should_exit = True  # for a signal that arrives before uvicorn installs its handlers

    # A running uvicorn stops gracefully at these signals, then restores these handlers and raises the signals again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(server, listener, live))
    _log.info("stopped")
    return 130 if signal.SIGINT in stopped else 0


async def _run(server: Any, listener: socket.socket, live: LiveRanker) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = asyncio.create_task(asyncio.to_thread(live.reload))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if hasattr(
        signal, "SIGHUP"
    ):  # missing on Windows. Without a handler SIGHUP ends the process, so no failure is suppressed
        loop.add_signal_handler(signal.SIGHUP, reload)
    host, port = listener.getsockname()[:2]
    _log.info("serving %r on http://%s:%d", live.ranker, f"[{host}]" if ":" in host else host, port)
    await server.serve(sockets=[listener])


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ModuleNotFoundError:  # not available on Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family, backlog=2048)
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


class _JsonFormatter(logging.Formatter):
    """Formats records as every command does with ``--log-json``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        level = {"critical": "error"}.get(record.levelname.lower(), record.levelname.lower())
        return _line("log", level, logger=record.name, message=super().format(record))


def _line(event: str, level: str, **fields: Any) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": at, "level": level, "event": event, **fields})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line of ``python -m enhancer.serving``; ``enhancer serve`` starts this.

    Returns:
        Exit code.
    """
    default = Limits()
    parser = argparse.ArgumentParser(prog="enhancer serve", description="Serve an artifact over HTTP.")
    add = parser.add_argument
    add("artifact", help="folder that `enhancer train` wrote")
    add("--host", default=HOST, help="address to bind (default: %(default)s)")
    add("--port", type=int, default=PORT, help="port; 0 lets the system choose (default: %(default)s)")
    add("--watch", type=float, default=WATCH, help="seconds between checks for a new artifact (default: %(default)s)")
    add("--grace", type=float, default=GRACE, help="seconds for running requests after SIGTERM (default: %(default)s)")
    add("--max-k", type=int, default=default.k, help="maximum items for a user (default: %(default)s)")
    add("--max-batch", type=int, default=default.batch, help="maximum users in a request (default: %(default)s)")
    add("--max-body", type=int, default=default.body, help="maximum bytes in a request (default: %(default)s)")
    add("--max-waiting", type=int, default=default.waiting, help="maximum requests that wait (default: %(default)s)")
    add("--timeout", type=float, default=default.timeout, help="seconds until a request fails (default: %(default)s)")
    add("--threads", type=int, default=default.threads, help="worker threads (default: %(default)s)")
    share = "share of places that {}; by default that of the artifact"
    add("--explore", type=float, help=share.format("new items get whatever their scores"))
    add("--new-items-cap", type=float, help=share.format("new items get at most"))
    add("--in-memory", action="store_true", help="read the artifact instead of mapping it")
    verify = argparse.BooleanOptionalAction
    add("--verify", action=verify, default=True, help="check the artifact's sha256 before use")
    add("--access-log", action="store_true", help="log each request")
    add("--quiet", action="store_true", help="log errors only")
    add("--log-json", action="store_true", help="log lines of JSON")
    given = parser.parse_args(argv)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter() if given.log_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    _log.setLevel(logging.ERROR if given.quiet else logging.INFO)
    try:
        limits = Limits(given.max_k, given.max_batch, given.max_body, given.timeout, given.threads, given.max_waiting)
        live = LiveRanker(
            given.artifact,
            in_memory=given.in_memory,
            verify=given.verify,
            explore=given.explore,
            new_items_cap=given.new_items_cap,
        )
        return serve(
            live,
            host=given.host,
            port=given.port,
            limits=limits,
            watch=given.watch,
            grace=given.grace,
            access_log=given.access_log,
        )
    except EnhancerError as error:
        if given.log_json:
            problem = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
            sys.stderr.write(_line("error", "error", **problem, exit_code=error.exit_code) + "\n")
        else:
            sys.stderr.write(f"error: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
