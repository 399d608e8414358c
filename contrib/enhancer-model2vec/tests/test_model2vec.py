"""Conformance of the embedder ``model2vec``, and its vectors against the definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import enhancer_model2vec
import numpy as np
import pytest
from enhancer_model2vec.embedder import Model2Vec
from model2vec import StaticModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from enhancer.contracts import Context
from enhancer.errors import ConfigError
from enhancer.plugin_host import PluginManager
from enhancer.testing.embedder import EmbedderConformance

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["[UNK]", "toy", "cowboy", "jealous", "toys", "detectives", "rain", "word", "a", "life"]
TABLE = np.random.default_rng(0).normal(size=(len(WORDS), 16)).astype(np.float32)


def save(folder: Path, table: np.ndarray = TABLE) -> str:
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    StaticModel(table, tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("static") / "model")


class TestContract(EmbedderConformance):
    """Conformance suite that ships with enhancer."""

    embedder_class = Model2Vec
    understands = False  # the table is random
    heavy: ClassVar = ("model2vec", "tokenizers")

    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        type(self).options = {"model": folder}


def make(model: str, **options: object) -> Model2Vec:
    manager = PluginManager()
    manager.register(enhancer_model2vec, distribution="enhancer-model2vec")
    return manager.create("embedder", "model2vec", {"model": model, **options}, Context())


def test_a_vector_is_the_mean_of_those_of_known_tokens(folder):
    expected = TABLE[[1, 2, 3]].mean(axis=0)
    vectors = make(folder).encode(["Toy cowboy, jealous!", "nothing known"])
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert not vectors[1].any()  # quarantined by the harness


def test_leading_components_are_normalised_again(folder):
    short = make(folder, truncate_dim=4)
    expected = TABLE[1, :4] / np.linalg.norm(TABLE[1, :4])
    np.testing.assert_allclose(short.encode(["toy"])[0], expected, atol=1e-6)
    assert short.dim == 4
    with pytest.raises(ConfigError, match="at most 16"):
        make(folder, truncate_dim=17).encode(["toy"])


def test_a_long_text_is_cut_and_told(folder):
    embedder = make(folder, max_length=3)
    np.testing.assert_array_equal(*embedder.encode(["toy a rain", "toy a rain rain"]))
    assert embedder.truncates(["toy a rain", "toy a rain a", "toy cowboy jealous", ""]) == [False, True, True, False]


def test_a_prefix_is_part_of_what_is_embedded(folder):
    np.testing.assert_array_equal(make(folder, prefix="rain ").encode(["toy"]), make(folder).encode(["rain toy"]))


def test_the_fingerprint_follows_the_content_and_every_option(folder, tmp_path):
    same, other = save(tmp_path / "same"), save(tmp_path / "other", TABLE * 2)
    options = [{}, {"prefix": "x"}, {"max_length": 9}, {"truncate_dim": 4}]
    made = [make(other), *(make(folder, **each) for each in options)]
    assert len({embedder.fingerprint for embedder in made}) == 5
    assert make(same).fingerprint == make(folder).fingerprint


def test_what_is_no_model_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="not the folder of a static model"):
        make(str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="there is no folder"):
        make(str(tmp_path / "nowhere"))
    (tmp_path / "empty/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        make(str(tmp_path / "empty")).encode(["toy"])
