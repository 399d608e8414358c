"""Conformance of the embedder ``fastembed``, and its vectors against the definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import enhancer_fastembed
import numpy as np
import onnx
import pytest
from enhancer_fastembed.embedder import FastEmbed
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from enhancer.contracts import Context
from enhancer.errors import ConfigError
from enhancer.plugin_host import PluginManager
from enhancer.testing.embedder import EmbedderConformance

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "toy", "cowboy", "jealous", "toys", "rain", "word"]
TABLE = np.random.default_rng(0).normal(size=(len(WORDS), 16)).astype(np.float32)


def save(folder: Path, table: np.ndarray = TABLE) -> str:
    """Write a model whose hidden states are rows of a table."""
    folder.mkdir()
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", 16])
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    graph = helper.make_graph(nodes, "lookup", inputs, [output], [numpy_helper.from_array(table, "table")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 8, **tokens}))
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens))
    (folder / "config.json").write_text(json.dumps({"hidden_size": 16, "pad_token_id": 0}))
    return str(folder)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("onnx") / "model")


class TestContract(EmbedderConformance):
    """Conformance suite that ships with enhancer."""

    embedder_class = FastEmbed
    understands = False  # the table is random
    heavy: ClassVar = ("fastembed", "onnxruntime", "tokenizers")

    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        type(self).options = {"model": folder, "pooling": "mean", "threads": 1}


def make(model: str, **options: object) -> FastEmbed:
    manager = PluginManager()
    manager.register(enhancer_fastembed, distribution="enhancer-fastembed")
    return manager.create("embedder", "fastembed", {"model": model, **options}, Context())


@pytest.mark.parametrize(("pooling", "rows"), [("mean", [2, 4, 5, 3]), ("cls", [2]), ("last", [3])])
def test_a_vector_is_pooled_as_told(folder, pooling, rows):
    expected = TABLE[rows].mean(axis=0)
    vectors = make(folder, pooling=pooling).encode(["toy cowboy", "toy cowboy jealous rain word"])
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_a_long_text_is_cut_and_told(folder):
    embedder = make(folder, pooling="mean")
    assert embedder.truncates(["toy"]) is None  # that would load the model
    assert embedder.dim == 16
    assert embedder.truncates(["toy " * 6, "toy " * 7, ""]) == [False, True, False]
    np.testing.assert_allclose(*embedder.encode(["toy " * 6, "toy " * 60]), atol=1e-6)


def test_a_prefix_is_part_of_what_is_embedded(folder):
    prefixed = make(folder, pooling="mean", prefix="rain ").encode(["toy"])
    np.testing.assert_array_equal(prefixed, make(folder, pooling="mean").encode(["rain toy"]))


def test_the_fingerprint_follows_the_content_and_every_option(folder, tmp_path):
    same, other = save(tmp_path / "same"), save(tmp_path / "other", TABLE * 2)
    made = [make(folder, pooling="mean"), make(other, pooling="mean"), make(folder, pooling="cls")]
    made += [make(folder, pooling="mean", prefix="x"), make("BAAI/bge-small-en-v1.5")]
    assert len({embedder.fingerprint for embedder in made}) == 5
    assert make(same, pooling="mean", threads=2).fingerprint == make(folder, pooling="mean").fingerprint


def test_what_cannot_work_is_refused_with_words(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    refused = [
        (str(tmp_path / "empty"), {"pooling": "cls"}, "has no model.onnx"),
        (str(tmp_path / "nowhere"), {}, "there is no folder"),
        (folder, {}, "does not say how to pool"),
        (folder, {"pooling": "cls", "onnx_file": "other.onnx"}, "has no other.onnx"),
        ("BAAI/bge-small-en-v1.5", {"pooling": "cls"}, "are for a folder"),
    ]
    for model, options, message in refused:
        with pytest.raises(ConfigError, match=message):
            make(model, **options)
    with pytest.raises(ConfigError, match=r"neither a folder nor one of the \d+ models of fastembed"):
        make("no-such/model").encode(["toy"])
    damaged = Path(save(tmp_path / "damaged"))
    (damaged / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        make(str(damaged), pooling="cls").encode(["toy"])
