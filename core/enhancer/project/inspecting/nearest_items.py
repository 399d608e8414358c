"""Find the items whose stored vectors are nearest to that of one item."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.config.inputs import aspect_of, stored_inputs
from enhancer.errors import DataError, StoreError, did_you_mean
from enhancer.features import feature_table
from enhancer.project.results import Similar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.store import FeatureStore

_CHUNK = 65_536
"""Vectors compared at once, to bound memory."""


def nearest_items(
    store: FeatureStore, item_id: str, inputs: Sequence[Input], k: int, titles: Mapping[str, str | None]
) -> Similar:
    """Return the ``k`` items whose stored vectors have the largest cosine with that of ``item_id``.

    Args:
        store: Store of the vectors.
        item_id: Id of the item.
        inputs: Inputs that the vectors come from; vectors of several inputs are concatenated.
        k: Number of items to return.
        titles: Title of each item, where known.

    Raises:
        StoreError: The store has no vectors of items.
        DataError: The store has no vector for ``item_id``.
    """
    stored = (store.keys(kind="item", aspect=aspect_of(name)) for name in stored_inputs(inputs))
    ids = list(dict.fromkeys(key.id for keys in stored for key in keys))
    if item_id not in set(ids):
        if not ids:
            raise StoreError("the store has no vectors of items", hint="run `enhancer generate` first")
        raise DataError(f"the store has no vector for item {item_id!r}", hint=did_you_mean(item_id, ids[:10_000]))

    def unit_vectors(chosen: Sequence[str]) -> NDArray[np.float32]:
        table = feature_table(store, chosen, "item", inputs)
        length = np.linalg.norm(table, axis=1, keepdims=True)
        unit: NDArray[np.float32] = table / np.maximum(length, 1e-12)
        return unit

    query = unit_vectors([item_id])[0]
    chunks = (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
    scores = np.concatenate([unit_vectors(chunk) @ query for chunk in chunks])
    order = [row for row in np.argsort(-scores, kind="stable") if ids[row] != item_id][:k]
    found = [(ids[row], float(scores[row]), titles.get(ids[row])) for row in order]
    return Similar(item_id=item_id, title=titles.get(item_id), items=found)
