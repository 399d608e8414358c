"""Damage: truncated and overwritten files, and files of other formats."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
from store_files import MAKERS, Make, data_file, filled, made_by, run_elsewhere

from enhancer.errors import StoreCorruptError, StoreError
from enhancer.storekit import codec
from enhancer.testing.store import make_record
from enhancer_plugins.stores._lmdb import datafile

# --- damaged files -------------------------------------------------------------------------------------------------


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
        # A damaged record has no stamp, so that it is created again; other records are unaffected.
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
    page = 4096 if file.suffix == ".lmdb" else 8192
    content = bytearray(file.read_bytes())
    # A page of the index in the middle of the file.
    starts = [at for at in range(2 * page, len(content), page) if content[at : at + page].count(b"i\x00=id-") > 10]
    at = starts[len(starts) // 2]
    content[at + 10 : at + 22] = b"\xff" * 12
    file.write_bytes(content)
    try:
        with make(tmp_path) as store:
            assert store.verify() != []
    except StoreCorruptError:
        pass  # detected on opening


def test_every_error_of_a_damaged_sqlite_file_names_repair(tmp_path: Path) -> None:
    ids = filled(MAKERS["sqlite"], tmp_path, 200)
    file = data_file(tmp_path)
    sound = file.read_bytes()
    hints: list[str] = []

    def attempt(call: Callable[[], object]) -> None:
        try:
            call()
        except StoreCorruptError as error:
            hints.append(error.hint or "")

    def read() -> None:
        with MAKERS["sqlite"](tmp_path) as store:
            assert store.verify() != []
            for call in (lambda: store.stamps(ids), lambda: list(store.keys()), store.count):
                attempt(call)

    for at in range(0, len(sound), 2 * 8192):
        file.write_bytes(sound[: at + 1] + b"\xee" * 40 + sound[at + 41 :])
        attempt(read)
    assert len(hints) > 5
    assert all("store repair" in hint for hint in hints)


def test_a_record_without_sense_is_a_fault(tmp_path: Path) -> None:
    """The checksum is valid, but the content is not."""
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


# --- truncated while open ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 5000, 0.95])
def test_a_file_cut_short_while_it_is_open_is_an_error(tmp_path: Path, left: float) -> None:
    """Use a separate process, since a failure would crash it."""
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


# --- other formats -------------------------------------------------------------------------------------------------


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
        with pytest.raises(StoreError, match="not a feature store"):
            make(tmp_path)


@pytest.mark.skipif(not datafile.supports_both_formats(), reason="this py-lmdb has one engine")
def test_lmdb_files_of_both_formats_are_read(tmp_path: Path) -> None:
    for engine in (0, 1):
        root = tmp_path / str(engine)
        file = made_by(engine, root)
        with MAKERS["lmdb"](root) as store:
            store.put([make_record("1")])
            assert store.verify() == []
        assert datafile.read_info(file).format == (1, 3)[engine]


def test_an_lmdb_format_that_the_library_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(MAKERS["lmdb"], tmp_path, 1)
    file = tmp_path / "features/store.lmdb"
    content = bytearray(file.read_bytes())
    for page in (0, 4096):
        content[page + 20] = 3
    file.write_bytes(content)
    monkeypatch.setattr(datafile, "supports_both_formats", lambda: False)
    with pytest.raises(StoreError, match=r"data format 3.*pip install --upgrade lmdb"):
        MAKERS["lmdb"](tmp_path)


def test_new_lmdb_files_are_of_the_format_that_every_version_reads(tmp_path: Path) -> None:
    filled(MAKERS["lmdb"], tmp_path, 1)
    assert datafile.read_info(tmp_path / "features/store.lmdb").format == 1
