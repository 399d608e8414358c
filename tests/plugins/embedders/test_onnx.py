"""``backend = "onnx"`` gives the vectors of the torch model that the file was exported from."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import tiny_models
from tests.helpers.tiny_models import TEXTS

from enhancer.contracts import Context
from enhancer.errors import ConfigError
from enhancer_plugins.embedders.sentence_transformers import SentenceTransformers, SentenceTransformersOptions


def sentence(model: Path, **options: Any) -> SentenceTransformers:
    return SentenceTransformers(SentenceTransformersOptions(model=str(model), device="cpu", **options), Context())


def export(folder: Path, name: str = "onnx/model.onnx") -> None:
    from transformers import AutoModel

    class HiddenStates(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Any:
            return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    (folder / name).parent.mkdir(exist_ok=True)
    ids = torch.ones(2, 5, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            HiddenStates(),
            (ids, ids, ids * 0),
            str(folder / name),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={one: {0: "texts", 1: "tokens"} for one in [*names, "last_hidden_state"]},
            dynamo=False,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    made = tiny_models.bert(tmp_path_factory.mktemp("onnx") / "model")
    export(made)
    tiny_models.modules(made, "mean", prompts={"document": "film song "}, dense=[(32, 16)])
    save_file({"linear.weight": torch.randn(16, 32)}, made / "2_Dense/model.safetensors")
    return made


@pytest.mark.parametrize(
    "options", [{}, {"pooling": "cls"}, {"pooling": "last"}, {"prompt_name": "document"}, {"truncate_dim": 8}]
)
def test_both_backends_agree(folder: Path, options: dict[str, Any]) -> None:
    expected = sentence(folder, **options)
    embedder = sentence(folder, backend="onnx", **options)
    np.testing.assert_allclose(embedder.encode(TEXTS), expected.encode(TEXTS), atol=1e-5)
    assert embedder.dim == expected.dim
    assert embedder.fingerprint != expected.fingerprint


def test_long_texts_are_cut_alike(folder: Path) -> None:
    long = ["tea song " * 100]
    np.testing.assert_allclose(sentence(folder, backend="onnx").encode(long), sentence(folder).encode(long), atol=1e-5)


def test_the_onnx_file_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    made = tiny_models.modules(tiny_models.bert(tmp_path / "model"), "mean")
    with pytest.raises(ConfigError, match=r"no onnx/model\.onnx and no model\.onnx; ONNX files there: none"):
        _ = sentence(made, backend="onnx").fingerprint
    (made / "model.onnx").write_bytes(b"one")
    before, torch_before = sentence(made, backend="onnx").fingerprint, sentence(made).fingerprint
    (made / "model.onnx").write_bytes(b"two")
    assert sentence(made, backend="onnx").fingerprint != before
    assert sentence(made).fingerprint == torch_before
    with pytest.raises(ConfigError, match=r"model\.onnx cannot be loaded"):
        sentence(made, backend="onnx").encode(TEXTS)


def test_options_that_contradict_each_other_are_refused() -> None:
    for options in ({"backend": "onnx", "dtype": "float32"}, {"onnx_file": "model.onnx"}):
        with pytest.raises(ValueError, match="effect"):
            sentence(Path("BAAI/bge-small-en-v1.5"), **options)
