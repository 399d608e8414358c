"""A server that speaks just enough of the OpenAI protocol to be the fast side of a benchmark.

``tests/helpers/loopback.py`` is made to misbehave in every way and costs more than the clients that are measured here. This one
reads a request's length, waits, and writes an answer that was made beforehand: some 50 µs a call, so that on two cores it
is the client that is measured. As a process of its own::

    python tests/benchmarks/lean_server.py --latency 0.2    # prints {"url": ...} and serves until stdin closes
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWERS = 997
_WORDS = ("warm", "quiet", "bright", "slow", "restless", "wry", "tender", "grand", "spare", "lush", "sharp", "gentle")
_LIMITS = (
    "x-ratelimit-limit-requests: 1000000000\r\nx-ratelimit-limit-tokens: 1000000000000\r\n"
    "x-ratelimit-remaining-requests: 999999999\r\nx-ratelimit-remaining-tokens: 999999999999\r\n"
    "x-ratelimit-reset-requests: 1ms\r\nx-ratelimit-reset-tokens: 1ms\r\n"
)


def _answer(number: int) -> bytes:
    """A valid profile of two sentences with four tags."""
    first, second, third = (_WORDS[number // 12**n % 12] for n in range(3))
    profile = {
        "profile": f"A {first} and {second} story, number {number}, told with a {third} eye for how people change when"
        " nobody is looking. It suits those who like their wonder earned and their endings open, and who do not mind"
        " waiting for either.",
        "tags": [first, f"{second} humour", f"{third} images", "open endings"],
    }
    return _http(number, json.dumps(profile))


def _http(number: int, content: str) -> bytes:
    """One whole HTTP answer."""
    body = json.dumps(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "loopback-model",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 180, "completion_tokens": 90, "total_tokens": 270},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{_LIMITS}\r\n"
    return head.encode() + body


_USER = _http(0, '{"name": "Ada", "age": 36}')


class _Chat(asyncio.Protocol):
    """One connection, kept alive; answers come ``latency`` seconds after the request's last byte."""

    answers: list[bytes] = []  # noqa: RUF012 - filled once by main
    latency = 0.0
    count = 0

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            told = _LENGTH.search(head)
            whole = end + 4 + (int(told[1]) if told else 0)
            if len(self._buffer) < whole:
                if b"100-continue" in head and self._transport is not None:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            request, self._buffer = self._buffer[:whole], self._buffer[whole:]
            _Chat.count += 1
            # curator first tries whether the model keeps to a schema, by one of its own.
            answer = _USER if b'"age"' in request else self.answers[_Chat.count % _ANSWERS]
            asyncio.get_running_loop().call_later(self.latency, self._write, answer)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def _serve(latency: float, port: int) -> None:
    _Chat.latency = latency
    _Chat.answers = [_answer(number) for number in range(_ANSWERS)]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Chat, "127.0.0.1", port, backlog=4096)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"}), flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


@contextlib.contextmanager
def spawn(latency: float) -> Iterator[str]:
    """Run the server in a process of its own; gives its base URL."""
    command = [sys.executable, __file__, "--latency", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A lean OpenAI-protocol server on 127.0.0.1, until stdin closes.")
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(_serve(given.latency, given.port))
