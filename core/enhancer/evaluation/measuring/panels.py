"""What is measured of each run: all, head, middle, tail, histories, and the cold.

====================  ===================================  =======================  ==============================
panel                 relevant                             ranked among             users
====================  ===================================  =======================  ==============================
``all``               warm test pairs                      warm items               warm, with such a pair
``head`` … ``tail``   those of the stratum's items         warm items               warm, with such a pair
``history_*``         warm test pairs                      warm items               of that length of history
``cold``              test pairs of held-out items         held-out items           warm, with such a pair
``cold_among_all``    test pairs of held-out items         warm and held-out items  warm, with such a pair
``everything``        warm test pairs, a share of cold     warm and held-out items  warm, with such a pair
``cold_users``        test pairs of held-out users         warm items               held out, with such a pair
====================  ===================================  =======================  ==============================

Warm means: has a training interaction. Training and validation items are never ranked for their user. Where
interactions have labels, test pairs are the good ones; metrics of labels are of good and bad pairs alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.measuring.label_metrics import over_labels
from enhancer.evaluation.measuring.metrics import Scores, of_rankings, parse_metric, score
from enhancer.evaluation.measuring.ranking import rank
from enhancer.evaluation.measuring.strata import Stratum, warm_strata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.measuring.views import Views


@dataclass(frozen=True, eq=False)
class Panel:
    """Strata that are scored on one ranking."""

    candidates: NDArray[np.int64]
    """Item rows that are ranked, in the order that decides ties."""
    users: NDArray[np.int32]
    """User rows that are ranked for, ascending."""
    strata: tuple[Stratum, ...]


_SHOWN = 10
"""Length of the lists whose looks are told where no metric asks for a ranking."""
ScoresByStratum = dict[str, Scores]
"""By stratum: the metrics of each user."""


def panels_of(views: Views, metrics: Sequence[str] = ()) -> list[Panel]:
    """The panels that this split can fill; strata in which a metric of labels has no value are left out."""
    warm = Stratum("all", "all warm items", views.warm_test, len(views.warm_items), views.labelled_test)
    panels = [_panel(views.warm_items, [warm, *warm_strata(views)])]
    if len(views.cold_test.users):
        n = len(views.cold_items)
        labelled = views.labelled_cold
        cold = Stratum("cold", "items held out of training, ranked among themselves", views.cold_test, n, labelled)
        panels.append(_panel(views.cold_items, [cold]))
        warm_or_cold = np.concatenate([views.warm_items, views.cold_items])
        everything = views.order[np.isin(views.order, warm_or_cold)]
        words = "items held out of training, ranked among all items"
        among = Stratum("cold_among_all", words, views.cold_test, n, labelled)
        words = "warm test pairs and as large a share of the held-out items', ranked among all items"
        mixed = Stratum("everything", words, views.mixed_test, len(warm_or_cold), views.labelled_mixed)
        panels.append(_panel(everything, [among, mixed]))
    if len(views.cold_user_test.users):
        strangers = Stratum(
            "cold_users",
            "users held out of training",
            views.cold_user_test,
            len(views.warm_items),
            views.labelled_cold_users,
        )
        panels.append(_panel(views.warm_items, [strangers]))
    asked = [parsed.name for text in metrics if (parsed := parse_metric(text)).of_labels]
    if asked:
        panels = [
            replace(panel, strata=tuple(s for s in panel.strata if s.labelled and s.labelled.defines(asked)))
            for panel in panels
        ]
    return [panel for panel in panels if len(panel.users) and panel.strata]


def shown(metrics: Sequence[str]) -> int:
    """Length of the lists that are made: the largest cut-off of the metrics of rankings."""
    return max((parse_metric(text).k for text in of_rankings(metrics)), default=_SHOWN)


def measure(
    factors: Factors, panels: Sequence[Panel], views: Views, metrics: Sequence[str]
) -> tuple[ScoresByStratum, dict[str, float]]:
    """Rank each panel once and score all its strata.

    Returns:
        The scores by stratum, and what the first panel's lists look like beyond accuracy: ``coverage`` and ``gini``
        (see :func:`spread`) and ``novelty``.
    """
    rankings, k = of_rankings(metrics), shown(metrics)
    measured: ScoresByStratum = {}
    looks: dict[str, float] = {}
    for panel in panels:
        ranked = rank(factors, panel.users, views.seen_testing, panel.candidates, k)
        for stratum in panel.strata:
            scores = score(ranked, panel.users, stratum.pairs, len(factors.items), rankings)
            if stratum.labelled is not None and len(rankings) < len(metrics):
                scores = replace(scores, totals=over_labels(factors, stratum.labelled, metrics))
            measured[stratum.name] = scores
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
