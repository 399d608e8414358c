"""Conformance suite for embedders, and tests of this one."""

from __future__ import annotations

import enhancer_example
import numpy as np
import pytest
from enhancer_example.hashing import Hashing

from enhancer.contracts import Context
from enhancer.errors import ConfigError
from enhancer.plugin_host import PluginManager
from enhancer.testing.embedder import EmbedderConformance


class TestContract(EmbedderConformance):
    """Conformance suite that ships with enhancer."""

    embedder_class = Hashing
    understands = False  # it compares words, not meanings


def make(**options: object):
    manager = PluginManager()
    manager.register(enhancer_example, distribution="enhancer-example")
    return manager.create("embedder", "hashing", options, Context())


@pytest.fixture
def embedder():
    return make()


def test_rows_are_float32_of_unit_length_in_order(embedder):
    texts = ["a quiet film about tea", "", "!!!", "日本語の本", "a quiet film about tea", "x" * 100_000, "\ud800"]
    vectors = embedder.encode(texts)
    assert vectors.shape == (len(texts), embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[4])


def test_no_texts_give_no_rows(embedder):
    assert embedder.encode([]).shape == (0, 256)


def test_neighbours_do_not_change_a_vector(embedder):
    alone = embedder.encode(["green tea"])
    np.testing.assert_array_equal(embedder.encode(["motor oil", "green tea"])[1:], alone)


def test_the_vector_is_the_same_on_every_machine():
    assert np.flatnonzero(make(dim=8).encode(["tea"])[0]).tolist() == [5]


def test_likeness_follows_shared_words(embedder):
    tea, coffee, oil = embedder.encode(["green tea leaves", "green coffee leaves", "motor oil"])
    assert tea @ coffee > 0.6 > 0.1 > tea @ oil


def test_runs_of_words_tell_order():
    one, two = make(ngrams=2).encode(["man bites dog", "dog bites man"])
    assert one @ two < 0.9


def test_the_fingerprint_names_what_changes_vectors():
    assert len({make().fingerprint, make(dim=64).fingerprint, make(ngrams=2).fingerprint}) == 3
    assert make().fingerprint == make(dim=256).fingerprint


def test_unknown_and_impossible_options_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"\[embedder\] unknown key 'dims'; did you mean 'dim'"):
        make(dims=3)
    with pytest.raises(ConfigError, match=r"\[embedder\] dim"):
        make(dim=1)
