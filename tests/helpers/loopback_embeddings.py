"""Serve ``/v1/embeddings`` of the OpenAI protocol on 127.0.0.1, with faults on demand.

::

    with embedding_server() as server:
        server.bad["cursed"] = "nan"           # texts that hold this word get this
        server.sequence = [(429, {"Retry-After": "0"}, {"error": {"message": "slow down"}})]
        server.batches.plans = [Plan(missing={3})]   # batch jobs of texts, and of chat completions
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from aiohttp import web
from loopback import LoopbackServer
from loopback_batch import Body, Job, LoopbackBatches
from numpy.typing import NDArray

Fault = Literal["nan", "zero", "null", "refuse", "crash", "flag"]
Answer = tuple[int, dict[str, str], Any]
"""Status, headers and JSON of an answer."""


def embedding(text: str, dim: int = 16) -> NDArray[np.float32]:
    """Return the vector of a text, not of unit length: hashed words."""
    row = np.full(dim, 1e-3, np.float32)
    for word in text.split():
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest()
        row[digest[0] % dim] += 1 if digest[1] % 2 else -1
    return row


class EmbeddingServer:
    """Routes of a :class:`LoopbackServer` that embed texts.

    Attributes:
        bodies: JSON of the requests, in order.
        headers: Headers of the requests, in order.
        bad: Fault of the texts that hold a word.
        sequence: Answers to the next requests; consumed from the front.
        choose: Called with the number of the request and its JSON; None falls back to vectors.
        batches: Batch jobs.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bad: dict[str, Fault] = {}
        self.sequence: list[Answer | None] = []
        self.choose: Callable[[int, dict[str, Any]], Answer | None] | None = None
        self.dim = 16
        self.latency = 0.0
        self.usage = True
        self.base64 = True
        """Whether the server knows ``encoding_format``; otherwise it ignores it."""
        self.max_batch: int | None = None
        self.raw: str | None = None
        """Body of every answer, if set."""
        self.in_flight = self.max_in_flight = 0
        self.chat: LoopbackServer = LoopbackServer(add_routes=lambda app, _: self._add(app))
        self.batches = EmbeddingBatches(self)

    @property
    def url(self) -> str:
        return self.chat.url

    @property
    def texts(self) -> list[str]:
        """All texts that were sent, in order."""
        return [text for body in self.bodies for text in body["input"]]

    def _add(self, app: web.Application) -> None:
        app.router.add_post("/v1/embeddings", self._embed)
        self.batches.add_routes(app, self.chat)

    async def _embed(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        number = len(self.bodies)
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            if self.raw is not None:
                return web.Response(text=self.raw, content_type="application/json")
            answer = self.sequence.pop(0) if self.sequence else None
            if answer is None and self.choose is not None:
                answer = self.choose(number, body)
            status, headers, data = answer or self.answer(body)
            return web.Response(body=json.dumps(data).encode(), status=status, headers=headers)
        finally:
            self.in_flight -= 1

    def answer(self, body: dict[str, Any]) -> Answer:
        """Return the vectors of a request, or the error that one of its texts causes."""
        texts = body["input"]
        if self.max_batch is not None and len(texts) > self.max_batch:
            return 422, {}, {"error": f"batch size {len(texts)} > maximum allowed batch size {self.max_batch}"}
        data = []
        for index, text in enumerate(texts):
            fault = next((fault for word, fault in self.bad.items() if word in text), None)
            if fault == "refuse":
                return 400, {}, {"error": {"message": "the input is not valid"}}
            if fault == "flag":
                return 403, {}, {"error": {"message": "the input was flagged"}}
            if fault == "crash":
                return 500, {}, {"error": {"message": "json: unsupported value: NaN"}}
            row = embedding(text, body.get("dimensions", self.dim))
            if fault in ("nan", "zero"):
                row[:] = np.nan if fault == "nan" else 0
            value: Any = None if fault == "null" else row.tolist()
            if value is not None and body.get("encoding_format") == "base64" and self.base64:
                value = base64.b64encode(row.astype("<f4").tobytes()).decode()
            data.append({"object": "embedding", "index": index, "embedding": value})
        result: dict[str, Any] = {"object": "list", "data": data, "model": body.get("model")}
        if self.usage:
            tokens = sum(max(1, len(text.split())) for text in texts)
            result["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        return 200, {}, result


class EmbeddingBatches(LoopbackBatches):
    """Batch jobs of texts, and of chat completions.

    Attributes:
        embedding_endpoint: The server's name of the endpoint; Azure's is ``/embeddings``.
    """

    def __init__(self, server: EmbeddingServer) -> None:
        super().__init__()
        self.embedding_endpoint = "/v1/embeddings"
        self._vectors = server

    @property
    def endpoints(self) -> set[str]:
        return {self.endpoint, self.embedding_endpoint}

    @property
    def texts(self) -> list[str]:
        """Texts of all jobs that did not fail as a whole, in order."""
        jobs = [job for job in self.jobs.values() if job.status != "failed"]
        return [text for job in jobs for line in job.lines for text in line["body"].get("input", [])]

    def _line(self, job: Job, number: int, line: Body, outputs: list[bytes], errors: list[bytes]) -> None:
        if "input" not in line["body"]:
            super()._line(job, number, line, outputs, errors)
            return
        behaviour = job.plan.answer(number, line["body"]) if job.plan.answer else None
        status, _, answer = self._vectors.answer(line["body"])
        if behaviour is not None:
            status, answer = behaviour.status, {"error": behaviour.error}
        response = {"status_code": status, "request_id": f"req-{number}", "body": answer}
        whole = {"id": "r", "custom_id": line["custom_id"], "response": response, "error": None}
        (outputs if status == 200 else errors).append(json.dumps(whole).encode())


@contextlib.contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """Serve embeddings, and chat completions beside them (``server.chat``)."""
    server = EmbeddingServer()
    with server.chat:
        yield server
