"""Test snapshots while the map grows, after a fork, with a truncated file or a dead reader; and what verify finds."""

import os
import signal
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from processes import run

from enhancer.contracts import Context, codec
from enhancer.errors import StoreError
from enhancer.testing.store import make_record
from enhancer_plugins.stores.lmdb import LMDBOptions, LMDBStore
from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

MAKERS = {
    "lmdb": lambda root, **options: LMDBStore(LMDBOptions(**options), Context(root)),
    "sqlite": lambda root, **options: SQLiteStore(SQLiteOptions(**options), Context(root)),
}
LARGE = "[make_record(str(n), dim=384, profile='p' * 3000) for n in range(600)]"


@pytest.fixture(params=list(MAKERS))
def make(request):
    return MAKERS[request.param]


def elsewhere(root: Path, code: str, *, expect: int = 0) -> None:
    program = (
        "import os, pathlib, resource, signal, sys\n"
        "from enhancer.contracts import Context\n"
        "from enhancer.errors import StoreError\n"
        "from enhancer.testing.store import make_record\n"
        "from enhancer_plugins.stores.lmdb import LMDBOptions, LMDBStore\n"
        "def store(**options):\n"
        "    return LMDBStore(LMDBOptions(**options), Context(pathlib.Path(sys.argv[1])))\n" + code
    )
    done = run([sys.executable, "-c", program, str(root)])
    assert done.returncode == expect, done.stderr


# --- growth -------------------------------------------------------------------------------------------------------


def test_the_map_grows_under_a_snapshot(tmp_path):
    """The map grows while this process and another one hold snapshots."""
    with MAKERS["lmdb"](tmp_path, initial_size_mb=1) as store:
        store.put([make_record("1", seed=1)])
        with store.snapshot() as pinned:
            store.put([make_record(str(n), dim=384, profile="p" * 3000) for n in range(600)])
            theirs = LARGE.replace("str(n)", "'x' + str(n)")
            elsewhere(tmp_path, f"store(initial_size_mb=1).put({theirs})")
            assert store.stats().records == 1200
            assert store.stamps(["x599"]) != [None]
            assert [record.input_hash for record in pinned.scan()] == ["hash-1"]
            with store.snapshot() as second:
                assert second.stats().records == 1200
        assert store.verify() == []


def test_where_addresses_are_few_growing_is_an_error_and_no_crash(tmp_path):
    """Under ``ulimit -v``: the map cannot grow while a snapshot is held."""
    elsewhere(
        tmp_path,
        "one = store(initial_size_mb=1)\n"
        "one.put([make_record('1', seed=1)])\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), resource.RLIM_INFINITY))\n"
        "with one.snapshot() as pinned:\n"
        "    try:\n"
        f"        one.put({LARGE})\n"
        "    except StoreError as error:\n"
        "        assert 'snapshot' in str(error), error\n"
        "    else:\n"
        "        raise SystemExit('no error')\n"
        "    assert pinned.stats().records == one.stats().records == 1\n"
        f"one.put({LARGE})\n"  # closing the snapshot frees enough address space
        "try:\n"
        "    for step in range(60):\n"
        "        one.put([make_record(f'{step}-{n}', dim=384, profile='p' * 3000) for n in range(400)])\n"
        "except StoreError as error:\n"
        "    assert 'ulimit -v' in str(error), error\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
        "assert one.stamps(['1']) != [None]\n"
        "one.put([make_record('1', seed=2)])\n"
        "assert one.verify() == []\n",
    )


def test_pages_that_a_dead_reader_holds_are_used_again(tmp_path):
    """A process dies while it holds a snapshot; at the size limit a writer needs the pages that it held."""
    with MAKERS["lmdb"](tmp_path, initial_size_mb=1, max_size_mb=6) as store:
        records = [make_record(str(n), dim=384, profile="p" * 2000) for n in range(250)]
        store.put(records)
        elsewhere(
            tmp_path,
            "held = store(max_size_mb=6).snapshot()\n"
            "pinned = held.__enter__()\n"
            "assert pinned.stats().records == 250\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n",
            expect=-signal.SIGKILL,
        )
        for step in range(8):  # each step frees as much as it writes; without reuse of pages, far more than fits
            store.put([make_record(str(n), seed=step, dim=384, profile="p" * 2000) for n in range(250)])
        assert store.stats().records == 250


# --- processes and files ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the test forks on purpose
def test_a_forked_child_leaves_its_parents_snapshot_alone(make, tmp_path):
    with make(tmp_path) as store:
        store.put([make_record(str(n), seed=1) for n in range(50)])
        with store.snapshot() as pinned:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    pinned.stamps(["1"])
                except StoreError:
                    store.put([make_record(str(n), seed=2, dim=100) for n in range(50)])
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            for step in range(3):
                store.put([make_record(f"{step}-{n}", seed=3, dim=100) for n in range(50)])
            assert [record.input_hash for record in pinned.scan()] == ["hash-1"] * 50
        assert store.stats().records == 200


def test_a_snapshot_of_a_file_that_is_cut_short_is_an_error(tmp_path):
    elsewhere(
        tmp_path,
        "one = store()\n"
        f"one.put({LARGE})\n"
        "with one.snapshot() as pinned:\n"
        "    os.truncate(one.directory / 'store.lmdb', 300_000)\n"
        "    for call in (lambda: pinned.vectors(['599']), lambda: list(pinned.scan()), pinned.stats):\n"
        "        try:\n"
        "            call()\n"
        "        except StoreError as error:\n"
        "            assert 'truncated' in str(error), error\n"
        "        else:\n"
        "            raise SystemExit('no error')\n",
    )


def test_a_snapshot_of_read_only_media(make, tmp_path):
    with make(tmp_path) as store:
        store.put([make_record("1")])
    for file in (tmp_path / "features").iterdir():
        file.chmod(0o444)
    with make(tmp_path) as store, store.snapshot() as pinned:
        assert pinned.stamps(["1"]) != [None]


# --- verify -------------------------------------------------------------------------------------------------------


def signed(key: bytes, value: bytes) -> bytes:
    """Return a value with a valid checksum."""
    sum_ = zlib.crc32(value[12:], zlib.crc32(value[:8], zlib.crc32(key)))
    return value[:8] + struct.pack("<I", sum_) + value[12:]


def test_verify_finds_every_planted_fault(make, tmp_path):
    """Every kind of damage to a record is reported, with a valid checksum or not, and no intact record is."""
    good = {name: codec.encode(make_record(name, seed=n, dim=8)) for n, name in enumerate("abcdefghijkl")}
    planted = {}
    for n, byte in enumerate(
        (0, 5, 9, 14, 17, 21, 25, 40, -1)
    ):  # every part of a value, from the magic number to the metadata
        key, value = codec.encode(make_record(f"flip-{n}", dim=8))
        damaged = bytearray(value)
        damaged[byte] ^= 16
        planted[key] = bytes(damaged)
    key, value = codec.encode(make_record("short", dim=8))
    planted[key] = value[:-3]
    planted[codec.encode(make_record("tiny"))[0]] = b"no"
    planted[codec.encode(make_record("empty"))[0]] = b""
    planted[codec.encode(make_record("swapped"))[0]] = good["a"][1]
    other = codec.encode(make_record("renamed"))[0]
    planted[other] = signed(other, good["b"][1])
    for name, vector in (("nan", np.full(8, np.nan)), ("zero", np.zeros(8))):
        key, value = codec.encode(make_record(name, dim=8))
        planted[key] = signed(key, value[:32] + vector.astype("<f4").tobytes() + value[64:])
    key, value = codec.encode(make_record("film", dim=8))
    planted[key] = signed(key, value.replace(b'"kind":"item"', b'"kind":"film"'))
    with make(tmp_path) as store:
        store.write_pairs([*good.values(), *planted.items()])
        faults = store.verify()
        assert {fault.where for fault in faults} == {codec.describe_key(key) for key in planted}
        assert len(faults) == len(planted)
        assert all(fault.what for fault in faults)
    cls, options = (LMDBStore, LMDBOptions()) if make is MAKERS["lmdb"] else (SQLiteStore, SQLiteOptions())
    done = cls.repair(options, Context(tmp_path))
    assert done.kept == len(good)
    assert len(done.lost) == len(planted)
    with make(tmp_path) as store:
        assert store.verify() == []
        assert [record.id for record in store.scan()] == sorted(good)
