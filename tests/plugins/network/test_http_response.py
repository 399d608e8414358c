"""Responses as servers write them, well or badly, in whatever pieces they arrive."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from enhancer_plugins.network.http_response import MAX_HEAD, Response, ResponseError, ResponseParser, TooLargeError

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n" + b'{"a":1}'
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b'3;name=value\r\n{"a\r\n4 \r\n":1}\r\n0\r\nX-Trailer: 1\r\n\r\n'
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
BARE = PLAIN.replace(b"\r\n", b"\n")
BARE_CHUNKED = CHUNKED.replace(b"\r\n", b"\n")


def parse(*pieces, max_body=1000):
    parser = ResponseParser(max_body)
    for piece in pieces[:-1]:
        assert parser.feed(piece) is None
    return parser.feed(pieces[-1])


@pytest.mark.parametrize("raw", [PLAIN, CHUNKED, INTERIM + PLAIN, INTERIM + CHUNKED, BARE, BARE_CHUNKED])
@given(data=st.data())
def test_pieces_make_no_difference(raw, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=12)))
    found = parse(*(raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)))
    assert (found.status, found.body, found.reusable) == (200, b'{"a":1}', True)


@given(body=st.binary(max_size=200), sizes=st.lists(st.integers(1, 50), min_size=1))
def test_chunks_of_any_size(body, sizes):
    rest, chunks = body, b""
    while rest:
        part, rest = rest[: sizes[0]], rest[sizes[0] :]
        sizes = [*sizes[1:], sizes[0]]
        chunks += b"%x\r\n%s\r\n" % (len(part), part)
    found = parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert found.body == body


def test_headers():
    found = parse(
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After:  2 \r\nX-Twice: 1\r\nx-twice: 2\r\n"
        b"X-Long: a\r\n  b\r\nX-Latin: caf\xe9\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n"
    )
    assert found == Response(
        429,
        {"retry-after": "2", "x-twice": "2", "x-long": "a b", "x-latin": "café", "x-empty": "", "content-length": "0"},
        b"",
        True,
    )


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", True),
    ],
)
def test_whether_the_connection_stays_open(head, reusable):
    assert parse(head + b"\r\nContent-Length: 2\r\n\r\nok").reusable is reusable


def test_what_follows_a_response_ends_the_connection():
    for raw in (PLAIN, CHUNKED):
        found = parse(raw + b"H")
        assert (found.body, found.reusable) == (b'{"a":1}', False)
    # Length and chunks at once may be read otherwise by a proxy in between.
    both = CHUNKED.replace(b"\r\n", b"\r\nContent-Length: 3\r\n", 1)
    assert (parse(both).body, parse(both).reusable) == (b'{"a":1}', False)


def test_a_body_that_ends_with_the_connection():
    parser = ResponseParser(1000)
    assert parser.eof() is None
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nsome ") is None
    assert parser.feed(b"text") is None
    assert parser.eof() == Response(200, {}, b"some text", False)


@pytest.mark.parametrize("raw", [PLAIN[:20], PLAIN[:-1], CHUNKED[:-2], INTERIM])
def test_a_connection_that_ends_too_early(raw):
    parser = ResponseParser(1000)
    assert parser.feed(raw) is None
    assert parser.eof() is None


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status):
    assert parse(b"HTTP/1.1 %d X\r\n\r\n" % status) == Response(status, {}, b"", True)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "SSH-2.0"),
        (b"HTTP/2 200\r\n\r\n", "HTTP/2"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 20"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "no colon"),
        (b"HTTP/1.1 200 OK\r\nSpace : 1\r\n\r\n", "Space "),
        (b"HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n", "folded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "differ"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "-1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n", "1_0"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "gzip"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "zz"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n", "size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "longer"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD, "head"),
        (b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n" * 3000, "head"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: 1\r\n" * 20_000, "trailers"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (MAX_HEAD + 1), "does not end"),
    ],
)
def test_what_is_no_response(raw, why):
    with pytest.raises(ResponseError, match=why):
        ResponseParser(1000).feed(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e7\r\n" + b"a" * 999 + b"\r\n2\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 1001,
    ],
)
def test_a_body_that_is_too_large(raw):
    with pytest.raises(TooLargeError):
        ResponseParser(1000).feed(raw)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(raw):
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        parser = ResponseParser(1000)
        try:
            parser.feed(start + raw)
            parser.eof()
        except ResponseError:
            pass
