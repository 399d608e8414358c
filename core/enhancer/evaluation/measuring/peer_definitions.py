r"""Compute ranking metrics as other libraries define them, under the names that they share with this one.

With :math:`r_i`, :math:`R` and :math:`k` as in :mod:`~enhancer.evaluation.measuring.metrics`, :math:`h` the number of
hits up to rank :math:`k`, and :math:`l` the length of the list. Definitions that are not listed are equal to ours:

================================  =====================================================================================
``rectools``, 0.19.0              ``ndcg``: the ideal list has :math:`k` hits whatever :math:`R`;
                                  ``map``: divided by :math:`R`
``lenskit``, 2025.8.1             ``ndcg``: discount :math:`1 / \max(\log_2 i, 1)`, so that rank 2 counts in full;
                                  ``recall``: :math:`h / \min(k, R)`; ``precision``: :math:`h / \min(k, l)`; no ``map``
``trec_eval``, 9 (pytrec_eval)    ``map``: divided by :math:`R`
``implicit``, 0.7.3               ``precision``: :math:`\sum h / \sum \min(k, R)` over all users; ``ndcg`` and ``map``
                                  alone beside it
``torchmetrics``, 1.9.0           ``map``: divided by :math:`h`
================================  =====================================================================================

Each was compared with the library itself on one ranking; ``tests/core/evaluation/test_peer_definitions.py`` holds
the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import ConfigError, did_you_mean
from enhancer.evaluation.measuring.metrics import MEASURES, parse_metric, ranking_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.hits import Hits
    from enhancer.evaluation.measuring.metrics import Scores

    Floats = NDArray[np.float64]


def _own(name: str) -> Callable[[Hits, int], Floats]:
    def value(hits: Hits, k: int) -> Floats:
        return MEASURES[name](hits.up_to(k), hits.relevant.astype(np.int64), k)

    return value


def _full_list_ndcg(hits: Hits, k: int) -> Floats:
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    found: Floats = hits.up_to(k) @ discounts / discounts.sum()
    return found


def _unshifted_ndcg(hits: Hits, k: int) -> Floats:
    discounts = 1.0 / np.maximum(np.log2(np.arange(1, k + 1)), 1.0)
    ideal = np.cumsum(discounts)[np.minimum(hits.relevant, k) - 1]
    found: Floats = hits.up_to(k) @ discounts / ideal
    return found


def _summed_precision(hits: Hits, k: int) -> Floats:
    """Return the precision at each hit, summed over hits, ``[n]``: MAP before it is divided by anything."""
    found = hits.up_to(k)
    return np.asarray((np.cumsum(found, axis=1) / np.arange(1, k + 1) * found).sum(axis=1), np.float64)


def _map_over_relevant(hits: Hits, k: int) -> Floats:
    return np.asarray(_summed_precision(hits, k) / hits.relevant, np.float64)


def _count(hits: Hits, k: int) -> Floats:
    return np.asarray(np.count_nonzero(hits.up_to(k), axis=1), np.float64)


def _map_over_hits(hits: Hits, k: int) -> Floats:
    return np.asarray(_summed_precision(hits, k) / np.maximum(_count(hits, k), 1), np.float64)


def _achievable_recall(hits: Hits, k: int) -> Floats:
    return np.asarray(_count(hits, k) / np.minimum(hits.relevant, k), np.float64)


def _precision_of_short_lists(hits: Hits, k: int) -> Floats:
    return np.asarray(_count(hits, k) / np.maximum(np.minimum(hits.length, k), 1), np.float64)


def _pooled_precision(hits: Hits, k: int) -> Floats:
    """Return values whose mean is the ratio of two sums over users."""
    return np.asarray(_count(hits, k) / np.minimum(hits.relevant, k).mean(), np.float64)


_ALL = ("ndcg", "recall", "precision", "mrr", "map", "hit")
LIBRARIES: dict[str, dict[str, Callable[[Hits, int], Floats]]] = {
    "rectools": {**{name: _own(name) for name in _ALL}, "ndcg": _full_list_ndcg, "map": _map_over_relevant},
    "lenskit": {
        "ndcg": _unshifted_ndcg,
        "recall": _achievable_recall,
        "precision": _precision_of_short_lists,
        "mrr": _own("mrr"),
        "hit": _own("hit"),
    },
    "trec_eval": {**{name: _own(name) for name in _ALL}, "map": _map_over_relevant},
    "implicit": {"ndcg": _own("ndcg"), "map": _own("map"), "precision": _pooled_precision},
    "torchmetrics": {**{name: _own(name) for name in _ALL}, "map": _map_over_hits},
}
"""Definitions by library and name of the metric."""


def library_definition(library: str) -> Mapping[str, Callable[[Hits, int], Floats]]:
    """Return the definitions of a library by name of the metric.

    Raises:
        ConfigError: The library is unknown (the hint suggests the nearest known one).
    """
    if library not in LIBRARIES:
        hint = did_you_mean(library, LIBRARIES) or f"known: {', '.join(LIBRARIES)}"
        raise ConfigError(f"the metrics of {library!r} are not known", hint=hint)
    return LIBRARIES[library]


def metric_like(scores: Scores, metric: str, library: str) -> float | None:
    """Return a metric as another library defines it: its mean over users, 0 without users.

    Args:
        scores: Scores of one ranking, at least as long as the cut-off of ``metric``.
        metric: Name such as ``ndcg@10``.
        library: One of :data:`LIBRARIES`.

    Returns:
        The value; None if the library has no metric of this name, or for a metric of labelled pairs.

    Raises:
        ConfigError: The library or the metric is unknown.
    """
    parsed = parse_metric(metric)
    definition = library_definition(library).get(parsed.name)
    if definition is None or scores.hits is None:
        return None
    return float(definition(scores.hits, parsed.k).mean()) if len(scores.users) else 0.0


def compare_definitions(
    runs: Mapping[str, Sequence[Mapping[str, Scores]]], metrics: Sequence[str], library: str
) -> dict[str, Any]:
    """Compare our values with those of another library's definitions, on the same rankings.

    Args:
        runs: Scores by stratum of each run, by arm.
        metrics: Names such as ``ndcg@10``; metrics of labelled pairs are left out.
        library: One of :data:`LIBRARIES`.

    Returns:
        ``library``; and ``strata.STRATUM.ARM.METRIC.{ours,theirs}``, means over runs. ``theirs`` is None if the library
        has no such metric.

    Raises:
        ConfigError: The library is unknown.
    """
    library_definition(library)
    compared: dict[str, dict[str, dict[str, dict[str, float | None]]]] = {}
    for arm, of_arm in runs.items():
        for stratum in of_arm[0] if of_arm else ():
            for metric in ranking_metrics(metrics):
                theirs = [metric_like(run[stratum], metric, library) for run in of_arm]
                known = [value for value in theirs if value is not None]
                compared.setdefault(stratum, {}).setdefault(arm, {})[metric] = {
                    "ours": float(np.mean([run[stratum].mean(metric) for run in of_arm])),
                    "theirs": float(np.mean(known)) if known else None,
                }
    return {"library": library, "strata": compared}
