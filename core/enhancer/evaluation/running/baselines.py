"""Reference lines that keep one honest: what needs no training run at all."""

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
"""EASE inverts an items-by-items matrix and is served here from a users-by-items one: beyond this it is left out."""
ALS_PAIRS = 2_000_000
"""ALS is fitted several times and on one thread: with more training interactions than this it is left out."""
_ALS_FACTORS, _ALS_SWEEPS = 64, 15


def popularity(train: Pairs, n_users: int, n_items: int) -> Factors:
    """Everybody gets what most people took."""
    counts = np.bincount(train.items, minlength=n_items).astype(np.float32)
    return Factors(np.ones((n_users, 1), np.float32), counts[:, None])


def rates(train: Pairs, labels: NDArray[np.float32], n_users: int, n_items: int, *, prior_strength: float) -> Factors:
    r"""How often a user's, and an item's, interactions are good ones: log-odds over those of all, added up.

    :math:`s_{ui} = \ell(r_u) + \ell(r_i) - \ell(r)`, with :math:`\ell` the log-odds, :math:`r` the share of good
    ones and :math:`r_u = (g_u + k r) / (n_u + k)`; likewise for items. A probability that knows nothing of tastes.

    Args:
        train: Labelled interactions.
        labels: float32 ``[n]``: 1 or 0; of both kinds.
        n_users: User rows.
        n_items: Item rows.
        prior_strength: :math:`k`.
    """
    whole = float(np.clip(labels.mean(dtype=np.float64), 1e-6, 1 - 1e-6))

    def odds(share: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log(share) - np.log1p(-share), np.float64)

    def of(rows: NDArray[np.int32], n: int) -> NDArray[np.float32]:
        good = np.bincount(rows, weights=labels, minlength=n)
        share = (good + prior_strength * whole) / (np.bincount(rows, minlength=n) + prior_strength)
        return odds(share).astype(np.float32)

    ones_u, ones_i = np.ones(n_users, np.float32), np.ones(n_items, np.float32)
    level = np.float32(odds(np.array(whole)))
    return Factors(
        np.stack([of(train.users, n_users) - level, ones_u], axis=1),
        np.stack([ones_i, of(train.items, n_items)], axis=1),
    )


def ease_fits(n_users: int, n_items: int) -> bool:
    """Whether EASE is cheap enough to be a reference line."""
    return n_items <= EASE_ITEMS and n_users * n_items <= EASE_CELLS


def ease(train: Pairs, n_users: int, n_items: int, *, regularisation: float = 200.0) -> Factors:
    r"""EASE: a linear model without hidden units, in closed form (Steck 2019, eq. 8).

    With :math:`P = (X^\top X + \lambda I)^{-1}` the weights are :math:`B = I - P / \mathrm{diag}(P)`, with a
    zero diagonal; scores are :math:`X B`, that is, inner products of rows of :math:`X` and columns of :math:`B`.

    Args:
        train: What it learns from.
        n_users: User rows.
        n_items: Item rows.
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


def als_fits(n_pairs: int) -> bool:
    """Whether ALS can be a reference line: ``implicit`` is installed, and the table is not too large."""
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
    r"""Alternating least squares for implicit feedback (Hu, Koren & Volinsky 2008), by the library ``implicit``.

    Args:
        train: What it learns from.
        n_users: User rows.
        n_items: Item rows.
        regularisation: Weight of the L2 penalty.
        weight: Of an interaction beside the 1 of everything else, :math:`\alpha`.
        factors: Numbers a row.
        seed: Initialisation; on one thread the result is the same each time.
    """
    from scipy.sparse import csr_matrix

    table = csr_matrix((np.ones(len(train.users), np.float32), (train.users, train.items)), (n_users, n_items))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about threads, for those who train it for speed
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
        model.fit(table, show_progress=False)
    return Factors(np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32))
