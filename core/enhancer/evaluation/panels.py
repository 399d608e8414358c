"""What is measured of each run: all, head, middle, tail, histories, and the cold.

====================  ===================================  =======================  ==============================
panel                 relevant                             ranked among             users
====================  ===================================  =======================  ==============================
``all``               warm test pairs                      warm items               warm, with such a pair
``head`` … ``tail``   those of the stratum's items         warm items               warm, with such a pair
``history_*``         warm test pairs                      warm items               of that length of history
``cold``              test pairs of held-out items         held-out items           warm, with such a pair
``cold_among_all``    test pairs of held-out items         warm and held-out items  warm, with such a pair
``cold_users``        test pairs of held-out users         warm items               held out, with such a pair
====================  ===================================  =======================  ==============================

Warm means: has a training interaction. Training and validation items are never ranked for their user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.metrics import Scores, parse_metric, score
from enhancer.evaluation.ranking import rank
from enhancer.evaluation.strata import Stratum, warm_strata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.split import Views


@dataclass(frozen=True, eq=False)
class Panel:
    """Strata that are scored on one ranking."""

    candidates: NDArray[np.int64]
    """Item rows that are ranked, in the order that decides ties."""
    users: NDArray[np.int32]
    """User rows that are ranked for, ascending."""
    strata: tuple[Stratum, ...]


Measured = dict[str, Scores]
"""By stratum: the metrics of each user."""


def panels_of(views: Views) -> list[Panel]:
    """The panels that this split can fill."""
    warm = Stratum("all", "all warm items", views.warm_test, len(views.warm_items))
    panels = [_panel(views.warm_items, [warm, *warm_strata(views)])]
    if len(views.cold_test.users):
        n = len(views.cold_items)
        cold = Stratum("cold", "items held out of training, ranked among themselves", views.cold_test, n)
        panels.append(_panel(views.cold_items, [cold]))
        warm_or_cold = np.concatenate([views.warm_items, views.cold_items])
        everything = views.order[np.isin(views.order, warm_or_cold)]
        among = Stratum("cold_among_all", "items held out of training, ranked among all items", views.cold_test, n)
        panels.append(_panel(everything, [among]))
    if len(views.cold_user_test.users):
        strangers = Stratum("cold_users", "users held out of training", views.cold_user_test, len(views.warm_items))
        panels.append(_panel(views.warm_items, [strangers]))
    return [panel for panel in panels if len(panel.users)]


def measure(
    factors: Factors, panels: Sequence[Panel], views: Views, metrics: Sequence[str]
) -> tuple[Measured, dict[str, float]]:
    """Rank each panel once and score all its strata.

    Returns:
        The scores by stratum, and what the first panel's lists look like beyond accuracy: ``coverage`` and ``gini``
        (see :func:`spread`) and ``novelty``.
    """
    k = max(parse_metric(text).k for text in metrics)
    measured: Measured = {}
    looks: dict[str, float] = {}
    for panel in panels:
        ranked = rank(factors, panel.users, views.seen_testing, panel.candidates, k)
        for stratum in panel.strata:
            measured[stratum.name] = score(ranked, panel.users, stratum.pairs, len(factors.items), metrics)
        if not looks:
            looks = spread(ranked, panel.candidates, len(factors.items))
            looks["novelty"] = novelty(ranked, views.popularity, int(np.count_nonzero(views.history)))
    return measured, looks


def spread(ranked: NDArray[np.int32], candidates: NDArray[np.int64], n_items: int) -> dict[str, float]:
    """How the recommended places are spread over the candidates.

    Returns:
        ``coverage``: share of the candidates that is recommended to anybody. ``gini``: inequality of how often each
        candidate is recommended, 0 when all are equally often, towards 1 when few take all.
    """
    shown = np.bincount(ranked[ranked >= 0], minlength=n_items)[candidates]
    counts = np.sort(shown).astype(np.float64)
    n, total = len(counts), float(counts.sum())
    if not total:
        return {"coverage": 0.0, "gini": 0.0}
    gini = float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * total))
    return {"coverage": float(np.count_nonzero(counts) / n), "gini": gini}


def novelty(ranked: NDArray[np.int32], popularity: NDArray[np.int64], n_users: int) -> float:
    r"""Mean self-information of what is recommended, :math:`-\log_2(\text{users of the item} / \text{users})`, bits."""
    taken = popularity[ranked[ranked >= 0]]
    if not len(taken):
        return 0.0
    return float(-np.log2(np.maximum(taken, 1) / max(n_users, 1)).mean())


def _panel(candidates: NDArray[np.int64], strata: Sequence[Stratum]) -> Panel:
    users: NDArray[np.int32] = np.unique(np.concatenate([stratum.pairs.users for stratum in strata])).astype(np.int32)
    return Panel(candidates, users, tuple(strata))
