"""Rows that have not changed are recognised, and whatever else changes is noticed all the same."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from generation import HashingEmbedder
from hypothesis import HealthCheck, given, settings, strategies as st

from enhancer.config import Settings
from enhancer.contracts import Context
from enhancer.errors import DataError
from enhancer.features import Pipeline
from enhancer.features.refresh import refresh
from enhancer.features.row_memory import row_hashes
from enhancer_plugins.stores.lmdb import LMDBStore

MEMORY = "rows-item.memory"


class Forgetful(LMDBStore):
    """A store that cannot tell its revision, so that nothing is remembered."""

    def revision(self):
        return None


@dataclass
class Shop:
    """A catalogue whose texts are embedded without an LLM."""

    root: Path
    rows: list[list[str]]
    names: list[str] = field(default_factory=lambda: ["item_id", "title", "plot"])
    more: dict = field(default_factory=dict)
    embedder: str = "hashing"
    store_class: type = LMDBStore

    def write(self):
        with (self.root / "items.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.names, *self.rows])

    def open(self, store_class=LMDBStore):
        return store_class(store_class.options_class(path=Path("features")), Context(self.root))

    def pipeline(self, store):
        given = {
            "data": {"items": "items.csv", **self.more},
            "prompts": {"item": {"source": "text"}, "user": {"source": "none"}},
        }
        return Pipeline(
            Settings.model_validate(given),
            self.root,
            store=store,
            provider=lambda: pytest.fail("no LLM is asked"),
            embedder=lambda: HashingEmbedder(name=self.embedder),
        )

    def expected(self):
        """What a refresh finds that remembers nothing."""
        with self.open(Forgetful) as store:
            pipeline = self.pipeline(store)
            counter = pipeline.difference_counter()
            plan = pipeline.plan(counter=counter)
            pipeline.count_vanished(counter)
            return [one.to_json() for one in counter.results()], plan.to_json()

    def refresh(self, **more):
        self.write()
        with self.open() as store:
            done = refresh(self.pipeline(store), store, **more)
        return [one.to_json() for one in done.changes.differences], done.changes.plan.to_json()

    def check(self):
        self.write()
        expected = self.expected()
        assert self.refresh() == expected


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path, [[str(n), f"film {n}", f"a story, number {n}"] for n in range(60)])
    made.refresh()
    made.refresh()
    assert (tmp_path / "features" / MEMORY).exists()
    return made


def test_unchanged_rows_are_neither_rendered_nor_looked_up(shop, monkeypatch):
    looked_up = []
    monkeypatch.setattr(LMDBStore, "stamps", lambda self, ids, **_: looked_up.extend(ids) or [None] * len(ids))
    (found,), plan = shop.refresh()
    assert (found["entities"], found["fresh"], found["new"], plan["to_generate"]) == (60, 60, 0, 0)
    assert looked_up == []


def test_only_rows_that_changed_are_looked_up(shop, monkeypatch):
    shop.rows[7][2] = "another story"
    shop.rows.insert(3, ["new", "film", "a new story"])
    looked_up = []
    stamps = LMDBStore.stamps
    monkeypatch.setattr(LMDBStore, "stamps", lambda self, ids, **kw: looked_up.extend(ids) or stamps(self, ids, **kw))
    shop.refresh()
    assert set(looked_up) == {"7", "new"}
    monkeypatch.undo()
    shop.check()


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.integers(0, 59), st.sampled_from(["one", "two", "", " two "])),
        st.tuples(st.just("id"), st.integers(0, 59), st.sampled_from(["a", "b", " a"])),
        st.tuples(st.just("remove"), st.integers(0, 59)),
        st.tuples(st.just("add"), st.integers(0, 59), st.integers(100, 103)),
        st.tuples(st.just("repeat"), st.integers(0, 59)),
        st.tuples(st.just("sort"), st.booleans()),
        st.tuples(st.just("column"), st.sampled_from(["plot", "story"])),
        st.tuples(st.just("setting"), st.sampled_from([{}, {"max_text": 12}, {"columns": {"item_text": ["title"]}}])),
        st.tuples(st.just("embedder"), st.sampled_from(["hashing", "other"])),
        st.tuples(st.just("delete"), st.integers(0, 59)),
        st.tuples(st.just("foreign"), st.integers(0, 59)),
        st.tuples(st.just("forget")),
        st.tuples(st.just("damage"), st.integers(0, 8000)),
        st.tuples(st.just("refresh")),
    ),
    min_size=1,
    max_size=12,
)


def apply(shop, edit):
    what, *given = edit
    row = given[0] % len(shop.rows) if given and isinstance(given[0], int) and shop.rows else 0
    memory = shop.root / "features" / MEMORY
    if what == "text":
        shop.rows[row][2] = given[1]
    elif what == "id":
        shop.rows[row][0] = given[1]
    elif what == "remove" and len(shop.rows) > 1:
        del shop.rows[row]
    elif what == "add":
        shop.rows.insert(row, [str(given[1]), "film", "new"])
    elif what == "repeat":
        shop.rows.append(list(shop.rows[row]))
    elif what == "sort":
        shop.rows.sort(reverse=given[0])
    elif what == "column":
        shop.names[2] = given[0]
    elif what == "setting":
        shop.more = given[0]
    elif what == "embedder":
        shop.embedder = given[0]
    elif what == "delete":
        with shop.open() as store:
            store.delete([shop.rows[row][0].strip()], aspect="text")
    elif what == "foreign":
        with shop.open() as store:
            (found,) = store.get([shop.rows[row][0].strip()], aspect="text")
            if found is not None:
                found.input_hash = "0" * 32
                store.put([found])
    elif what == "forget":
        memory.unlink(missing_ok=True)
    elif what == "damage" and memory.exists():
        raw = bytearray(memory.read_bytes())
        raw[given[0] % len(raw)] ^= 0xFF
        memory.write_bytes(raw)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_a_refresh_finds_what_it_would_find_without_the_memory(tmp_path_factory, edits):
    root = tmp_path_factory.mktemp("shop")
    shop = Shop(root, [[str(n), f"film {n}", f"a story, number {n}"] for n in range(60)])
    shop.refresh()
    shop.refresh()
    for edit in [*edits, ("refresh",), ("refresh",)]:
        apply(shop, edit)
        if edit[0] != "refresh" and edit[0] in {"text", "remove", "sort"}:
            continue  # several edits between two refreshes
        shop.write()
        try:
            expected = shop.expected()
        except DataError as error:
            with pytest.raises(DataError, match=re.escape(str(error))):
                shop.refresh()
            ids: dict[str, list[str]] = {}
            for row in shop.rows:
                ids.setdefault(row[0].strip(), row)
            shop.rows = list(ids.values())
            continue
        assert shop.refresh() == expected


def test_two_texts_for_one_id_are_an_error_however_they_arrive(shop):
    for place in (0, 30, 60):
        rows = [list(row) for row in shop.rows]
        shop.rows.insert(place, ["30", "film 30", "quite another story"])
        shop.write()
        with pytest.raises(DataError, match="'30' occurs again with different text"):
            shop.refresh()
        shop.rows = rows


def test_a_write_by_another_process_during_the_run_is_noticed(shop, monkeypatch):
    shop.rows[3][2] = "changed"
    shop.write()
    with shop.open() as store, shop.open() as other:
        encode = HashingEmbedder.encode

        def interfere(self, texts):
            other.delete(["9"], aspect="text")
            return encode(self, texts)

        monkeypatch.setattr(HashingEmbedder, "encode", interfere)
        refresh(shop.pipeline(store), store)
        monkeypatch.undo()
    (found,), _ = shop.refresh()
    assert found["new"] == 1


def test_cells_are_not_confused_with_each_other():
    assert row_hashes(["1"], [["ab"], ["c"]]) != row_hashes(["1"], [["a"], ["bc"]])
    assert row_hashes(["1"], [["a\x1f"], ["b"]]) is None
    assert row_hashes(["1"], [[None]]) is None


def test_a_store_without_revisions_remembers_nothing(tmp_path):
    made = Shop(tmp_path, [["1", "film", "story"]])
    made.write()
    with made.open(Forgetful) as store:
        refresh(made.pipeline(store), store)
        refresh(made.pipeline(store), store)
    assert not (tmp_path / "features" / MEMORY).exists()


def test_the_revision_changes_with_every_write(shop):
    with shop.open() as store, shop.open() as other:
        first = store.revision()
        assert store.revision() == first
        (record,) = store.get(["1"], aspect="text")
        record.vector = np.roll(record.vector, 1)
        other.put([record])
        second = store.revision()
        assert second != first
        assert (second.number - first.number, store.own_writes, other.own_writes) == (1, 0, 1)
        assert store.delete(["none"], aspect="text") == 0
        assert (store.revision(), store.own_writes) == (second, 0)


def test_a_folder_that_cannot_be_written_costs_time_only(shop, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    shop.rows[3][2] = "changed"
    monkeypatch.setattr("enhancer.features.row_memory.atomic_replace", full)
    shop.check()


def test_the_description_in_the_file_is_json(shop):
    head = (shop.root / "features" / MEMORY).read_bytes()[:4096]
    assert json.loads(head)["rows"] == 60
