"""Test that training reads one snapshot of the store while records are written."""

import numpy as np
import pytest
from command_line import hashing  # noqa: F401 - a fixture

import enhancer
from enhancer.contracts import Context
from enhancer.features.reading.pinned_store import PinnedStore
from enhancer.testing.store import make_record
from enhancer_plugins.stores.lmdb import LMDBOptions, LMDBStore


@pytest.fixture
def store(tmp_path):
    with LMDBStore(LMDBOptions(), Context(tmp_path)) as store:
        store.put([make_record("1", seed=1)])
        yield store


def test_one_snapshot_is_read_while_pinned(store):
    reader = PinnedStore(lambda: store)
    assert reader.store is store
    with reader.pinned():
        before = reader.store.vectors(["1"])
        store.put([make_record("1", seed=2)])
        with reader.pinned():
            np.testing.assert_array_equal(reader.store.vectors(["1"]), before)
        np.testing.assert_array_equal(reader.store.vectors(["1"]), before)
    assert not np.array_equal(reader.store.vectors(["1"]), before)


def test_threads_share_a_snapshot(store):
    reader = PinnedStore(lambda: store)
    first, second = reader.pinned(), reader.pinned()
    first.__enter__()
    before = reader.store.vectors(["1"])
    second.__enter__()
    first.__exit__(None, None, None)
    store.put([make_record("1", seed=2)])
    np.testing.assert_array_equal(reader.store.vectors(["1"]), before)
    second.__exit__(None, None, None)
    assert reader.store is store
    with reader.pinned():
        assert not np.array_equal(reader.store.vectors(["1"]), before)


def test_without_a_read_no_store_is_opened():
    def fail():
        raise AssertionError

    with PinnedStore(fail).pinned():
        pass


def test_a_project_reads_one_snapshot(tmp_path, hashing):  # noqa: F811
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{n},film {n}\n" for n in range(9)))
    pairs = "".join(f"{u},{(u + n) % 9}\n" for u in range(9) for n in range(5))
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + pairs)
    (tmp_path / "enhancer.toml").write_text(
        '[data]\nitems = "items.csv"\ninteractions = "ratings.csv"\n[prompts.item]\nsource = "text"\n'
        '[prompts.user]\nsource = "pool"\n[embedder]\nuse = "hashing"\n'
    )
    project = enhancer.Project.load(tmp_path / "enhancer.toml")
    project.generate()
    records = list(project.store.scan())
    with project.parts.pinned():
        before = project.parts.features(["text"]).items
        for record in records:
            record.vector = -record.vector
        project.store.put(records)
        again = project.parts.features(["text"]).items
    np.testing.assert_array_equal(before, again)
    np.testing.assert_array_equal(project.parts.features(["text"]).items, -before)
    project.close()
