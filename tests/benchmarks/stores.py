"""Stores side by side: vectors by id, whole tables, writing, disk; and a plain memory-mapped ``.npy`` beside them.

    python tests/benchmarks/stores.py
    python tests/benchmarks/stores.py --records 1000000 --stores npy lmdb

Every store gets the same records (random vectors, profiles of 300 characters, written in random order, 5,000 a call), in a
folder of its own. PostgreSQL is a server of its own on a Unix socket, as its plugin's tests start it, with ``fsync`` on. What
is read once before the clock starts is warm: the system's cache holds it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(ROOT / "tests" / "benchmarks"),
    str(ROOT / "contrib" / "enhancer-postgres" / "src"),
    str(ROOT / "contrib" / "enhancer-postgres" / "tests"),
]

from machine import lines, machine  # noqa: E402

from enhancer.contracts import Context, Record  # noqa: E402

PER_CALL = 5_000
WORDS = [
    "quiet",
    "slow",
    "tender",
    "bleak",
    "witty",
    "sprawling",
    "noir",
    "tale",
    "of",
    "a",
    "city",
    "and",
    "its",
    "people,",
    "told",
    "by",
    "those",
    "who",
    "stayed",
]


def records(ids, dim, seed):
    """The same for every store."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((len(ids), dim)).astype(np.float32)
    for id_, vector in zip(ids, vectors, strict=True):
        profile = " ".join(random.choice(WORDS, 60))[:300]
        yield Record(
            id=id_, profile=profile, tags=("slow", "noir", "city"), vector=vector, prompt_version="item/v1@3fa9c1d2",
            model="openai/gpt-4o-mini", embedder="bge-small-en-v1.5@5c38ec7c", generated_at="2026-01-02T03:04:05Z",
            input_hash=f"{seed}{id_}".rjust(64, "0"), prompt_tokens=200, completion_tokens=90, cost_usd=0.0001,
        )  # fmt: skip


@contextlib.contextmanager
def opened(name, folder):
    """A store of that name; PostgreSQL with its server."""
    context = Context(folder)
    if name == "lmdb":
        from enhancer_plugins.stores.lmdb import LMDBOptions, LMDBStore

        store = LMDBStore(LMDBOptions(), context)
    elif name == "sqlite":
        from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

        store = SQLiteStore(SQLiteOptions(), context)
    else:
        import postgres_server
        from enhancer_postgres.options import PostgresOptions
        from enhancer_postgres.store import PostgresStore

        postgres_server._OPTIONS.update(fsync="on", shared_buffers="256MB", max_wal_size="4GB")
        with postgres_server.running(postgres_server.preferred()) as server:
            os.environ["ENHANCER_POSTGRES_URL"] = server.url
            vectors = "pgvector" if name == "pgvector" else "bytea"
            with PostgresStore(PostgresOptions(vectors=vectors, statement_timeout=600), context) as store:
                store.about = server.ask("SHOW server_version")[0][0]
                yield store
        return
    with store:
        yield store


def times(work, repeats):
    """Median seconds."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def measured(name, ids, dim, repeats, folder):
    """All figures of one store."""
    order = np.random.default_rng(1).permutation(len(ids))
    samples = [[ids[n] for n in np.random.default_rng(seed).choice(len(ids), 1000)] for seed in range(repeats * 4)]
    result = {"store": name}
    with opened(name, folder) as store:
        seconds = 0.0
        for start in range(0, len(ids), PER_CALL):
            batch = list(records([ids[n] for n in order[start : start + PER_CALL]], dim, start))
            began = time.perf_counter()
            store.put(batch)
            seconds += time.perf_counter() - began
        result["written_per_s"] = len(ids) / seconds
        store.vectors(ids)
        whole = times(lambda: store.vectors(ids), repeats)
        result["all_us"] = whole / len(ids) * 1e6
        result["all_gb_per_s"] = len(ids) * dim * 4 / whole / 1e9
        queue = iter(samples)
        result["random_us"] = times(lambda: store.vectors(next(queue)), len(samples)) * 1e3
        result["stamps_us"] = times(lambda: store.stamps(ids), repeats) / len(ids) * 1e6
        one = list(records(ids[:1], dim, 7))
        result["one_put_ms"] = times(lambda: store.put(one), 20) * 1e3
        result["bytes"] = store.stats().bytes_on_disk
        result["about"] = getattr(store, "about", "")
    return result


def plain(ids, dim, repeats, folder):
    """A matrix in a file and a dictionary of places: no keys on disk, no profile, no checksum, no writer beside."""
    path = folder / "vectors.npy"
    began = time.perf_counter()
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(ids), dim))
    for start in range(0, len(ids), PER_CALL):
        count = len(ids[start : start + PER_CALL])
        matrix[start : start + count] = np.random.default_rng(start).standard_normal((count, dim), np.float32)
    matrix.flush()
    written = time.perf_counter() - began
    matrix = np.load(path, mmap_mode="r")
    places = {id_: n for n, id_ in enumerate(ids)}

    def look_up(wanted):
        return np.ascontiguousarray(matrix[[places[id_] for id_ in wanted]])

    look_up(ids)
    whole = times(lambda: look_up(ids), repeats)
    queue = iter([[ids[n] for n in np.random.default_rng(seed).choice(len(ids), 1000)] for seed in range(repeats * 4)])
    return {
        "store": "npy",
        "written_per_s": len(ids) / written,
        "all_us": whole / len(ids) * 1e6,
        "all_gb_per_s": len(ids) * dim * 4 / whole / 1e9,
        "random_us": times(lambda: look_up(next(queue)), repeats * 4) * 1e3,
        "stamps_us": None,
        "one_put_ms": None,
        "bytes": path.stat().st_size,
        "about": "",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stores", nargs="+", default=["npy", "lmdb", "sqlite", "bytea", "pgvector"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    on = machine("lmdb", "psycopg", "numpy")
    ids = [str(n) for n in range(arguments.records)]
    results = []
    for name in arguments.stores:
        with tempfile.TemporaryDirectory(prefix="stores-") as folder:
            one = (ids, arguments.dim, arguments.repeats, Path(folder))
            results.append(plain(*one) if name == "npy" else measured(name, *one))
        print(name, file=sys.stderr)
    if arguments.json:
        print(json.dumps({"machine": on, "results": results}, indent=2))
        return
    print(lines(on), f"\n{arguments.records:,} records of {arguments.dim} dimensions\n", sep="")
    print("| store | written/s | one put | all ids, each | GB/s | 1,000 random ids, each | stamps, each | on disk |")
    print("|---|---|---|---|---|---|---|---|")
    for of in results:
        name = f"{of['store']} ({of['about']})" if of["about"] else of["store"]
        put, stamps = (of["one_put_ms"], of["stamps_us"]) if of["stamps_us"] else (None, None)
        print(
            f"| {name} | {of['written_per_s']:,.0f} | {f'{put:.1f} ms' if put else '-'} | {of['all_us']:.2f} µs "
            f"| {of['all_gb_per_s']:.2f} | {of['random_us']:.2f} µs | {f'{stamps:.2f} µs' if stamps else '-'} "
            f"| {of['bytes'] / 1e6:,.0f} MB |"
        )


if __name__ == "__main__":
    main()
