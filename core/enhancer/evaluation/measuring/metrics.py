r"""Compute ranking metrics per user.

With :math:`r_i = 1` if the item at rank :math:`i` is relevant (it is in the evaluated part), else 0, and :math:`R` the
number of relevant items of the user:

========================  ===================================================================================
``ndcg@k``                :math:`\sum_{i \le k} r_i / \log_2(i+1)` over :math:`\sum_{i \le \min(k,R)} 1/\log_2(i+1)`
``recall@k``              :math:`\sum_{i \le k} r_i / R`
``precision@k``           :math:`\sum_{i \le k} r_i / k`
``mrr@k``                 :math:`1/i` of the first relevant item up to rank k, else 0
``map@k``                 :math:`\sum_{i \le k} r_i \cdot \mathrm{precision@}i / \min(k, R)`
``hit@k``                 1 if any :math:`r_i = 1, i \le k`, else 0
========================  ===================================================================================

The value of a metric is the mean over users with at least one relevant item. Metrics of labelled pairs (``auc``,
``gauc``, ``logloss``) are in :mod:`~enhancer.evaluation.measuring.label_metrics`. The definitions are those of RecBole;
:mod:`~enhancer.evaluation.measuring.peer_definitions` has those of other libraries that differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import ConfigError, did_you_mean
from enhancer.evaluation.measuring.hits import Hits
from enhancer.evaluation.measuring.label_metrics import LABEL_METRICS
from enhancer.evaluation.measuring.ranking import CSR, Pairs, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and its cut-off."""

    name: str
    k: int
    """Cut-off rank; 0 for a metric of labelled pairs, which has none."""

    def __str__(self) -> str:
        return f"{self.name}@{self.k}" if self.k else self.name

    @property
    def uses_labels(self) -> bool:
        """Whether this is a metric of labelled pairs, not of a ranking."""
        return self.name in LABEL_METRICS


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics of the users with at least one relevant item."""

    users: NDArray[np.int32]
    """int32 ``[n]``: user rows, ascending."""
    values: Mapping[str, NDArray[np.float64]]
    """float64 ``[n]`` by metric, named as requested."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """Metrics of labelled pairs. They are computed over all pairs and are not means over users."""
    hits: Hits | None = None
    """Ranks that hit a relevant item, from which any ranking metric can be computed; None if they were not kept."""

    def mean(self, metric: str) -> float:
        """Return the mean over users (0 without users), or the value of a metric of labelled pairs."""
        if metric in self.totals:
            return self.totals[metric]
        values = self.values[metric]
        return float(values.mean()) if len(values) else 0.0

    def means(self) -> dict[str, float]:
        """Return the mean of every metric, by name."""
        return {name: self.mean(name) for name in (*self.values, *self.totals)}


@cache
def parse_metric(text: str) -> Metric:
    """Parse ``name@k``, or the name of a metric of labelled pairs.

    >>> parse_metric("NDCG@10"), parse_metric("auc")
    (Metric(name='ndcg', k=10), Metric(name='auc', k=0))

    Raises:
        ConfigError: The name is unknown (the hint suggests the nearest known one), or the cut-off is missing.
    """
    match = re.fullmatch(r"\s*([A-Za-z_]+)\s*(?:@\s*(\d{1,6}))?\s*", text)
    name = match[1].lower() if match else text
    if match is None or name not in (*MEASURES, *LABEL_METRICS):
        raise ConfigError(f"unknown metric {text!r}", hint=_suggestion(text))
    if name in LABEL_METRICS:
        if match[2] is not None:
            raise ConfigError(f"metric {text!r} has no cut-off", hint=f"write {name!r}")
        return Metric(name, 0)
    if match[2] is None or int(match[2]) == 0:
        raise ConfigError(f"metric {text!r} needs a cut-off of 1 or more", hint=f"for example {name}@10")
    return Metric(name, int(match[2]))


def _suggestion(text: str) -> str | None:
    """Return a hint on an unknown metric: the metric that is known by this name elsewhere, or has a similar one.

    >>> _suggestion("HR@5"), _suggestion("ndcg20"), _suggestion("log_loss")
    ("did you mean 'hit@5'?", "did you mean 'ndcg@20'?", "did you mean 'logloss'?")
    """
    spelt = re.fullmatch(r"(.*?)[^a-z0-9]*(?:at|top)?[^a-z0-9]*0*(\d{0,6})\s*", text.strip().lower())
    word, cut = (spelt[1], spelt[2] or "10") if spelt else (text.lower(), "10")
    letters = re.sub(r"[^a-z]", "", word)
    known = _ELSEWHERE.get(letters, letters)
    named = {**{name: f"{name}@{cut}" for name in MEASURES}, **{name: name for name in LABEL_METRICS}}
    if known in named:
        return f"did you mean {named[known]!r}?"
    near = did_you_mean(known, named)
    return re.sub(r"(?<=^did you mean ')\w+", lambda found: named[found[0]], near or "")


def direction(metric: str) -> int:
    """Return 1 if a higher value is better, -1 if a lower one is.

    >>> direction("ndcg@10"), direction("logloss")
    (1, -1)
    """
    return -1 if metric.strip().lower() == "logloss" else 1


def ranking_metrics(metrics: Sequence[str]) -> list[str]:
    """Return the ranking metrics among ``metrics``; the others are metrics of labelled pairs."""
    return [text for text in metrics if not parse_metric(text).uses_labels]


def evaluate(
    factors: Factors,
    part: Pairs,
    *,
    seen: Sequence[Pairs] | CSR = (),
    candidates: NDArray[np.bool_] | NDArray[np.integer] | None = None,
    metrics: Sequence[str] = ("ndcg@10", "recall@20"),
) -> Scores:
    """Rank all candidate items for every user of ``part``, and compute ranking metrics.

    For validation, ``seen`` is the training part; for testing, the training and validation parts.

    Args:
        factors: User and item factors.
        part: Relevant interactions. Interactions with items that are not candidates are ignored.
        seen: Parts whose items are excluded from the ranking of their users. Pass a CSR to reuse it between calls.
        candidates: See :func:`~enhancer.evaluation.measuring.ranking.rank`.
        metrics: Names such as ``ndcg@10``.

    Raises:
        ConfigError: A metric is unknown, or is a metric of labelled pairs.
        EvaluationError: A factor is NaN or infinite.
    """
    if others := [text for text in metrics if parse_metric(text).uses_labels]:
        raise ConfigError(f"metric {others[0]!r} is a metric of labelled pairs, not of a ranking")
    parsed = {text: parse_metric(text) for text in metrics}
    n_users, n_items = len(factors.users), len(factors.items)
    relevant = restrict_to_items(part, candidates, n_items)
    users = np.unique(relevant.users).astype(np.int32)
    k = max(metric.k for metric in parsed.values())
    masked = seen if isinstance(seen, CSR) else CSR.of(seen, n_users)
    ranked = rank(factors, users, masked, candidates, k)
    return score_ranking(ranked, users, relevant, n_items, metrics)


def score_ranking(
    ranked: NDArray[np.int32],
    users: NDArray[np.int32],
    part: Pairs,
    n_items: int,
    metrics: Sequence[str],
) -> Scores:
    """Compute metrics of a given ranking.

    ``part`` may have fewer users than were ranked, so several strata can be scored on one ranking.

    Args:
        ranked: int32 ``[n, k]``: item rows, best first; -1 for an empty place. ``k`` is at least the largest cut-off.
        users: int32 ``[n]``, ascending: the ranked users. They include all users of ``part``.
        part: Relevant pairs, without duplicates.
        n_items: Number of item rows.
        metrics: Names such as ``ndcg@10``.

    Raises:
        ConfigError: A metric is unknown.
    """
    parsed = {text: parse_metric(text) for text in metrics}
    counts = np.bincount(np.searchsorted(users, part.users), minlength=len(users))
    kept = np.flatnonzero(counts)
    rows, relevant = ranked[kept], counts[kept]
    keys = np.sort(part.users.astype(np.int64) * n_items + part.items)
    wanted = users[kept].astype(np.int64)[:, None] * n_items + rows
    if len(keys):
        where = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hits = (keys[where] == wanted) & (rows >= 0)
    else:
        hits = np.zeros(rows.shape, np.bool_)
    values = {text: MEASURES[metric.name](hits[:, : metric.k], relevant, metric.k) for text, metric in parsed.items()}
    length = np.count_nonzero(rows >= 0, axis=1)
    return Scores(users[kept].astype(np.int32), values, hits=Hits.of(hits, relevant, length))


@dataclass(frozen=True, eq=False)
class PairList:
    """Selected user-item pairs of one part of the split."""

    users: NDArray[np.int32]
    """int32 ``[n]``: user rows."""
    items: NDArray[np.int32]
    """int32 ``[n]``: item rows."""


def restrict_to_items(part: Pairs, items: NDArray[np.bool_] | NDArray[np.integer] | None, n_items: int) -> Pairs:
    """Return the pairs of ``part`` whose item is among ``items``: a mask, or item rows; None for all."""
    if items is None:
        return part
    mask = items if items.dtype == np.bool_ else np.isin(np.arange(n_items), items)
    keep = mask[part.items]
    return PairList(part.users[keep], part.items[keep])


def _discounts(k: int) -> NDArray[np.float64]:
    return 1.0 / np.log2(np.arange(2, k + 2))


def _ndcg(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    ideal = np.concatenate([[0.0], np.cumsum(_discounts(k))])
    gain: NDArray[np.float64] = hits @ _discounts(hits.shape[1]) / ideal[np.minimum(relevant, k)]
    return gain


def _recall(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    del k
    found: NDArray[np.float64] = np.count_nonzero(hits, axis=1) / relevant
    return found


def _precision(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    del relevant
    found: NDArray[np.float64] = np.count_nonzero(hits, axis=1) / k
    return found


def _mrr(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    del relevant, k
    return np.asarray(np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0), dtype=np.float64)


def _map(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(axis=1) / np.minimum(relevant, k), dtype=np.float64)


def _hit(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    del relevant, k
    return np.asarray(hits.any(axis=1), dtype=np.float64)


MEASURES: dict[str, Callable[[NDArray[np.bool_], NDArray[np.int64], int], NDArray[np.float64]]] = {
    "ndcg": _ndcg,
    "recall": _recall,
    "precision": _precision,
    "mrr": _mrr,
    "map": _map,
    "hit": _hit,
}
"""Value of each user by name of the metric, from hits bool ``[n, k]``, relevant items int64 ``[n]``, and k."""

_ELSEWHERE = {
    **dict.fromkeys(("hr", "hitrate", "hitratio", "hits", "success", "successrate"), "hit"),
    **dict.fromkeys(("p", "prec"), "precision"),
    **dict.fromkeys(("r", "rec", "sensitivity", "tpr"), "recall"),
    **dict.fromkeys(("ap", "meanap", "averageprecision", "avgprecision", "meanaverageprecision"), "map"),
    **dict.fromkeys(("rr", "reciprocalrank", "reciprank", "meanreciprocalrank"), "mrr"),
    **dict.fromkeys(("dcg", "normalizeddcg", "normalizeddiscountedcumulativegain"), "ndcg"),
    **dict.fromkeys(("rocauc", "aucroc", "auroc"), "auc"),
    **dict.fromkeys(("uauc", "userauc"), "gauc"),
    **dict.fromkeys(("bce", "crossentropy", "binarycrossentropy"), "logloss"),
}
"""Names of metrics in other libraries and in papers, without anything but letters, and their names here."""
