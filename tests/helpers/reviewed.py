"""Reviews of a few films, an index of them, and a model that condenses them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from generation import profile_of

from enhancer.config import Settings
from enhancer.data import Interactions, Split
from enhancer.data.reviews.index import ReviewIndex

Said = dict[int, list[str]]
"""Texts of the reviews of each item, by different users."""
LONG = {0: [f"viewer {n} says {'aye ' * 80}" for n in range(40)], 1: ["a gem", "a bore"]}
"""More reviews of item 0 than fit into a prompt of :data:`BUDGET`, and two of item 1."""
BUDGET = {"reviews_budget": 2000, "condense_calls": 60}


def is_note(body: Mapping[str, Any]) -> bool:
    """Check whether a request is for a note on reviews."""
    return str(body["messages"][0]["content"]).startswith("You condense")


def write(body: Mapping[str, Any]) -> str:
    """Return a note that names the first line that it is about, or a profile of the film."""
    prompt = body["messages"][1]["content"]
    if not is_note(body):
        about = re.search(r"film (\S+)", prompt)
        return json.dumps(profile_of(f"number {about.group(1)}" if about else "nothing"))
    first = re.search(r"^- (.{12,24})", prompt, re.MULTILINE)
    assert first is not None
    return json.dumps({"profile": f"condensed[{first.group(1).strip()}] and others"})


def index_of(said: Said, folder: Path, items: int = 3) -> Callable[[], ReviewIndex]:
    """Return what reads the reviews. All their interactions are in the training part."""

    def index() -> ReviewIndex:
        rows = [(f"u{n}", str(item), n, text) for item, texts in said.items() for n, text in enumerate(texts)]
        users = sorted({user for user, *_ in rows})
        path = folder / "reviews.jsonl"
        path.write_text(
            "".join(json.dumps({"user_id": u, "item_id": i, "timestamp": t, "text": x}) + "\n" for u, i, t, x in rows)
        )
        train = Interactions(
            users,
            [str(n) for n in range(items)],
            np.array([users.index(user) for user, *_ in rows], np.int32),
            np.array([int(item) for _, item, *_ in rows], np.int32),
        )
        nothing = train.take(np.zeros(len(rows), bool))
        empty = np.zeros(0, np.int32)
        return ReviewIndex(path, Settings().data.columns, Split(train, nothing, nothing, empty, empty))

    return index
