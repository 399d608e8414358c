"""The demo's project: an ``enhancer.toml`` that works like anybody's, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from enhancer.errors import ConfigError
from enhancer.files import atomic_replace

if TYPE_CHECKING:
    from pathlib import Path

    from enhancer_plugins.demo.movielens import MovieLens

_MARK = "# Written by `enhancer demo`."

_CONFIG = """\
{mark} It is a project like any other: change it, and run
# `enhancer plan`, `enhancer generate`, `enhancer ablate` or `enhancer train` in this folder.

[data]
items = {items}
interactions = {interactions}

[data.columns]
title = "movie_title"

[prompts.item]
template = "item/v1"
source = "llm"

[prompts.user]
source = "pool"                # a user is the mean of the films in the user's training history

[llm]
{llm}

[embedder]
use = "minilm"                 # all-MiniLM-L6-v2, from its package
input = ["profile"]

[store]
use = "lmdb"                   # or "sqlite"
path = {store}

[backbone]
use = "lightgcn"               # or "fm"
learning_rate = 0.02           # four times the default: quicker, and a little worse in every arm
batch_size = 2850              # twice the default for so many ratings: quicker, and on validation no worse

[fuser]
use = "align"                  # or "concat", "none"

[evaluation]
metrics = ["ndcg@10", "recall@20"]
split = "random"
cold_items = 0.2               # a fifth of the films is held out of training altogether
seeds = {seeds}
workers = {workers}                    # training runs at a time
arms = ["none", "text", "concat", "align", "both", "placebo"]

[evaluation.arm.both]          # profile and raw text, vectors side by side
input = ["profile", "text"]

[evaluation.arm.placebo]       # as wide as the widest
input = ["profile", "text"]
shuffle = true
"""

_REPLAY = """\
use = "replay"                 # recorded answers of a large language model; for a live one: use = "litellm"
path = "movielens-100k"
model = "recorded"\
"""


def write_project(folder: Path, data: MovieLens, *, model: str | None, llm: str, seeds: int) -> Path:
    """Write ``enhancer.toml`` into ``folder``.

    Args:
        folder: Made if it is not there.
        data: The tables.
        model: A live model, or None for the recorded answers.
        llm: The provider of the live model.
        seeds: Training runs of each arm.

    Returns:
        The file.

    Raises:
        ConfigError: The folder cannot be written, or has a configuration that the demo did not write.
    """
    path = folder / "enhancer.toml"
    store = "features" if model is None else "features-" + re.sub(r"[^A-Za-z0-9.]+", "-", f"{llm}-{model}").strip("-")
    text = _CONFIG.format(
        mark=_MARK,
        items=_quoted(data.items),
        interactions=_quoted(data.interactions),
        llm=_REPLAY if model is None else f"use = {_quoted(llm)}\nmodel = {_quoted(model)}",
        store=_quoted(store),
        seeds=seeds,
        workers=min(os.cpu_count() or 1, 4),
    )
    try:
        if path.exists() and not path.read_text(encoding="utf-8").startswith(_MARK):
            raise ConfigError(f"{path} is there and is not the demo's", hint="name another folder with --folder")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_replace(path) as draft:
            draft.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write into {folder}: {error.strerror}", hint="name another folder with --folder"
        ) from None
    return path


def _quoted(value: object) -> str:
    """A TOML basic string; JSON's escapes are TOML's."""
    return json.dumps(str(value), ensure_ascii=False)
