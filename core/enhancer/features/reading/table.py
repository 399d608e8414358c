"""Read stored vectors as matrices, the form that backbones and fusers take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.config.inputs import TEXT, aspect_of, averaged, texts_of
from enhancer.errors import StoreMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore

    Vectors = NDArray[np.float32]

_CHUNK = 8192
_SHORTEST = 1e-9
"""Length of a mean vector below which its direction is rounding error."""


def feature_table(
    store: FeatureStore,
    ids: Sequence[str],
    kind: Kind,
    inputs: Sequence[Input],
    embedder_fingerprint: str | None = None,
    *,
    samples: int = 1,
) -> Vectors:
    """Return the vectors of ``ids``, those of several inputs side by side.

    Args:
        store: The store.
        ids: Ids of the entities, in the order of the rows.
        kind: ``"item"`` or ``"user"``.
        inputs: Names such as ``profile``, ``text``, ``mood``, ``plot+mood`` or ``mean(plot,mood)``.
        embedder_fingerprint: Fingerprint of the embedder that must have made the vectors; None to accept any.
        samples: Largest number of samples of a note.

    Returns:
        float32 ``[len(ids), sum of dims]``. The part of a row for an input that the entity lacks is zero. An input that
        no entity has is left out; if that leaves none, the shape is ``[len(ids), 0]``.

    Raises:
        StoreMismatchError: Another embedder made a record, or the vectors differ in length.
    """
    parts = [input_vectors(store, ids, kind, name, embedder_fingerprint, samples=samples) for name in inputs]
    parts = [part for part in parts if part.shape[1]]
    if not parts:
        return np.zeros((len(ids), 0), np.float32)
    return parts[0] if len(parts) == 1 else np.hstack(parts)


def input_vectors(
    store: FeatureStore,
    ids: Sequence[str],
    kind: Kind,
    name: Input,
    embedder_fingerprint: str | None = None,
    *,
    samples: int = 1,
) -> Vectors:
    """Return the vectors of one input; for the arguments, see :func:`feature_table`.

    Samples of a note are averaged, those that an entity has.

    Returns:
        float32 ``[len(ids), dim]``; zero for an entity that lacks the input. ``[len(ids), 0]`` if no entity has it.
    """
    found = []
    for one in averaged(name):
        sampled = one != TEXT and len(texts_of(one)) == 1
        for sample in range(1, (samples if sampled else 1) + 1):
            aspect = aspect_of(one, sample)
            if embedder_fingerprint is not None:
                _check_embedder(store, ids, kind, aspect, embedder_fingerprint)
            vectors = store.vectors(ids, kind=kind, aspect=aspect)
            vectors[np.isnan(vectors).any(axis=1)] = 0
            found.append(np.ascontiguousarray(vectors, np.float32))
    return mean_vectors(found)


def sample_spread(
    store: FeatureStore, ids: Sequence[str], kind: Kind, name: Input, samples: int
) -> NDArray[np.float32]:
    """Return how much the vectors of the samples of an input differ: their variance around their mean.

    It is the sum over columns of the unbiased estimate, from 0 for samples that are alike to about 1 for samples that
    have nothing in common. The spread of a mean of inputs is the mean of theirs.

    Args:
        store: Store of the records.
        ids: Ids of the entities, in the order of the rows.
        kind: ``"item"`` or ``"user"``.
        name: The input.
        samples: Largest number of samples of a note.

    Returns:
        float32 ``[len(ids)]``: NaN for an entity with fewer than two samples; 0 for an input without samples, such as
        the raw text or a joint text.
    """
    parts = averaged(name)
    total = np.zeros(len(ids))
    for one in parts:
        if one == TEXT or len(texts_of(one)) > 1:
            continue
        sums, squares, counts = None, np.zeros(len(ids)), np.zeros(len(ids))
        for sample in range(1, samples + 1):
            vectors = store.vectors(ids, kind=kind, aspect=aspect_of(one, sample)).astype(np.float64)
            vectors[np.isnan(vectors).any(axis=1)] = 0
            if vectors.shape[1]:
                sums = vectors if sums is None else sums + vectors
                squares += np.square(vectors).sum(axis=1)
                counts += vectors.any(axis=1)
        lengths = 0 if sums is None else np.square(sums).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.maximum(squares - lengths / counts, 0) / (counts - 1)
        total += np.where(counts > 1, variance, np.nan)
    return (total / len(parts)).astype(np.float32)


def mean_vectors(tables: Sequence[Vectors]) -> Vectors:
    """Return the mean of vectors at unit length, row by row.

    Args:
        tables: float32 ``[n, dim]`` each, with rows of unit length, or zero for a missing vector; tables of width 0 are
            left out.

    Returns:
        float32 ``[n, dim]``. A single table is returned as it is.

    Raises:
        StoreMismatchError: The tables differ in width.
    """
    kept = [table for table in tables if table.shape[1]] or list(tables[:1])
    if len(kept) == 1:
        return kept[0]
    if len({table.shape[1] for table in kept}) > 1:
        raise StoreMismatchError(
            f"vectors of {' and '.join(sorted({str(table.shape[1]) for table in kept}))} numbers have no mean",
            hint="run `enhancer generate` to embed all records by one embedder",
        )
    total = np.sum(kept, axis=0, dtype=np.float64)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    mean: Vectors = (total / np.where(length > _SHORTEST, length, np.inf)).astype(np.float32)
    return mean


def _check_embedder(store: FeatureStore, ids: Sequence[str], kind: Kind, aspect: str, fingerprint: str) -> None:
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        for id_, stamp in zip(chunk, store.stamps(chunk, kind=kind, aspect=aspect), strict=True):
            if stamp is not None and stamp.embedder != fingerprint:
                raise StoreMismatchError(
                    f"the vector of {kind} {id_!r} was made by embedder {stamp.embedder!r}, not by {fingerprint!r}",
                    hint="run `enhancer generate`: it embeds the stored profiles again, without any LLM call",
                )
