"""The top 10 of 1,000,000 items × 64 for batches of 1, 32 and 1,024 users, beside implicit, faiss and the bare product::

    python tests/benchmarks/topk.py
    python tests/benchmarks/topk.py --peers VENV --json

``VENV`` is a virtual environment with ``implicit`` and ``faiss-cpu``; without it only what is importable here takes part.
Each contender is a process of its own with the same threads, and they take turns, so that other work on the machine meets
all alike. ``product`` is numpy's matrix product in blocks of 65,536 items, with nothing selected; ``ranker`` is the whole way
from user ids to item ids, seen items left out. Answers are compared before the clock is trusted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCHES = {1: 60, 32: 20, 1024: 4}
"""Users in a batch, and how often it is timed."""
K = 10
CONTENDERS = ("enhancer", "ranker", "product", "implicit", "faiss")
PACKAGES = {"implicit": "implicit", "faiss": "faiss"}
ROOT = Path(__file__).resolve().parents[2]


def prepare(folder: Path, items: int, width: int) -> None:
    """Made-up factors: popular items have longer rows, as trained ones do."""
    import numpy as np

    sys.path.insert(0, str(ROOT / "core"))
    from enhancer.contracts import Factors
    from enhancer.serving import write_artifact

    rng = np.random.default_rng(0)
    V = rng.standard_normal((items, width), np.float32) * rng.gamma(4, 0.25, (items, 1)).astype(np.float32)
    U = rng.standard_normal((4096, width), np.float32)
    np.save(folder / "items.npy", V)
    np.save(folder / "users.npy", U)
    seen = rng.integers(0, items, (4096, 50))
    write_artifact(
        folder / "artifact",
        factors=Factors(U, V),
        user_ids=[f"u{n}" for n in range(len(U))],
        item_ids=[f"i{n}" for n in range(items)],
        train_users=np.repeat(np.arange(4096), 50),
        train_items=seen.reshape(-1),
        manifest={},
    )


def work(name: str, folder: Path, threads: int) -> None:
    """One contender: for each line ``users start`` on stdin, seconds and the rows of the first user on stdout."""
    import numpy as np

    U, V = np.load(folder / "users.npy"), np.load(folder / "items.npy")
    if name == "enhancer":
        sys.path.insert(0, str(ROOT / "core"))
        from enhancer.serving.topk import top_k

        run: Any = lambda q, _: top_k(q, V, K)[0][0].tolist()  # noqa: E731
    elif name == "ranker":
        sys.path.insert(0, str(ROOT / "core"))
        from enhancer.serving import Ranker

        ranker = Ranker.load(folder / "artifact")
        ranker.warm()
        run = lambda q, start: [ranker.recommend([f"u{start + n}" for n in range(len(q))], K) and None]  # noqa: E731
    elif name == "product":
        buffer = np.empty((1024, 65536), np.float32)

        def run(q: Any, _: int) -> list[None]:
            for begin in range(0, len(V), 65536):
                part = V[begin : begin + 65536]
                np.matmul(q, part.T, out=buffer.reshape(-1)[: len(q) * len(part)].reshape(len(q), len(part)))
            return [None]
    elif name == "implicit":
        from implicit.cpu.topk import topk

        run = lambda q, _: topk(V, q, K, num_threads=threads)[0][0].tolist()  # noqa: E731
    else:
        import faiss

        faiss.omp_set_num_threads(threads)
        index = faiss.IndexFlatIP(V.shape[1])
        index.add(V)
        run = lambda q, _: index.search(q, K)[1][0].tolist()  # noqa: E731
    print("ready", flush=True)
    for line in sys.stdin:
        count, start = map(int, line.split())
        queries = np.ascontiguousarray(U[start : start + count])
        begun = time.perf_counter()
        rows = run(queries, start)
        print(json.dumps([time.perf_counter() - begun, rows]), flush=True)


def python_for(name: str, peers: Path | None) -> str | None:
    """An interpreter that has what the contender needs; None where there is none."""
    if name not in PACKAGES:
        return sys.executable
    for candidate in (sys.executable, *([] if peers is None else [str(peers / "bin" / "python")])):
        if subprocess.run([candidate, "-c", f"import {PACKAGES[name]}"], capture_output=True).returncode == 0:
            return candidate
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.folder, given.threads)
        return
    import numpy as np
    from machine import lines, machine

    of = machine("numpy")
    with tempfile.TemporaryDirectory(prefix="enhancer-topk-") as name:
        folder = Path(name)
        prepare(folder, given.items, given.width)
        limits = {f"{kind}_NUM_THREADS": str(given.threads) for kind in ("OMP", "OPENBLAS", "MKL")}
        running = {}
        for contender in CONTENDERS:
            python = python_for(contender, given.peers)
            if python is None:
                print(f"{contender}: not installed; left out", file=sys.stderr)
                continue
            command = [python, __file__, "--work", contender, "--folder", name, "--threads", str(given.threads)]
            running[contender] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits}
            )
        for process in running.values():
            assert process.stdout.readline() == "ready\n"
        times: dict[str, dict[int, list[float]]] = {one: {n: [] for n in given.batches} for one in running}
        for count in given.batches:
            for turn in range(-1, BATCHES[count]):  # the first warms up
                start = (turn + 1) * count % (4096 - count + 1)
                answers = {}
                for contender, process in running.items():
                    process.stdin.write(f"{count} {start}\n")
                    process.stdin.flush()
                    seconds, answers[contender] = json.loads(process.stdout.readline())
                    if turn >= 0:
                        times[contender][count].append(seconds)
                lists = {tuple(rows) for rows in answers.values() if rows != [None]}
                assert len(lists) == 1, f"contenders disagree: {answers}"
        for process in running.values():
            process.stdin.close()
            process.wait(30)
    result = {
        contender: {
            str(count): {"p50": float(np.median(all_)), "p99": float(np.quantile(all_, 0.99)), "n": len(all_)}
            for count, all_ in by_batch.items()
        }
        for contender, by_batch in times.items()
    }
    if given.json:
        print(json.dumps({"machine": of, "threads": given.threads, "seconds": result}, indent=2))
        return
    print(
        lines(of), f"\n{given.items:,} items of {given.width}, top {K}, {given.threads} threads; seconds, p50 (p99)\n"
    )
    print(f"{'':10}" + "".join(f"{f'{count:,} users':>22}" for count in given.batches))
    for contender, by_batch in result.items():
        cells = ["{p50:.4f} ({p99:.4f})".format(**by_batch[str(count)]) for count in given.batches]
        print(f"{contender:10}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
