"""Clients that are slow, endless, or no clients of HTTP at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import struct
import tempfile
import time
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from serving_process import Server

from enhancer.contracts import Factors
from enhancer.serving import Ranker, write_artifact

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytest.importorskip("orjson", reason="the extra serve is not installed")

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


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X-Odd: " + b"1" * 70_000 + b"\r\n",
        HEAD + b"".join(b"X-%d: 12345678\r\n" % n for n in range(5000)),
        b"GET /recommend?user_id=" + b"u" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n",
    ],
    ids=["header", "headers", "address"],
)
def test_a_long_head_is_refused_though_it_arrives_at_once(server, head):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(head + b"\r\n")
        assert line.recv(65536).startswith(b"HTTP/1.1 431")


def test_what_is_no_http_is_told_in_json(server):
    said, _ = drip(server.port, b"hello\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "HTTPError"


# --- what a process holds -----------------------------------------------------------------------------------------


def post(port, length, sent, timeout=20):
    """Open a connection and send the head of a POST, and so many bytes of its body."""
    line = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    line.sendall(f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + b" " * sent)
    return line


def read_all(line):
    """Return what the service says until it closes."""
    said = b""
    while part := line.recv(65536):
        said += part
    return said


def number(server, name):
    """Return a number of ``/metrics``."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        found = re.search(rf"^{re.escape(name)} (.+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_connections_beyond_the_cap_are_told_in_one_line_of_the_log(folder):
    with Server(folder, "--max-connections=5") as server, contextlib.ExitStack() as stack:
        lines = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20)) for _ in range(5)
        ]
        lines[0].sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert lines[0].recv(65536).startswith(b"HTTP/1.1 200")
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
                line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                said = read_all(line)
            assert said.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1" in said
            assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"] == "5 connections are open"
        lines.pop().close()
        stop = time.monotonic() + 10
        while (refused := number_or_none(server)) is None:
            assert time.monotonic() < stop
            time.sleep(0.02)
        assert refused >= 4
        server.stop()
    assert sum("connections are open, further ones are refused" in line for line in server.log) == 1


def number_or_none(server):
    try:
        return number(server, "enhancer_connections_refused_total")
    except OSError:  # refused, because the closed connection has not been noticed
        return None


def test_bytes_of_bodies_are_bounded_over_all_connections_and_given_back(folder):
    with Server(folder, "--max-body=10000", "--max-held=25000") as server, contextlib.ExitStack() as stack:
        lines = [stack.enter_context(contextlib.closing(post(server.port, 10_000, 9_000))) for _ in range(2)]
        stop = time.monotonic() + 10
        while number(server, "enhancer_held_bytes") != 18_000:
            assert time.monotonic() < stop
            time.sleep(0.02)
        for _ in range(3):
            with contextlib.closing(post(server.port, 10_000, 9_000)) as line:
                said = read_all(line)
            assert said.startswith(b"HTTP/1.1 503")
            assert b"25,000 bytes of other requests are held" in said
        assert server.ask("/recommend?user_id=u1")[0] == 200
        lines[0].close()  # in the middle of its body
        lines[1].sendall(b" " * 1_000)
        assert lines[1].recv(65536).startswith(b"HTTP/1.1 400")  # a body of spaces is no JSON
        while number(server, "enhancer_held_bytes"):
            assert time.monotonic() < stop
            time.sleep(0.02)
        assert number(server, "enhancer_bodies_refused_total") == 3
        assert server.ask("/recommend", {"users": ["u1"]})[0] == 200
        server.stop()
    assert sum("more are refused" in line for line in server.log) == 1


def test_clients_that_leave_at_any_point_leave_nothing_behind(folder):
    whole = b'POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"users": ["u1"]}'
    with Server(folder) as server:
        for reset in (False, True):
            for length in range(0, len(whole) + 1, 3):
                with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
                    line.sendall(whole[:length])
                    if reset:  # a client that was killed
                        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stop = time.monotonic() + 10
        # What is left is the request that asks.
        for name, left in (("held_bytes", 0), ("requests_in_flight", 1), ("connections", 1)):
            while number(server, f"enhancer_{name}") != left:
                assert time.monotonic() < stop
                time.sleep(0.02)
        assert server.stop() == 0
    assert [line.split(" ", 3)[-1] for line in server.log[1:]] == ["stopped\n"]


def test_a_client_that_reads_nothing_is_reset_and_one_that_reads_slowly_is_not(tmp_path):
    folder = write_artifact(
        tmp_path / "artifact",
        factors=Factors(np.ones((1, 2), np.float32), np.ones((3000, 2), np.float32)),
        user_ids=["u"],
        item_ids=[f"{n}-{'x' * 3000}" for n in range(3000)],
        train_users=np.empty(0, np.int64),
        train_items=np.empty(0, np.int64),
        manifest={},
    )
    asked = b"GET /recommend?user_id=u&k=2500 HTTP/1.1\r\nHost: x\r\n\r\n"  # an answer of 7.5 MB
    with Server(folder, "--timeout=0.5", "--max-k=3000") as server, contextlib.ExitStack() as stack:
        silent, slow = (
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20)) for _ in range(2)
        )
        for line in (silent, slow):
            line.sendall(asked)
        read, stop = 0, time.monotonic() + 15
        while read < 7_500_000:
            read += len(slow.recv(200_000))
            time.sleep(0.02)
            assert time.monotonic() < stop
        while number(server, "enhancer_held_bytes"):
            assert time.monotonic() < stop
            time.sleep(0.05)
        with contextlib.suppress(ConnectionResetError):
            assert len(read_all(silent)) < 7_500_000


def test_requests_in_one_packet_are_answered_in_order(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        paths = ["/health", "/recommend?user_id=u1&k=1", "/nowhere", "/recommend?user_id=u2&k=1", "/similar?item_id=i1"]
        line.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths) + b"nonsense\r\n")
        said = read_all(line)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", said)
    assert statuses == [b"200", b"200", b"404", b"200", b"200", b"400"]
    assert said.index(b'"u1"') < said.index(b"/nowhere") < said.index(b'"u2"') < said.index(b'"i1"')


def test_upgrades_continue_and_old_clients(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2")
        assert re.findall(rb"HTTP/1\.1 (\d+)", read_all(line)) == [b"200"]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        body = b'{"users": ["u1"]}'
        line.sendall(b"POST /recommend HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 17\r\n\r\n")
        assert line.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(body)
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
        line.sendall(b"GET http://x/health HTTP/1.0\r\n\r\n")
        said = read_all(line)
        assert said.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in said


async def test_strangers_do_not_keep_others_waiting():
    """Twenty thousand ids: a comparison with all of them took seconds."""
    from enhancer.serving.service.endpoints import Endpoints
    from enhancer.serving.service.settings import Limits

    count = 20_000
    ranker_of = SimpleNamespace(error=None)
    with tempfile.TemporaryDirectory() as name:
        write_artifact(
            name,
            factors=Factors(np.ones((count, 2), np.float32), np.ones((count, 2), np.float32)),
            user_ids=[f"user-{n}" for n in range(count)],
            item_ids=[f"item-{n}" for n in range(count)],
            train_users=np.arange(count),
            train_items=np.arange(count),
            manifest={},
        )
        ranker_of.ranker = Ranker.load(name)
        ranker_of.ranker.warm()
        endpoints = Endpoints(ranker_of, Limits())
        answers = []
        begun = time.perf_counter()
        for turn in range(100):
            endpoints.handle("GET", "/recommend", f"user_id=user-x{turn}", b"", answers.append)
            endpoints.handle("GET", "/similar", f"item_id=item-x{turn}", b"", answers.append)
        body = json.dumps({"users": [f"user-x{turn}" for turn in range(256)]}).encode()
        done = asyncio.get_running_loop().create_future()
        endpoints.handle("POST", "/recommend", "", body, done.set_result)
        many = await done
        seconds = time.perf_counter() - begun
        endpoints.batcher.close()
    assert {answer.status for answer in answers} == {404}
    assert len(json.loads(many.body)["unknown_users"]) == 256
    assert seconds < 0.5  # it takes some 20 ms
