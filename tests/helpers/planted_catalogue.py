"""A catalogue whose users' tastes are known, and an LLM that knows them where it is told to.

Items and users have a few hidden traits. Users take items by popularity and by how well their traits agree. The profile
of an item names its traits in words, as often as they are strong, or draws words by chance; the raw text names nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INPUT_PRICE, OUTPUT_PRICE = 100.0, 400.0
"""USD per million tokens."""
_PROJECT = """
[data]
items = "items.csv"
interactions = "taken.csv"
{aspects}
[llm]
use = "openai"
model = "loopback-model"
api_base = "{url}"
price = {{ input = {prices[0]}, output = {prices[1]} }}
{llm}
[embedder]
use = "hashing"
dim = 64
[store]
use = "sqlite"
[backbone]
use = "als"
dim = 16
[evaluation]
metrics = ["ndcg@10"]
test_size = 0.1
"""


@dataclass(frozen=True, eq=False)
class PlantedCatalogue:
    """The hidden traits, and the interactions that they lead to."""

    traits: NDArray[np.float64]
    """float64 ``[n_items, traits]``."""
    taken: list[tuple[int, int]]
    """User and item of each interaction."""

    @classmethod
    def make(
        cls,
        seed: int = 0,
        *,
        users: int = 400,
        items: int = 700,
        traits: int = 4,
        each: int = 40,
        new: int = 0,
        skew: float = 0.8,
        common: int | None = None,
    ) -> PlantedCatalogue:
        """Draw a catalogue.

        Args:
            seed: Seed of all numbers.
            users: Number of users.
            items: Number of items.
            traits: Number of hidden traits.
            each: Items that a user takes.
            new: Number of items, the last ones, that no one takes.
            skew: Exponent of popularity by rank; 0 for equally popular items.
            common: Number of items that are taken about twenty times as often as the others; all by default.
        """
        rng = np.random.default_rng(seed)
        kinds, tastes = rng.standard_normal((items, traits)), rng.standard_normal((users, traits))
        appeal = 1.8 * tastes @ kinds.T / np.sqrt(traits) - skew * np.log1p(rng.permutation(items))
        if common is not None:
            appeal[:, rng.permutation(items)[common:]] -= 3
        appeal += rng.gumbel(size=appeal.shape)
        appeal[:, items - new :] = -np.inf
        chosen = np.argsort(-appeal, axis=1)[:, :each]
        return cls(kinds, [(user, int(item)) for user in range(users) for item in chosen[user]])

    def write(self, folder: Path, url: str, *, aspects: str = "", llm: str = "") -> None:
        """Write the tables and ``enhancer.toml``.

        Args:
            folder: Folder of the project.
            url: Base URL of the LLM server.
            aspects: Lines of ``[prompts.item]``, with its head.
            llm: Further lines of ``[llm]``.
        """
        rows = "".join(f"{item},thing {item}\n" for item in range(len(self.traits)))
        (folder / "items.csv").write_text("item_id,title\n" + rows)
        pairs = "".join(f"{user},{item}\n" for user, item in self.taken)
        (folder / "taken.csv").write_text("user_id,item_id\n" + pairs)
        prices = INPUT_PRICE, OUTPUT_PRICE
        (folder / "enhancer.toml").write_text(_PROJECT.format(url=url, aspects=aspects, llm=llm, prices=prices))

    def words(self, item: int, *, knows: bool, salt: str = "") -> str:
        """Return what the LLM writes of an item: its traits if it ``knows`` them, else words drawn by chance."""
        own = self.traits[item]
        if not knows:
            own = np.random.default_rng([item, *salt.encode()]).standard_normal(own.shape)
        words = ["A note that is long enough to be valid."]
        for number, strength in enumerate(own):
            words += [f"{salt}{'much' if strength > 0 else 'little'}{number}"] * round(3 * min(abs(strength), 3.0))
        return " ".join(words)

    def answer(self, knows: Callable[[int], bool] | Mapping[str, Callable[[int], bool]]) -> Callable[[Any], str]:
        """Return a function that answers requests, for ``Behaviour``.

        Args:
            knows: Whether the LLM knows an item's traits; or this by aspect.
        """

        def reply(body: Mapping[str, Any]) -> str:
            found = re.search(r"thing (\d+)", body["messages"][1]["content"])
            item = int(found[1]) if found else 0
            if isinstance(knows, Mapping):
                asked = body["response_format"]["json_schema"]["schema"]["properties"]
                return json.dumps(
                    {
                        name: self.words(item, knows=knows[name](item), salt=name) if name in knows else "medium"
                        for name in asked
                    }
                )
            return json.dumps({"profile": self.words(item, knows=knows(item)), "tags": ["one", "two", "three"]})

        return reply
