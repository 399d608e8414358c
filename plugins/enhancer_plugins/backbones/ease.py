"""EASE: a linear item-item model in closed form.

Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW, https://arxiv.org/abs/1905.03375.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from enhancer.contracts import Backbone, Factors, Fitted, Options
from enhancer.errors import DivergenceError
from enhancer_plugins.training.closed_form import Attempts, climb, finish
from enhancer_plugins.training.interactions import interaction_counts, trained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts import Context, Fuser, Monitor, TrainingData

_FACTOR, _MOST_FITS = 3.0, 8
"""Ratio of neighbouring penalties that validation chooses from, and the largest number of fits."""
_WORK = 2e13
"""Work that all fits may take, in floating-point operations; one takes about the cube of the number of items."""
_FULL_CELLS = 250_000_000
"""Largest number of users times items for full scores by default."""
_MOST_ROWS = 16_384
"""Rows above which a matrix is inverted in blocks: OpenBLAS 0.3.30 does not survive the factorisation of much larger
ones."""
_MIRRORED = 1_024
"""Rows that are mirrored at a time."""
_EXTRA, _ITERATIONS = 32, 3
"""Directions beside the wanted ones, and iterations, of the subspace iteration."""


class EASEOptions(Options):
    """``[backbone] use = "ease"``."""

    regularisation: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Weight of the L2 penalty (λ of eq. 8); auto: three times the mean number of interactions of an item, then the
    best of its neighbours on validation."""
    scores: Literal["auto", "full", "low-rank"] = "auto"
    """Which scores are evaluated: the model's own (full), which take a dense matrix of users by items; those of the
    low-rank form, which fusers can adjust; or auto: full up to 250 million pairs of users and items (1 GB)."""
    rank: int = Field(default=512, ge=1)
    """Columns of the low-rank form, which ``train`` serves."""


class EASE(Backbone):
    r"""Predict a user's items from their other items by linear regression.

    With :math:`X` the binary matrix of users × items and :math:`P = (X^\top X + \lambda I)^{-1}`, the weights are
    :math:`B = I - P \,\mathrm{diag}(1 / \mathrm{diag}(P))` (eq. 8), with a zero diagonal, and the scores :math:`X B`.

    The low-rank form is the best approximation of :math:`X B` of its rank, :math:`X B V V^\top` with the first right
    singular vectors :math:`V` of :math:`X B`: user factors are :math:`X B V`, item factors :math:`V`.
    """

    options_class = EASEOptions
    options: EASEOptions
    candidates: ClassVar[tuple[Mapping[str, object], ...]] = ({},)
    reference: ClassVar[Mapping[str, Sequence[object]] | None] = {}

    def __init__(self, options: EASEOptions, context: Context) -> None:
        super().__init__(options, context)
        self.memory_hint = "leave out rare items by [evaluation] k_core, or choose another [backbone] use"
        if options.scores == "low-rank":
            self.accepts = frozenset({"served"})
        elif options.scores == "full":
            self.memory_hint = f"set [backbone] scores = 'low-rank', {self.memory_hint}"

    def ignores_seed(self, data: TrainingData) -> bool:
        """Return whether nothing is drawn: in the low-rank form, entities that training has not seen are."""
        return self._full(data) or all(seen.all() for seen in trained(data))

    def memory(self, data: TrainingData) -> int:
        """Estimate the peak memory of :meth:`fit`, in bytes."""
        users, items, n = data.n_users, data.n_items, len(data.users)
        width = min(items, self.options.rank + _EXTRA)
        kept = 2 if self.options.regularisation == "auto" else 1  # the best result so far, and the current one
        square = items * items
        blocks = 4 * square if items > _MOST_ROWS else 0
        if self._full(data):  # validation sorts and transposes the items, and checks the users
            return 4 * (kept + 2) * square + blocks + 5 * users * items + 48 * n
        return 4 * (square + (kept + 3) * (users + items) * width) + blocks + 48 * n

    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Invert the matrix of items; with ``regularisation = "auto"``, once for each penalty tried."""
        model = ItemWeights(data, self.display_name)
        rank = min(self.options.rank, data.n_items)
        full = self._full(data)
        fusion = fuser.build_checked(data, data.n_items if full else rank, seed=seed)
        histories = model.dense_histories() if full else None

        def fit(regularisation: float) -> Fitted:
            weights = model.weights(regularisation)
            if histories is None:
                low = model.low_rank(weights, rank)
                return finish(fusion, data, low.users, low.items, seed=seed)
            narrow = partial(model.low_rank, weights, rank) if rank < data.n_items else None
            return Fitted(factors=Factors(histories, weights), serving=narrow)

        attempts = Attempts(fit, monitor, lambda value: {"regularisation": value})
        chosen = self.options.regularisation
        if isinstance(chosen, str):
            most = int(min(_MOST_FITS, max(1, _WORK / data.n_items**3)))
            climb(attempts, model.default_regularisation(), factor=_FACTOR, most=most)
        else:
            attempts.attempt(chosen)
        return attempts.result()

    def _full(self, data: TrainingData) -> bool:
        scores = self.options.scores
        return data.n_users * data.n_items <= _FULL_CELLS if scores == "auto" else scores == "full"


class ItemWeights:
    """The interactions of one run, and the weights that follow from them."""

    def __init__(self, data: TrainingData, name: str) -> None:
        self._data, self._name = data, name
        self._counts = interaction_counts(data)

    def default_regularisation(self) -> float:
        """Return a penalty that grows with the mean number of interactions of an item."""
        taken = self._counts["item"]
        return float(np.clip(3 * taken[taken > 0].mean(), 10, 1000))

    def weights(self, regularisation: float) -> NDArray[np.float32]:
        """Return the transposed weights, float32 ``[n_items, n_items]``: row i predicts item i.

        Raises:
            DivergenceError: The matrix is singular in float32.
        """
        from enhancer_plugins.training.compiled.item_gram import item_gram, weights_from_inverse

        data = self._data
        gram = item_gram(data.users, data.items, data.n_users, data.n_items)
        gram[np.diag_indices(data.n_items)] += np.float32(regularisation)
        if not _invert(gram):
            raise DivergenceError(
                f"{self._name}: the matrix of items is singular with regularisation = {regularisation:g}",
                hint="raise [backbone] regularisation",
            )
        weights_from_inverse(gram)
        return gram

    def dense_histories(self) -> NDArray[np.float32]:
        """Return the matrix of users × items; users without an interaction have the mean of the others."""
        from enhancer_plugins.training.compiled.item_gram import dense_histories

        data = self._data
        histories = dense_histories(data.users, data.items, data.n_users, data.n_items)
        unseen = self._counts["user"] == 0
        if unseen.any():
            histories[unseen] = self._counts["item"] / np.count_nonzero(~unseen)
        return histories

    def low_rank(self, weights: NDArray[np.float32], rank: int) -> Factors:
        """Return the best approximation of the scores of a rank, by subspace iteration (Halko et al. 2011, alg. 4.4).

        Args:
            weights: float32 ``[n_items, n_items]``: transposed weights.
            rank: Number of columns, at most the number of items.

        Returns:
            ``rank`` columns. Users without an interaction have the mean of the others.
        """
        from scipy.sparse import csr_array

        data = self._data
        ones = np.ones(len(data.users), np.float32)
        histories: Any = csr_array((ones, (data.users, data.items)), shape=(data.n_users, data.n_items))
        transposed = histories.T.tocsr()
        width = min(rank + _EXTRA, data.n_items)
        basis = np.random.default_rng(0).standard_normal((data.n_items, width)).astype(np.float32)
        for _ in range(_ITERATIONS):
            basis, _ = np.linalg.qr(weights @ (transposed @ (histories @ (weights.T @ basis))))
        scored: NDArray[np.float32] = histories @ (weights.T @ basis)
        _, rotation = np.linalg.eigh(scored.T.astype(np.float64) @ scored)
        first = rotation[:, ::-1][:, :rank].astype(np.float32)  # eigenvalues ascend
        users = scored @ first
        unseen = self._counts["user"] == 0
        if unseen.any():
            users[unseen] = users[~unseen].mean(axis=0)
        return Factors(users, basis @ first)


def _invert(matrix: NDArray[np.float32]) -> bool:
    """Invert a symmetric positive definite matrix in place; only its upper triangle is read, and only that is right.

    Large matrices are inverted by the Schur complement of their first half.

    Returns:
        Whether the matrix is positive definite in float32.
    """
    n = len(matrix)
    if n <= _MOST_ROWS:
        return _invert_block(matrix)
    half = n // 2
    first, across, last = matrix[:half, :half], matrix[:half, half:], matrix[half:, half:]
    if not _invert(first):
        return False
    _mirror(first)
    solved = first @ across
    last -= across.T @ solved
    if not _invert(last):
        return False
    _mirror(last)
    weighted = solved @ last
    first += weighted @ solved.T
    np.negative(weighted, out=across)
    return True


def _invert_block(matrix: NDArray[np.float32]) -> bool:
    from scipy.linalg import lapack

    block = np.ascontiguousarray(matrix)
    # Seen in Fortran's order, the upper triangle is the lower one; both steps work in place.
    inverse, failed = lapack.spotrf(block.T, lower=1, clean=0, overwrite_a=1)
    if not failed:
        inverse, failed = lapack.spotri(inverse, lower=1, overwrite_c=1)
    if failed:
        return False
    if not np.shares_memory(inverse, matrix):
        matrix[:] = inverse.T
    return True


def _mirror(matrix: NDArray[np.float32]) -> None:
    """Copy the upper triangle to the lower one, in place."""
    for start in range(0, len(matrix), _MIRRORED):
        stop = start + _MIRRORED
        corner = matrix[start:stop, start:stop]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
