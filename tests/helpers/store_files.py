"""Stores in files, for tests that damage the files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from processes import run

from enhancer.contracts import Context, FeatureStore
from enhancer.testing.store import make_record
from enhancer_plugins.stores.lmdb import LMDBOptions, LMDBStore
from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

MAKERS = {
    "lmdb": lambda root, **options: LMDBStore(LMDBOptions(**options), Context(root)),
    "sqlite": lambda root, **options: SQLiteStore(SQLiteOptions(**options), Context(root)),
}
Make = Callable[[Path], FeatureStore]


def data_file(root: Path) -> Path:
    (file,) = [path for path in (root / "features").iterdir() if path.suffix in {".lmdb", ".sqlite"}]
    return file


def made_by(engine: int, root: Path) -> Path:
    """Create an empty LMDB store with one of the two engines of the binding; return its file."""
    import lmdb

    (root / "features").mkdir(parents=True)
    file = root / "features/store.lmdb"
    environment = lmdb.open(str(file), subdir=False, lib_version=engine)
    with environment.begin(write=True) as transaction:
        transaction.put(b"\x00enhancer", b'{"format": 1}')
    environment.close()
    return file


def filled(make: Make, root: Path, n: int = 40) -> list[str]:
    ids = [f"id-{number}" for number in range(n)]
    with make(root) as store:
        store.put([make_record(id_, seed=n, dim=100, profile="p" * 300) for n, id_ in enumerate(ids)])
    return ids


def run_elsewhere(root: Path, code: str, expect: int = 0, kind: str = "lmdb") -> None:
    """Run code in a separate process, with the store in ``root`` as ``store``."""
    name = {"lmdb": "LMDBStore", "sqlite": "SQLiteStore"}[kind]
    program = (
        "import sys, pathlib\n"
        "from enhancer.contracts import Context\n"
        "from enhancer.testing.store import make_record\n"
        f"from enhancer_plugins.stores.{kind} import {name} as Store\n"
        "store = Store(Store.options_class(), Context(pathlib.Path(sys.argv[1])))\n" + code
    )
    done = run([sys.executable, "-c", program, str(root)])
    assert done.returncode == expect, done.stderr
