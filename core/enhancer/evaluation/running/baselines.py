"""Fit reference models that need no training run: popularity, rates, EASE and ALS."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.backbone import Factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.ranking import Pairs

EASE_ITEMS, EASE_CELLS = 6_000, 50_000_000
"""Largest number of items, and of users times items, for EASE. It inverts a dense items-by-items matrix and keeps a
dense users-by-items one."""
ALS_PAIRS = 2_000_000
"""Largest number of training interactions for ALS, which is fitted several times on one thread."""
_ALS_FACTORS, _ALS_SWEEPS = 64, 15


def popularity(train: Pairs, n_users: int, n_items: int) -> Factors:
    """Score every item by its number of interactions, for all users alike."""
    counts = np.bincount(train.items, minlength=n_items).astype(np.float32)
    return Factors(np.ones((n_users, 1), np.float32), counts[:, None])


def rates(train: Pairs, labels: NDArray[np.float32], n_users: int, n_items: int, *, prior_strength: float) -> Factors:
    r"""Score pairs by the smoothed log-odds of positive interactions of the user and of the item.

    :math:`s_{ui} = \ell(r_u) + \ell(r_i) - \ell(r)`, with :math:`\ell` the log-odds, :math:`r` the overall share of
    positive interactions, and :math:`r_u = (g_u + k r) / (n_u + k)` for a user with :math:`g_u` positive ones among
    :math:`n_u`; likewise for items. Scores are logits of a model without user-item interactions.

    Args:
        train: Labelled interactions.
        labels: float32 ``[n]``: 1 or 0; both must occur.
        n_users: Number of user rows.
        n_items: Number of item rows.
        prior_strength: :math:`k`, in interactions.
    """
    overall = float(np.clip(labels.mean(dtype=np.float64), 1e-6, 1 - 1e-6))

    def log_odds(share: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log(share) - np.log1p(-share), np.float64)

    def smoothed(rows: NDArray[np.int32], n: int) -> NDArray[np.float32]:
        positive = np.bincount(rows, weights=labels, minlength=n)
        share = (positive + prior_strength * overall) / (np.bincount(rows, minlength=n) + prior_strength)
        return log_odds(share).astype(np.float32)

    ones_u, ones_i = np.ones(n_users, np.float32), np.ones(n_items, np.float32)
    level = np.float32(log_odds(np.array(overall)))
    return Factors(
        np.stack([smoothed(train.users, n_users) - level, ones_u], axis=1),
        np.stack([ones_i, smoothed(train.items, n_items)], axis=1),
    )


def ease_is_feasible(n_users: int, n_items: int) -> bool:
    """Check whether EASE is cheap enough for a reference line."""
    return n_items <= EASE_ITEMS and n_users * n_items <= EASE_CELLS


def ease(train: Pairs, n_users: int, n_items: int, *, regularisation: float = 200.0) -> Factors:
    r"""Fit EASE, a linear item-item model in closed form (Steck 2019, eq. 8).

    With :math:`P = (X^\top X + \lambda I)^{-1}` the weights are :math:`B = I - P / \mathrm{diag}(P)`, with a
    zero diagonal. Scores are :math:`X B`: inner products of rows of :math:`X` and columns of :math:`B`.

    Args:
        train: Training interactions.
        n_users: Number of user rows.
        n_items: Number of item rows.
        regularisation: :math:`\lambda`.
    """
    x = np.zeros((n_users, n_items), np.float32)
    x[train.users, train.items] = 1.0
    gram = (x.T @ x).astype(np.float64)
    gram[np.diag_indices(n_items)] += regularisation
    p = np.linalg.inv(gram)
    weights = p / -np.diag(p)
    np.fill_diagonal(weights, 0.0)
    return Factors(x, np.ascontiguousarray(weights.T.astype(np.float32)))


def als_is_feasible(n_pairs: int) -> bool:
    """Check whether ALS is cheap enough for a reference line, and ``implicit`` is installed."""
    return n_pairs <= ALS_PAIRS and find_spec("implicit") is not None and find_spec("scipy") is not None


def als(
    train: Pairs,
    n_users: int,
    n_items: int,
    *,
    regularisation: float,
    weight: float,
    factors: int = _ALS_FACTORS,
    seed: int = 0,
) -> Factors:
    r"""Fit alternating least squares for implicit feedback (Hu, Koren & Volinsky 2008) with the library ``implicit``.

    Args:
        train: Training interactions.
        n_users: Number of user rows.
        n_items: Number of item rows.
        regularisation: Weight of the L2 penalty.
        weight: Additional confidence of an interaction, :math:`\alpha`; all other pairs have confidence 1.
        factors: Number of factors.
        seed: Seed of the initialisation. The result is deterministic, because one thread is used.
    """
    from scipy.sparse import csr_matrix

    interactions = csr_matrix((np.ones(len(train.users), np.float32), (train.users, train.items)), (n_users, n_items))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises on threads; one thread is wanted here
        from implicit.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularisation,
            alpha=weight,
            iterations=_ALS_SWEEPS,
            use_gpu=False,
            num_threads=1,
            random_state=seed,
        )
        model.fit(interactions, show_progress=False)
    return Factors(np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32))
