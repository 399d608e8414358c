"""Write the configuration file of the demo."""

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
{mark} Change it, and run
# `enhancer plan`, `enhancer generate`, `enhancer ablate` or `enhancer train` in this folder.

[data]
items = {items}
interactions = {interactions}

[data.columns]
title = "movie_title"

[prompts.item]
template = "item/films"
source = "llm"
aspects = ["profile", "plot", "mood", "audience", "making"]
templates = {{ profile = "item/v1" }}      # the profile has a prompt of its own
knowledge = "open"             # notes may say what the model knows of a film beyond title, year and genres

[prompts.user]
source = "pool"                # a user vector is the mean over the films of the training history

[llm]
{llm}

[embedder]
use = "minilm"                 # all-MiniLM-L6-v2, from its package
input = ["text", "plot", "mood", "audience", "making"]   # side by side

[store]
use = "lmdb"                   # or "sqlite"
path = {store}

[backbone]
use = "auto"                   # the best on validation; or "lightgcn", "als", "ease", "popularity", "fm"

[fuser]
use = "prior"                  # or "concat", "align", "none"

[evaluation]
metrics = ["ndcg@10", "recall@20"]
split = "random"
cold_items = 0.2               # share of films held out of training completely
seeds = {seeds}
workers = {workers}                    # concurrent training runs
arms = ["none", "text", "profile", "both", "prior", "placebo"]

[evaluation.arm.profile]       # the two-sentence profile alone
input = ["profile"]

[evaluation.arm.both]          # profile and raw text side by side
input = ["profile", "text"]
"""

_REPLAY = """\
use = "replay"                 # recorded answers of a large language model; for a live one: use = "litellm"
path = "movielens-100k"
model = "recorded"\
"""


def write_project(folder: Path, data: MovieLens, *, model: str | None, llm: str, seeds: int) -> Path:
    """Write ``enhancer.toml`` into ``folder``.

    Args:
        folder: Created if it does not exist.
        data: Paths of the tables.
        model: Name of a live model; None for the recorded answers.
        llm: Provider of the live model.
        seeds: Training runs of each arm.

    Returns:
        Path of the file.

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
            raise ConfigError(f"{path} was not written by the demo", hint="choose another folder with --folder")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_replace(path) as draft:
            draft.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write into {folder}: {error.strerror}", hint="choose another folder with --folder"
        ) from None
    return path


def _quoted(value: object) -> str:
    """Return the value as a TOML basic string, whose escapes are those of JSON."""
    return json.dumps(str(value), ensure_ascii=False)
