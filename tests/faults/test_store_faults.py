"""What a store does when the disk, the machine or another program does not behave."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest

from enhancer.contracts import Context, FeatureStore, Repair, codec
from enhancer.errors import StoreCorruptError, StoreError
from enhancer.testing.store import as_tuple, make_record
from enhancer_plugins.stores import _lmdb_file
from enhancer_plugins.stores.lmdb import LMDBOptions, LMDBStore
from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

MAKERS = {
    "lmdb": lambda root, **options: LMDBStore(LMDBOptions(**options), Context(root)),
    "sqlite": lambda root, **options: SQLiteStore(SQLiteOptions(**options), Context(root)),
}
Make = Callable[[Path], FeatureStore]


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Make:
    return MAKERS[request.param]


def data_file(root: Path) -> Path:
    (file,) = [path for path in (root / "features").iterdir() if path.suffix in {".lmdb", ".sqlite"}]
    return file


def filled(make: Make, root: Path, n: int = 40) -> list[str]:
    ids = [f"id-{number}" for number in range(n)]
    with make(root) as store:
        store.put([make_record(id_, seed=n, dim=100, profile="p" * 300) for n, id_ in enumerate(ids)])
    return ids


# --- damaged files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_an_error_and_not_a_crash(make: Make, tmp_path: Path, left: float) -> None:
    filled(make, tmp_path)
    file = data_file(tmp_path)
    os.truncate(file, int(file.stat().st_size * left))
    with pytest.raises(StoreCorruptError, match=file.name):
        make(tmp_path)


def test_an_empty_file_is_not_a_new_store(make: Make, tmp_path: Path) -> None:
    filled(make, tmp_path)
    os.truncate(data_file(tmp_path), 0)
    with pytest.raises(StoreCorruptError, match="empty"):
        make(tmp_path)


def test_another_kind_of_file_is_refused(make: Make, tmp_path: Path) -> None:
    filled(make, tmp_path)
    data_file(tmp_path).write_bytes(b"# notes\n" * 9000)
    with pytest.raises(StoreCorruptError, match="is not an"):
        make(tmp_path)


def test_a_flipped_bit_in_a_record_is_found_and_named(make: Make, tmp_path: Path) -> None:
    ids = filled(make, tmp_path)
    file = data_file(tmp_path)
    content = bytearray(file.read_bytes())
    vector = make_record("id-7", seed=7, dim=100).vector.tobytes()
    place = content.index(vector)
    content[place + 200] ^= 4
    file.write_bytes(content)
    with make(tmp_path) as store:
        with pytest.raises(StoreCorruptError, match="item/id-7"):
            store.vectors(ids)
        with pytest.raises(StoreCorruptError, match="item/id-7"):
            store.get(["id-7"])
        # Whoever asks what must be made again is told that it is not there; the rest is as it was.
        assert [stamp is None for stamp in store.stamps(ids)] == [id_ == "id-7" for id_ in ids]
        assert not np.isnan(store.vectors([id_ for id_ in ids if id_ != "id-7"])).any()
        (fault,) = store.verify()
        assert "item/id-7" in fault.where
        assert store.stats().by_kind["damaged"] == 1
        store.put([make_record("id-7", dim=100)])
        assert store.verify() == []


def test_damage_to_the_files_structure_is_found(make: Make, tmp_path: Path) -> None:
    filled(make, tmp_path, 400)
    file = data_file(tmp_path)
    if file.suffix == ".lmdb" and not _lmdb_file.supports_both_formats():
        pytest.skip("this py-lmdb has no walker")
    page = 4096 if file.suffix == ".lmdb" else 8192
    content = bytearray(file.read_bytes())
    # A page in the middle of those that list keys.
    starts = [at for at in range(2 * page, len(content), page) if content[at : at + page].count(b"i\x00=id-") > 10]
    at = starts[len(starts) // 2]
    content[at + 10 : at + 22] = b"\xff" * 12
    file.write_bytes(content)
    try:
        with make(tmp_path) as store:
            assert store.verify() != []
    except StoreCorruptError:
        pass  # noticed when it is opened


def test_a_record_without_sense_is_a_fault(tmp_path: Path) -> None:
    """Sound by its checksum, wrong by what it says."""
    with MAKERS["lmdb"](tmp_path) as store:
        key, value = codec.encode(make_record("1"))
        damaged = bytearray(value.replace(b'"kind":"item"', b'"kind":"film"'))
        import zlib

        damaged[8:12] = zlib.crc32(bytes(damaged[12:]), zlib.crc32(bytes(damaged[:8]), zlib.crc32(key))).to_bytes(
            4, "little"
        )
        store._write([(key, bytes(damaged))])
        (fault,) = store.verify()
        assert "film" in fault.what


# --- cut short while open ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 5000, 0.95])
def test_a_file_cut_short_while_it_is_open_is_an_error(tmp_path: Path, left: float) -> None:
    """In a process of its own: what it must not be is a crash."""
    ids = filled(MAKERS["lmdb"], tmp_path, 400)
    size = data_file(tmp_path).stat().st_size
    run_elsewhere(
        tmp_path,
        f"import os\nfrom enhancer.errors import StoreCorruptError\nids = {ids!r}\n"
        "assert None not in store.stamps(ids)\n"
        f"os.truncate(store.directory / 'store.lmdb', {int(left if left > 1 or left == 0 else left * size)})\n"
        "calls = [lambda: store.vectors(ids), lambda: store.get(ids), lambda: list(store.scan()), store.stats,\n"
        "         lambda: list(store.keys()), lambda: store.put([make_record('new')]), lambda: store.delete(ids)]\n"
        "for call in calls:\n"
        "    try:\n"
        "        call()\n"
        "    except StoreCorruptError as error:\n"
        "        assert 'store.lmdb' in str(error), error\n"
        "    else:\n"
        "        raise SystemExit('no error')\n",
    )


# --- repairs ------------------------------------------------------------------------------------------------------


def repaired(make: Make, root: Path) -> Repair:
    cls, options = (LMDBStore, LMDBOptions) if make is MAKERS["lmdb"] else (SQLiteStore, SQLiteOptions)
    return cls.repair(options(), Context(root))


def originals(ids: list[str], n: int) -> dict[str, tuple[object, ...]]:
    made = {f"id-{i}": make_record(f"id-{i}", seed=i, dim=100, profile="p" * 300) for i in range(n)}
    return {id_: as_tuple(made[id_]) for id_ in ids}


def test_a_sound_store_is_left_as_it_is(make: Make, tmp_path: Path) -> None:
    filled(make, tmp_path)
    before = data_file(tmp_path).read_bytes()
    done = repaired(make, tmp_path)
    assert (done.kept, done.lost, done.backup) == (40, (), None)
    assert data_file(tmp_path).read_bytes() == before


def test_damaged_records_are_dropped_and_named(make: Make, tmp_path: Path) -> None:
    ids = filled(make, tmp_path)
    file = data_file(tmp_path)
    content = bytearray(file.read_bytes())
    for n in (7, 30):
        content[content.index(make_record(f"id-{n}", seed=n, dim=100).vector.tobytes()) + 200] ^= 4
    file.write_bytes(content)
    done = repaired(make, tmp_path)
    assert done.kept == 38
    assert sorted(fault.where for fault in done.lost) == ["item/id-30", "item/id-7"]
    with make(tmp_path) as store:
        assert store.verify() == []
        rest = [id_ for id_ in ids if id_ not in ("id-7", "id-30")]
        assert {record.id: as_tuple(record) for record in store.scan()} == originals(rest, 40)


@pytest.mark.parametrize("left", [0.3, 0.9])
def test_what_is_left_of_a_truncated_store_is_kept(make: Make, tmp_path: Path, left: float) -> None:
    filled(make, tmp_path, 400)
    file = data_file(tmp_path)
    os.truncate(file, int(file.stat().st_size * left))
    there = {
        f"id-{n}" for n in range(400) if make_record(f"id-{n}", seed=n, dim=100).vector.tobytes() in file.read_bytes()
    }
    done = repaired(make, tmp_path)
    assert done.backup is not None
    assert done.backup.exists()
    assert done.lost
    with make(tmp_path) as store:
        found = {record.id: as_tuple(record) for record in store.scan()}
        assert store.verify() == []
    assert found == originals(sorted(found), 400)  # each whole, and as it was
    assert done.kept == len(found)
    # LMDB's pages are read wherever they are; of SQLite's what the table still leads to, which is nearly all.
    assert len(found) >= len(there) - 8
    assert not [path for path in (tmp_path / "features").iterdir() if path.name.startswith(".")]


def test_an_empty_file_becomes_an_empty_store_only_by_repair(make: Make, tmp_path: Path) -> None:
    filled(make, tmp_path)
    os.truncate(data_file(tmp_path), 0)
    done = repaired(make, tmp_path)
    assert done.kept == 0
    assert done.lost
    with make(tmp_path) as store:
        assert store.stats().records == 0
        assert store.verify() == []


def test_repair_in_the_folder_one_is_in(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's root is "." where its configuration was found in the working folder."""
    filled(make, tmp_path, 60)
    os.truncate(data_file(tmp_path), int(data_file(tmp_path).stat().st_size * 0.6))
    monkeypatch.chdir(tmp_path)
    done = repaired(make, Path())
    assert 0 < done.kept < 60
    with make(Path()) as store:
        assert store.stats().records == done.kept


def test_a_broken_tree_loses_nothing_but_what_was_broken(tmp_path: Path) -> None:
    """Whole pages of the tree overwritten: records that no page leads to any more are found by looking everywhere."""
    filled(MAKERS["lmdb"], tmp_path, 400)
    file = data_file(tmp_path)
    content = bytearray(file.read_bytes())
    branches = [at for at in range(8192, len(content), 4096) if content[at + 10] == 1 and content[at + 11] == 0]
    assert branches
    for at in branches:
        content[at : at + 4096] = b"\xff" * 4096
    file.write_bytes(content)
    done = repaired(MAKERS["lmdb"], tmp_path)
    assert done.kept == 400
    assert done.backup is not None
    with MAKERS["lmdb"](tmp_path) as store:
        assert store.verify() == []
        assert {r.id: as_tuple(r) for r in store.scan()} == originals([f"id-{n}" for n in range(400)], 400)


def test_repair_prefers_what_was_written_last(tmp_path: Path) -> None:
    """Pages that were given back hold former states; the newest one of each record is kept."""
    with MAKERS["lmdb"](tmp_path) as store:
        for step in range(4):
            store.put(
                [
                    make_record(f"id-{n}", seed=step, dim=100, generated_at=f"2025-01-0{step + 1}T00:00:00Z")
                    for n in range(200)
                ]
            )
    file = data_file(tmp_path)
    content = bytearray(file.read_bytes())
    for page in (0, 4096):
        content[page : page + 4096] = b"\x00" * 4096
    file.write_bytes(content)
    assert repaired(MAKERS["lmdb"], tmp_path).kept == 200
    with MAKERS["lmdb"](tmp_path) as store:
        assert {record.input_hash for record in store.scan()} == {"hash-3"}


@pytest.mark.skipif(not _lmdb_file.supports_both_formats(), reason="this py-lmdb has one engine")
def test_the_newer_lmdb_format_is_repaired_too(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir(parents=True)
    file = tmp_path / "features/store.lmdb"
    environment = lmdb.open(str(file), subdir=False, lib_version=1)
    with environment.begin(write=True) as transaction:
        transaction.put(b"\x00enhancer", b'{"format": 1}')
    environment.close()
    filled(MAKERS["lmdb"], tmp_path, 300)
    os.truncate(file, int(file.stat().st_size * 0.9))
    done = repaired(MAKERS["lmdb"], tmp_path)
    assert 200 < done.kept < 300


def test_repair_refuses_what_is_in_use_newer_or_something_else(make: Make, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        repaired(make, tmp_path)
    with make(tmp_path) as store:
        store.put([make_record("1")])
        with pytest.raises(StoreError, match="in use"):
            repaired(make, tmp_path)
        kind = data_file(tmp_path).suffix[1:]
    name = {"lmdb": "LMDBStore", "sqlite": "SQLiteStore"}[kind]
    program = (
        "import sys, pathlib, time\nfrom enhancer.contracts import Context\n"
        f"from enhancer_plugins.stores.{kind} import {name} as Store\n"
        "store = Store(Store.options_class(), Context(pathlib.Path(sys.argv[1])))\nstore.stats()\nprint(1, flush=True)\ntime.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    with pytest.raises(StoreError, match="in use"):
        repaired(make, tmp_path)
    other.kill()
    other.communicate()
    assert repaired(make, tmp_path).kept == 1
    data_file(tmp_path).write_bytes(b"# notes\n" * 9000)
    with pytest.raises(StoreCorruptError, match="nothing of a feature store"):
        repaired(make, tmp_path)
    assert data_file(tmp_path).read_bytes().startswith(b"# notes")


# --- other formats ------------------------------------------------------------------------------------------------


def test_a_store_of_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    for make in MAKERS.values():
        filled(make, tmp_path, 1)
    environment = lmdb.open(str(tmp_path / "features/store.lmdb"), subdir=False)
    with environment.begin(write=True) as transaction:
        transaction.put(b"\x00enhancer", b'{"format": 9}')
    environment.close()
    connection = sqlite3.connect(tmp_path / "features/store.sqlite")
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    for make in MAKERS.values():
        with pytest.raises(StoreError, match=r"format 9.*upgrade enhancer"):
            make(tmp_path)


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    environment = lmdb.open(str(tmp_path / "features/store.lmdb"), subdir=False)
    with environment.begin(write=True) as transaction:
        transaction.put(b"theirs", b"1")
    environment.close()
    connection = sqlite3.connect(tmp_path / "features/store.sqlite")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    for make in MAKERS.values():
        with pytest.raises(StoreError, match="no feature store"):
            make(tmp_path)


@pytest.mark.skipif(not _lmdb_file.supports_both_formats(), reason="this py-lmdb has one engine")
def test_lmdb_files_of_both_formats_are_read(tmp_path: Path) -> None:
    for engine in (0, 1):
        root = tmp_path / str(engine)
        (root / "features").mkdir(parents=True)
        file = root / "features/store.lmdb"
        environment = lmdb.open(str(file), subdir=False, lib_version=engine)
        with environment.begin(write=True) as transaction:
            transaction.put(b"\x00enhancer", b'{"format": 1}')
        environment.close()
        with MAKERS["lmdb"](root) as store:
            store.put([make_record("1")])
            assert store.verify() == []
        assert _lmdb_file.read_facts(file).format == (1, 3)[engine]


def test_an_lmdb_format_that_the_library_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(MAKERS["lmdb"], tmp_path, 1)
    file = tmp_path / "features/store.lmdb"
    content = bytearray(file.read_bytes())
    for page in (0, 4096):
        content[page + 20] = 3
    file.write_bytes(content)
    monkeypatch.setattr(_lmdb_file, "supports_both_formats", lambda: False)
    with pytest.raises(StoreError, match=r"data format 3.*pip install --upgrade lmdb"):
        MAKERS["lmdb"](tmp_path)


def test_new_lmdb_files_are_of_the_format_that_every_version_reads(tmp_path: Path) -> None:
    filled(MAKERS["lmdb"], tmp_path, 1)
    assert _lmdb_file.read_facts(tmp_path / "features/store.lmdb").format == 1


# --- the map ------------------------------------------------------------------------------------------------------


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
            except BaseException as error:  # noqa: BLE001 - told to the main thread
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
    facts = _lmdb_file.read_facts(file)
    sound = _lmdb_file.structural_faults(file)
    assert sound in ([], None)
    assert facts.size >= facts.needed


# --- processes ----------------------------------------------------------------------------------------------------


def run_elsewhere(root: Path, code: str, expect: int = 0, kind: str = "lmdb") -> None:
    name = {"lmdb": "LMDBStore", "sqlite": "SQLiteStore"}[kind]
    program = (
        "import sys, pathlib\n"
        "from enhancer.contracts import Context\n"
        "from enhancer.testing.store import make_record\n"
        f"from enhancer_plugins.stores.{kind} import {name} as Store\n"
        "store = Store(Store.options_class(), Context(pathlib.Path(sys.argv[1])))\n" + code
    )
    done = subprocess.run([sys.executable, "-c", program, str(root)], capture_output=True, text=True, timeout=60)
    assert done.returncode == expect, done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads is what is tried here
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
    # A process of its own, so that this one never has the file open when it forks.
    checker = os.fork()
    if checker == 0:
        store = Store(Store.options_class(), Context(pathlib.Path(sys.argv[1])))
        ok = None not in store.get([str(n) for n in range(acknowledged)]) and store.stats().records % 5 == 0
        os._exit(0 if ok and store.verify() == [] else 1)
    assert os.waitpid(checker, 0)[1] == 0, (attempt, acknowledged)
"""


@pytest.mark.parametrize("kind", list(MAKERS))
def test_every_acknowledged_record_outlives_kill_9(tmp_path: Path, kind: str) -> None:
    """Forty times while it writes; each call is there whole or not at all, and the file is sound each time."""
    name = {"lmdb": "LMDBStore", "sqlite": "SQLiteStore"}[kind]
    program = (
        "import sys, pathlib\nfrom enhancer.contracts import Context\nfrom enhancer.testing.store import make_record\n"
        f"from enhancer_plugins.stores.{kind} import {name} as Store\n" + _CRASHES
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "40"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with MAKERS[kind](tmp_path) as store:
        assert store.stats().records >= 40 * 10
        assert store.verify() == []


def test_two_writers_take_turns(make: Make, tmp_path: Path) -> None:
    """Two processes that write at once: nothing is lost, nothing is mixed, and who reads sees whole calls."""
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
            subprocess.Popen([sys.executable, "-c", program, str(tmp_path), me], stderr=subprocess.PIPE, text=True)
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
    """A process that closes a file loses its locks on it; another process must not take this one for gone."""
    with make(tmp_path) as store:
        store.put([make_record("first")])
        kind = data_file(tmp_path).suffix[1:]
        make(tmp_path).close()
        with store.snapshot():
            pass
        # Whoever closes last may tidy up: this one is not the last.
        run_elsewhere(tmp_path, "store.put([make_record('theirs')])\nstore.close()\n", kind=kind)
        store.put([make_record("second")])
        run_elsewhere(
            tmp_path, "assert None not in store.stamps(['first', 'theirs', 'second'])\nstore.close()\n", kind=kind
        )
        assert None not in store.stamps(["first", "theirs", "second"])
        assert store.verify() == []
    with make(tmp_path) as store:
        assert store.stats().records == 3


# --- the disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [98_304, 100_000])  # whole pages, and the last page cut short
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
    """Four mebibytes of disk, where the machine lets us have them."""
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
