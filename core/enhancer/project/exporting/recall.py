"""Compare what a target finds with exact search over the exported rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts.operations.exporter import Search, VectorTable

_ROUNDING: Final = 1e-4
"""Difference of two scores, relative to the largest, that the order of additions may make."""


def measured_recall(table: VectorTable, search: Search, queries: NDArray[np.float32], k: int) -> float:
    """Return the share of the ``k`` best rows that the target finds, over all queries.

    A row counts if its exact score reaches that of the last of the ``k`` best, so that ties count whichever of them the
    target names. Reads the table once; memory does not grow with it.

    Args:
        table: The rows that were exported.
        search: Asks the target.
        queries: float32 ``[n, width]``.
        k: Number of rows for each query.
    """
    k = min(k, table.rows)
    if not len(queries) or not k:
        return 1.0
    found = [list(dict.fromkeys(ids))[:k] for ids in search(queries, k)]
    wanted = {id_ for ids in found for id_ in ids}
    best = np.full((len(queries), k), -np.inf, np.float32)
    rows: dict[str, NDArray[np.float32]] = {}
    for batch in table.batches():
        rows |= {id_: batch.vectors[place] for place, id_ in enumerate(batch.ids) if id_ in wanted}
        scores = np.hstack([best, queries @ batch.vectors.T])
        best = -np.partition(-scores, k - 1, axis=1)[:, :k]
    last = best.min(axis=1)
    slack = _ROUNDING * np.maximum(np.abs(best).max(axis=1), 1e-12)
    hits = 0
    for query, ids, bound in zip(queries, found, last - slack, strict=True):
        hits += sum(id_ in rows and float(rows[id_] @ query) >= bound for id_ in ids)
    return hits / (len(queries) * k)


def query_sample(table: VectorTable, n: int) -> NDArray[np.float32]:
    """Return at most ``n`` rows of a table, spread evenly over it: float32 ``[<= n, width]``."""
    if not table.rows or not n:
        return np.zeros((0, table.width), np.float32)
    wanted = np.unique(np.arange(min(n, table.rows)) * table.rows // min(n, table.rows))
    parts, start = [], 0
    for batch in table.batches():
        inside = wanted[(wanted >= start) & (wanted < start + len(batch.ids))] - start
        parts.append(batch.vectors[inside])
        start += len(batch.ids)
    return np.vstack(parts)
