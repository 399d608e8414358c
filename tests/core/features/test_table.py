"""Test reading vectors as matrices, and pooling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enhancer.contracts import Context, Record
from enhancer.errors import StoreMismatchError
from enhancer.features import feature_table, pool
from enhancer.features.reading.table import sample_spread
from enhancer_plugins.stores.sqlite import SQLiteStore


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    return SQLiteStore(SQLiteStore.options_class(), Context(tmp_path))


def record(id_: str, vector: list[float], aspect: str = "", embedder: str = "e", kind: str = "item") -> Record:
    return Record(
        id=id_,
        kind=kind,
        aspect=aspect,
        profile="p",
        vector=np.array(vector, np.float32),
        embedder=embedder,
        generated_at="2026-01-01T00:00:00Z",
        input_hash="h",
    )


def test_inputs_stand_side_by_side_and_gaps_are_zero(store: SQLiteStore) -> None:
    store.put(
        [record("a", [1, 0]), record("b", [0, 1]), record("a", [0, 0, 1], "text"), record("a", [9, 9], kind="user")]
    )
    table = feature_table(store, ["b", "a", "z"], "item", ["profile", "text"], "e")
    np.testing.assert_array_equal(table, np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]], np.float32))
    assert table.dtype == np.float32
    assert table.flags.c_contiguous
    assert feature_table(store, ["a"], "item", ["text"], None).shape == (1, 3)
    assert feature_table(store, ["a"], "user", ["text"], None).shape == (1, 0)
    assert feature_table(store, [], "item", ["profile"], "e").shape[0] == 0


def test_vectors_of_another_embedder_are_refused_with_the_way_out(store: SQLiteStore) -> None:
    store.put([record("a", [1, 0]), record("b", [0, 1], embedder="other")])
    with pytest.raises(StoreMismatchError, match=r"'b' was made by embedder 'other'.*enhancer generate"):
        feature_table(store, ["a", "b"], "item", ["profile"], "e")
    assert feature_table(store, ["a"], "item", ["profile"], "e").any()


def test_a_user_is_the_mean_of_the_items_at_unit_length() -> None:
    items = np.array([[1, 0], [0, 1], [0, 0], [-1, 0]], np.float32)
    users = np.array([2, 0, 0, 1, 3, 3, 0], np.int32)
    chosen = np.array([0, 0, 1, 2, 0, 3, 2], np.int32)
    pooled = pool(items, users, chosen, 5)
    half = 2**-0.5
    np.testing.assert_allclose(pooled, [[half, half], [0, 0], [1, 0], [0, 0], [0, 0]], atol=1e-6)
    assert pooled.dtype == np.float32


def test_pooling_equals_the_plain_loop() -> None:
    random = np.random.default_rng(0)
    items = random.normal(size=(30, 5)).astype(np.float32)
    users, chosen = random.integers(0, 12, 400).astype(np.int32), random.integers(0, 30, 400).astype(np.int32)
    pooled = pool(items, users, chosen, 13)
    for user in range(12):
        mean = items[chosen[users == user]].mean(axis=0)
        np.testing.assert_allclose(pooled[user], mean / np.linalg.norm(mean), atol=1e-5)
    assert not pooled[12].any()
    assert pool(np.zeros((3, 0), np.float32), users[:0], chosen[:0], 2).shape == (2, 0)


def test_the_spread_of_samples_is_their_variance(store: SQLiteStore) -> None:
    random = np.random.default_rng(0)
    samples = random.standard_normal((3, 5))
    samples /= np.linalg.norm(samples, axis=1, keepdims=True)
    store.put(
        [record("a", list(one), aspect) for one, aspect in zip(samples, ("mood", "mood#2", "mood#3"), strict=True)]
    )
    store.put([record("b", [1, 0, 0, 0, 0], "mood"), record("c", [1, 0, 0, 0, 0], "mood")])
    store.put([record("c", [1, 0, 0, 0, 0], "mood#2"), record("a", [0, 1, 0, 0, 0], "text")])
    found = sample_spread(store, ["a", "b", "c", "z"], "item", "mood", 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], samples.var(axis=0, ddof=1).sum(), rtol=1e-5)
    np.testing.assert_array_equal(found[1:], [np.nan, 0, np.nan])
    two = sample_spread(store, ["a"], "item", "mood", 2)
    np.testing.assert_allclose(two, samples[:2].var(axis=0, ddof=1).sum(), rtol=1e-5)
    np.testing.assert_allclose(sample_spread(store, ["a"], "item", "mean(mood,text)", 3), found[:1] / 2)
    np.testing.assert_array_equal(sample_spread(store, ["a"], "item", "text", 3), [0])
    np.testing.assert_array_equal(sample_spread(store, ["a"], "item", "mood+text", 3), [0])
