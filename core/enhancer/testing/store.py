"""Tests for every feature store. Subclass :class:`StoreConformance` in a test module that pytest collects.

::

    from enhancer.testing.store import StoreConformance

    class TestMine(StoreConformance):
        store_class = MyStore
        options = {"path": "features"}

The stateful test needs hypothesis and is skipped without it.
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from enhancer.contracts import Context, FeatureStore, Stamp, StoreOptions
from enhancer.contracts.options import build_options
from enhancer.errors import StoreError, StoreMismatchError
from enhancer.testing._records import as_tuple as as_tuple, make_record as make_record

OpenStore = Callable[[], FeatureStore]

_IDS = (
    "1",
    "",
    " ",
    "ünïcödé — 映画",
    "a/b\\c",
    "\x00",
    "tab\tnew\nline",
    "'; DROP TABLE",
    "\U0001d518",
    "x" * 254,
    "y" * 5000,
)
"""Ids that are known to cause errors in stores."""


class StoreConformance:
    """Base class of store tests; set ``store_class``."""

    store_class: ClassVar[type[FeatureStore]]
    options: ClassVar[Mapping[str, Any]] = {}
    """Options for the constructor. Relative paths are relative to a new folder for each test."""
    shared_between_processes: ClassVar[bool] = True

    def options_for(self, root: Path) -> Mapping[str, Any]:  # noqa: ARG002 - used by overrides
        """Return the options of the store of one test, whose folder is ``root``.

        Override it if the store is not just a folder, for example a table of a server. Equal roots must give the same
        store, and different roots different stores.
        """
        return self.options

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        """Return a function that opens the store of this test."""
        options = build_options(self.store_class.options_class, self.options_for(tmp_path), where="[store]")
        return lambda: self.store_class(options, Context(root=tmp_path))

    @pytest.fixture
    def store(self, open_store: OpenStore) -> Iterator[FeatureStore]:
        with open_store() as store:
            yield store

    # --- writing and reading ----------------------------------------------------------------------------------

    def test_a_record_comes_back_whole(self, store: FeatureStore) -> None:
        full = make_record("1", kind="user", aspect="mood", confidence="low")
        bare = make_record("2", tags=(), prompt_tokens=None, completion_tokens=None, cost_usd=None, profile="")
        store.put([full, bare])
        (one,) = store.get(["1"], kind="user", aspect="mood")
        (two,) = store.get(["2"])
        assert one is not None
        assert two is not None
        assert as_tuple(one) == as_tuple(full)
        assert as_tuple(two) == as_tuple(bare)
        assert two.cost_usd is None

    @pytest.mark.parametrize("id_", _IDS)
    def test_any_id_is_an_id(self, store: FeatureStore, id_: str) -> None:
        store.put([make_record(id_), make_record(id_ + "!", seed=1)])
        found = store.get([id_, id_ + "!", id_ + "?"])
        assert [record and record.id for record in found] == [id_, id_ + "!", None]
        assert {record.id for record in store.scan()} == {id_, id_ + "!"}
        assert store.delete([id_]) == 1
        assert store.get([id_]) == [None]

    def test_answers_are_in_the_order_of_the_ids(self, store: FeatureStore) -> None:
        records = {str(n): make_record(str(n), seed=n) for n in range(50)}
        store.put(list(records.values()))
        asked = ["7", "missing", "3", "3", "49", "0"]
        assert [record and record.id for record in store.get(asked)] == ["7", None, "3", "3", "49", "0"]
        stamps = store.stamps(asked)
        assert stamps == [records[id_].stamp if id_ in records else None for id_ in asked]
        vectors = store.vectors(asked)
        for row, id_ in zip(vectors, asked, strict=True):
            if id_ in records:
                np.testing.assert_array_equal(row, records[id_].vector)
            else:
                assert np.isnan(row).all()

    def test_vectors_are_a_table_of_the_callers_own(self, store: FeatureStore) -> None:
        store.put([make_record("1")])
        table = store.vectors(["1", "1"])
        assert table.shape == (2, 4)
        assert table.dtype == np.float32
        assert table.flags.c_contiguous
        table[:] = 7
        assert not np.array_equal(store.vectors(["1"])[0], table[0])
        assert store.vectors([]).shape[0] == 0
        assert store.vectors(["missing"]).shape[0] == 1
        assert store.get([]) == []
        assert store.stamps([]) == []

    def test_float64_and_strided_vectors_are_kept_as_float32(self, store: FeatureStore) -> None:
        store.put([make_record("1", vector=np.arange(1.0, 9.0)[::2]), make_record("2", vector=[1, 2, 3, 4])])
        np.testing.assert_array_equal(store.vectors(["1", "2"]), np.array([[1, 3, 5, 7], [1, 2, 3, 4]], np.float32))

    def test_an_equal_key_replaces(self, store: FeatureStore) -> None:
        store.put([make_record("1", seed=1), make_record("1", seed=2)])
        store.put([make_record("1", seed=3, dim=9, profile="new" * 3000)])
        (record,) = store.get(["1"])
        assert record is not None
        assert as_tuple(record) == as_tuple(make_record("1", seed=3, dim=9, profile="new" * 3000))
        assert store.stats().records == 1

    def test_kinds_and_aspects_are_apart(self, store: FeatureStore) -> None:
        places = list(itertools.product(("item", "user"), ("", "text", "m", "mood", "z" * 300)))
        records = [make_record("1", seed=n, kind=kind, aspect=aspect) for n, (kind, aspect) in enumerate(places)]
        store.put(records)
        for n, (kind, aspect) in enumerate(places):
            assert store.stamps(["1"], kind=kind, aspect=aspect) == [Stamp(f"hash-{n}", "test@1")]  # type: ignore[arg-type]
            assert [r.aspect for r in store.scan(kind=kind, aspect=aspect)] == [aspect]  # type: ignore[arg-type]
        assert store.delete(["1"], kind="user", aspect="m") == 1
        assert store.stats().records == len(places) - 1
        assert [r.aspect for r in store.scan(kind="user", aspect="mood")] == ["mood"]

    # --- invalid records --------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "vector",
        [[1, float("nan")], [float("inf"), 1], [0.0, 0.0], [], [[1.0, 2.0]], 3.0, [1e300, 1], ["a", "b"], None],
        ids=str,
    )
    def test_a_bad_vector_is_refused_and_nothing_of_its_call_is_kept(self, store: FeatureStore, vector: Any) -> None:
        store.put([make_record("old", seed=1)])
        dtype = object if vector is None else None
        bad = make_record("bad-one", vector=np.array(vector, dtype=dtype))
        with pytest.raises(StoreError, match="bad-one"):
            store.put([make_record("new"), make_record("old", seed=2), bad])
        assert store.get(["new", "bad-one"]) == [None, None]
        assert store.stamps(["old"]) == [Stamp("hash-1", "test@1")]

    def test_vectors_of_two_lengths_are_not_one_table(self, store: FeatureStore) -> None:
        store.put([make_record("1", dim=4), make_record("2", dim=5)])
        with pytest.raises(StoreMismatchError, match=r"4.*5"):
            store.vectors(["1", "2"])
        assert store.vectors(["2"]).shape == (1, 5)

    # --- deleting, scanning, counting -------------------------------------------------------------------------

    def test_delete_counts_what_was_there(self, store: FeatureStore) -> None:
        store.put([make_record("1"), make_record("2")])
        assert store.delete(["1", "missing"]) == 1
        assert store.delete(["1"]) == 0
        assert store.delete([]) == 0
        assert [record.id for record in store.scan()] == ["2"]

    def test_scan_is_stable_and_complete(self, store: FeatureStore) -> None:
        store.put([make_record(str(n), kind=kind) for n in range(700) for kind in ("item", "user")])
        first = [record.key for record in store.scan()]
        assert [record.key for record in store.scan()] == first
        assert len(set(first)) == len(first) == 1400
        assert {key.kind for key in (record.key for record in store.scan(kind="user"))} == {"user"}

    def test_scan_is_a_stream_beside_which_one_may_write(self, store: FeatureStore) -> None:
        store.put([make_record(str(n)) for n in range(600)])
        seen = 0
        for record in store.scan():
            if seen % 100 == 0:
                store.put([make_record(record.id, seed=9)])
            seen += 1
        assert seen == 600
        stream = store.scan()
        next(stream)
        store.delete([str(n) for n in range(600)])

    def test_stats_count(self, store: FeatureStore) -> None:
        assert store.stats().records == 0
        store.put([make_record("1"), make_record("2", kind="user", aspect="mood", dim=6, embedder="other")])
        stats = store.stats()
        assert stats.records == 2
        assert stats.by_kind == {"item": 1, "user/mood": 1}
        assert stats.dims == {4: 1, 6: 1}
        assert stats.embedders == {"test@1": 1, "other": 1}

    def test_path_names_its_folder(self, tmp_path: Path) -> None:
        """The journal is in ``[store] path`` for every store, so that it is still found after a change of the store."""
        values = {**self.options_for(tmp_path), "path": "elsewhere"}
        options = build_options(self.store_class.options_class, values, where="[store]")
        assert isinstance(options, StoreOptions)
        with self.store_class(options, Context(root=tmp_path)) as store:
            assert store.directory == tmp_path / "elsewhere"

    def test_it_exists_once_it_was_written_to(self, open_store: OpenStore, tmp_path: Path) -> None:
        options = build_options(self.store_class.options_class, self.options_for(tmp_path), where="[store]")
        before = self.store_class.exists(options, Context(root=tmp_path))
        overridden = self.store_class.exists.__func__ is not FeatureStore.exists.__func__  # type: ignore[attr-defined]
        assert before is not overridden, "exists() must be False for a missing store, unless it is not overridden"
        assert list(tmp_path.rglob("*")) == [], "exists() created files"
        with open_store() as store:
            store.put([make_record("1")])
        assert self.store_class.exists(options, Context(root=tmp_path))

    def test_a_sound_store_has_no_fault(self, store: FeatureStore) -> None:
        assert store.verify() == []
        store.put([make_record(id_) for id_ in _IDS])
        store.delete([_IDS[0]])
        assert store.verify() == []

    def test_keys_are_those_of_the_records(self, store: FeatureStore) -> None:
        assert list(store.keys()) == []
        store.put([make_record(id_, kind=kind) for id_ in _IDS for kind in ("item", "user")])
        store.put([make_record("1", aspect=aspect) for aspect in ("mood", "z" * 300)])
        for wanted in ({}, {"kind": "user"}, {"kind": "item", "aspect": ""}, {"aspect": "mood"}, {"aspect": "none"}):
            found = list(store.keys(**wanted))  # type: ignore[arg-type]
            assert found == [record.key for record in store.scan(**wanted)]  # type: ignore[arg-type]
        assert store.count() in (None, 2 * len(_IDS) + 2)

    # --- snapshots --------------------------------------------------------------------------------------------

    @pytest.fixture
    def pinned(self, store: FeatureStore) -> Iterator[FeatureStore]:
        """Yield a snapshot of a store with two records."""
        if self.store_class.snapshot is FeatureStore.snapshot:
            pytest.skip("this store has no snapshots")
        store.put([make_record("1", seed=1), make_record("2", seed=1)])
        with store.snapshot() as pinned:
            yield pinned

    def test_a_snapshot_does_not_change(self, store: FeatureStore, pinned: FeatureStore) -> None:
        before = [as_tuple(record) for record in pinned.scan()]
        store.put([make_record("1", seed=2, profile="new" * 900), make_record("3")])
        store.delete(["2"])
        for _ in range(3):  # pages of replaced records must not be reused either
            store.put([make_record(str(n), seed=n, dim=50) for n in range(3, 300)])
        assert [as_tuple(record) for record in pinned.scan()] == before
        assert pinned.stamps(["1", "2", "3"]) == [Stamp("hash-1", "test@1")] * 2 + [None]
        assert [record and record.input_hash for record in pinned.get(["1", "2", "3"])] == ["hash-1", "hash-1", None]
        np.testing.assert_array_equal(pinned.vectors(["2"])[0], make_record("2", seed=1).vector)
        assert [key.id for key in pinned.keys(kind="item")] == ["1", "2"]
        assert pinned.stats().records == 2
        assert pinned.directory == store.directory
        # New records are visible in the store and in later snapshots.
        assert store.stamps(["1", "2"]) == [Stamp("hash-2", "test@1"), None]
        with store.snapshot() as later:
            assert later.stamps(["1", "2"]) == [Stamp("hash-2", "test@1"), None]
        assert pinned.stamps(["2"]) != [None]

    def test_a_snapshot_is_for_reading_and_for_its_block(self, store: FeatureStore, pinned: FeatureStore) -> None:
        with pytest.raises(StoreError, match="snapshot"):
            pinned.put([make_record("3")])
        with pytest.raises(StoreError, match="snapshot"):
            pinned.delete(["1"])
        with store.snapshot() as short:
            assert short.stamps(["1"]) != [None]
        with pytest.raises(StoreError, match="closed"):
            short.stamps(["1"])
        assert pinned.stamps(["1"]) != [None]

    def test_threads_may_share_a_snapshot(self, store: FeatureStore, pinned: FeatureStore) -> None:
        errors: list[BaseException] = []

        def read() -> None:
            try:
                for _ in range(20):
                    assert pinned.stamps(["1", "2", "3"]) == [Stamp("hash-1", "test@1")] * 2 + [None]
            except BaseException as error:  # noqa: BLE001 - reported to the main thread
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for step in range(5):
            store.put([make_record("1", seed=step + 5), make_record("3", seed=step)])
        for thread in threads:
            thread.join(60)
        assert errors == []

    # --- sharing ----------------------------------------------------------------------------------------------

    def test_what_was_put_outlives_the_store(self, open_store: OpenStore) -> None:
        with open_store() as store:
            store.put([make_record("1")])
            directory = store.directory
        store.close()
        with open_store() as store:
            assert store.directory == directory
            assert directory.is_dir()
            (record,) = store.get(["1"])
        assert record is not None
        assert as_tuple(record) == as_tuple(make_record("1"))

    def test_two_stores_of_one_process_see_the_same(self, open_store: OpenStore) -> None:
        with open_store() as one, closing(open_store()) as two:
            one.put([make_record("1")])
            assert two.stamps(["1"]) == one.stamps(["1"]) != [None]
            two.close()
            assert one.stamps(["1"]) != [None]

    def test_another_process_sees_and_writes(self, store: FeatureStore, tmp_path: Path) -> None:
        if not self.shared_between_processes:
            pytest.skip("this store does not support several processes")
        store.put([make_record("ours")])
        program = (
            "import importlib, json, sys, pathlib\n"
            "from enhancer.contracts import Context\n"
            "from enhancer.contracts.options import build_options\n"
            "from enhancer.testing.store import make_record\n"
            "cls = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])\n"
            "options = build_options(cls.options_class, json.loads(sys.argv[3]), where='')\n"
            "with cls(options, Context(root=pathlib.Path(sys.argv[4]))) as store:\n"
            "    assert store.stamps(['ours']) != [None]\n"
            "    store.put([make_record('theirs')])\n"
        )
        made = self.store_class
        arguments = (made.__module__, made.__qualname__, json.dumps(dict(self.options_for(tmp_path))), str(tmp_path))
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert store.stamps(["theirs"]) != [None]

    def test_threads_may_share_a_store(self, store: FeatureStore) -> None:
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(15):
                    ids = [f"{number}-{step}-{n}" for n in range(5)]
                    store.put([make_record(id_, seed=number, profile="p" * 500) for id_ in ids])
                    assert None not in store.get(ids)
                    assert not np.isnan(store.vectors(ids)).any()
            except BaseException as error:  # noqa: BLE001 - reported to the main thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert store.stats().records == 4 * 15 * 5

    # --- any sequence of calls --------------------------------------------------------------------------------

    def test_it_behaves_as_a_dictionary(self) -> None:
        pytest.importorskip("hypothesis")
        from hypothesis import HealthCheck, settings
        from hypothesis.stateful import run_state_machine_as_test

        from enhancer.testing._store_machine import store_machine

        with tempfile.TemporaryDirectory() as folder:
            numbers = itertools.count()

            def new_store() -> OpenStore:
                root = Path(folder) / str(next(numbers))
                options = build_options(self.store_class.options_class, self.options_for(root), where="[store]")
                return lambda: self.store_class(options, Context(root=root))

            run_state_machine_as_test(
                store_machine(new_store),
                settings=settings(
                    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
                ),
            )
