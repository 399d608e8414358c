"""Memory map, several processes, killed processes, and full disks."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import run, start
from store_files import MAKERS, Make, data_file, filled, run_elsewhere

from enhancer.contracts import FeatureStore
from enhancer.errors import StoreError
from enhancer.testing.store import make_record
from enhancer_plugins.stores._lmdb import datafile

# --- the map -------------------------------------------------------------------------------------------------------


def test_a_full_map_grows_and_the_batch_is_done_whole(tmp_path: Path) -> None:
    with MAKERS["lmdb"](tmp_path, initial_size_mb=1) as store:
        records = [make_record(str(n), dim=384, profile="p" * 3000) for n in range(2000)]
        store.put(records)
        assert store.stats().records == 2000
        assert store.verify() == []


def test_a_map_at_its_cap_says_which_setting_to_raise(tmp_path: Path) -> None:
    with MAKERS["lmdb"](tmp_path, initial_size_mb=1, max_size_mb=2) as store:
        store.put([make_record("first")])
        with pytest.raises(StoreError, match=r"cap of 2 MiB.*max_size_mb"):
            store.put([make_record(str(n), dim=384, profile="p" * 3000) for n in range(1000)])
        assert [record.id for record in store.scan()] == ["first"]
        store.put([make_record("second")])
    with MAKERS["lmdb"](tmp_path) as store:
        store.put([make_record(str(n), dim=384, profile="p" * 3000) for n in range(1000)])
        assert store.stats().records == 1002


def test_a_map_grown_by_another_process_is_followed(tmp_path: Path) -> None:
    with MAKERS["lmdb"](tmp_path, initial_size_mb=1) as store:
        store.put([make_record("ours")])
        run_elsewhere(
            tmp_path, "store.put([make_record(str(n), dim=384, profile='p' * 3000) for n in range(2000)])"
        )  # fmt: skip
        assert not np.isnan(store.vectors([str(n) for n in range(2000)])).any()
        store.put([make_record("ours", seed=1)])
        assert store.stats().records == 2001


def test_growth_waits_for_readers_in_other_threads(tmp_path: Path) -> None:
    with MAKERS["lmdb"](tmp_path, initial_size_mb=1) as store:
        store.put([make_record(str(n), dim=64) for n in range(100)])
        ids, stop, errors = [str(n) for n in range(100)], threading.Event(), []

        def read() -> None:
            try:
                while not stop.is_set():
                    assert not np.isnan(store.vectors(ids)).any()
                    next(iter(store.scan()))
            except BaseException as error:  # noqa: BLE001 - reported to the main thread
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for batch in range(4):
            store.put([make_record(f"{batch}-{n}", dim=384, profile="p" * 3000) for n in range(200)])
        stop.set()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert store.stats().records == 900


def test_a_dead_readers_slot_is_cleared(tmp_path: Path) -> None:
    with MAKERS["lmdb"](tmp_path) as store:
        store.put([make_record("1")])
        run_elsewhere(
            tmp_path,
            "transaction = store._environment._environment.begin(); import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            expect=-signal.SIGKILL,
        )
        environment = store._environment._environment
        assert "1" in environment.readers() or environment.info()["num_readers"] >= 1
    with MAKERS["lmdb"](tmp_path) as store:
        assert store._environment._environment.reader_check() == 0
        assert store.stamps(["1"]) != [None]


def test_a_file_that_is_short_and_sound_is_stretched(tmp_path: Path) -> None:
    filled(MAKERS["lmdb"], tmp_path, 5)
    file = tmp_path / "features/store.lmdb"
    with MAKERS["lmdb"](tmp_path) as store:
        store.delete([f"id-{n}" for n in range(5)])
        store.delete(["none"])
    info = datafile.read_info(file)
    sound = datafile.structural_faults(file)
    assert sound == []
    assert info.size >= info.needed


# --- processes -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tests fork in a process with threads
def test_a_forked_child_opens_its_own(make: Make, tmp_path: Path) -> None:
    with make(tmp_path) as store:
        store.put([make_record("parent")])
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_in_child, args=(store,))
        child.start()
        store.put([make_record("parent-2")])
        child.join(30)
        assert child.exitcode == 0
        assert store.stamps(["parent", "child", "parent-2"]).count(None) == 0
        store.put([make_record("parent-3")])
        assert store.verify() == []


def _in_child(store: FeatureStore) -> None:
    assert store.stamps(["parent"]) != [None]
    store.put([make_record("child")])
    assert store.stats().records >= 2
    store.close()


_WRITER = """
import sys
for start in range(0, 1_000_000, 5):
    store.put([make_record(str(n), seed=n, dim=32, profile="p" * 500) for n in range(start, start + 5)])
    print(start + 5, flush=True)
"""


_CRASHES = """
import os, signal, sys
parent = os.getpid()
for attempt in range(int(sys.argv[2])):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        store = Store(Store.options_class(), Context(pathlib.Path(sys.argv[1])))
        at = store.stats().records
        while True:
            store.put([make_record(str(n), seed=n, dim=32, profile="p" * 500) for n in range(at, at + 5)])
            at += 5
            os.write(theirs, b"%d\\n" % at)
    os.close(theirs)
    seen = b""
    wanted = 2 + attempt % 5
    while seen.count(b"\\n") < wanted:
        seen += os.read(ours, 4096)
    os.kill(child, signal.SIGKILL)
    while more := os.read(ours, 4096):
        seen += more
    os.close(ours)
    os.waitpid(child, 0)
    acknowledged = int(seen.split()[-1])
    # A separate process, so that this one never has the file open when it forks.
    checker = os.fork()
    if checker == 0:
        store = Store(Store.options_class(), Context(pathlib.Path(sys.argv[1])))
        ok = None not in store.get([str(n) for n in range(acknowledged)]) and store.stats().records % 5 == 0
        os._exit(0 if ok and store.verify() == [] else 1)
    assert os.waitpid(checker, 0)[1] == 0, (attempt, acknowledged)
"""


@pytest.mark.parametrize("kind", list(MAKERS))
def test_every_acknowledged_record_outlives_kill_9(tmp_path: Path, kind: str) -> None:
    """Kill a writer forty times: each call is complete or absent, and the file is valid each time."""
    name = {"lmdb": "LMDBStore", "sqlite": "SQLiteStore"}[kind]
    program = (
        "import sys, pathlib\nfrom enhancer.contracts import Context\nfrom enhancer.testing.store import make_record\n"
        f"from enhancer_plugins.stores.{kind} import {name} as Store\n" + _CRASHES
    )
    done = run([sys.executable, "-c", program, str(tmp_path), "40"])
    assert done.returncode == 0, done.stderr
    with MAKERS[kind](tmp_path) as store:
        assert store.stats().records >= 40 * 10
        assert store.verify() == []


def test_two_writers_take_turns(make: Make, tmp_path: Path) -> None:
    """With two concurrent writers no record is lost or mixed up, and readers see complete calls."""
    with make(tmp_path) as store:
        kind = data_file(tmp_path).suffix[1:]
        name = {"lmdb": "LMDBStore", "sqlite": "SQLiteStore"}[kind]
        program = (
            "import sys, pathlib\nfrom enhancer.contracts import Context\nfrom enhancer.testing.store import make_record\n"
            f"from enhancer_plugins.stores.{kind} import {name} as Store\n"
            "store = Store(Store.options_class(), Context(pathlib.Path(sys.argv[1])))\n"
            "me = sys.argv[2]\n"
            "for step in range(25):\n"
            "    both = [make_record('shared', seed=step, model=me), make_record('shared', kind='user', seed=step, model=me)]\n"
            "    store.put(both + [make_record(f'{me}-{step}-{n}', seed=n) for n in range(3)])\n"
        )
        writers = [
            start([sys.executable, "-c", program, str(tmp_path), me], stderr=subprocess.PIPE, text=True)
            for me in ("one", "two")
        ]
        while any(writer.poll() is None for writer in writers):
            with store.snapshot() as pinned:
                pair = [pinned.get(["shared"], kind=kind)[0] for kind in ("item", "user")]
            assert len({record and (record.model, record.input_hash) for record in pair}) == 1
        for writer in writers:
            assert writer.communicate()[1] == ""
            assert writer.returncode == 0
        assert store.stats().records == 2 + 2 * 25 * 3
        assert store.verify() == []


def test_opening_a_store_twice_loses_no_locks(make: Make, tmp_path: Path) -> None:
    """Closing a store must not release the locks that another store of the process holds on the file."""
    with make(tmp_path) as store:
        store.put([make_record("first")])
        kind = data_file(tmp_path).suffix[1:]
        make(tmp_path).close()
        with store.snapshot():
            pass
        # Only the last connection may remove the log, and this one is not the last.
        run_elsewhere(tmp_path, "store.put([make_record('theirs')])\nstore.close()\n", kind=kind)
        store.put([make_record("second")])
        run_elsewhere(
            tmp_path, "assert None not in store.stamps(['first', 'theirs', 'second'])\nstore.close()\n", kind=kind
        )
        assert None not in store.stamps(["first", "theirs", "second"])
        assert store.verify() == []
    with make(tmp_path) as store:
        assert store.stats().records == 3


# --- the disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [98_304, 100_000])  # complete pages, and a truncated last page
def test_a_limit_on_file_size_is_an_error_that_spares_the_store(make: Make, tmp_path: Path, room: int) -> None:
    filled(make, tmp_path, 5)
    size = data_file(tmp_path).stat().st_size
    kind = data_file(tmp_path).suffix[1:]
    run_elsewhere(
        tmp_path,
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + room}, resource.RLIM_INFINITY))\n"
        "from enhancer.errors import StoreError\n"
        "try:\n"
        "    store.put([make_record(f'new-{n}', dim=384, profile='p' * 3000) for n in range(500)])\n"
        "except StoreError as error:\n"
        "    assert 'ulimit -f' in str(error), error\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "assert store.get(['new-0']) == [None]\n"
        "store.put([make_record('after')])\n",
        kind=kind,
    )
    with make(tmp_path) as store:
        assert store.stats().records == 6
        assert store.verify() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 4 MiB; skip the test if that is not permitted."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_an_error_that_spares_the_store(make: Make, small_disk: Path) -> None:
    with make(small_disk) as store:
        store.put([make_record("old")])
        with pytest.raises(StoreError, match="disk full"):
            store.put([make_record(f"new-{n}", dim=384, profile="p" * 3000) for n in range(2000)])
        assert store.get(["new-0", "new-1999"]) == [None, None]
        assert store.stamps(["old"]) != [None]
        store.put([make_record("after")])
    with make(small_disk) as store:
        assert [record.id for record in store.scan()] == ["after", "old"]
        assert store.verify() == []


def test_a_disk_without_room_for_a_new_store_leaves_nothing(make: Make, small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)
    with pytest.raises(StoreError, match=r"disk full|No space|cannot create"):
        make(small_disk)
    (small_disk / "filler").unlink()
    filled(make, small_disk, 2)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    mounted = []

    def freeze(folder: Path) -> None:
        for command in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
            if shutil.which("mount") is None or subprocess.run(["mount", *command], capture_output=True).returncode:
                pytest.skip("a folder cannot be mounted read-only here")
            mounted.append(folder)

    yield freeze
    for folder in set(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_read_only_media_are_read(make: Make, tmp_path: Path, read_only: Callable[[Path], None]) -> None:
    ids = filled(make, tmp_path)
    read_only(tmp_path / "features")
    with make(tmp_path) as store:
        assert not np.isnan(store.vectors(ids)).any()
        assert store.verify() == []
        with pytest.raises(StoreError, match="read-only"):
            store.put([make_record("new")])
        with pytest.raises(StoreError, match="read-only"):
            store.delete(ids)


def test_a_folder_that_cannot_be_made_is_named(make: Make, tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot create .*features"):
        make(tmp_path)


def test_a_closed_store_says_so(make: Make, tmp_path: Path) -> None:
    store = make(tmp_path)
    store.close()
    store.close()
    for call in (lambda: store.get(["1"]), lambda: store.put([make_record("1")]), store.stats):
        with pytest.raises(StoreError, match="closed"):
            call()


def test_nothing_is_left_beside_a_store(make: Make, tmp_path: Path) -> None:
    filled(make, tmp_path)
    assert not [path for path in (tmp_path / "features").iterdir() if path.name.startswith(".")]
