"""The vectors of a project: what they come from, what must be stored for them, and the tables that training takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import ConfigError, StoreError
from enhancer.features.reading.table import feature_table, pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.config.schema import Input, Settings
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Interactions

    Table = NDArray[np.float32]


def inputs_wanted(settings: Settings) -> list[Input]:
    """What has to be stored: what this project embeds, and what the arms of its ablation need beside it."""
    evaluation = settings.evaluation
    wanted: list[Input] = [*settings.inputs]
    # By names alone: whether a fuser uses vectors is its plugin's to say, and a text embedded in vain is cheap.
    if evaluation.controls and settings.prompts.item.source != "none" and set(evaluation.arms) != {"none"}:
        wanted.append("text")
    for name in evaluation.arms:
        own = evaluation.arm.get(name)
        wanted += (own.input or []) if own is not None else ["text"] if name == "text" else []
    return list(dict.fromkeys(wanted))


@dataclass(frozen=True, eq=False)
class Semantics:
    """Reads the tables of one split."""

    settings: Settings
    store: FeatureStore
    fingerprint: str
    """Of the embedder that the vectors must have been made with."""
    train: Interactions
    """Rows and pooling are those of the training part."""

    @property
    def pools_users(self) -> bool:
        """Whether users are means of their training items."""
        return self.settings.prompts.user.source == "pool"

    def pool(self, items: Table) -> Table:
        """Vectors of users from those of items, by training interactions alone."""
        return pool(items, self.train.users, self.train.items, len(self.train.user_ids))

    def tables(self, inputs: Sequence[Input]) -> tuple[Table | None, Table]:
        """The semantic vectors.

        Args:
            inputs: What they come from; two are set side by side.

        Returns:
            Users, float32 ``[n_users, ds]`` (None where ``[prompts.user] source`` is ``pool`` or ``none``: then they
            are made from the items', or there are none), and items, float32 ``[n_items, ds]``. Zero rows: no vector.

        Raises:
            ConfigError: Items have no vectors by configuration.
            StoreError: The store has no vectors for an input.
            StoreMismatchError: They were made by another embedder.
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
        users: Table = np.hstack([self._users(name) for name in inputs])
        if users.shape[1] != items.shape[1]:
            raise StoreError(
                f"the store has no vectors of users, and [prompts.user] source is {prompts.user.source!r}",
                hint='run `enhancer generate` first, or set source = "pool"',
            )
        return users, items

    def _items(self, inputs: Sequence[Input]) -> Table:
        return feature_table(self.store, self.train.item_ids, "item", inputs, self.fingerprint)

    def _users(self, name: Input) -> Table:
        """Profiles, or own texts, of users; beside a profile, raw text is pooled from their items."""
        own = self.settings.prompts.user.source == "text"
        if name == "profile" or own:
            chosen: Input = "text" if own else "profile"
            return feature_table(self.store, self.train.user_ids, "user", [chosen], self.fingerprint)
        return self.pool(self._items([name]))
