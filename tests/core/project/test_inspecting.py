"""Test which items are near another by one note, and the reasons that are given for recommendations."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer.contracts import Context, FeatureStore, Record
from enhancer.errors import DataError, StoreError
from enhancer.project.inspecting.nearest_items import nearest_items
from enhancer.project.inspecting.reasons import reasons
from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return SQLiteStore(SQLiteOptions(), Context(tmp_path))


def put(store: FeatureStore, aspect: str, vectors: dict[str, list[float]]) -> None:
    fields = {"profile": "p", "embedder": "e", "generated_at": "2026-01-01T00:00:00Z", "input_hash": "h"}
    store.put(
        [
            Record(id=id_, aspect=aspect, vector=np.array(vector, np.float32) / np.linalg.norm(vector), **fields)
            for id_, vector in vectors.items()
        ]
    )


def near(store: FeatureStore, id_: str, *inputs: str, **more) -> dict[str, float]:
    return {item: score for item, score, _ in nearest_items(store, id_, inputs, 5, {}, **more).items}


def test_items_are_near_by_the_note_that_is_asked_for(store):
    put(store, "plot", {"a": [1, 0], "b": [1, 0.1], "c": [0, 1]})
    put(store, "mood", {"a": [1, 0], "b": [0, 1], "c": [1, 0.1]})
    assert list(near(store, "a", "plot")) == ["b", "c"]
    assert list(near(store, "a", "mood")) == ["c", "b"]
    assert near(store, "a", "plot", "mood") == pytest.approx({"b": 0.4975, "c": 0.4975}, abs=1e-4)


def test_an_item_that_lacks_one_of_the_inputs_is_compared_by_the_others(store):
    put(store, "plot", {"a": [1, 0], "b": [1, 0], "c": [0, 1]})
    put(store, "mood", {"b": [1, 0], "c": [1, 0.1]})
    assert near(store, "a", "plot", "mood") == pytest.approx({"b": 2**-0.5, "c": 0.0}, abs=1e-6)
    assert near(store, "b", "plot", "mood")["a"] == pytest.approx(2**-0.5)


def test_a_note_that_nothing_has_is_an_error_with_the_nearest_name(store):
    put(store, "plot", {"a": [1, 0]})
    with pytest.raises(StoreError, match="no vectors of items by mod; did you mean 'mood'"):
        near(store, "a", "mod", known=("text", "plot", "mood"))
    with pytest.raises(StoreError, match="no vectors of items by mood; run `enhancer generate`"):
        near(store, "a", "mood", known=("text", "plot", "mood"))
    with pytest.raises(DataError, match="no vector for item 'b' by plot"):
        near(store, "b", "plot", known=("text", "plot"))
    with pytest.raises(DataError, match="no vector for item 'b' by plot; `enhancer store get b`"):
        nearest_items(store, "b", ("plot",), 5, {"b": "Heat"}, known=("text", "plot"))


def test_the_reason_is_the_note_that_stands_out(store):
    # All texts resemble each other; the audience of "new" is that of "heat" and of no other.
    texts = {name: [1, 0.01 * number] for number, name in enumerate(("new", "heat", "toys", "mass"))}
    put(store, "text", texts)
    put(store, "audience", {"new": [1, 0, 0], "heat": [1, 0.2, 0], "toys": [0, 1, 0], "mass": [0, 0, 1]})
    titles = {"heat": "Heat"}
    (found,) = reasons(
        store, ["new"], ["heat", "toys", "mass"], ["text", "audience"], titles.get, catalogue=list(texts)
    )
    assert (found.item_id, found.by, str(found)) == ("heat", "audience", "beside Heat by audience")
    assert found.similarity == pytest.approx(1 / np.hypot(1, 0.2))
    assert found.to_json() == {"item_id": "heat", "title": "Heat", "by": "audience", "similarity": found.similarity}


def test_items_without_vectors_have_no_reason(store):
    put(store, "plot", {"a": [1, 0], "b": [1, 0.1]})
    found = reasons(store, ["a", "unknown"], ["b", "elsewhere"], ["plot", "mood"], {}.get, catalogue=["a", "b"])
    assert [None if one is None else one.item_id for one in found] == ["b", None]
    assert reasons(store, ["a"], [], ["plot"], {}.get, catalogue=["a", "b"]) == [None]
    with pytest.raises(StoreError, match="nothing explains them"):
        reasons(store, ["a"], ["b"], ["mood"], {}.get, catalogue=["a", "b"])


def test_the_reason_of_an_item_does_not_depend_on_the_others(store):
    rng = np.random.default_rng(0)
    ids = [f"i{number}" for number in range(60)]
    for aspect, level in (("text", 3.0), ("plot", 0.0), ("mood", 1.0)):
        put(store, aspect, {id_: (rng.standard_normal(6) + level).tolist() for id_ in ids})
    history, recommended = ids[:12], ids[12:52]

    def explained(some):
        return reasons(store, some, history, ["text", "plot", "mood"], {}.get, catalogue=ids)

    whole = explained(recommended)
    assert len({one.by for one in whole}) > 1
    for k in (1, 2, 5, 17):
        assert explained(recommended[:k]) == whole[:k]
    assert explained(recommended[::-1]) == whole[::-1]
