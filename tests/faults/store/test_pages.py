"""Damaged pages of LMDB files, which would crash liblmdb."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from processes import run
from store_files import MAKERS, data_file, filled, made_by

from enhancer.errors import StoreCorruptError
from enhancer.testing.store import make_record
from enhancer_plugins.stores._lmdb import datafile

PAGE = 4096

_TRIAL = """
import logging, os, pathlib, random, shutil, sys
from enhancer.contracts import Context
from enhancer.errors import EnhancerError
from enhancer_plugins.stores.lmdb import LMDBOptions, LMDBStore

source, root, kind = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
sound = source.read_bytes()
ids = [f"id-{n}" for n in range(50)]
logging.disable()

def spoil(page):
    chance, content = random.Random(page), bytearray(sound)
    at = page * 4096
    if kind == "zero":
        content[at : at + 4096] = bytes(4096)
    elif kind == "noise":
        content[at : at + 4096] = chance.randbytes(4096)
    else:
        for _ in range(3):
            content[at + chance.randrange(64 if page % 2 else 4096)] = chance.randrange(256)
    return content

def attempt(call):
    try:
        return call()
    except EnhancerError:
        return []

def trial(page):
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (root / "store.lmdb").write_bytes(spoil(page))
    with LMDBStore(LMDBOptions(path=root), Context(root=root)) as store:
        with store.snapshot() as pinned:
            attempt(lambda: list(pinned.scan()))
        records = [record for id_ in ids for record in attempt(lambda: store.get([id_])) if record]
        calls = [lambda: store.vectors(ids), lambda: store.get(ids), lambda: store.stamps(ids), store.count,
                 lambda: list(store.scan()), lambda: list(store.keys()), store.stats, store.verify,
                 lambda: store.delete(ids[::3]), lambda: store.put(records)]
        for call in calls:
            attempt(call)

for page in range(len(sound) // 4096):
    child = os.fork()
    if not child:
        code = 1
        try:
            attempt(lambda: trial(page))
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if status:
        print(f"page {page}: {status}", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("kind", ["zero", "noise", "bytes"])
def test_no_page_kills_the_process(tmp_path: Path, kind: str) -> None:
    with MAKERS["lmdb"](tmp_path) as store:
        store.put([make_record(f"id-{n}", seed=n, dim=100, profile="p" * 300) for n in range(50)])
        store.put([make_record(f"id-{n}", seed=n, dim=700) for n in range(0, 50, 10)])  # large values
        store.delete(["id-1", "id-2"])
    done = run(
        [sys.executable, "-c", _TRIAL, str(data_file(tmp_path)), str(tmp_path / "trial"), kind],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_a_zeroed_leaf_is_refused_by_walks_and_named_by_verify(tmp_path: Path) -> None:
    ids = filled(MAKERS["lmdb"], tmp_path, 400)
    file = data_file(tmp_path)
    content = bytearray(file.read_bytes())
    leaves = [
        at
        for at in range(2 * PAGE, len(content), PAGE)
        if content[at + 10] == 2 and b"=id-77" in content[at : at + PAGE]
    ]
    for at in leaves:
        content[at : at + PAGE] = bytes(PAGE)
    file.write_bytes(content)
    with MAKERS["lmdb"](tmp_path) as store:
        for call in (lambda: list(store.scan()), lambda: list(store.keys()), store.stats, lambda: store.delete(ids)):
            with pytest.raises(StoreCorruptError, match="is damaged: page") as caught:
                call()
            assert "store repair" in (caught.value.hint or "")
        assert f"page {leaves[0] // PAGE} is not a leaf page, as expected" in {fault.what for fault in store.verify()}
        assert store.stamps(["id-3"]) != [None]  # look-ups of valid records still work


@pytest.mark.skipif(not datafile.supports_both_formats(), reason="this py-lmdb has one engine")
@pytest.mark.parametrize("engine", [0, 1])
def test_sound_files_of_both_formats_have_no_fault(tmp_path: Path, engine: int) -> None:
    """Short and long values, keys of odd and even length, free pages, three levels of pages."""
    file = made_by(engine, tmp_path)
    with MAKERS["lmdb"](tmp_path) as store:
        for dim in (3, 100, 700, 1500):
            store.put([make_record("x" * 200 + f"{n:0{n % 9 + 1}}", seed=n, dim=dim) for n in range(150)])
            store.put([make_record(f"{n:0{n % 9 + 1}}", seed=n, dim=dim) for n in range(150)])
        with store.snapshot() as pinned:
            store.delete([str(n) for n in range(0, 150, 2)])
            before = len(list(pinned.scan()))
            store.put([make_record("late")])
            store.put([make_record("later")])
            assert len(list(pinned.keys())) == before
        assert store.verify() == []
        assert len(list(store.scan())) == store.count()
    assert datafile.structural_faults(file) == []
