"""Requests over connections that servers keep, close, break or never read; by a proxy, too."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket

import pytest

from enhancer.errors import ConnectionFailedError, ServerError
from enhancer_plugins.network import wire
from enhancer_plugins.network.post import Poster

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers with what ``answers`` holds, each element once, the last for ever; keeps what it was sent."""

    def __init__(self, *answers):
        self.answers = [*answers] or [OK]
        self.requests = []
        self.tasks = []

    @property
    def connections(self):
        return len(self.tasks)

    async def accept(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        try:
            await self.serve(reader, writer)
        finally:
            writer.close()

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(
                    next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))[15:]
                )
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if callable(answer):
                    await answer(reader, writer)
                    break
                self.requests.append(head + await reader.readexactly(length))
                writer.write(answer)


@contextlib.asynccontextmanager
async def posting(server, *, path="/v1/chat/completions", proxy=None, headers=None, host="127.0.0.1", **options):
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    url = f"http://{host}:{port}"
    poster = Poster(
        url + path,
        base=url,
        headers={"Authorization": "Bearer sk-test", **(headers or {})},
        proxy=url if proxy else None,
        scrub=wire.Scrubber([]),
        max_body=options.get("max_body", 1000),
    )
    try:
        yield poster
    finally:
        await poster.aclose()
        listening.close()
        if server.tasks:
            await asyncio.wait(server.tasks)


async def test_what_is_sent():
    server = Server()
    async with posting(server, path="/a b/%2F/ü", headers={"X-Name": "ü"}) as poster:
        reply = await poster.post(b'{"a": 1}')
        (sent,) = server.requests
        port = poster._url.split(":")[2].split("/")[0]
    assert reply == (200, {"content-length": "2"}, b"ok")
    assert sent.decode() == (
        f"POST /a%20b/%2F/%C3%BC HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer sk-test\r\nX-Name: ü\r\n"
        'Content-Length: 8\r\n\r\n{"a": 1}'
    )


async def test_a_connection_is_used_again():
    server = Server()
    async with posting(server) as poster:
        for _ in range(3):
            await poster.post(b"1")
        assert server.connections == 1
        await asyncio.gather(*(poster.post(b"1") for _ in range(5)))
        await asyncio.gather(*(poster.post(b"1") for _ in range(5)))
        assert server.connections == 5
        assert len(server.requests) == 13


@pytest.mark.parametrize("answer", [OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK + b"more"])
async def test_a_connection_that_is_not_used_again(answer):
    server = Server(answer)
    async with posting(server) as poster:
        for _ in range(2):
            assert (await poster.post(b"1")).body == b"ok"
    assert server.connections == 2


async def test_a_connection_that_the_server_closes_meanwhile():
    async def once(reader, writer):
        await reader.readexactly(1)
        writer.write(OK)

    server = Server(once)
    async with posting(server) as poster:
        for _ in range(2):
            assert (await poster.post(b"1")).status == 200
            await asyncio.sleep(0.02)  # the end of the connection arrives
    assert server.connections == 2


async def test_what_nobody_asked_for_ends_a_connection():
    server, opened = Server(), []

    async def serve(reader, writer):
        opened.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()

    server.serve = serve
    async with posting(server) as poster:
        await poster.post(b"1")
        opened[0].write(OK)  # would be taken for the answer to the next request
        await asyncio.sleep(0.02)
        await poster.post(b"1")
    assert len(opened) == 2


async def test_an_answer_before_the_request_is_read():
    async def refuse(reader, writer):
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(0.1)

    server = Server(refuse, OK)
    async with posting(server) as poster:
        assert (await poster.post(b"1" * 20_000_000)).status == 413
        assert (await poster.post(b"1")).status == 200
    assert server.connections == 2


async def test_a_cancelled_request_ends_its_connection():
    async def never(reader, writer):
        await reader.read()

    server = Server(never, OK)
    async with posting(server) as poster:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await poster.post(b"1")
        assert (await poster.post(b"2")).body == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize("proxy", [False, True])
async def test_a_deadline(proxy):
    async def never(reader, writer):
        writer.write(OK[:-1])
        await reader.read()

    server = Server(never, OK)
    async with posting(server, proxy=proxy) as poster:
        now = asyncio.get_running_loop().time
        with pytest.raises(TimeoutError):
            await poster.post(b"1", now() + 0.05)
        assert (await poster.post(b"2", now() + 5)).body == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize("answer", [b"", OK[:10], OK[:-1]])
@pytest.mark.parametrize("proxy", [False, True])
async def test_a_connection_that_ends_too_early(answer, proxy):
    async def partly(reader, writer):
        await reader.readexactly(1)
        writer.write(answer)

    async with posting(Server(partly), proxy=proxy) as poster:
        with pytest.raises(ConnectionFailedError, match=r"the connection to http://127\.0\.0\.1"):
            await poster.post(b"1")


@pytest.mark.parametrize("proxy", [False, True])
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0\r\n\r\n", "invalid HTTP response"),
        (OK[:-2].replace(b": 2", b": 5000") + b"1" * 5000, "more than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok", "compressed by 'br'"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", "damaged"),
    ],
)
async def test_responses_that_cannot_be_read(answer, why, proxy):
    async with posting(Server(answer), proxy=proxy) as poster:
        with pytest.raises(ServerError, match=why):
            await poster.post(b"1")


@pytest.mark.parametrize("proxy", [False, True])
async def test_compressed_responses(proxy):
    body = gzip.compress(b"some text")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: GZip\r\nX-Ratelimit-Limit: 1\r\nContent-Length: {len(body)}\r\n\r\n"
    async with posting(Server(head.encode() + body), proxy=proxy) as poster:
        reply = await poster.post(b"1")
    assert (reply.body, reply.headers["x-ratelimit-limit"]) == (b"some text", "1")


async def test_a_proxy_gets_the_whole_url():
    server = Server()
    async with posting(server, proxy=True) as poster:
        await poster.post(b"1")
    assert server.requests[0].startswith(b"POST http://127.0.0.1:")


async def test_names_are_looked_up_once_and_addresses_that_fail_are_passed_over(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = unused.getsockname()[1]
    loop, looked_up = asyncio.get_running_loop(), []

    async def getaddrinfo(host, port, **options):
        looked_up.append(host)
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*address, ("127.0.0.1", nobody)), (*address, ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    server = Server()
    async with posting(server, host="some.example") as poster:
        replies = await asyncio.gather(*(poster.post(b"1") for _ in range(4)))
    assert [reply.status for reply in replies] == [200] * 4
    assert looked_up == ["some.example"]
    assert server.requests[0].split(b"\r\n")[1].startswith(b"Host: some.example:")


async def test_a_name_without_an_address_is_looked_up_again(monkeypatch):
    loop, found = asyncio.get_running_loop(), []

    async def getaddrinfo(host, port, **options):
        if not found:
            found.append(port)
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with posting(Server(), host="some.example") as poster:
        with pytest.raises(ConnectionFailedError, match="name resolution"):
            await poster.post(b"1")
        assert (await poster.post(b"1")).status == 200


async def test_a_header_that_would_add_others():
    async with posting(Server(), headers={"X-Name": "a\r\nX-Other: b"}) as poster:
        with pytest.raises(ConnectionFailedError, match="line break"):
            await poster.post(b"1")
