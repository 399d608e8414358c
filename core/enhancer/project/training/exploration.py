"""Measure what it costs to give new items a share of the places in lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.evaluation.measuring.label_metrics import pair_scores
from enhancer.evaluation.measuring.metrics import ranking_metrics, score_ranking
from enhancer.evaluation.measuring.panels import list_length
from enhancer.evaluation.measuring.ranking import rank
from enhancer.serving.new_items import NewItemShare, even_phases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.measuring.views import Views

    Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]


def exploration_cost(
    views: Views, factors: Factors, share: NewItemShare, metrics: Sequence[str]
) -> dict[str, Any] | None:
    """Compare lists with and without the share of places that new items get.

    Lists are those of the stratum ``everything``: warm test pairs and a share of the pairs of held-out items, ranked
    among warm and held-out items, which stand for new ones.

    Args:
        views: The split.
        factors: Factors of all users and items, held-out ones placed.
        share: The shares to measure.
        metrics: Names such as ``ndcg@10``; metrics of labelled pairs are left out.

    Returns:
        ``with`` the share, ``without`` it (by scores alone), and with ``no_new_items`` in any list: each metric, and
        ``new_items``, the share of the places that held-out items have. None without held-out items or a ranking
        metric.
    """
    rankings, k = ranking_metrics(metrics), list_length(metrics)
    pairs = views.mixed_test
    if not rankings or not len(views.cold_items) or not len(pairs.users):
        return None
    users = np.unique(pairs.users).astype(np.int32)
    cold = np.zeros(views.n_items, np.bool_)
    cold[views.cold_items] = True
    everything = views.order[(cold | (views.popularity > 0))[views.order]]

    def best(candidates: NDArray[np.int64]) -> Ranked:
        rows = rank(factors, users, views.seen_mixed, candidates, k).astype(np.int64)
        scores = pair_scores(factors, np.repeat(users, k), rows.ravel()).reshape(rows.shape)
        return rows, np.where(rows >= 0, scores, -np.inf).astype(np.float32)

    def measured(rows: NDArray[np.int64]) -> dict[str, float]:
        scores = score_ranking(rows.astype(np.int32), users, pairs, views.n_items, rankings)
        filled = rows >= 0
        return {**scores.means(), "new_items": float(cold[rows[filled]].mean())}

    phases = even_phases(users.astype(np.int64), views.n_users)
    warm = best(views.warm_items)
    mixed, _ = share.mix(warm, best(views.cold_items), phases, k)
    return {"with": measured(mixed), "without": measured(best(everything)[0]), "no_new_items": measured(warm[0])}
