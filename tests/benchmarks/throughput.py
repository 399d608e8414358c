"""Profiles a second and CPU a profile, beside bare aiohttp, litellm and curator, in the same run::

    python tests/benchmarks/throughput.py
    python tests/benchmarks/throughput.py --in-flight 256 --repeats 5 --json
    python tests/benchmarks/throughput.py --peers /var/tmp/peers      # installs curator there, into an environment of its own

A server in a process of its own answers every call after 0.2 s, so ``in flight / 0.2`` is the most that can be reached.
``aiohttp`` posts the same requests and reads the JSON, nothing more: what Python can do at all. ``openai`` and ``litellm`` are
enhancer's providers within the whole pipeline: rows of a CSV file, prompt, call, journal, validation, LMDB store, with an
embedder that costs nothing. ``litellm-alone`` is ``litellm.acompletion`` under a semaphore, and keeps nothing. ``curator`` is
bespokelabs-curator, which keeps answers in its cache folder. All ask for structured output.

Each client runs in a fresh process. Imports and the making of the input are outside of the clock; CPU is user and system
time of the client's process, threads and children. The clients take turns within a repeat; medians are shown. Clients that
need milliseconds a call get fewer calls: what is measured is their pace. ``--server loopback`` measures against the server of
the test suite instead, which costs more CPU a call than the clients do and is then what limits all of them alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lean_server
from machine import lines, machine

HERE = Path(__file__).resolve().parent
LATENCY = 0.2
CURATOR = "bespokelabs-curator==0.1.31"
FAST = ("aiohttp", "openai")
ALL = (*FAST, "litellm", "litellm-alone", "curator")


def calls_of(client: str, in_flight: int) -> int:
    """Enough for a few seconds."""
    return max(1920, 10 * in_flight) if client in FAST else max(640, 2 * in_flight)


def curator_python(folder: Path) -> Path:
    """The interpreter of curator's environment, which is made where there is none.

    Raises:
        RuntimeError: It cannot be installed.
    """
    python = folder / "curator" / "bin" / "python"
    if not python.exists():
        print(f"installing {CURATOR} into {python.parents[1]}", file=sys.stderr)
        venv.create(python.parents[1], with_pip=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", CURATOR], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
    return python


def measure(client: str, url: str, in_flight: int, curator: Path | None) -> dict[str, float]:
    """One run of one client.

    Raises:
        RuntimeError: It failed.
    """
    calls = calls_of(client, in_flight)
    given = ["--url", url, "--calls", str(calls), "--in-flight", str(in_flight)]
    if client == "curator":
        command = [str(curator), str(HERE / "curator_peer.py"), *given]
    else:
        command = [sys.executable, str(HERE / "peers.py"), client, *given]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "NO_PROXY": "*"}
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it failed"])[-1][:300])
    told = json.loads(done.stdout.strip().splitlines()[-1])
    if told["done"] != calls:
        raise RuntimeError(f"{told['done']} of {calls} calls came to a profile")
    return {
        "per_second": told["done"] / told["seconds"],
        "cpu_ms": 1000 * told["cpu_seconds"] / told["done"],
        "peak_mib": told["peak_mib"],
    }


@contextlib.contextmanager
def server(name: str) -> Iterator[str]:
    """The server, as a process of its own."""
    if name == "lean":
        with lean_server.spawn(LATENCY) as url:
            yield url
        return
    sys.path.insert(0, str(HERE.parent / "helpers"))
    import loopback

    with loopback.spawn(latency=LATENCY) as url:
        yield url


def run(
    clients: Sequence[str],
    levels: Sequence[int],
    repeats: int,
    name: str,
    peers: Path | None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """All clients at all levels."""
    failed: dict[str, str] = {}
    python: Path | None = None
    if "curator" in clients:
        if peers is None:
            failed["curator"] = "--peers FOLDER says where it may be installed"
        else:
            try:
                python = curator_python(peers)
            except RuntimeError as error:
                failed["curator"] = str(error)
    results: list[dict[str, Any]] = []
    with server(name) as url:
        for in_flight in levels:
            taken: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
            for turn in range(repeats):
                for client in clients:
                    if client in failed:
                        continue
                    try:
                        taken[client].append(measure(client, url, in_flight, python))
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        failed[client] = f"at {in_flight} in flight: {error}"
                        continue
                    last = taken[client][-1]
                    tell(f"{in_flight:5d} in flight, {turn + 1} of {repeats}: {client:14s}{last['per_second']:8.0f}/s")
            bare = statistics.median(one["per_second"] for one in taken["aiohttp"]) if taken.get("aiohttp") else None
            for client, runs in taken.items():
                if not runs:
                    continue
                middle = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
                results.append(
                    {
                        "client": client,
                        "in_flight": in_flight,
                        "calls": calls_of(client, in_flight),
                        **middle,
                        "of_ideal": middle["per_second"] * LATENCY / in_flight,
                        "of_aiohttp": middle["per_second"] / bare if bare else None,
                        "runs_per_second": [round(one["per_second"], 1) for one in runs],
                    }
                )
    return {"server": name, "latency": LATENCY, "repeats": repeats, "results": results, "failed": failed}


def table(results: Sequence[dict[str, Any]]) -> str:
    """For people."""
    out = ["in flight  client          profiles/s  of ideal  of aiohttp  CPU ms a profile  peak MiB"]
    for one in results:
        share = f"{one['of_aiohttp']:9.0%}" if one["of_aiohttp"] else " " * 9
        out.append(
            f"{one['in_flight']:9d}  {one['client']:14s}{one['per_second']:12.0f}  {one['of_ideal']:8.0%}  {share}"
            f"  {one['cpu_ms']:16.2f}  {one['peak_mib']:8.0f}"
        )
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--clients", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--server", choices=["lean", "loopback"], default="lean")
    parser.add_argument(
        "--peers", type=Path, help="folder in which curator has, or is given, an environment of its own"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    about = machine("enhancer", "aiohttp", "litellm", "lmdb")
    told = run(
        given.clients,
        given.in_flight,
        given.repeats,
        given.server,
        given.peers,
        lambda line: print(line, file=sys.stderr),
    )
    if given.json:
        print(json.dumps({"machine": about, **told}, indent=1))
        return
    print(f"{lines(about)}\n{CURATOR} where it is shown; {given.repeats} repeats, medians\n\n{table(told['results'])}")
    for client, why in told["failed"].items():
        print(f"\n{client} is not shown: {why}")


if __name__ == "__main__":
    main()
