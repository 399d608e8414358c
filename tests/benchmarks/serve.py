"""``enhancer serve`` under load from a second process, also while it reloads, and beside another version of itself::

    python tests/benchmarks/serve.py
    python tests/benchmarks/serve.py --items 10000 100000 1000000 --in-flight 1 16 64 --json
    git worktree add /tmp/before 7581973 && python tests/benchmarks/serve.py --against /tmp/before --items 10000

For each size of catalogue the service runs in a process of its own over a made-up artifact (width 64, 10,000 users); another
process keeps so many requests in flight over connections that stay open and reads each answer whole. ``one`` is
``GET /recommend`` for one user, ``many`` is ``POST /recommend`` for 64; in ``half`` every second request of ``one`` is for
a user that does not exist, and in ``placed`` (this version alone) for one with a history of five items; the times are those
of the others. CPU is user and system time of the service, children
included. Versions take turns, and what is shown are medians of the rounds. Afterwards, with the smallest catalogue, the
artifact is written anew twenty times while the load goes on: every answer that is not a 200 (or, to strangers, a 404) is
a failure, and so is a broken connection.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
USERS, WIDTH, MANY = 10_000, 64, 64
sys.path.insert(0, str(ROOT / "core"))


def write(folder: Path, items: int, seed: int = 0) -> None:
    """A made-up artifact."""
    import numpy as np

    from enhancer.contracts import Factors
    from enhancer.serving import write_artifact

    rng = np.random.default_rng(seed)
    write_artifact(
        folder,
        factors=Factors(
            rng.standard_normal((USERS, WIDTH), np.float32), rng.standard_normal((items, WIDTH), np.float32)
        ),
        user_ids=[f"u{n}" for n in range(USERS)],
        item_ids=[f"i{n}" for n in range(items)],
        train_users=np.repeat(np.arange(USERS), 30),
        train_items=rng.integers(0, items, USERS * 30),
        manifest={"seed": seed},
    )


def requests(kind: str, turn: int) -> bytes:
    """The bytes of one request."""
    if kind in {"half", "placed"} and turn % 2:
        history = "".join(f"&history=i{turn * 31 * n % 9973}" for n in range(1, 6)) if kind == "placed" else ""
        return f"GET /recommend?user_id=stranger-{turn}&k=10{history} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    if kind != "many":
        return f"GET /recommend?user_id=u{turn * 7919 % USERS}&k=10 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    users = [f"u{(turn * MANY + n) * 7919 % USERS}" for n in range(MANY)]
    body = json.dumps({"users": users, "k": 10}).encode()
    return f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def load(port: int, kind: str, in_flight: int, seconds: float, until: Path | None) -> dict[str, Any]:
    """Keep so many requests in flight for some seconds, or until a file is there."""
    taken: list[float] = []
    failed: list[str] = []
    turn = answered = 0
    stop = time.perf_counter() + seconds
    stopped = until.exists if until is not None else bool

    async def client() -> None:
        nonlocal turn, answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < stop and not stopped():
            turn += 1
            stranger = kind in {"half", "placed"} and bool(turn % 2)
            begun = time.perf_counter()
            writer.write(requests(kind, turn))
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
            except (OSError, asyncio.IncompleteReadError) as error:
                failed.append(f"{type(error).__name__}: {error}")
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            if not head.startswith(b"HTTP/1.1 404" if stranger and kind == "half" else b"HTTP/1.1 200"):
                failed.append((head + body)[:200].decode(errors="replace"))
            answered += 1
            if not stranger:
                taken.append(time.perf_counter() - begun)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    elapsed = time.perf_counter() - begun
    taken.sort()
    at = lambda share: 1000 * taken[min(int(share * len(taken)), len(taken) - 1)] if taken else None  # noqa: E731
    return {
        "answered": answered,
        "failed": len(failed),
        "failures": failed[:3],
        "per_second": answered / elapsed,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }


def generate(port: int, kind: str, in_flight: int, seconds: float, until: Path | None = None) -> subprocess.Popen[str]:
    """The load, in a process of its own."""
    command = [sys.executable, __file__, "--load", json.dumps([port, kind, in_flight, seconds, str(until or "")])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Result of a load."""
    output, _ = process.communicate(timeout=60)
    found: dict[str, Any] = json.loads(output)
    return found


def cpu(pid: int) -> float:
    """CPU seconds of a process and its living children."""
    pids, ticks = [pid], 0
    with contextlib.suppress(OSError):
        pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    for one in pids:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(core: Path, folder: Path, *flags: str) -> Iterator[tuple[int, int]]:
    """A service in a process of its own; gives its process id and port."""
    command = [sys.executable, "-P", "-m", "enhancer.serving", "--port=0", "--watch=0.1", *flags, str(folder)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(core)}
    ) as it:
        try:
            found = re.search(r"http://[^:]+:(\d+)", it.stderr.readline())
            yield it.pid, int(found[1])
        finally:
            it.terminate()
            it.communicate(timeout=30)


def reload_under_load(folder: Path, items: int, port: int, times: int) -> dict[str, Any]:
    """Write the artifact anew, so many times, each when the last one is being served."""
    done = folder.parent / "done"
    process = generate(port, "one", 16, 300, done)
    begun = time.perf_counter()
    for turn in range(times):
        write(folder, items, turn + 1)
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                if json.load(answer)["reloads"] > turn:
                    break
            time.sleep(0.05)
    seconds = time.perf_counter() - begun
    done.touch()
    return {"reloads": times, "seconds": seconds, **told(process)}


def measure(pid: int, port: int, kind: str, in_flight: int, seconds: float) -> dict[str, Any]:
    """One round: what the load was told, and the service's CPU milliseconds a request."""
    told(generate(port, kind, in_flight, 0.3))
    before = cpu(pid)
    found = told(generate(port, kind, in_flight, seconds))
    return {**found, "cpu_ms": 1000 * (cpu(pid) - before) / max(found["answered"], 1)}


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of several rounds."""
    names = ("per_second", "p50_ms", "p99_ms", "max_ms", "cpu_ms")
    row: dict[str, Any] = {name: statistics.median(one[name] for one in rounds) for name in names}
    return {
        **row,
        "answered": sum(one["answered"] for one in rounds),
        "failed": sum(one["failed"] for one in rounds),
        "failures": [said for one in rounds for said in one["failures"]][:3],
        "rounds": [one["cpu_ms"] for one in rounds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--kinds", nargs="+", default=["one", "half", "many"])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--against", type=Path, help="checkout of another version; needs what that version imports")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        port, kind, in_flight, seconds, until = json.loads(given.load)
        print(json.dumps(asyncio.run(load(port, kind, in_flight, seconds, Path(until) if until else None))))
        return
    from machine import lines, machine

    of = machine("numpy", "httptools", "orjson", "uvloop", *(("starlette", "uvicorn") if given.against else ()))
    versions = {f"{n} workers" if n > 1 else "this": (ROOT / "core", f"--workers={n}") for n in given.workers}
    if given.against:
        versions = {"before": (given.against / "core",), **versions}
    rows: list[dict[str, Any]] = []
    reloading: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="enhancer-serve-") as name:
        for items in sorted(given.items):
            folder = Path(name) / str(items) / "artifact"
            write(folder, items)
            with contextlib.ExitStack() as stack:
                at = {
                    version: stack.enter_context(served(core, folder, *flags))
                    for version, (core, *flags) in versions.items()
                }
                for kind in given.kinds:
                    for in_flight in given.in_flight[:2] if kind == "many" else given.in_flight:
                        rounds: dict[str, list[dict[str, Any]]] = {version: [] for version in at}
                        for _ in range(given.rounds):
                            for version, (pid, port) in at.items():
                                rounds[version].append(measure(pid, port, kind, in_flight, given.seconds))
                        for version, found in rounds.items():
                            row = {"items": items, "request": kind, "in_flight": in_flight, "version": version}
                            rows.append({**row, **medians(found)})
                if items == min(given.items) and given.reloads:
                    _, port = at["this"]
                    reloading = {"items": items, **reload_under_load(folder, items, port, given.reloads)}
    if given.json:
        print(json.dumps({"machine": of, "rows": rows, "reloading": reloading}, indent=2))
        return
    print(lines(of))
    print(
        f"\n{'items':>9} {'request':>7} {'in flight':>9} {'version':>10} {'requests/s':>10} {'users/s':>8} {'CPU ms':>7}"
        f" {'p50 ms':>8} {'p99 ms':>8} failed"
    )
    for row in rows:
        users = row["per_second"] * (MANY if row["request"] == "many" else 1)
        print(
            f"{row['items']:>9,} {row['request']:>7} {row['in_flight']:>9} {row['version']:>10} {row['per_second']:>10,.0f}"
            f" {users:>8,.0f} {row['cpu_ms']:>7.3f} {row['p50_ms']:>8.1f} {row['p99_ms']:>8.1f} {row['failed']:>6}"
        )
    if reloading:
        print(
            "\n{reloads} reloads in {seconds:.1f} s over {items:,} items: {answered:,} answered, {failed} failed,"
            " p99 {p99_ms:.1f} ms, slowest {max_ms:.1f} ms".format(**reloading)
        )


if __name__ == "__main__":
    main()
