"""Reference lines that keep one honest: what needs no training run at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.backbone import Factors

if TYPE_CHECKING:
    from enhancer.evaluation.ranking import Pairs

EASE_ITEMS, EASE_CELLS = 6_000, 50_000_000
"""EASE inverts an items-by-items matrix and is served here from a users-by-items one: beyond this it is left out."""


def popularity(train: Pairs, n_users: int, n_items: int) -> Factors:
    """Everybody gets what most people took."""
    counts = np.bincount(train.items, minlength=n_items).astype(np.float32)
    return Factors(np.ones((n_users, 1), np.float32), counts[:, None])


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
