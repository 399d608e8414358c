"""Find the items whose stored vectors are nearest to that of one item."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.config.inputs import aspect_of, stored_inputs
from enhancer.errors import DataError, StoreError, did_you_mean
from enhancer.features.reading.table import input_vectors
from enhancer.project.results import Similar

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.store import FeatureStore

_CHUNK = 65_536
"""Vectors compared at once, to bound memory."""


def nearest_items(
    store: FeatureStore,
    item_id: str,
    inputs: Sequence[Input],
    k: int,
    titles: Mapping[str, str | None],
    *,
    samples: int = 1,
    known: Collection[Input] = (),
) -> Similar:
    """Return the ``k`` items whose stored vectors have the largest cosine with that of ``item_id``.

    Args:
        store: Store of the vectors.
        item_id: Id of the item.
        inputs: Inputs that the vectors come from; vectors of several inputs stand side by side.
        k: Number of items to return.
        titles: Title of each item, where known.
        samples: Largest number of samples of a note.
        known: Names of inputs, for the hint of an error.

    Raises:
        StoreError: The store has no vectors of items.
        DataError: The store has no vector for ``item_id``.
    """
    stored = (store.keys(kind="item", aspect=aspect_of(name)) for name in stored_inputs(inputs))
    ids = list(dict.fromkeys(key.id for keys in stored for key in keys))
    by = f" by {' + '.join(inputs)}" if known else ""
    if item_id not in set(ids):
        if not ids:
            others = None if set(inputs) <= set(known) else did_you_mean(inputs[0], known)
            hint = others or "run `enhancer generate` first"
            raise StoreError(f"the store has no vectors of items{by}", hint=hint)
        lacks = f"`enhancer store get {item_id}` shows what it has; `enhancer generate` writes what is missing"
        hint_of_item = lacks if known and item_id in titles else did_you_mean(item_id, ids[:10_000])
        raise DataError(f"the store has no vector for item {item_id!r}{by}", hint=hint_of_item)

    def blocks(chosen: Sequence[str]) -> list[NDArray[np.float32]]:
        return [input_vectors(store, chosen, "item", name, samples=samples) for name in inputs]

    query = blocks([item_id])

    def cosines(chosen: Sequence[str]) -> NDArray[np.float32]:
        products, squares = np.zeros(len(chosen), np.float32), np.zeros(len(chosen), np.float32)
        for block, one in zip(blocks(chosen), query, strict=True):
            if block.shape[1] == one.shape[1]:  # an input that all of these items lack has no columns
                products += block @ one[0]
            squares += np.square(block).sum(axis=1)
        return np.asarray(products / np.maximum(np.sqrt(squares) * length, 1e-12), np.float32)

    length = float(np.sqrt(sum(float(np.square(block).sum()) for block in query)))
    chunks = (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
    scores = np.concatenate([cosines(chunk) for chunk in chunks])
    order = [row for row in np.argsort(-scores, kind="stable") if ids[row] != item_id][:k]
    found = [(ids[row], float(scores[row]), titles.get(ids[row])) for row in order]
    return Similar(item_id=item_id, title=titles.get(item_id), items=found, by=inputs[0] if known else None)
