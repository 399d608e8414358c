"""Clients that are slow, endless, or no clients of HTTP at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time

import pytest
from serving_process import Server

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def drip(port, first, more=b"x", every=0.05, seconds=10.0):
    """Send ``first``, then ``more`` again and again until the service hangs up; what it said, and after how long."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        begun, said = time.monotonic(), b""
        line.sendall(first)
        line.settimeout(every)
        while time.monotonic() - begun < seconds:
            try:
                part = line.recv(4096)
            except TimeoutError:
                with contextlib.suppress(OSError):
                    line.sendall(more)
                continue
            except ConnectionError:
                part = b""
            if not part:
                return said, time.monotonic() - begun
            said += part
        pytest.fail(f"still open after {seconds} s: {said!r}")


@pytest.fixture(scope="module")
def impatient(folder):
    with Server(folder, "--timeout=0.4") as running:
        yield running


HEAD = b"GET /recommend?user_id=u1 HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("first", "more"),
    [(b"GET /", b"e"), (HEAD, b"X-Odd: 1\r\n"), (HEAD + b"X-Odd: ", b"1"), (b"\r\n", b"\r\n")],
    ids=["address", "headers", "one header", "empty lines"],
)
def test_a_head_that_never_ends_is_hung_up_on(impatient, first, more):
    said, seconds = drip(impatient.port, first, more)
    assert said.startswith(b"HTTP/1.1 408") or first == b"\r\n"
    assert 0.3 < seconds < 3


def test_a_second_head_has_no_more_time(impatient):
    said, seconds = drip(impatient.port, HEAD + b"\r\n" + HEAD, b"X-Odd: 1\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in said
    assert 0.3 < seconds < 3


def test_nor_has_a_body_whose_answer_was_given(impatient):
    said, seconds = drip(impatient.port, b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 404")
    assert seconds < 6


def test_a_head_in_pieces_is_answered_and_the_connection_stays(impatient):
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as line:
        for _ in range(3):
            for piece in (HEAD[:9], HEAD[9:], b"\r\n"):
                line.sendall(piece)
                time.sleep(0.03)
            assert line.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)  # longer than a head may take: between requests another clock runs


def test_a_head_without_end_is_refused_by_its_length(server):
    said, _ = drip(server.port, HEAD + b"X-Odd: ", b"1" * 50_000, every=0.02)
    assert said.startswith(b"HTTP/1.1 431")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"] == "the head has more than 65,536 bytes"


def test_what_is_no_http_is_told_in_json(server):
    said, _ = drip(server.port, b"hello\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "HTTPError"


@pytest.mark.parametrize("name", ["httptools_impl.HttpToolsProtocol", "h11_impl.H11Protocol"])
async def test_both_of_uvicorns_protocols_have_the_limits(name):
    import uvicorn
    from uvicorn.server import ServerState

    from enhancer.serving.service.head_limits import with_head_limits

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    module, _, kind = name.rpartition(".")
    base = getattr(pytest.importorskip(f"uvicorn.protocols.http.{module}"), kind)
    config = uvicorn.Config(app, http=with_head_limits(base, 0.2, idle=0.3), ws="none", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    serving = await loop.create_server(lambda: config.http_protocol_class(config, state, {}), "127.0.0.1")
    port = serving.sockets[0].getsockname()[1]
    slow, silent = await asyncio.gather(
        asyncio.to_thread(drip, port, HEAD, b"X-Odd: 1\r\n"), asyncio.to_thread(drip, port, b"", b"")
    )
    assert slow[0].startswith(b"HTTP/1.1 408")
    assert (silent[0], 0.2 < silent[1] < 3) == (b"", True)
    whole, _ = await asyncio.to_thread(drip, port, HEAD + b"Connection: close\r\n\r\n")
    assert whole.startswith(b"HTTP/1.1 204")
    serving.close()
    await serving.wait_closed()
