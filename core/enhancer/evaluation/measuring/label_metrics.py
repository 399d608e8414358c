r"""Compute metrics of labelled user-item pairs, which need no ranking of the catalogue.

With scores :math:`s`, labels :math:`y` of 0 and 1, and :math:`\sigma` the logistic function:

===========  ========================================================================================================
``auc``      probability that a positive pair scores above a negative one; ties count half
``gauc``     mean of each user's AUC, weighted by the user's number of pairs; users with one label only are left out
``logloss``  :math:`-\frac 1n \sum y \log \sigma(s) + (1-y) \log(1-\sigma(s))`; lower is better
===========  ========================================================================================================

``gauc`` is defined by Zhou et al. 2018, "Deep Interest Network", eq. 2. Unlike ``auc``, it does not improve if a model
merely separates users with many positives from users with few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import NOT_FINITE_HINT, EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors

LABEL_METRICS = ("auc", "gauc", "logloss")
"""Names of the metrics of labelled pairs."""
_BLOCK = 1 << 18
"""Number of pairs scored at once."""


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Labelled user-item pairs of one part of the split."""

    users: NDArray[np.int32]
    """int32 ``[n]``: user rows."""
    items: NDArray[np.int32]
    """int32 ``[n]``: item rows."""
    labels: NDArray[np.float32]
    """float32 ``[n]``: 1 for positive, 0 for negative."""

    def take(self, keep: NDArray[np.bool_]) -> LabelledPairs:
        """Return the pairs selected by a mask ``[n]``."""
        return LabelledPairs(self.users[keep], self.items[keep], self.labels[keep])

    def defines(self, metrics: Sequence[str]) -> bool:
        """Check whether the metrics are defined: ``auc`` needs both labels, ``gauc`` both labels of one user."""
        if not len(self.labels):
            return False
        positive = self.labels > 0
        if "auc" in metrics and (positive.all() or not positive.any()):
            return False
        return "gauc" not in metrics or bool(len(np.intersect1d(self.users[positive], self.users[~positive])))


def pair_scores(factors: Factors, users: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the score of each pair, float64 ``[n]``."""
    out = np.empty(len(users))
    for start in range(0, len(users), _BLOCK):
        block = slice(start, start + _BLOCK)
        out[block] = np.einsum("nk,nk->n", factors.users[users[block]], factors.items[items[block]], dtype=np.float64)
    return out


def evaluate_labelled(factors: Factors, pairs: LabelledPairs, metrics: Sequence[str]) -> dict[str, float]:
    """Compute the metrics of labelled pairs among ``metrics``; the others are ignored.

    Args:
        factors: User and item factors.
        pairs: Labelled pairs.
        metrics: Names such as ``auc``.

    Returns:
        Values by name, as written in ``metrics``.

    Raises:
        EvaluationError: A score is not finite, or a metric is not defined (see :meth:`LabelledPairs.defines`).
    """
    wanted = [name for name in metrics if name.strip().lower() in LABEL_METRICS]
    if not wanted:
        return {}
    scores = pair_scores(factors, pairs.users, pairs.items)
    if not np.isfinite(scores).all():
        raise EvaluationError("a score is not finite", hint=NOT_FINITE_HINT)
    measures = {
        "auc": lambda: auc(pairs.labels, scores),
        "gauc": lambda: gauc(pairs.users, pairs.labels, scores),
        "logloss": lambda: logloss(pairs.labels, scores),
    }
    return {name: measures[name.strip().lower()]() for name in wanted}


def auc(labels: NDArray[np.floating], scores: NDArray[np.floating]) -> float:
    """Compute the area under the ROC curve.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75

    Raises:
        EvaluationError: All labels are equal.
    """
    return gauc(np.zeros(len(labels), np.int32), labels, scores)


def gauc(users: NDArray[np.integer], labels: NDArray[np.floating], scores: NDArray[np.floating]) -> float:
    """Compute the mean of each user's AUC, weighted by the user's number of pairs.

    Raises:
        EvaluationError: No user has pairs of both labels.
    """
    order = np.lexsort((scores, users))
    sorted_users, positive, sorted_scores = users[order], labels[order] > 0, scores[order]
    first_of_user = np.ones(len(order), np.bool_)
    first_of_user[1:] = sorted_users[1:] != sorted_users[:-1]
    first_of_tie = first_of_user.copy()  # a tie: equal scores of one user
    first_of_tie[1:] |= sorted_scores[1:] != sorted_scores[:-1]
    tie = np.cumsum(first_of_tie) - 1
    counts = np.bincount(tie)
    rank_of_tie = np.cumsum(counts) - (counts - 1) / 2  # mean rank from 1, over all users
    user = np.cumsum(first_of_user) - 1
    pairs = np.bincount(user)
    before = np.cumsum(pairs) - pairs
    rank = rank_of_tie[tie] - before[user]
    positives = np.bincount(user, weights=positive)
    negatives = pairs - positives
    rank_sums = np.bincount(user, weights=rank * positive)
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        raise EvaluationError("all labels are equal", hint="AUC needs positive and negative interactions")
    areas = (rank_sums[both] - positives[both] * (positives[both] + 1) / 2) / (positives[both] * negatives[both])
    return float(np.average(areas, weights=pairs[both]))


def logloss(labels: NDArray[np.floating], logits: NDArray[np.floating]) -> float:
    """Compute the mean log loss of ``sigmoid(logits)``.

    >>> round(logloss(np.array([1.0, 0.0]), np.array([0.0, 0.0])), 4)
    0.6931
    """
    logits = logits.astype(np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))
