"""Measure a run on every panel: rank the candidate items once per panel, and score its strata.

====================  ===================================  =======================  ==============================
panel                 relevant                             ranked among             users
====================  ===================================  =======================  ==============================
``all``               warm test pairs                      warm items               warm, with such a pair
``head`` … ``tail``   those with the stratum's items       warm items               warm, with such a pair
``history_*``         warm test pairs                      warm items               with histories of that length
``known``, …          those with the group's items         warm items of the group  warm, with such a pair
``cold``              test pairs of held-out items         held-out items           warm, with such a pair
``cold_known``, …     those with the group's items         held-out items of it     warm, with such a pair
``cold_among_all``    test pairs of held-out items         warm and held-out items  warm, with such a pair
``everything``        warm test pairs, a share of cold     warm and held-out items  warm, with such a pair
``cold_users``        test pairs of held-out users         warm items               held out, with such a pair
====================  ===================================  =======================  ==============================

Warm users and items have training interactions. A user's training and validation items are excluded from the ranking;
for ``everything`` the held-out items of pairs that are not among the share, too.
If interactions have labels, only positive test pairs are relevant, and metrics of labelled pairs use positive and
negative ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.measuring.label_metrics import evaluate_labelled
from enhancer.evaluation.measuring.metrics import (
    Scores,
    parse_metric,
    ranking_metrics,
    restrict_to_items,
    score_ranking,
)
from enhancer.evaluation.measuring.ranking import rank
from enhancer.evaluation.measuring.strata import Stratum, warm_strata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.measuring.ranking import CSR
    from enhancer.evaluation.measuring.strata import ItemGroup
    from enhancer.evaluation.measuring.views import Views


@dataclass(frozen=True, eq=False)
class Panel:
    """Strata scored on one ranking."""

    candidates: NDArray[np.int64]
    """Item rows to rank, in the order that decides ties."""
    users: NDArray[np.int32]
    """User rows to rank for, ascending."""
    seen: CSR
    """Items excluded from the ranking of each user."""
    strata: tuple[Stratum, ...]


_DEFAULT_LENGTH = 10
"""Length of the ranked lists if no metric has a cut-off."""
ScoresByStratum = dict[str, Scores]
"""Metrics of each user, by stratum."""


def make_panels(views: Views, metrics: Sequence[str] = (), groups: Sequence[ItemGroup] = ()) -> list[Panel]:
    """Return the panels that have test pairs. Strata in which a metric of labelled pairs is undefined are left out.

    Args:
        views: The split.
        metrics: Names such as ``ndcg@10``.
        groups: Items that are ranked among themselves: warm ones by the group's name, held-out ones with the prefix
            ``cold_``.
    """
    warm = Stratum("all", "all warm items", views.warm_test, len(views.warm_items), views.labelled_test)
    panels = [_panel(views.warm_items, views.seen_testing, [warm, *warm_strata(views)])]
    panels += _by_group(groups, warm, panels[0], metrics)
    if len(views.cold_test.users):
        n = len(views.cold_items)
        labelled = views.labelled_cold
        cold = Stratum("cold", "items held out of training, ranked among themselves", views.cold_test, n, labelled)
        panels.append(_panel(views.cold_items, views.seen_testing, [cold]))
        panels += _by_group(groups, cold, panels[-1], metrics, prefix="cold_")
        warm_or_cold = np.concatenate([views.warm_items, views.cold_items])
        everything = views.order[np.isin(views.order, warm_or_cold)]
        description = "items held out of training, ranked among all items"
        among = Stratum("cold_among_all", description, views.cold_test, n, labelled)
        description = "warm test pairs and an equal share of the pairs of held-out items, ranked among all items"
        mixed = Stratum("everything", description, views.mixed_test, len(warm_or_cold), views.labelled_mixed)
        panels.append(_panel(everything, views.seen_testing, [among]))
        panels.append(_panel(everything, views.seen_mixed, [mixed]))
    if len(views.cold_user_test.users):
        held_out_users = Stratum(
            "cold_users",
            "users held out of training",
            views.cold_user_test,
            len(views.warm_items),
            views.labelled_cold_users,
        )
        panels.append(_panel(views.warm_items, views.seen_testing, [held_out_users]))
    label_metrics = [parsed.name for text in metrics if (parsed := parse_metric(text)).uses_labels]
    if label_metrics:
        panels = [
            replace(panel, strata=tuple(s for s in panel.strata if s.labelled and s.labelled.defines(label_metrics)))
            for panel in panels
        ]
    return [panel for panel in panels if len(panel.users) and panel.strata]


def _by_group(
    groups: Sequence[ItemGroup], whole: Stratum, panel: Panel, metrics: Sequence[str], *, prefix: str = ""
) -> list[Panel]:
    """Return a panel of each group of items, ranked among themselves.

    Groups are left out whose items fill no more than one list, or that have none or all of the relevant pairs.
    """
    panels = []
    for group in groups:
        candidates = panel.candidates[group.members[panel.candidates]]
        pairs = restrict_to_items(whole.pairs, group.members, len(group.members))
        if len(candidates) <= list_length(metrics) or not 0 < len(pairs.users) < len(whole.pairs.users):
            continue
        labelled = None if whole.labelled is None else whole.labelled.take(group.members[whole.labelled.items])
        stratum = Stratum(f"{prefix}{group.name}", group.description, pairs, len(candidates), labelled)
        panels.append(_panel(candidates, panel.seen, [stratum]))
    return panels


def list_length(metrics: Sequence[str]) -> int:
    """Return the length of the ranked lists: the largest cut-off among the ranking metrics."""
    return max((parse_metric(text).k for text in ranking_metrics(metrics)), default=_DEFAULT_LENGTH)


def first_cut_off(metrics: Sequence[str]) -> int:
    """Return the cut-off of the first ranking metric."""
    return next((parse_metric(text).k for text in ranking_metrics(metrics)), _DEFAULT_LENGTH)


def measure(
    factors: Factors, panels: Sequence[Panel], views: Views, metrics: Sequence[str]
) -> tuple[ScoresByStratum, dict[str, float]]:
    """Rank each panel once and score all its strata.

    Returns:
        The metrics of each user by stratum; and ``coverage`` and ``gini`` (see :func:`coverage_and_gini`) and
        ``novelty`` of the first panel's lists, and ``new``, the share of held-out items in the first places of lists
        over warm and held-out items, if there are any.
    """
    rankings, k = ranking_metrics(metrics), list_length(metrics)
    by_stratum: ScoresByStratum = {}
    beyond_accuracy: dict[str, float] = {}
    for panel in panels:
        ranked = rank(factors, panel.users, panel.seen, panel.candidates, k)
        for stratum in panel.strata:
            scores = score_ranking(ranked, panel.users, stratum.pairs, len(factors.items), rankings)
            if stratum.labelled is not None and len(rankings) < len(metrics):
                scores = replace(scores, totals=evaluate_labelled(factors, stratum.labelled, metrics))
            by_stratum[stratum.name] = scores
        if any(stratum.name == "everything" for stratum in panel.strata):
            beyond_accuracy["new"] = share_of(ranked[:, : first_cut_off(metrics)], views.cold_items)
        if "coverage" not in beyond_accuracy:
            beyond_accuracy |= coverage_and_gini(ranked, panel.candidates, len(factors.items))
            beyond_accuracy["novelty"] = novelty(ranked, views.popularity, int(np.count_nonzero(views.history)))
    return by_stratum, beyond_accuracy


def coverage_and_gini(ranked: NDArray[np.int32], candidates: NDArray[np.int64], n_items: int) -> dict[str, float]:
    """Measure how recommendations are distributed over the candidate items.

    Args:
        ranked: int32 ``[n, k]``: recommended item rows; -1 for an empty place.
        candidates: int64: candidate item rows.
        n_items: Number of item rows.

    Returns:
        ``coverage``: share of the candidates that are recommended at least once. ``gini``: Gini coefficient of the
        number of recommendations of each candidate, 0 if all are recommended equally often, near 1 if very few are.
    """
    recommended = np.bincount(ranked[ranked >= 0], minlength=n_items)[candidates]
    counts = np.sort(recommended).astype(np.float64)
    n, total = len(counts), float(counts.sum())
    if not total:
        return {"coverage": 0.0, "gini": 0.0}
    gini = float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * total))
    return {"coverage": float(np.count_nonzero(counts) / n), "gini": gini}


def share_of(ranked: NDArray[np.int32], items: NDArray[np.integer]) -> float:
    """Return the share of recommendations that are among ``items``; empty places (-1) do not count."""
    shown = ranked[ranked >= 0]
    return float(np.isin(shown, items).mean()) if len(shown) else 0.0


def novelty(ranked: NDArray[np.int32], popularity: NDArray[np.int64], n_users: int) -> float:
    r"""Compute the mean self-information of recommended items in bits.

    For an item with :math:`n_i` training interactions and :math:`n` users it is :math:`-\log_2(n_i / n)`.

    Args:
        ranked: int32 ``[n, k]``: recommended item rows; -1 for an empty place.
        popularity: int64 ``[n_items]``: training interactions of each item.
        n_users: Number of users with training interactions.
    """
    counts = popularity[ranked[ranked >= 0]]
    if not len(counts):
        return 0.0
    return float(-np.log2(np.maximum(counts, 1) / max(n_users, 1)).mean())


def _panel(candidates: NDArray[np.int64], seen: CSR, strata: Sequence[Stratum]) -> Panel:
    users: NDArray[np.int32] = np.unique(np.concatenate([stratum.pairs.users for stratum in strata])).astype(np.int32)
    return Panel(candidates, users, seen, tuple(strata))
