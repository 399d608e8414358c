"""Serve the pages of ``enhancer browse`` to this machine."""

from __future__ import annotations

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from enhancer.project.browsing.pages import Pages

_log = logging.getLogger(__name__)
_ADDRESS = "127.0.0.1"
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_server(pages: Pages, port: int) -> ThreadingHTTPServer:
    """Return a server that listens on a port of this machine; ``serve_forever`` starts it.

    Args:
        pages: Renders the pages, one at a time.
        port: Port; 0 lets the system choose.

    Raises:
        ConfigError: The port cannot be used.
    """
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not _is_local(self.headers.get("Host", "")):  # a page elsewhere that renamed its server to this machine
                self._answer(403, "open the address that `enhancer browse` prints")
                return
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, errors="surrogatepass"))
            try:
                with lock:
                    status, page = pages.render(parts.path, query)
            except Exception:  # noqa: BLE001 - the server goes on
                _log.exception("a page failed: %s", parts.path)
                status, page = 500, "this is a bug in enhancer; the terminal has the traceback"
            self._answer(status, page)

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, status: int, page: str) -> None:
            content = page.encode("utf-8", "backslashreplace")
            self.send_response(status)
            for name, value in {**_HEADERS, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            _log.debug(format, *args)

    try:
        return ThreadingHTTPServer((_ADDRESS, port), Handler)
    except OverflowError:
        raise ConfigError(f"{port} is not a valid port", hint="use one from 1 to 65535") from None
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {_ADDRESS}:{port}: {error.strerror}", hint="choose another with --port"
        ) from None


def _is_local(host: str) -> bool:
    """Check whether a request names this machine."""
    return host.rpartition(":")[0] in {"127.0.0.1", "localhost"} or host in {"127.0.0.1", "localhost"}
