"""Read stored vectors as matrices, the form that backbones and fusers take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.record import PROFILE_ASPECT, TEXT_ASPECT, Kind
from enhancer.errors import StoreMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.config.schema import Input
    from enhancer.contracts.store import FeatureStore

ASPECTS = {"profile": PROFILE_ASPECT, "text": TEXT_ASPECT}
"""Aspect under which each input of ``[embedder] input`` is stored."""
_CHUNK = 8192


def feature_table(
    store: FeatureStore,
    ids: Sequence[str],
    kind: Kind,
    inputs: Sequence[Input],
    embedder_fingerprint: str | None = None,
) -> NDArray[np.float32]:
    """Return the vectors of ``ids``, those of several inputs concatenated.

    Args:
        store: The store.
        ids: Ids of the entities, in the order of the rows.
        kind: ``"item"`` or ``"user"``.
        inputs: ``["profile"]``, ``["text"]`` or both.
        embedder_fingerprint: Fingerprint of the embedder that must have made the vectors; None to accept any.

    Returns:
        float32 ``[len(ids), sum of dims]``. The part of a row for an input that the entity lacks is zero. An input that
        no entity has is left out; if that leaves none, the shape is ``[len(ids), 0]``.

    Raises:
        StoreMismatchError: Another embedder made a record, or the vectors differ in length.
    """
    parts: list[NDArray[np.float32]] = []
    for name in inputs:
        aspect = ASPECTS[name]
        if embedder_fingerprint is not None:
            _check_embedder(store, ids, kind, aspect, embedder_fingerprint)
        vectors = store.vectors(ids, kind=kind, aspect=aspect)
        if vectors.shape[1]:
            vectors[np.isnan(vectors).any(axis=1)] = 0
            parts.append(vectors)
    if not parts:
        return np.zeros((len(ids), 0), np.float32)
    return np.ascontiguousarray(np.hstack(parts), dtype=np.float32)


def _check_embedder(store: FeatureStore, ids: Sequence[str], kind: Kind, aspect: str, fingerprint: str) -> None:
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        for id_, stamp in zip(chunk, store.stamps(chunk, kind=kind, aspect=aspect), strict=True):
            if stamp is not None and stamp.embedder != fingerprint:
                raise StoreMismatchError(
                    f"the vector of {kind} {id_!r} was made by embedder {stamp.embedder!r}, not by {fingerprint!r}",
                    hint="run `enhancer generate`: it embeds the stored profiles again, without any LLM call",
                )
