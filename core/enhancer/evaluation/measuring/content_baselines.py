"""Baselines that rank held-out items by content: the mean vector of a user's items, and a ridge onto the factors.

Without them, an arm that places new items is compared with arms that know nothing of those items and rank them by
chance. ``mean vector`` trains nothing. ``ridge`` maps vectors to the item factors of a backbone that was trained
without vectors, which is a regression after the fact and needs no fuser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.backbone import Factors
from enhancer.evaluation.measuring.metrics import parse_metric
from enhancer.evaluation.measuring.panels import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.evaluation.measuring.metrics import Scores
    from enhancer.evaluation.measuring.panels import Panel, ScoresByStratum
    from enhancer.evaluation.measuring.ranking import Pairs
    from enhancer.evaluation.measuring.views import Views
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.vectors import FloatMatrix

CONTENT_PANEL = "cold"
"""The panel that content baselines are measured on."""
_STRENGTHS = 10.0 ** np.arange(-5.0, 3.5, 0.5)
"""Penalties to choose from, as multiples of the mean squared length of a centred column of vectors."""
_LEFT_OUT = 20_000
"""Largest number of rows that are left out in turn; with more, a sample is. All rows enter the fit."""
_CHUNK = 1 << 22
"""Vector components that are copied at once."""


def content_inputs(arms: Sequence[Arm], panels: Sequence[Panel]) -> tuple[tuple[Input, ...], ...]:
    """Return the inputs that content baselines are computed for: those of the arms with vectors, each combination once.

    Empty without a panel of held-out items.
    """
    if _cold_panel(panels) is None:
        return ()
    return tuple(dict.fromkeys(arm.inputs for arm in arms if arm.semantic and not arm.shuffle))


def baseline_name(kind: str, inputs: Sequence[Input]) -> str:
    """Return the name of a content baseline.

    >>> baseline_name("ridge", ["profile", "text"])
    'ridge (profile + text)'
    """
    return f"{kind} ({' + '.join(inputs)})"


def measure_mean_vectors(
    tables: Mapping[tuple[Input, ...], FloatMatrix], panels: Sequence[Panel], views: Views, metrics: Sequence[str]
) -> dict[str, Scores]:
    """Rank held-out items by the cosine of their vector and the mean vector of the user's training items.

    Args:
        tables: Item vectors, float32 ``[n_items, d]``, by inputs.
        panels: Panels of the experiment.
        views: The split.
        metrics: Names such as ``ndcg@10``. Log loss is left out: a cosine is no logit.

    Returns:
        Metrics of each user on the panel of held-out items, by name of the baseline.
    """
    scored = [text for text in metrics if parse_metric(text).name != "logloss"]
    panel = _cold_panel(panels)
    if panel is None or not scored:
        return {}
    found = {}
    for inputs, vectors in tables.items():
        items = _unit(vectors)
        factors = Factors(mean_of_items(items, views.positive_train, views.n_users), items)
        found[baseline_name("mean vector", inputs)] = measure(factors, [panel], views, scored)[0][CONTENT_PANEL]
    return found


def measure_ridge(
    factors: Factors, vectors: FloatMatrix, panels: Sequence[Panel], views: Views, metrics: Sequence[str]
) -> ScoresByStratum:
    """Rank held-out items by factors that a ridge regression predicts from their vectors.

    Args:
        factors: Factors of a backbone that was trained without vectors.
        vectors: float32 ``[n_items, d]``: vectors of items.
        panels: Panels of the experiment.
        views: The split.
        metrics: Names such as ``ndcg@10``.

    Returns:
        Metrics of each user on the panel of held-out items; empty without this panel, or if fewer than three trained
        items have a vector.
    """
    panel, has = _cold_panel(panels), np.any(vectors != 0, axis=1)
    trained = np.flatnonzero(has & (views.popularity > 0))
    if panel is None or len(trained) < 3:
        return {}
    slope, intercept = ridge_by_leave_one_out(vectors[trained], factors.items[trained])
    items, cold = factors.items.copy(), views.split.cold_items
    # An item without a vector gets the mean of the trained factors.
    items[cold] = np.where(has[cold, None], vectors[cold] @ slope + intercept, factors.items[trained].mean(axis=0))
    return measure(Factors(factors.users, items), [panel], views, metrics)[0]


def mean_of_items(items: FloatMatrix, pairs: Pairs, n_users: int) -> FloatMatrix:
    """Return the mean vector of each user's items.

    Args:
        items: float32 ``[n_items, d]``: vectors of unit length; rows of zeros do not count.
        pairs: Training interactions.
        n_users: Number of user rows.

    Returns:
        float32 ``[n_users, d]``; zero for users without an item that has a vector.
    """
    total = np.zeros((n_users, items.shape[1]), np.float32)
    order = np.argsort(pairs.users, kind="stable")
    step = max(1, _CHUNK // max(items.shape[1], 1))
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        owners, first = np.unique(pairs.users[rows], return_index=True)
        total[owners] += np.add.reduceat(items[pairs.items[rows]], first, axis=0)
    counts = np.bincount(pairs.users, weights=np.any(items != 0, axis=1)[pairs.items], minlength=n_users)
    return total / np.maximum(counts, 1).astype(np.float32)[:, None]


def ridge_by_leave_one_out(
    x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    r"""Fit a ridge regression with an intercept, whose penalty has the least squared error when rows are left out.

    With the singular value decomposition :math:`U S V^\top` of the centred inputs, the fit without row :math:`i` errs
    on it by :math:`e_i / (1 - h_i)`, with :math:`e_i` the residual of the fit on all rows and
    :math:`h_i = 1/n + \sum_j u_{ij}^2 s_j^2 / (s_j^2 + \lambda)` its leverage (Allen 1974, PRESS).

    Args:
        x: float ``[n, d]``; n is at least 2.
        y: float ``[n, k]``.

    Returns:
        Slope, float32 ``[d, k]``, and intercept, float32 ``[k]``.
    """
    inputs, targets = x.astype(np.float64), y.astype(np.float64)
    centre, level = inputs.mean(axis=0), targets.mean(axis=0)
    inputs -= centre
    targets -= level
    n, d = inputs.shape
    # The smaller of the two Gram matrices has the same eigenvalues, and costs less than a decomposition of the inputs.
    squares, axes = np.linalg.eigh(inputs.T @ inputs if d <= n else inputs @ inputs.T)
    kept = squares > 1e-10 * max(float(squares[-1]), 1e-300)
    squares, axes = squares[kept], axes[:, kept]
    left = inputs @ axes / np.sqrt(squares) if d <= n else axes
    right = axes if d <= n else inputs.T @ axes / np.sqrt(squares)
    projected = left.T @ targets
    rows = slice(None) if n <= _LEFT_OUT else np.random.default_rng(0).choice(n, _LEFT_OUT, replace=False)
    basis, wanted = left[rows], targets[rows]

    def error(penalty: float) -> float:
        shrunk = squares / (squares + penalty)
        leverage = 1 / n + basis**2 @ shrunk
        residuals = wanted - basis @ (shrunk[:, None] * projected)
        return float(np.sum((residuals / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2))

    penalty = min(_STRENGTHS * max(float(squares.sum()) / d, 1e-300), key=error)
    slope = right @ ((np.sqrt(squares) / (squares + penalty))[:, None] * projected)
    return slope.astype(np.float32), (level - centre @ slope).astype(np.float32)


def _cold_panel(panels: Sequence[Panel]) -> Panel | None:
    return next((panel for panel in panels if any(stratum.name == CONTENT_PANEL for stratum in panel.strata)), None)


def _unit(vectors: FloatMatrix) -> FloatMatrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
