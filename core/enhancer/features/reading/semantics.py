"""Read the semantic vectors that training takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.config.inputs import PROFILE, TEXT, all_texts, averaged, stored_inputs, texts_of, without
from enhancer.contracts.training import SemanticVectors, View
from enhancer.errors import ConfigError, StoreError
from enhancer.features.reading.pooling import pool
from enhancer.features.reading.table import input_vectors, mean_vectors, sample_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.config.schema import Settings
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Interactions

    Vectors = NDArray[np.float32]


_KINDS: tuple[Kind, ...] = ("item", "user")


def inputs_wanted(settings: Settings) -> list[Input]:
    """Return the inputs to store: those of ``[embedder] input``, and others that the arms of the ablation need."""
    evaluation = settings.evaluation
    wanted: list[Input] = [*settings.inputs]
    # Arms are judged by name alone, because only a fuser's plugin says whether it uses vectors; embedding a text that
    # is not needed is cheap.
    if evaluation.controls and settings.prompts.item.source != "none" and set(settings.listed_arms) != {"none"}:
        wanted.append(TEXT)
    for name in settings.listed_arms:
        own = evaluation.arm.get(name)
        if own is not None:
            wanted += settings.joined_inputs(own.input, own.join) if own.input or own.join else ()
        elif name == TEXT:
            wanted.append(TEXT)
    if evaluation.controls and set(settings.listed_arms) != {"none"}:  # the arm that tells what open knowledge gains
        wanted += settings.closed_inputs(settings.inputs)
    if evaluation.aspects is not None:  # joint texts without one of their parts are texts of their own
        wanted += [name for text in all_texts(settings.inputs) for name in without(settings.inputs, text)]
    return list(stored_inputs(wanted))


def wants_profiles(settings: Settings) -> bool:
    """Return whether an LLM writes notes of items or users."""
    texts = all_texts(inputs_wanted(settings))
    return any(not {*settings.notes(kind), *settings.closed_notes(kind)}.isdisjoint(texts) for kind in _KINDS)


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

    def tables(self, inputs: Sequence[Input]) -> SemanticVectors:
        """Return the semantic vectors of users and items, those of several inputs side by side.

        If items have their raw text alone (``[prompts.item] source = "text"``), it stands for each of their inputs.
        Users without an input of their own get the mean of their training items for it, and items without an input
        that users have get zeros.

        Args:
            inputs: Inputs that the vectors come from.

        Returns:
            Users, float32 ``[n_users, ds]``, or None if ``[prompts.user] source`` is ``pool`` or ``none``; items,
            float32 ``[n_items, ds]``; and the columns of each input. The columns of an input that an entity lacks are
            zero.

        Raises:
            ConfigError: Items have no vectors by configuration.
            StoreError: The store has no vectors for an input.
            StoreMismatchError: Another embedder made the vectors.
        """
        prompts = self.settings.prompts
        if prompts.item.source == "none":
            raise ConfigError(
                "[prompts.item] source is 'none': items have no vectors, and a fuser or an arm needs them",
                hint='set source = "llm" or "text", or [fuser] use = "none" and [evaluation] arms = ["none"]',
            )
        own_users = prompts.user.source in ("llm", "text")
        users_table, items_table = _SideBySide(len(inputs)), _SideBySide(len(inputs))
        views: list[View] = []
        for name in inputs:
            items = self._items(name)
            users = self._users(name) if own_users else None
            if not items.shape[1] and users is not None and users.shape[1]:
                items = np.zeros((len(items), users.shape[1]), np.float32)
            if users is not None and users.shape[1] != items.shape[1]:
                raise StoreError(
                    f"the store has no vectors of users, and [prompts.user] source is {prompts.user.source!r}",
                    hint='run `enhancer generate` first, or set source = "pool"',
                )
            if items.shape[1]:
                views.append(View(name, items_table.width, items_table.width + items.shape[1]))
                items_table.add(items)
                if users is not None:
                    users_table.add(users)
            elif name not in (PROFILE, TEXT):  # a table may have no raw text at all
                raise StoreError(
                    f"the store has no vectors of items for input {name}", hint="run `enhancer generate` first"
                )
        vectors = items_table.table
        if vectors is None or not vectors.any():
            raise StoreError(
                f"the store has no vectors of items for input {' + '.join(inputs)}",
                hint="run `enhancer generate` first",
            )
        return SemanticVectors(users_table.table, vectors, tuple(views))

    def item_spread(self, inputs: Sequence[Input]) -> Vectors:
        """Return how much the samples of each item's notes differ; see :func:`~.table.sample_spread`.

        Args:
            inputs: Inputs that the vectors come from.

        Returns:
            float32 ``[n_items, len(inputs)]``.
        """
        ids, samples = self.train.item_ids, self.settings.prompts.item.samples
        names = self.settings.item_inputs([self.settings.input_of("item", name) for name in inputs])
        found = [sample_spread(self.store, ids, "item", name, samples) for name in names]
        return np.stack(found, axis=1) if found else np.zeros((len(ids), 0), np.float32)

    def _items(self, name: Input) -> Vectors:
        (stored,) = self.settings.item_inputs([self.settings.input_of("item", name)])
        return self._stored("item", stored)

    def _users(self, name: Input) -> Vectors:
        """Return vectors of users' own notes or texts, or else those pooled from their items."""
        return mean_vectors([self._own_or_pooled(one) for one in averaged(name)])

    def _own_or_pooled(self, name: Input) -> Vectors:
        settings = self.settings
        if settings.prompts.user.source == "text" and name in (PROFILE, TEXT):
            return self._stored("user", TEXT)
        stored = settings.input_of("user", name)
        if {*settings.notes("user"), *settings.closed_notes("user")}.isdisjoint(texts_of(stored)):
            return self.pool(self._items(name))
        own = self._stored("user", stored)
        missing = ~own.any(axis=1)
        if name == PROFILE or settings.prompts.item.source == "text" or not missing.any():
            return own
        items = self._items(name)
        if items.shape[1] == own.shape[1]:
            own[missing] = self.pool(items)[missing]
        return own

    def _stored(self, kind: Kind, name: Input) -> Vectors:
        ids = self.train.item_ids if kind == "item" else self.train.user_ids
        samples: int = getattr(self.settings.prompts, kind).samples
        return input_vectors(self.store, ids, kind, name, self.fingerprint, samples=samples)


class _SideBySide:
    """Vectors of several inputs in one table, which is filled as they are read: two copies of all are never in memory.

    Args:
        inputs: Largest number of inputs.
    """

    def __init__(self, inputs: int) -> None:
        self.width = 0
        self._inputs = inputs
        self._table: Vectors | None = None

    def add(self, block: Vectors) -> None:
        """Add the vectors of one input, float32 ``[n, d]``."""
        end = self.width + block.shape[1]
        if self._inputs == 1:
            self._table = block
        else:
            room = 0 if self._table is None else self._table.shape[1]
            if end > room:  # at the first input all are taken to be as wide; memory that is not written is not used
                wider = np.empty((len(block), max(end, block.shape[1] * self._inputs)), np.float32)
                if self._table is not None:
                    wider[:, : self.width] = self._table[:, : self.width]
                self._table = wider
            assert self._table is not None
            self._table[:, self.width : end] = block
        self.width = end

    @property
    def table(self) -> Vectors | None:
        """The vectors, float32 ``[n, width]``; None without any."""
        return None if self._table is None else np.ascontiguousarray(self._table[:, : self.width])
