"""Repair keeps all valid records."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from processes import start
from store_files import MAKERS, Make, data_file, filled, run_elsewhere

from enhancer.contracts import Context, Repair
from enhancer.errors import StoreCorruptError, StoreError
from enhancer.testing.store import as_tuple, make_record
from enhancer_plugins.stores._lmdb import datafile
from enhancer_plugins.stores.lmdb import LMDBOptions, LMDBStore
from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

# --- repairs -------------------------------------------------------------------------------------------------------


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
    assert found == originals(sorted(found), 400)  # each unchanged
    assert done.kept == len(found)
    # All pages are read; the end of a stored vector may be truncated.
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
    """The root of a project is "." if its configuration is in the working folder."""
    filled(make, tmp_path, 60)
    os.truncate(data_file(tmp_path), int(data_file(tmp_path).stat().st_size * 0.6))
    monkeypatch.chdir(tmp_path)
    done = repaired(make, Path())
    assert 0 < done.kept < 60
    with make(Path()) as store:
        assert store.stats().records == done.kept


def test_a_broken_tree_loses_nothing_but_what_was_broken(tmp_path: Path) -> None:
    """Records without a reference from the overwritten tree are found by reading all pages."""
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


@pytest.mark.parametrize("page", [0, 1])
def test_a_meta_page_with_a_damaged_head_loses_nothing(tmp_path: Path, page: int) -> None:
    """Damage each of the two meta pages."""
    filled(MAKERS["lmdb"], tmp_path, 200)
    file = data_file(tmp_path)
    content = bytearray(file.read_bytes())
    content[page * 4096 : page * 4096 + 24] = bytes(255 - byte for byte in content[page * 4096 : page * 4096 + 24])
    file.write_bytes(content)
    with pytest.raises(StoreCorruptError) as caught:
        MAKERS["lmdb"](tmp_path)
    assert "store repair" in (caught.value.hint or "")
    done = repaired(MAKERS["lmdb"], tmp_path)
    assert (done.kept, done.lost) == (200, ())
    assert done.backup is not None


@pytest.mark.parametrize("place", [16, 128, 144])
def test_a_meta_page_that_cannot_be_believed_is_never_said_to_lose_nothing(tmp_path: Path, place: int) -> None:
    """Damage the magic number, the root, or the number of the transaction."""
    ids = filled(MAKERS["lmdb"], tmp_path, 200)
    with MAKERS["lmdb"](tmp_path) as store:
        store.put([make_record("late", dim=100)])
    file = data_file(tmp_path)
    content = bytearray(file.read_bytes())
    numbers = [int.from_bytes(content[at + 144 : at + 152], "little") for at in (0, 4096)]
    at = 4096 * (numbers[1] > numbers[0]) + place
    content[at : at + 3] = b"\xee\xee\xee"
    if place == 16:
        content[at : at + 140] = b"\xee" * 140
    file.write_bytes(content)
    done = repaired(MAKERS["lmdb"], tmp_path)
    assert done.lost
    assert done.kept == 201
    with MAKERS["lmdb"](tmp_path) as store:
        assert None not in store.stamps([*ids, "late"])


def test_an_sqlite_store_loses_no_more_than_the_page_that_was_zeroed(tmp_path: Path) -> None:
    """Damage each page: header, table tree, key index, records. The index shows which records are lost."""
    filled(MAKERS["sqlite"], tmp_path, 120)
    with MAKERS["sqlite"](tmp_path) as store:
        store.put([make_record("long", dim=4000)])  # a large value
    file = data_file(tmp_path)
    sound = file.read_bytes()
    lossless = 0
    for at in range(0, len(sound), 8192):
        file.write_bytes(sound[:at] + bytes(8192) + sound[at + 8192 :])
        done = repaired(MAKERS["sqlite"], tmp_path)
        named = [fault.where for fault in done.lost if fault.where.startswith("item/")]
        assert done.kept + len(named) == 121
        assert len(named) < 15
        assert done.lost
        lossless += not named
    assert 3 <= lossless < len(sound) // 16384


def test_what_only_the_log_has_is_kept_where_the_file_has_lost_its_header(tmp_path: Path) -> None:
    with MAKERS["sqlite"](tmp_path) as store:
        store.put([make_record("early", dim=100)])
    run_elsewhere(
        tmp_path,
        "import os\nstore.put([make_record('late', dim=100)])\nstore.put([make_record('early', seed=5, dim=100)])\nos._exit(0)",
        kind="sqlite",
    )
    file = tmp_path / "features/store.sqlite"
    file.write_bytes(b"\xee" * 8192 + file.read_bytes()[8192:])
    with pytest.raises(StoreCorruptError) as caught:
        MAKERS["sqlite"](tmp_path)
    assert "store repair" in (caught.value.hint or "")
    assert SQLiteStore.repair(SQLiteOptions(), Context(tmp_path)).kept == 2
    with MAKERS["sqlite"](tmp_path) as store:
        assert {record.id: as_tuple(record) for record in store.scan()} == {
            "late": as_tuple(make_record("late", dim=100)),
            "early": as_tuple(make_record("early", seed=5, dim=100)),
        }


def test_repair_prefers_what_was_written_last(tmp_path: Path) -> None:
    """Free pages contain old versions of records; the newest version of each is kept."""
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


@pytest.mark.skipif(not datafile.supports_both_formats(), reason="this py-lmdb has one engine")
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
    other = start([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    with pytest.raises(StoreError, match="in use"):
        repaired(make, tmp_path)
    other.kill()
    other.communicate()
    assert repaired(make, tmp_path).kept == 1
    data_file(tmp_path).write_bytes(b"# notes\n" * 9000)
    with pytest.raises(StoreCorruptError, match="no records of a feature store"):
        repaired(make, tmp_path)
    assert data_file(tmp_path).read_bytes().startswith(b"# notes")
