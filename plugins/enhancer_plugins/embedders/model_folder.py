"""Model folders: a digest of all that shapes a vector, pickled weights, and the longest text that a model reads."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_FIRST: Final = frozenset(
    {"config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json", "vocab.txt"}
)  # These and the weights make the first part of a digest. Records of version 0.5 and before have no other part.
_DOCUMENTS: Final = frozenset(
    {".md", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".csv", ".tsv", ".log", ".html", ".py"}
)  # Python files of a model are never run.
_OTHER_FRAMEWORKS: Final = frozenset(
    {".h5", ".msgpack", ".ot", ".onnx", ".onnx_data", ".gguf", ".mlmodel", ".xml", ".tflite", ".pb"}
)
_UNREAD: Final = frozenset(
    {
        *("license", "license.txt", "notice", "notice.txt", "use_policy.txt", "requirements.txt"),
        *("data_config.json", "generation_config.json", "trainer_state.json", "all_results.json", "eval_results.json"),
        *("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "colbert_linear.pt", "sparse_linear.pt"),
        *("model.safetensors.index.json", "pytorch_model.bin.index.json"),  # names of the shards, which are hashed
    }
)
_SLOW_TOKENIZER: Final = frozenset(
    {
        *("vocab.json", "merges.txt", "added_tokens.json"),
        *("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "unigram.json"),
    }
)  # Not read beside tokenizer.json, which has the same content.


def folder_digest(folder: Path, *, also: tuple[str, ...] = ()) -> str:
    """Return a hash of all files in a model folder that shape vectors: 12 hexadecimal digits, or 12, ``+`` and 8.

    Weights, vocabulary and configurations of modules are the first part. Other files are hashed into the second part,
    unless they are documents, weights of other frameworks, hidden files or files of training. A configuration whose
    values are those that the libraries assume without it is left out of the second part, which is missing if nothing is
    left. Thus the digest of a model with ordinary settings has stayed what it was before the second part was added, and
    its stored vectors stay current.

    Args:
        folder: The folder.
        also: Files, relative to the folder, that belong to the second part whatever their name.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    first, second = hashlib.sha256(), hashlib.sha256()
    empty = second.digest()
    for file in files:
        name = file.relative_to(folder).as_posix()
        if file.suffix in {".safetensors", ".bin"} or file.name in _FIRST:
            first.update(name.encode() + b"\0" + _sha256(file))
        elif (content := _content(file, name, folder, also)) is not None:
            second.update(name.encode() + b"\0" + content)
    tail = "" if second.digest() == empty else f"+{second.hexdigest()[:8]}"
    return first.hexdigest()[:12] + tail


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; None if it is missing or no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_object(file: Path) -> dict[str, Any]:
    """Return the object of a JSON file; an empty one if the file is missing or holds something else."""
    found = read_json(file)
    return found if isinstance(found, dict) else {}


def _sha256(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _content(file: Path, name: str, folder: Path, also: tuple[str, ...]) -> bytes | None:
    """Return what the second part takes of a file; None if the file shapes no vector."""
    if name in also:
        return _sha256(file)
    if any(part.startswith(".") for part in file.relative_to(folder).parts):
        return None
    if file.suffix.lower() in _DOCUMENTS | _OTHER_FRAMEWORKS or file.name.lower() in _UNREAD:
        return None
    has_fast_tokenizer = (file.parent / "tokenizer.json").is_file()
    if has_fast_tokenizer and file.name in _SLOW_TOKENIZER:
        return None
    known = {
        "config_sentence_transformers.json": _prompt_settings,
        "tokenizer_config.json": _tokenizer_settings,
        "special_tokens_map.json": _special_tokens,
    }.get(file.name)
    if known is None or (not has_fast_tokenizer and known is not _prompt_settings):
        return _sha256(file)
    settings = read_json(file)
    if not isinstance(settings, dict):
        return _sha256(file)
    unusual = dict(known(settings, file.parent))
    return json.dumps(unusual, sort_keys=True).encode() if unusual else None


def _prompt_settings(settings: dict[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield what applies to every text: the prompt that is used by default, and the truncation of vectors."""
    del folder
    prompts = settings.get("prompts") or {}
    default = settings.get("default_prompt_name")
    if default is not None and (prompts.get(default, "") if isinstance(prompts, dict) else prompts):
        yield "prompt", prompts[default] if isinstance(prompts, dict) else prompts
    if settings.get("truncate_dim") is not None:
        yield "truncate_dim", settings["truncate_dim"]
    metadata = {"__version__", "similarity_fn_name", "model_type", "prompts", "default_prompt_name", "truncate_dim"}
    yield from ((key, value) for key, value in settings.items() if key not in metadata and value is not None)


_NEUTRAL: Final = frozenset(
    {
        *("name_or_path", "tokenizer_class", "processor_class", "special_tokens_map_file", "tokenizer_file", "backend"),
        *("vocab_file", "clean_up_tokenization_spaces", "do_basic_tokenize", "use_fast", "auto_map", "is_local"),
        *("local_files_only", "sp_model_kwargs", "added_tokens_decoder", "max_length", "stride", "truncation_strategy"),
        *("pad_to_multiple_of", "pad_token_type_id", "additional_special_tokens", "extra_special_tokens"),
    }
)  # Of names and decoding, repeated in tokenizer.json, or set by every call.
_ASSUMED: Final[dict[str, tuple[Any, ...]]] = {
    "padding_side": ("right",),
    "truncation_side": ("right",),
    "never_split": (None, []),
    "split_special_tokens": (False,),
    "add_prefix_space": (False,),
    "legacy": (True, None),
    "unk_token": ("[UNK]", "<unk>"),
    "pad_token": ("[PAD]", "<pad>"),
    "mask_token": ("[MASK]", "<mask>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "bos_token": ("[CLS]", "<s>", None),
    "eos_token": ("[SEP]", "</s>", None),
}
_NORMALIZER: Final = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
"""Keys of ``tokenizer_config.json`` that overrule one of the normalizer in ``tokenizer.json``."""


def _tokenizer_settings(settings: dict[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield settings that differ from what ``tokenizer.json`` and the libraries assume."""
    normalizer = read_object(folder / "tokenizer.json").get("normalizer") or {}
    for key, value in settings.items():
        if key in _NEUTRAL:
            continue
        if key in _NORMALIZER:
            usual = _NORMALIZER[key] in normalizer and value == normalizer[_NORMALIZER[key]]
        elif key == "model_max_length":
            usual = not _limits(value, folder)
        elif key == "model_input_names":
            usual = {"input_ids", "attention_mask"} <= set(value)
        else:
            usual = key in _ASSUMED and _text_of(value) in _ASSUMED[key]
        if not usual:
            yield key, value


def _special_tokens(settings: dict[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield tokens that are not the usual ones of the BERT and RoBERTa families."""
    del folder
    for key, value in settings.items():
        if key != "additional_special_tokens" and _text_of(value) not in _ASSUMED.get(key, ()):
            yield key, value


def _text_of(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _limits(model_max_length: Any, folder: Path) -> bool:
    """Return whether the tokenizer's limit is the one that applies, not the one of the model or of the module."""
    if read_object(folder / "sentence_bert_config.json").get("max_seq_length") is not None:
        return False
    limit = positions(read_object(folder / "config.json"))
    return limit is None or not isinstance(model_max_length, int | float) or model_max_length < limit


_OFFSET_BY_PADDING: Final = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text", "xmod"}
)
"""Model types whose first position follows the index of the padding token."""


def positions(config: dict[str, Any]) -> int | None:
    """Return the maximum number of tokens of a text by ``config.json``; None if the positions have no limit."""
    limit = config.get("max_position_embeddings")
    if not isinstance(limit, int) or limit < 1 or not config.get("position_biased_input", True):
        return None
    if config.get("model_type") in _OFFSET_BY_PADDING:
        return limit - int(config.get("pad_token_id") or 0) - 1
    return limit


def longest_text(folder: Path) -> int | None:
    """Return the maximum length of a text in tokens by the files of a folder: of module, tokenizer or positions."""
    own = read_object(folder / "sentence_bert_config.json").get("max_seq_length")
    limit = own or read_object(folder / "tokenizer_config.json").get("model_max_length")
    known = [number for number in (limit, positions(read_object(folder / "config.json"))) if isinstance(number, int)]
    return min(known) if known and min(known) < 10**9 else None


def token_count(folder: Path) -> Callable[[list[str]], list[int]] | None:
    """Return a function that counts the tokens of texts, special ones included; None without ``tokenizer.json``."""
    file = folder / "tokenizer.json"
    if not file.is_file() or importlib.util.find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [len(one.ids) for one in tokenizer.encode_batch(texts)]


def check_length(wanted: int | None, config: dict[str, Any], key: str, model: str) -> None:
    """Check that a maximum length does not exceed the positions of a model.

    Raises:
        ConfigError: It does.
    """
    limit = positions(config)
    if wanted is not None and limit is not None and wanted > limit:
        raise ConfigError(
            f"[embedder] {key} must be at most {limit:,} for {model}, which has no more positions, not {wanted:,}"
        )


def check_weights(names: Iterable[str], model: str) -> None:
    """Check that no part of a model has pickled weights alone, for unpickling can run code.

    Args:
        names: Files of the model, relative to its folder.
        model: Its name or folder, for the message.

    Raises:
        ConfigError: A folder has pickled weights and none in safetensors.
    """
    files = [PurePosixPath(name) for name in names]
    safe = {file.parent for file in files if file.suffix == ".safetensors"}
    for file in files:
        if file.parent not in safe and _is_pickle(file):
            raise ConfigError(
                f"[embedder] model {model} has pickled weights alone ({file}), and loading a pickle can run code",
                hint="use a model with safetensors, or set [embedder] allow_pickle_weights = true if you trust it",
            )


def _is_pickle(file: PurePosixPath) -> bool:
    if file.name.lower() in _UNREAD or any(part.startswith(".") for part in file.parts):
        return False
    return file.suffix in {".pt", ".pth", ".ckpt", ".pkl", ".pickle"} or (
        file.suffix == ".bin" and file.name != "training_args.bin"
    )


def names_in(folder: Path) -> list[str]:
    """Return the paths of all files in a folder, relative to it."""
    return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
