"""The protocol alone, over a transport that is no network: however bytes are cut, requests and answers are the same."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytest.importorskip("orjson", reason="the extra serve is not installed")

from enhancer.serving.service.answers import Answer
from enhancer.serving.service.http.connection import Connections
from enhancer.serving.service.metrics import Metrics
from enhancer.serving.service.settings import Limits

REQUESTS = (
    b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /recommend?user_id=%C3%A9&k=2 HTTP/1.1\r\nHost: x\r\nX-Odd: " + b"y" * 50 + b"\r\n\r\n",
    b"POST /recommend HTTP/1.1\r\nContent-Length: 12\r\n\r\n{'users': 1}",
    b"POST /recommend HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{12\r\n1\r\n}\r\n0\r\n\r\n",
    b"HEAD http://x/health HTTP/1.1\r\n\r\n",
    b"POST /recommend HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
)
LAST = (
    b"",
    b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET /health HTTP/1.0\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /recommend HTTP/1.1\r\nContent-Length: 101\r\n\r\n" + b" " * 101,
    b"POST /recommend HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b" " * 101 + b"\r\n0\r\n\r\n",
    b"POST /recommend HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n  ",
    b"GET /health HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nPRI *",
    b"nonsense\r\n\r\n",
)


class Transport:
    """Keeps what is written."""

    def __init__(self):
        self.written, self.ended = b"", None

    def write(self, data):
        assert self.ended is None
        self.written += data

    def write_eof(self):
        assert self.ended is None
        self.ended = "half"

    def close(self):
        self.ended = self.ended or "closed"

    def abort(self):
        self.ended = "aborted"

    def is_closing(self):
        return self.ended in {"closed", "aborted"}

    def can_write_eof(self):
        return True

    def get_extra_info(self, name):
        return None

    def set_write_buffer_limits(self, high):
        pass

    def get_write_buffer_size(self):
        return 0


class Endpoints:
    """Answers at once, or when it is told to; notes what was asked."""

    def __init__(self, *, at_once=True, **limits):
        self.limits, self.metrics = Limits(**limits), Metrics()
        self.asked, self.waiting, self.cancelled, self.at_once = [], [], 0, at_once

    def takes_body(self, method, path):
        return (method, path) == ("POST", "/recommend")

    def handle(self, method, path, query, body, reply):
        self.asked.append((method, path, query, body))
        answer = Answer(200, f"{method} {path}?{query} {len(body)}".encode())
        if self.at_once:
            reply(answer)
            return None
        self.waiting.append(lambda: reply(answer))
        return SimpleNamespace(cancel=self.cancel)

    def cancel(self):
        self.cancelled += 1
        self.waiting.clear()


def opened(endpoints):
    shared = Connections(endpoints)
    connection, transport = shared.connect(), Transport()
    connection.connection_made(transport)
    return shared, connection, transport


def drained(endpoints):
    """Whether nothing is held or counted any more."""
    text = endpoints.metrics.board.render().decode()
    return all(f"enhancer_{name} 0\n" in text for name in ("held_bytes", "connections"))


def told(transport):
    return re.sub(rb"date: [^\r]*\r\n", b"", transport.written)


def test_an_answer_has_the_headers_of_its_own_request():
    """Not those of a later one, which the parser has read by then."""
    old = b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    for requests, kept in (((REQUESTS[0], old), [False, True]), ((old, REQUESTS[0]), [True, False])):
        endpoints = Endpoints(at_once=False)
        _, connection, transport = opened(endpoints)
        connection.data_received(b"".join(requests))
        while endpoints.waiting:
            endpoints.waiting.pop(0)()
        answers = transport.written.split(b"HTTP/1.1 200 OK")[1:]
        assert [b"connection: keep-alive" in answer for answer in answers] == kept
        connection.connection_lost(None)


@given(st.lists(st.sampled_from(REQUESTS), max_size=5), st.sampled_from(LAST), st.data(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_answers_do_not_depend_on_how_bytes_arrive(requests, last, data, at_once):
    stream = b"".join(requests) + last
    whole = Endpoints(body=100)
    _, connection, transport = opened(whole)
    connection.data_received(stream)
    endpoints = Endpoints(body=100, at_once=at_once)
    _, connection, pieces = opened(endpoints)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        if end > start:
            connection.data_received(stream[start:end])
        while endpoints.waiting and data.draw(st.booleans()):
            endpoints.waiting.pop(0)()
    while endpoints.waiting:
        endpoints.waiting.pop(0)()
    assert told(pieces) == told(transport)
    assert (endpoints.asked, pieces.ended) == (whole.asked, transport.ended)
    assert len(re.findall(rb"HTTP/1\.1 \d+ ", pieces.written)) == len(requests) + bool(last)
    connection.connection_lost(None)
    assert drained(endpoints)


@given(st.binary(max_size=300), st.lists(st.sampled_from([*REQUESTS, *LAST]), max_size=3), st.data())
@settings(max_examples=60, deadline=None)
def test_nothing_that_a_client_sends_is_more_than_refused(junk, requests, data):
    stream = b"".join(requests)
    at = data.draw(st.integers(0, len(stream)))
    stream = stream[:at] + junk + stream[at:]
    endpoints = Endpoints(body=100, at_once=False)
    shared, connection, transport = opened(endpoints)
    cut = data.draw(st.integers(0, len(stream)))
    connection.data_received(stream[:cut])
    left = data.draw(st.booleans())
    if left:
        connection.connection_lost(None)
        assert drained(endpoints)
        for answer in endpoints.waiting:
            answer()  # too late: nobody is told
        return
    connection.data_received(stream[cut:])
    while endpoints.waiting:
        endpoints.waiting.pop(0)()
    connection.deadline = time.monotonic() - 1
    connection.time_out()  # whatever it waits for
    assert transport.ended is not None
    connection.connection_lost(None)
    assert drained(endpoints)
    assert not shared.open
    assert shared.lingering == 0


def test_a_client_that_leaves_is_worked_for_no_more():
    endpoints = Endpoints(at_once=False)
    _, connection, transport = opened(endpoints)
    connection.data_received(REQUESTS[0] * 3)
    assert len(endpoints.asked) == 1  # one after the other
    connection.connection_lost(ConnectionResetError())
    assert (endpoints.cancelled, transport.written) == (1, b"")
    assert drained(endpoints)


def test_requests_that_wait_for_an_earlier_one_are_bounded():
    endpoints = Endpoints(at_once=False, body=1000, held=4096)
    _, connection, transport = opened(endpoints)
    connection.data_received(REQUESTS[0] * 50)
    assert len(endpoints.asked) == 1
    while endpoints.waiting:
        endpoints.waiting.pop(0)()
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", transport.written)] == [200] * 5 + [503]
    connection.connection_lost(None)
    assert drained(endpoints)
