"""Parse the response to a POST from the bytes of a connection, without input or output (HTTP/1.1, RFC 9112)."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

MAX_HEAD = 64 * 1024
"""Largest size in bytes of status line and headers, interim responses included, and of trailers."""
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?", re.ASCII | re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_MAX_KNOWN_NAMES = 1000
_known_names: dict[str, str] = {}
"""Valid names of headers as servers have written them, in lower case. Servers send the same ones again and again."""
_WITHOUT_BODY = frozenset({204, 304})
_SWITCHING_PROTOCOLS = 101
_FINAL = 200
"""Smallest status of responses that are not interim."""


class Response(NamedTuple):
    """A whole response."""

    status: int
    headers: dict[str, str]
    """Headers with lower-case names, the last of each name."""
    body: bytes
    """Body as it was sent, without the frame of its chunks."""
    reusable: bool
    """Whether the connection may be used for another request."""


class ResponseError(ValueError):
    """The bytes are not a valid response."""


class TooLargeError(ResponseError):
    """The body is larger than is allowed."""


class ResponseParser:
    """Parser of one response.

    Args:
        max_body: Largest size of a body in bytes.
    """

    __slots__ = ("_body", "_chunks", "_head", "_headers", "_interim", "_keep", "_left", "_max_body", "_status")

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._head = b""
        """Incomplete head."""
        self._interim = 0
        """Size of the interim responses."""
        self._status = 0
        self._headers: dict[str, str] = {}
        self._keep = False
        self._body: bytearray | None = None
        """Body so far; None before it begins."""
        self._left: int | None = None
        """Missing bytes of the body; None if it is in chunks or ends with the connection."""
        self._chunks: _Chunks | None = None

    def feed(self, data: bytes) -> Response | None:
        """Parse further bytes. Return the response once it is complete.

        Raises:
            ResponseError: They are not a valid response, or the body is too large.
        """
        if self._body is not None:
            return self._read_body(data)
        while True:
            if self._head:
                data, self._head = self._head + data, b""
            end, after = _end_of_head(data)
            if self._interim + max(end, 0 if end >= 0 else len(data)) > MAX_HEAD:
                raise ResponseError(f"its head has more than {MAX_HEAD:,} bytes")
            if end < 0:
                self._head = data
                return None
            self._read_head(data[:end].decode("latin-1"))
            data = data[after:]
            if self._status >= _FINAL:
                return self._begin_body(data)
            if self._status == _SWITCHING_PROTOCOLS:
                raise ResponseError("it switches to another protocol")
            self._interim += after

    def eof(self) -> Response | None:
        """Return the response if the end of the connection completes it."""
        if self._body is None or self._left is not None or self._chunks is not None:
            return None
        return Response(self._status, self._headers, bytes(self._body), reusable=False)

    def _read_head(self, head: str) -> None:
        first, *lines = head.split("\n")
        found = _STATUS_LINE.fullmatch(first.rstrip("\r"))
        if found is None:
            raise ResponseError(f"it begins with {first[:80]!r}")
        headers: dict[str, str] = {}
        name = ""
        for line in lines:
            written, colon, value = line.partition(":")
            known = _known_names.get(written) if colon else None
            if known is None:
                if name and line[0] in " \t":  # an obsolete form, which continues the line before
                    headers[name] = f"{headers[name]} {line.strip()}"
                    continue
                if not colon or not _NAME.fullmatch(written):
                    raise ResponseError(f"it has the header {line[:80]!r}")
                known = written.lower()
                if len(_known_names) < _MAX_KNOWN_NAMES:
                    _known_names[written] = known
            name, value = known, value.strip()
            if name in headers and name in _FRAMING and headers[name] != value:
                raise ResponseError(f"it has two headers {name}, which differ")
            headers[name] = value
        self._status, self._headers = int(found[2]), headers
        connection = headers.get("connection", "").lower()
        self._keep = "close" not in connection and (found[1] == "1" or "keep-alive" in connection)

    def _begin_body(self, data: bytes) -> Response | None:
        coding, length = self._headers.get("transfer-encoding"), self._headers.get("content-length")
        if self._status in _WITHOUT_BODY:
            self._left = 0
        elif coding is not None:
            if coding.lower() != "chunked":
                raise ResponseError(f"it has the transfer encoding {coding[:40]!r}, which was not requested")
            self._chunks = _Chunks(self._max_body)
            self._keep = self._keep and length is None
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                raise ResponseError(f"its length is {length[:40]!r}")
            self._left = int(length)
            if self._left > self._max_body:
                raise TooLargeError("its body is too large")
            if len(data) == self._left:  # nearly all answers come at once
                return Response(self._status, self._headers, data, self._keep)
        self._body = bytearray()
        return self._read_body(data)

    def _read_body(self, data: bytes) -> Response | None:
        body = self._body
        assert body is not None
        if self._chunks is not None:
            rest = self._chunks.feed(data, body)
        elif self._left is None:
            body += data
            if len(body) > self._max_body:
                raise TooLargeError("its body is too large")
            return None
        else:
            body += data[: self._left]
            rest = data[self._left :] if len(data) >= self._left else None
            self._left -= min(len(data), self._left)
        if rest is None:
            return None
        return Response(self._status, self._headers, bytes(body), self._keep and not rest)


class _Chunks:
    """Parser of a body in chunks.

    Args:
        max_body: Largest size of the body in bytes.
    """

    __slots__ = ("_expected", "_left", "_line", "_max_body", "_trailers")

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._expected: Literal["size", "end of chunk", "trailer"] = "size"
        """Meaning of the next line."""
        self._left = 0
        """Missing bytes of the current chunk."""
        self._line = b""
        """Incomplete line."""
        self._trailers = 0
        """Size of the trailers so far."""

    def feed(self, data: bytes, body: bytearray) -> bytes | None:
        """Append the content of further bytes to the body. Return what follows its end; None before that.

        Raises:
            ResponseError: They are not valid chunks, or the body is too large.
        """
        if self._line:
            data, self._line = self._line + data, b""
        at = 0
        while True:
            if self._left:
                before = len(body)
                body += data[at : at + self._left]
                taken = len(body) - before
                at += taken
                self._left -= taken
                if self._left:
                    return None
            end = data.find(b"\n", at)
            if end < 0:
                self._line = data[at:]
                if len(self._line) > MAX_HEAD:
                    raise ResponseError("a line between its chunks does not end")
                return None
            line = data[at:end].removesuffix(b"\r")
            at = end + 1
            if self._expected == "trailer" and not line:
                return data[at:]
            self._take_line(line, len(body))

    def _take_line(self, line: bytes, size: int) -> None:
        if self._expected == "size":
            found = _CHUNK_SIZE.fullmatch(line)
            if found is None:
                raise ResponseError(f"a chunk has the size {line[:40]!r}")
            self._left = int(found[1], 16)
            if size + self._left > self._max_body:
                raise TooLargeError("its body is too large")
            self._expected = "end of chunk" if self._left else "trailer"
        elif self._expected == "end of chunk":
            if line:
                raise ResponseError("a chunk is longer than its size")
            self._expected = "size"
        else:
            self._trailers += len(line)
            if self._trailers > MAX_HEAD:
                raise ResponseError(f"its trailers have more than {MAX_HEAD:,} bytes")


def _end_of_head(data: bytes) -> tuple[int, int]:
    """Return the end of a head, -1 if it is incomplete, and the beginning of what follows.

    Lines may end without the carriage return, as those of some simple servers do.
    """
    first = data.find(b"\n")
    line_end = b"\r\n" if first > 0 and data[first - 1] == 0x0D else b"\n"
    end = data.find(line_end * 2)
    return end, end + 2 * len(line_end)
