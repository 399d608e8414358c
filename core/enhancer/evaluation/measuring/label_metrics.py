r"""How well good interactions are told from others, over labelled pairs: no ranking of the catalogue is needed.

With scores :math:`s`, labels :math:`y` of 0 and 1, and :math:`\sigma` the logistic function:

===========  ========================================================================================================
``auc``      the chance that a good pair scores above another one, over all couples of either; ties count half
``gauc``     the mean of each user's own AUC, weighted by the user's pairs; users with one kind of pairs are left out
``logloss``  :math:`-\frac 1n \sum y \log \sigma(s) + (1-y) \log(1-\sigma(s))`; lower is better
===========  ========================================================================================================

``gauc`` is that of Zhou et al. 2018, "Deep Interest Network", eq. 2. Unlike ``auc`` it gains nothing from telling
generous users from strict ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors

LABEL_METRICS = ("auc", "gauc", "logloss")
"""Metrics of labelled pairs."""
_BLOCK = 1 << 18
"""Pairs whose rows are gathered at once."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled pairs of a part of the split."""

    users: NDArray[np.int32]
    """int32 ``[n]``."""
    items: NDArray[np.int32]
    """int32 ``[n]``."""
    labels: NDArray[np.float32]
    """float32 ``[n]``: 1 or 0."""

    def take(self, keep: NDArray[np.bool_]) -> Labelled:
        """Some of them."""
        return Labelled(self.users[keep], self.items[keep], self.labels[keep])

    def defines(self, metrics: Sequence[str]) -> bool:
        """Whether these metrics have a value here: ``auc`` needs both labels, ``gauc`` of one user."""
        if not len(self.labels):
            return False
        good = self.labels > 0
        if "auc" in metrics and (good.all() or not good.any()):
            return False
        return "gauc" not in metrics or bool(len(np.intersect1d(self.users[good], self.users[~good])))


def pair_scores(factors: Factors, users: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float64]:
    """The score of each pair, float64 ``[n]``."""
    out = np.empty(len(users))
    for start in range(0, len(users), _BLOCK):
        some = slice(start, start + _BLOCK)
        out[some] = np.einsum("nk,nk->n", factors.users[users[some]], factors.items[items[some]], dtype=np.float64)
    return out


def over_labels(factors: Factors, pairs: Labelled, metrics: Sequence[str]) -> dict[str, float]:
    """The metrics of labels among ``metrics``, by name as asked for.

    Raises:
        EvaluationError: A score is not finite, or a metric has no value here (see :meth:`Labelled.defines`).
    """
    wanted = [name for name in metrics if name.strip().lower() in LABEL_METRICS]
    if not wanted:
        return {}
    scores = pair_scores(factors, pairs.users, pairs.items)
    if not np.isfinite(scores).all():
        raise EvaluationError("a score is not finite", hint="lower the learning rate")
    measures = {
        "auc": lambda: auc(pairs.labels, scores),
        "gauc": lambda: gauc(pairs.users, pairs.labels, scores),
        "logloss": lambda: logloss(pairs.labels, scores),
    }
    return {name: measures[name.strip().lower()]() for name in wanted}


def auc(labels: NDArray[np.floating], scores: NDArray[np.floating]) -> float:
    """The area under the ROC curve.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75

    Raises:
        EvaluationError: All labels are the same.
    """
    return gauc(np.zeros(len(labels), np.int32), labels, scores)


def gauc(users: NDArray[np.integer], labels: NDArray[np.floating], scores: NDArray[np.floating]) -> float:
    """The mean of each user's AUC, weighted by the user's pairs.

    Raises:
        EvaluationError: No user has pairs of both labels.
    """
    order = np.lexsort((scores, users))
    who, good, score = users[order], labels[order] > 0, scores[order]
    first = np.ones(len(order), np.bool_)  # of each user
    first[1:] = who[1:] != who[:-1]
    fresh = first.copy()  # first of equal scores of one user
    fresh[1:] |= score[1:] != score[:-1]
    tie = np.cumsum(fresh) - 1
    counts = np.bincount(tie)
    place = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each tie, from 1, over all users
    user = np.cumsum(first) - 1
    pairs = np.bincount(user)
    before = np.cumsum(pairs) - pairs
    rank = place[tie] - before[user]
    goods = np.bincount(user, weights=good)
    others = pairs - goods
    sums = np.bincount(user, weights=rank * good)
    both = (goods > 0) & (others > 0)
    if not both.any():
        raise EvaluationError("all labels are the same", hint="AUC needs good interactions and others")
    areas = (sums[both] - goods[both] * (goods[both] + 1) / 2) / (goods[both] * others[both])
    return float(np.average(areas, weights=pairs[both]))


def logloss(labels: NDArray[np.floating], logits: NDArray[np.floating]) -> float:
    """The mean log loss of ``sigmoid(logits)``.

    >>> round(logloss(np.array([1.0, 0.0]), np.array([0.0, 0.0])), 4)
    0.6931
    """
    logits = logits.astype(np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))
