"""Read the semantic vectors that training takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import ConfigError, StoreError
from enhancer.features.reading.pooling import pool
from enhancer.features.reading.table import feature_table
from enhancer.features.sources import resolve_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.config.schema import Input, Settings
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Interactions

    Vectors = NDArray[np.float32]


def inputs_wanted(settings: Settings) -> list[Input]:
    """Return the inputs to store: those of ``[embedder] input``, and others that the arms of the ablation need."""
    evaluation = settings.evaluation
    wanted: list[Input] = [*settings.inputs]
    # Arms are judged by name alone, because only a fuser's plugin says whether it uses vectors; embedding a text that
    # is not needed is cheap.
    if evaluation.controls and settings.prompts.item.source != "none" and set(settings.listed_arms) != {"none"}:
        wanted.append("text")
    for name in settings.listed_arms:
        own = evaluation.arm.get(name)
        wanted += (own.input or []) if own is not None else ["text"] if name == "text" else []
    return list(dict.fromkeys(wanted))


def wants_profiles(settings: Settings) -> bool:
    """Return whether an LLM writes profiles of items or users."""
    sources = (settings.prompts.item.source, settings.prompts.user.source)
    return any("profile" in resolve_inputs(source, inputs_wanted(settings)) for source in sources)


@dataclass(frozen=True, eq=False)
class Semantics:
    """Reader of the semantic vectors of one split."""

    settings: Settings
    store: FeatureStore
    fingerprint: str
    """Fingerprint of the embedder that must have made the vectors."""
    train: Interactions
    """Training split; rows of the vectors follow its users and items."""

    @property
    def pools_users(self) -> bool:
        """Whether a user's vector is the mean over the user's training items."""
        return self.settings.prompts.user.source == "pool"

    def pool(self, items: Vectors) -> Vectors:
        """Return user vectors made from item vectors, by training interactions only."""
        return pool(items, self.train.users, self.train.items, len(self.train.user_ids))

    def tables(self, inputs: Sequence[Input]) -> tuple[Vectors | None, Vectors]:
        """Return the semantic vectors of users and items.

        Args:
            inputs: Inputs that the vectors come from; vectors of several inputs are concatenated. If items have their
                raw text alone (``[prompts.item] source = "text"``), it stands for each of their inputs.

        Returns:
            Users, float32 ``[n_users, ds]``, or None if ``[prompts.user] source`` is ``pool`` or ``none``; and items,
            float32 ``[n_items, ds]``. A row of an entity without a vector is zero.

        Raises:
            ConfigError: Items have no vectors by configuration.
            StoreError: The store has no vectors for the inputs.
            StoreMismatchError: Another embedder made the vectors.
        """
        prompts = self.settings.prompts
        if prompts.item.source == "none":
            raise ConfigError(
                "[prompts.item] source is 'none': items have no vectors, and a fuser or an arm needs them",
                hint='set source = "llm" or "text", or [fuser] use = "none" and [evaluation] arms = ["none"]',
            )
        items = self._items(inputs)
        if not items.any():
            raise StoreError(
                f"the store has no vectors of items for input {' + '.join(inputs)}",
                hint="run `enhancer generate` first",
            )
        if prompts.user.source in ("pool", "none"):
            return None, items
        users: Vectors = np.hstack([self._users(name) for name in inputs])
        if users.shape[1] != items.shape[1]:
            raise StoreError(
                f"the store has no vectors of users, and [prompts.user] source is {prompts.user.source!r}",
                hint='run `enhancer generate` first, or set source = "pool"',
            )
        return users, items

    def _items(self, inputs: Sequence[Input]) -> Vectors:
        stored = self.settings.item_inputs(inputs)
        return feature_table(self.store, self.train.item_ids, "item", stored, self.fingerprint)

    def _users(self, name: Input) -> Vectors:
        """Return vectors of users' profiles or own texts; for profiled users, raw text is pooled from their items."""
        own = self.settings.prompts.user.source == "text"
        if name == "profile" or own:
            chosen: Input = "text" if own else "profile"
            return feature_table(self.store, self.train.user_ids, "user", [chosen], self.fingerprint)
        return self.pool(self._items([name]))
