"""Texts a second through a server of embeddings, beside bare aiohttp with the same batches in flight, in the same run::

    python tests/benchmarks/embedding.py
    python tests/benchmarks/embedding.py --in-flight 16 --texts 40000 --price free --json

A server in a process of its own answers each batch of 32 texts after 5 ms with vectors of 384 numbers, as text embeddings
inference (TEI) does on a GPU: in base64 where that is asked for, else as numbers. ``aiohttp`` posts the same batches, as many
at once, and parses the JSON into float32 arrays, nothing more, ``aiohttp-base64`` likewise. ``enhancer`` is the whole pipeline: rows of a CSV file, survey,
embedder ``openai``, journal of paid vectors (none with ``--price free``), LMDB store; ``enhancer-float`` asks for numbers.
Each is compared with the ``aiohttp`` that gets the same answers.

Each client runs in a fresh process; imports and the making of the input are outside of the clock. They take turns within a
repeat; medians are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import csv
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import lines, machine

LATENCY, BATCH, DIM = 0.005, 32, 384
CLIENTS = ("aiohttp", "enhancer-float", "aiohttp-base64", "enhancer")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WORDS = [
    "a",
    "warm",
    "and",
    "quiet",
    "story",
    "of",
    "people",
    "who",
    "change",
    "when",
    "nobody",
    "is",
    "looking",
    "told",
    "with",
    "a",
    "wry",
    "eye",
    "for",
    "small",
    "things",
]


def texts_of(count: int) -> list[str]:
    """Two sentences each, no two alike."""
    return [
        f"Film {n} is {' '.join(_WORDS[n % 7 :])}. It suits those who like their wonder earned." for n in range(count)
    ]


class _Embeddings(asyncio.Protocol):
    """One connection, kept alive; answers are made beforehand and come 5 ms after the request's last byte."""

    answers: dict[tuple[bool, int], bytes] = {}  # noqa: RUF012 - filled as sizes come up

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            told = _LENGTH.search(self._buffer[:end])
            whole = end + 4 + (int(told[1]) if told else 0)
            if len(self._buffer) < whole:
                return
            request, self._buffer = self._buffer[:whole], self._buffer[whole:]
            form = (b'"base64"' in request, request.count(b"Film "))
            if form not in self.answers:
                self.answers[form] = _answer(*form)
            asyncio.get_running_loop().call_later(LATENCY, self._write, self.answers[form])

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def _answer(base64_wanted: bool, texts: int) -> bytes:
    table = np.random.default_rng(0).normal(size=(texts, DIM)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    rows: list[Any] = [base64.b64encode(row.tobytes()).decode() if base64_wanted else row.tolist() for row in table]
    data = [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(rows)]
    usage = {"prompt_tokens": 40 * texts, "total_tokens": 40 * texts}
    body = json.dumps({"object": "list", "data": data, "model": "m", "usage": usage}).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Embeddings, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run the server in a process of its own; gives its base URL."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


async def _bare(url: str, texts: list[str], in_flight: int, form: str) -> int:
    import aiohttp

    batches = iter([texts[at : at + BATCH] for at in range(0, len(texts), BATCH)])
    done = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal done
        for batch in batches:
            body = {"model": "m", "input": batch, "encoding_format": form}
            async with session.post(f"{url}/embeddings", json=body) as response:
                found = await response.json()
            rows = [one["embedding"] for one in found["data"]]
            if form == "base64":
                table = np.stack([np.frombuffer(base64.b64decode(row), np.float32) for row in rows])
            else:
                table = np.array(rows, np.float32)
            done += len(table)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(work(session) for _ in range(in_flight)))
    return done


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _pipeline(
    url: str, texts: list[str], in_flight: int, price: str, encoding: str = "auto"
) -> tuple[float, float, int]:
    import aiohttp  # noqa: F401 - not on the clock

    import enhancer
    import enhancer.features.generating.direct_run

    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "items.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["item_id", "text"])
            table.writerows((str(n), text) for n, text in enumerate(texts))
        priced = "" if price == "unknown" else f"price = {price}\n" if price != "free" else 'price = "free"\n'
        (Path(folder) / "enhancer.toml").write_text(
            '[data]\nitems = "items.csv"\n[data.columns]\nitem_text = ["text"]\n[prompts.item]\nsource = "text"\n'
            f'[embedder]\nuse = "openai"\nmodel = "m"\napi_base = "{url}"\nbatch_size = {BATCH}\n'
            f'encoding = "{encoding}"\nconcurrency = {in_flight}\ninput = ["text"]\n{priced}[store]\nuse = "lmdb"\npath = "features"\n'
        )
        project = enhancer.Project.load(Path(folder) / "enhancer.toml")
        began, used = time.perf_counter(), _cpu()
        report = project.generate()
        return time.perf_counter() - began, _cpu() - used, report.embedded


def client(name: str, url: str, count: int, in_flight: int, price: str) -> None:
    """Run one client and print its pace."""
    texts = texts_of(count)
    if name.startswith("enhancer"):
        seconds, cpu, done = _pipeline(url, texts, in_flight, price, "float" if name.endswith("float") else "auto")
    else:
        import aiohttp  # noqa: F401 - not on the clock

        began, used = time.perf_counter(), _cpu()
        done = asyncio.run(_bare(url, texts, in_flight, "base64" if name.endswith("base64") else "float"))
        seconds, cpu = time.perf_counter() - began, _cpu() - used
    assert done == count, (done, count)
    print(json.dumps({"per_second": count / seconds, "cpu_ms_a_batch": 1000 * cpu / (count / BATCH)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--price", default="unknown", help="unknown, free, or USD per million tokens")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve())
        return
    if given.client:
        client(given.client, given.url, given.texts, given.in_flight[0], given.price)
        return
    results: list[dict[str, Any]] = []
    with server() as url:
        for in_flight in given.in_flight:
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in given.clients}
            for _ in range(given.repeats):
                for name in given.clients:
                    command = [sys.executable, __file__, "--client", name, "--url", url, "--texts", str(given.texts)]
                    command += ["--in-flight", str(in_flight), "--price", given.price]
                    environment = {**os.environ, "NO_PROXY": "*"}
                    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                    runs[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
            middle = {
                name: {key: statistics.median(one[key] for one in taken) for key in taken[0]}
                for name, taken in runs.items()
            }
            for name, one in middle.items():
                form = "aiohttp" if name in ("aiohttp", "enhancer-float") else "aiohttp-base64"
                bare = middle.get(form, one)["per_second"]
                of_ideal = one["per_second"] * LATENCY / in_flight / BATCH
                results.append(
                    {
                        "client": name,
                        "in_flight": in_flight,
                        **one,
                        "of_ideal": of_ideal,
                        "of_aiohttp": one["per_second"] / bare,
                    }
                )
    about = machine("enhancer", "aiohttp", "lmdb")
    if given.json:
        print(json.dumps({"machine": about, "price": given.price, "results": results}, indent=1))
        return
    print(f"{lines(about)}\nprice {given.price}, {given.texts:,} texts, {given.repeats} repeats, medians\n")
    print("in flight  client            texts/s  of ideal  of aiohttp  CPU ms a batch")
    for one in results:
        print(
            f"{one['in_flight']:9d}  {one['client']:14s}{one['per_second']:11,.0f}  {one['of_ideal']:8.0%}"
            f"  {one['of_aiohttp']:10.0%}  {one['cpu_ms_a_batch']:14.2f}"
        )


if __name__ == "__main__":
    main()
