"""Models of many architectures are loaded by configuration alone, and give the vectors of their own recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import tiny_models
from tests.helpers.tiny_models import TEXTS
from transformers import AutoModel, AutoTokenizer

from enhancer.contracts import Context
from enhancer.errors import ConfigError
from enhancer_plugins.embedders import models
from enhancer_plugins.embedders.batched_embedder import BatchedEmbedder, quiet
from enhancer_plugins.embedders.bge import BGE, BGEOptions
from enhancer_plugins.embedders.sentence_transformers import SentenceTransformers, SentenceTransformersOptions


def sentence(model: Path, **options: Any) -> SentenceTransformers:
    return SentenceTransformers(SentenceTransformersOptions(model=str(model), device="cpu", **options), Context())


def bge(model: Path, **options: Any) -> BGE:
    return BGE(BGEOptions(model=str(model), device="cpu", **options), Context())


def reference(folder: Path, texts: list[str], pooling: str) -> np.ndarray:
    """Embed one text at a time with transformers, and pool as the definition says."""
    with quiet():
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        with torch.inference_mode():
            hidden = model(**tokenizer(text, truncation=True, max_length=64, return_tensors="pt")).last_hidden_state[0]
        rows.append({"cls": hidden[0], "last": hidden[-1], "mean": hidden.mean(0)}[pooling].numpy())
    return unit(np.stack(rows))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a tiny model by the name of its architecture."""
    folders: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in folders:
            folders[name] = getattr(tiny_models, name)(tmp_path_factory.mktemp(name) / "model")
        return folders[name]

    return get


def test_qwen3_embedding_reads_the_last_token_behind_left_padding(made: Callable[[str], Path]) -> None:
    folder = made("qwen3_embedding")
    np.testing.assert_allclose(sentence(folder).encode(TEXTS), reference(folder, TEXTS, "last"), atol=1e-5)
    prompt = "Instruct: query\nQuery:"
    prompted = reference(folder, [prompt + text for text in TEXTS], "last")
    np.testing.assert_allclose(sentence(folder, prompt_name="query").encode(TEXTS), prompted, atol=1e-5)
    np.testing.assert_allclose(sentence(folder, prefix=prompt).encode(TEXTS), prompted, atol=1e-5)
    assert abs(prompted - sentence(folder).encode(TEXTS)).max() > 0.01


def test_embedding_gemma_passes_the_mean_through_two_dense_layers(made: Callable[[str], Path]) -> None:
    from safetensors.numpy import load_file

    folder = made("embedding_gemma")
    texts = ["film : tea song : " + text for text in TEXTS]
    vectors = reference(folder, texts, "mean")
    for place in (2, 3):
        vectors = vectors @ load_file(folder / f"{place}_Dense/model.safetensors")["linear.weight"].T
    embedder = sentence(folder, prompt_name="document")
    np.testing.assert_allclose(embedder.encode(TEXTS), unit(vectors), atol=1e-5)
    small = sentence(folder, prompt_name="document", truncate_dim=16)
    assert small.dim == 16
    np.testing.assert_allclose(small.encode(TEXTS), unit(vectors[:, :16]), atol=1e-5)
    assert small.fingerprint == embedder.fingerprint + ";dim=16"


def test_an_unknown_prompt_and_too_many_components_are_refused(made: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"no prompt 'passage'; it has document, query"):
        _ = sentence(made("embedding_gemma"), prompt_name="passage").fingerprint
    with pytest.raises(ConfigError, match="truncate_dim must be at most 32"):
        sentence(made("embedding_gemma"), truncate_dim=64).encode(TEXTS)
    with pytest.raises(ValueError, match="cannot be combined"):
        sentence(made("bert"), prompt_name="query", prefix="query: ")


def test_a_bare_folder_is_pooled_as_its_family_asks(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "bge-tiny-en-v1.5")
    expected = reference(folder, TEXTS, "cls")
    for embedder in (sentence(folder), bge(folder)):
        np.testing.assert_allclose(embedder.encode(TEXTS), expected, atol=1e-5)
        assert "pooling=cls" in embedder.fingerprint
    folder = folder.rename(tmp_path / "e5-tiny-v2")
    for embedder in (sentence(folder), bge(folder)):
        np.testing.assert_allclose(embedder.encode(TEXTS), reference(folder, TEXTS, "mean"), atol=1e-5)


def test_a_bare_folder_of_no_known_family_is_refused_until_told(made: Callable[[str], Path]) -> None:
    folder = made("bert")
    with pytest.raises(ConfigError, match=r"no modules\.json, which says how to pool") as refused:
        sentence(folder)
    assert "[embedder] pooling" in str(refused.value.hint)
    for pooling in ("cls", "mean", "last"):
        embedder = sentence(folder, pooling=pooling)
        np.testing.assert_allclose(embedder.encode(TEXTS), reference(folder, TEXTS, pooling), atol=1e-5)
    # Such folders used to be pooled by the mean under this fingerprint: their vectors stay current.
    assert ";pooling=model;" in sentence(folder, pooling="mean").fingerprint


@pytest.mark.parametrize(("name", "refused"), [("BAAI/bge-tiny", True), ("intfloat/e5-tiny", False), ("x/any", False)])
def test_a_bare_model_of_the_hub_is_refused_if_its_family_pools_otherwise(
    made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str, refused: bool
) -> None:
    from sentence_transformers import SentenceTransformer

    with quiet():
        loaded = SentenceTransformer(str(made("bert")), device="cpu")
    monkeypatch.setattr(models, "require_reachable", lambda *_: None)
    monkeypatch.setattr(models, "check_hub_weights", lambda *_: None)
    monkeypatch.setattr(models, "load_sentence_transformer", lambda *_, **__: loaded)
    embedder = sentence(Path(name))
    if refused:
        with pytest.raises(ConfigError, match=r"pooled as its family is not.*pooling = 'cls'"):
            embedder.encode(TEXTS)
    else:
        np.testing.assert_allclose(embedder.encode(TEXTS), reference(made("bert"), TEXTS, "mean"), atol=1e-5)


def test_a_model_without_a_maximum_length_says_so(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tiny_models.tokenizer(tmp_path / "tokenizer", style="bert")
    static = StaticEmbedding(Tokenizer.from_file(str(tmp_path / "tokenizer/tokenizer.json")), embedding_dim=16)
    with quiet():
        SentenceTransformer(modules=[static]).save(str(tmp_path / "static"))
    assert sentence(tmp_path / "static").encode(TEXTS).shape == (3, 16)
    with pytest.raises(ConfigError, match="no maximum length that could be set"):
        sentence(tmp_path / "static", max_seq_length=8).encode(TEXTS)


def test_what_a_folder_declares_counts_for_both(tmp_path: Path) -> None:
    folder = tiny_models.modules(tiny_models.bert(tmp_path / "bge-like"), "mean")
    for embedder in (sentence(folder), bge(folder)):
        np.testing.assert_allclose(embedder.encode(TEXTS), reference(folder, TEXTS, "mean"), atol=1e-5)


def test_bge_m3_gives_the_dense_vectors_of_flag_embedding(made: Callable[[str], Path]) -> None:
    from FlagEmbedding import BGEM3FlagModel

    folder = made("xlm_roberta")
    with quiet():
        m3 = BGEM3FlagModel(str(folder), use_fp16=False, devices=["cpu"])
        expected = m3.encode(TEXTS, batch_size=8, max_length=32)["dense_vecs"]
    np.testing.assert_allclose(bge(folder, max_length=32).encode(TEXTS), expected, atol=1e-5)
    assert bge(folder).fingerprint.endswith("pooling=cls;prefix='';max_length=64")


def test_a_decoder_of_bge_is_pooled_by_its_last_token(made: Callable[[str], Path]) -> None:
    folder = made("mistral")
    np.testing.assert_allclose(bge(folder).encode(TEXTS), reference(folder, TEXTS, "last"), atol=1e-5)
    with pytest.raises(ConfigError, match="'last' is for decoders"):
        bge(made("bert"), pooling="last")


def test_an_icl_model_reads_the_examples_first(made: Callable[[str], Path]) -> None:
    folder = made("mistral")
    example = {"query": "quiet film", "response": "tea song"}
    embedder = bge(folder, query_instruction="hunt", examples=[example])
    read = "<instruct>hunt\n<query>quiet film\n<response>tea song\n\n<instruct>hunt\n<query>{}\n<response>"
    expected = reference(folder, [read.format(text.lower()) for text in TEXTS], "last")
    np.testing.assert_allclose(embedder.encode(TEXTS), expected, atol=1e-5)
    assert embedder.fingerprint != bge(folder, query_instruction="hunt").fingerprint
    with pytest.raises(ConfigError, match="ICL models alone"):
        bge(made("bert"), examples=[example])


@pytest.mark.parametrize("architecture", ["bert", "xlm_roberta", "mpnet", "distilbert"])
@pytest.mark.parametrize("make", [sentence, bge])
def test_the_faster_forward_pass_agrees(
    made: Callable[[str], Path], architecture: str, make: Callable[..., BatchedEmbedder]
) -> None:
    from enhancer_plugins.embedders.encoder import Encoder

    folder = made(architecture)
    exact, mixed = make(folder, pooling="mean"), make(folder, pooling="mean", dtype="mixed")
    expected = reference(folder, TEXTS, "mean")
    np.testing.assert_allclose(exact.encode(TEXTS), expected, atol=2e-6)
    cosines = (mixed.encode(TEXTS) * expected).sum(axis=1)
    assert 0.999 < cosines.min() < 1 - 1e-7
    for embedder in (exact, mixed):
        loaded = embedder._model.model if isinstance(embedder, BGE) else embedder._model
        assert any(isinstance(module, Encoder) for module in loaded.modules())
    assert mixed.fingerprint == exact.fingerprint + ";dtype=mixed"


def test_without_bfloat16_instructions_the_same_products_are_computed(
    made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sentence(made("bert"), pooling="cls", dtype="mixed").encode(TEXTS)
    monkeypatch.setattr("enhancer_plugins.embedders.encoder.has_bfloat16", lambda: False)
    second = sentence(made("bert"), pooling="cls", dtype="mixed").encode(TEXTS)
    assert (first * second).sum(axis=1).min() > 0.9999


def test_other_architectures_take_mixed_products_too(made: Callable[[str], Path]) -> None:
    folder = made("qwen3_embedding")
    cosines = (sentence(folder, dtype="mixed").encode(TEXTS) * sentence(folder).encode(TEXTS)).sum(axis=1)
    assert 0.999 < cosines.min() < 1 - 1e-7
    assert sentence(folder, dtype="bfloat16").encode(TEXTS).dtype == np.float32
