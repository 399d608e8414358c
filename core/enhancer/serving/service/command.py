"""The command line of ``python -m enhancer.serving``, which ``enhancer serve`` becomes."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from enhancer.errors import EnhancerError
from enhancer.serving.service.live_ranker import LiveRanker
from enhancer.serving.service.server import serve
from enhancer.serving.service.settings import GRACE, HOST, PORT, WATCH, WORKERS, Limits, threads_for

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("enhancer.serving")


class _JsonFormatter(logging.Formatter):
    """Formats records as every command does with ``--log-json``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        level = {"critical": "error"}.get(record.levelname.lower(), record.levelname.lower())
        return _line("log", level, logger=record.name, message=super().format(record))


def _line(event: str, level: str, **fields: Any) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": at, "level": level, "event": event, **fields})


def _parser() -> argparse.ArgumentParser:
    default = Limits()
    parser = argparse.ArgumentParser(prog="enhancer serve", description="Serve an artifact over HTTP.")
    add = parser.add_argument
    add("artifact", help="folder that `enhancer train` wrote")
    add("--host", default=HOST, help="address to bind (default: %(default)s)")
    add("--port", type=int, default=PORT, help="port; 0 lets the system choose (default: %(default)s)")
    add("--workers", type=int, default=WORKERS, help="processes that share the port (default: %(default)s)")
    add("--watch", type=float, default=WATCH, help="seconds between checks for a new artifact (default: %(default)s)")
    add("--grace", type=float, default=GRACE, help="seconds for running requests after SIGTERM (default: %(default)s)")
    add("--max-k", type=int, default=default.k, help="maximum items for a user (default: %(default)s)")
    add("--max-batch", type=int, default=default.batch, help="maximum users in a request (default: %(default)s)")
    add("--max-body", type=int, default=default.body, help="maximum bytes in a request (default: %(default)s)")
    add("--max-waiting", type=int, default=default.waiting, help="maximum requests that wait (default: %(default)s)")
    add("--max-connections", type=int, default=default.connections, help="maximum connections (default: %(default)s)")
    add("--max-held", type=int, default=default.held, help="maximum bytes of all bodies (default: %(default)s)")
    add("--timeout", type=float, default=default.timeout, help="seconds until a request fails (default: %(default)s)")
    add("--threads", type=int, help="threads of each process (default: all cores together, at most 4 a process)")
    share = "share of places that {}; by default that of the artifact"
    add("--explore", type=float, help=share.format("new items get whatever their scores"))
    add("--new-items-cap", type=float, help=share.format("new items get at most"))
    add("--in-memory", action="store_true", help="read the artifact instead of mapping it")
    verify = argparse.BooleanOptionalAction
    add("--verify", action=verify, default=True, help="check the artifact's sha256 before use")
    add("--access-log", action="store_true", help="log each request")
    add("--quiet", action="store_true", help="log errors only")
    add("--log-json", action="store_true", help="log lines of JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit code.
    """
    given = _parser().parse_args(argv)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter() if given.log_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    _log.setLevel(logging.ERROR if given.quiet else logging.INFO)

    def tell(error: EnhancerError) -> None:
        if given.log_json:
            problem = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
            sys.stderr.write(_line("error", "error", **problem, exit_code=error.exit_code) + "\n")
        else:
            sys.stderr.write(f"error: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))

    limits = Limits(
        k=given.max_k,
        batch=given.max_batch,
        body=given.max_body,
        timeout=given.timeout,
        threads=threads_for(max(given.workers, 1)) if given.threads is None else given.threads,
        waiting=given.max_waiting,
        connections=given.max_connections,
        held=given.max_held,
    )
    load = partial(
        LiveRanker,
        given.artifact,
        in_memory=given.in_memory,
        verify=given.verify,
        explore=given.explore,
        new_items_cap=given.new_items_cap,
    )
    common = {"host": given.host, "port": given.port, "limits": limits, "watch": given.watch, "grace": given.grace}
    try:
        if given.workers > 1:
            from enhancer.serving.service.workers import serve_by_workers

            return serve_by_workers(load, given.workers, **common, access_log=given.access_log, tell=tell)
        return serve(load(), **common, access_log=given.access_log)
    except EnhancerError as error:
        tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
