"""The service as an application of another program's ASGI server."""

from __future__ import annotations

import asyncio
import json

import pytest
from serving_process import write

pytest.importorskip("orjson", reason="the extra serve is not installed")

from enhancer.serving import Limits, LiveRanker, create_app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("asgi") / "artifact")


def scope(method, path, query=b"", root=""):
    return {"type": "http", "method": method, "path": root + path, "root_path": root, "query_string": query}


async def ask(app, asked, *messages):
    """Send a request in the given messages; return status, headers and body."""
    left, sent = list(messages) or [{"type": "http.request", "body": b"", "more_body": False}], []

    async def receive():
        if left:
            return left.pop(0)
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message):
        sent.append(message)

    await app(asked, receive, send)
    if not sent:
        return None
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


async def test_requests_are_answered_below_any_root(folder):
    live = LiveRanker(folder)
    app = create_app(live, Limits(body=100, timeout=0.2), watch=0)
    for root in ("", "/shop"):
        status, headers, body = await ask(app, scope("GET", "/recommend", b"user_id=u1&k=2", root))
        assert (status, headers[b"content-type"]) == (200, b"application/json")
        expected = live.ranker.recommend(["u1"], 2)[0].items
        assert [item["item_id"] for item in json.loads(body)["items"]] == [item for item, _ in expected]
    pieces = [{"type": "http.request", "body": part, "more_body": True} for part in (b'{"users"', b': ["u1"]}')]
    last = {"type": "http.request", "body": b"", "more_body": False}
    status, _, body = await ask(app, scope("POST", "/recommend"), *pieces, last)
    assert (status, json.loads(body)["results"][0]["user_id"]) == (200, "u1")
    status, headers, _ = await ask(app, scope("PUT", "/recommend"))
    assert (status, headers[b"allow"]) == (405, b"GET, POST, HEAD")
    assert (await ask(app, scope("HEAD", "/health")))[2] == b""
    large = {"type": "http.request", "body": b" " * 101, "more_body": True}
    assert (await ask(app, scope("POST", "/recommend"), large))[0] == 413
    assert (await ask(app, scope("POST", "/recommend"), pieces[0]))[0] == 408
    assert await ask(app, scope("POST", "/recommend"), pieces[0], {"type": "http.disconnect"}) is None
    with pytest.raises(RuntimeError, match="not websocket"):
        await ask(app, {"type": "websocket"})


async def test_the_lifespan_watches_the_artifact_and_ends_threads(folder):
    live = LiveRanker(folder)
    app = create_app(live, watch=0.01)
    begun, ended, sent = asyncio.Event(), asyncio.Event(), []

    async def receive():
        await (begun if not sent else ended).wait()
        return {"type": "lifespan"}

    async def send(message):
        sent.append(message["type"])

    begun.set()
    task = asyncio.create_task(app({"type": "lifespan"}, receive, send))
    write(folder, -1)
    async with asyncio.timeout(10):
        while not live.reloads:  # noqa: ASYNC110 - the watch tells nobody
            await asyncio.sleep(0.01)
    ended.set()
    await task
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_request_that_is_cancelled_is_given_up(folder):
    app = create_app(LiveRanker(folder), Limits(threads=1))
    task = asyncio.create_task(ask(app, scope("GET", "/recommend", b"user_id=u1&k=2")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await ask(app, scope("GET", "/recommend", b"user_id=u1&k=2")))[0] == 200
    body = (await ask(app, scope("GET", "/metrics")))[2].decode()
    assert "enhancer_requests_in_flight 1\n" in body
