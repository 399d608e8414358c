"""Tiny random models in the folders of real architectures, so that the code that loads them is that of real models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = [
    "a",
    "the",
    "toy",
    "cowboy",
    "is",
    "jealous",
    "of",
    "space",
    "ranger",
    "two",
    "detectives",
    "hunt",
    "murderer",
    "film",
    "song",
    "quiet",
    "loud",
    "tea",
    "query",
]
TEXTS = ["The toy cowboy is jealous of a space ranger", "Two detectives hunt a murderer", "tea"]


def tokenizer(folder: Path, *, style: str, padding_side: str = "right") -> int:
    """Write a word-level tokenizer in the style of ``bert``, ``roberta`` or ``decoder``. Returns the vocabulary size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {
        "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        "decoder": ["<pad>", "</s>", "<unk>", "<s>"],
    }[style]
    vocabulary = {word: place for place, word in enumerate([*special, *WORDS, "<", ">", ":", "instruct", "response"])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]" if style == "bert" else "<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    first, last = {"bert": ("[CLS]", "[SEP]"), "roberta": ("<s>", "</s>"), "decoder": ("", "</s>")}[style]
    names = [name for name in (first, last) if name]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}".strip(),
        pair=f"{first} $A {last} $B {last}".strip(),
        special_tokens=[(name, vocabulary[name]) for name in names],
    )
    tokens = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    if style != "bert":
        tokens = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    if style == "roberta":
        tokens |= {"cls_token": "<s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=64, padding_side=padding_side, **tokens
    ).save_pretrained(folder)
    return len(vocabulary)


def _save(folder: Path, model: Any) -> Path:
    model.float().eval().save_pretrained(folder)
    return folder


def bert(folder: Path, **settings: Any) -> Path:
    """Write a bare BERT of width 32 with 64 positions."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    size = tokenizer(folder, style="bert")
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.2,
    }
    return _save(folder, BertModel(BertConfig(vocab_size=size, max_position_embeddings=64, **config, **settings)))


def xlm_roberta(folder: Path) -> Path:
    """Write a bare XLM-RoBERTa, the architecture of BGE-M3 and multilingual E5."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    size = tokenizer(folder, style="roberta")
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.2,
    }
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
    return _save(
        folder, XLMRobertaModel(XLMRobertaConfig(vocab_size=size, max_position_embeddings=66, **config, **ids))
    )


def mpnet(folder: Path) -> Path:
    """Write a bare MPNet, the architecture of all-mpnet-base-v2, whose attention knows relative positions."""
    import torch
    from transformers import MPNetConfig, MPNetModel

    torch.manual_seed(0)
    size = tokenizer(folder, style="roberta")
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = MPNetModel(MPNetConfig(vocab_size=size, max_position_embeddings=66, initializer_range=0.2, **config))
    return _save(folder, model)


def distilbert(folder: Path) -> Path:
    """Write a bare DistilBERT."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    size = tokenizer(folder, style="bert")
    config = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.2}
    return _save(folder, DistilBertModel(DistilBertConfig(vocab_size=size, max_position_embeddings=64, **config)))


def mistral(folder: Path) -> Path:
    """Write a Mistral decoder, the architecture of bge-en-icl and e5-mistral."""
    import torch
    from transformers import MistralConfig, MistralModel

    torch.manual_seed(0)
    size = tokenizer(folder, style="decoder", padding_side="left")
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.2,
    }
    heads = {"num_key_value_heads": 2, "head_dim": 8}
    return _save(folder, MistralModel(MistralConfig(vocab_size=size, max_position_embeddings=64, **config, **heads)))


def qwen3_embedding(folder: Path) -> Path:
    """Write a Qwen3 decoder with the modules and prompts of Qwen3-Embedding: left padding, last token."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    size = tokenizer(folder, style="decoder", padding_side="left")
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.2,
    }
    heads = {"num_key_value_heads": 2, "head_dim": 8}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=size, max_position_embeddings=64, **config, **heads)).model
    _save(folder, model)
    modules(folder, "lasttoken", prompts={"query": "Instruct: query\nQuery:", "document": ""})
    return folder


def embedding_gemma(folder: Path) -> Path:
    """Write a bidirectional Gemma 3 with the modules and prompts of EmbeddingGemma: the mean, then two dense layers."""
    import torch
    from safetensors.torch import save_file
    from transformers import Gemma3TextConfig, Gemma3TextModel

    torch.manual_seed(0)
    size = tokenizer(folder, style="decoder")
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.2,
    }
    heads = {"num_key_value_heads": 1, "head_dim": 8, "use_bidirectional_attention": True}
    _save(folder, Gemma3TextModel(Gemma3TextConfig(vocab_size=size, max_position_embeddings=64, **config, **heads)))
    prompts = {"query": "query : a ", "document": "film : tea song : "}
    modules(folder, "mean", prompts=prompts, dense=[(32, 48), (48, 32)])
    for place, (inputs, outputs) in ((2, (32, 48)), (3, (48, 32))):
        save_file(
            {"linear.weight": torch.randn(outputs, inputs) * 0.2}, folder / f"{place}_Dense" / "model.safetensors"
        )
    return folder


def modules(
    folder: Path,
    pooling: str,
    *,
    prompts: dict[str, str] | None = None,
    dense: list[tuple[int, int]] | None = None,
    **settings: Any,
) -> Path:
    """Add ``modules.json`` and the configurations of modules to a folder: pooling, dense layers, normalisation."""
    kinds = [
        ("Transformer", ""),
        ("Pooling", "1_Pooling"),
        *(("Dense", f"{2 + n}_Dense") for n in range(len(dense or []))),
    ]
    kinds.append(("Normalize", f"{len(kinds)}_Normalize"))
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(kinds)
    ]
    flags = {"cls": "cls_token", "mean": "mean_tokens", "lasttoken": "lasttoken"}
    pooled = {f"pooling_mode_{flag}": mode == pooling for mode, flag in flags.items()}
    _write(folder / "modules.json", listed)
    _write(folder / "1_Pooling/config.json", {"word_embedding_dimension": 32, **pooled, "include_prompt": True})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})
    _write(
        folder / "config_sentence_transformers.json", {"prompts": prompts or {}, "default_prompt_name": None} | settings
    )
    for place, (inputs, outputs) in enumerate(dense or []):
        layer = {"in_features": inputs, "out_features": outputs, "bias": False}
        _write(
            folder / f"{2 + place}_Dense" / "config.json",
            layer | {"activation_function": "torch.nn.modules.linear.Identity"},
        )
    return folder


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
