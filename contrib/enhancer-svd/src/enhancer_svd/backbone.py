"""PureSVD, a backbone in closed form.

Cremonesi, Koren & Turrin 2010, "Performance of Recommender Algorithms on Top-N Recommendation Tasks", RecSys.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from enhancer.contracts import Backbone, Options
from enhancer_plugins.training.closed_form import finish

if TYPE_CHECKING:
    from enhancer.contracts import Fitted, Fuser, Monitor, TrainingData


class SVDOptions(Options):
    """``[backbone] use = "svd"``."""

    searched: ClassVar[Mapping[str, float]] = {"dim": 4.0}  # a search tries dim / 4 to dim * 4

    dim: int = Field(default=64, ge=1)
    """Largest singular values to keep, at most as many as there are users or items."""


class SVD(Backbone):
    """Truncated singular value decomposition of the binary interaction matrix.

    With ``R ≈ U S Q'``, user factors are the rows of ``U S = R Q`` and item factors the rows of ``Q``: scores are
    ``R Q Q'``. Missing interactions count as zeros.
    """

    options_class = SVDOptions
    options: SVDOptions
    accepts = frozenset({"served"})  # factors exist only after training, so this is all that a fuser can change

    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Decompose the interaction matrix. The framework validates the result, as there are no epochs."""
        del monitor
        ones = np.ones(len(data.users))
        matrix = csr_array((ones, (data.users, data.items)), shape=(data.n_users, data.n_items))
        dim = min(self.options.dim, *matrix.shape)
        if dim < min(matrix.shape):
            start = np.ones(min(matrix.shape))  # a random start would make results differ from run to run
            users, singular_values, items = svds(matrix, dim, v0=start)
        else:
            users, singular_values, items = np.linalg.svd(matrix.toarray(), full_matrices=False)
        fusion = fuser.build_checked(data, dim, seed=seed)
        return finish(fusion, data, users * singular_values, items.T, seed=seed)
