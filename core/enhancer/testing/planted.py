"""Small synthetic data with planted preferences, and test doubles, for the suites of backbones and fusers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts import Context, Factors, Fuser, Fusion, Options, SideFeatures, TrainingData

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class PlainFuser(Fuser):
    """Fuser that adds nothing to a backbone."""

    uses_semantics = False
    ignores_seed = True

    def __init__(self, options: Any = None, context: Context | None = None) -> None:
        super().__init__(options or Options(), context or Context())

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return a fusion that overrides nothing."""
        del data, dim, seed, device
        return Fusion()


@dataclass
class RecordingMonitor:
    """Monitor that records its calls and returns given metrics."""

    checkpoint: Path | None = None
    metrics: list[float] | None = None
    """Results of successive validations; the last one repeats. None for no validation split."""
    stop_after: int | None = None
    """Epoch after which KeyboardInterrupt is raised; None to run to the end."""
    validated: list[Factors] = field(default_factory=list)
    """Copies of all factors that were validated."""
    epochs: list[tuple[int, int, float, float | None]] = field(default_factory=list)
    """Arguments of each call of :meth:`epoch_finished`."""
    repeats: int | None = None
    """Number of epochs of an earlier run to repeat."""

    @property
    def told(self) -> list[tuple[int, int, float, float | None]]:
        """Former name of :attr:`epochs`."""
        return self.epochs

    def validate(self, factors: Factors) -> float | None:
        """Record the factors and return the next metric."""
        self.validated.append(Factors(factors.users.copy(), factors.items.copy()))
        if self.metrics is None:
            return None
        return self.metrics[min(len(self.validated), len(self.metrics)) - 1]

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        """Record the epoch; raise KeyboardInterrupt after epoch :attr:`stop_after`."""
        self.epochs.append((epoch, epochs, loss, metric))
        if epoch == self.stop_after:
            raise KeyboardInterrupt


@dataclass(frozen=True, eq=False)
class Planted:
    """Interactions of users with one of two tastes and items of one of two kinds."""

    data: TrainingData
    held_out: NDArray[np.bool_]
    """bool ``[n_users, n_items]``: interactions left out of training."""
    known: NDArray[np.bool_]
    """bool ``[n_users, n_items]``: training interactions."""
    block: NDArray[np.int64]
    """int64 ``[n_items]``: kind of each item, 0 or 1."""
    taste: NDArray[np.int64]
    """int64 ``[n_users]``: kind that each user likes, 0 or 1."""
    cold_items: NDArray[np.int64]
    """Items without a training interaction, two of each kind."""
    cold_user: int
    """A user without a training interaction."""
    bare_item: int
    """An item with interactions and without a vector."""


def planted(seed: int = 0) -> Planted:
    """Return interactions of 60 users and 50 items of two kinds, with noisy vectors that depend on the kind.

    Four items and one user have no interactions.
    """
    rng = np.random.default_rng(seed)
    n_users, n_items, ds = 60, 50, 12
    taste, block = np.arange(n_users) % 2, np.arange(n_items) // 2 % 2
    likes = rng.random((n_users, n_items)) < np.where(taste[:, None] == block, 0.5, 0.04)
    cold_items = np.array([3, 12, 25, 38])  # kinds 1, 0, 0, 1
    cold_user = 7
    likes[:, cold_items] = False
    likes[cold_user] = False
    liked_kind = taste[:, None] == block
    held_out = likes & liked_kind & (rng.random(likes.shape) < 0.25)
    known = likes & ~held_out
    users, items = np.nonzero(known)
    order = rng.permutation(len(users))
    directions = np.eye(2, ds)
    item_vectors = directions[block] + 0.3 * rng.standard_normal((n_items, ds))
    user_vectors = directions[taste] + 0.3 * rng.standard_normal((n_users, ds))
    for vectors in (item_vectors, user_vectors):
        np.divide(vectors, np.linalg.norm(vectors, axis=1, keepdims=True), out=vectors)
    bare_item = 8
    item_vectors[bare_item] = 0
    user_vectors[4] = 0
    data = TrainingData(
        n_users=n_users,
        n_items=n_items,
        users=users[order].astype(np.int32),
        items=items[order].astype(np.int32),
        user_vectors=user_vectors.astype(np.float32),
        item_vectors=item_vectors.astype(np.float32),
    )
    return Planted(data, held_out, known, block, taste, cold_items, cold_user, bare_item)


def labelled(case: Planted, seed: int = 0) -> TrainingData:
    """Return the planted interactions with label 1, and as many other pairs of warm users and items with label 0."""
    rng = np.random.default_rng([seed, 1])
    data = case.data
    free = ~case.known & ~case.held_out
    free[case.cold_user] = False
    free[:, case.cold_items] = False
    users, items = np.nonzero(free)
    some = rng.permutation(len(users))[: len(data.users)]
    return replace(
        data,
        users=np.concatenate([data.users, users[some].astype(np.int32)]),
        items=np.concatenate([data.items, items[some].astype(np.int32)]),
        labels=np.repeat(np.array([1, 0], np.float32), [len(data.users), len(some)]),
    )


def side_features(case: Planted) -> dict[str, SideFeatures]:
    """Return side features of users and items: the kind, and a number; row 1 has neither."""
    made = {}
    for name, kinds in (("user_features", case.taste), ("item_features", case.block)):
        table = np.column_stack([np.eye(2)[kinds], np.where(kinds, 0.5, -0.5)]).astype(np.float32)
        table[1] = 0
        made[name] = SideFeatures.of(table, ["kind=a", "kind=b", "number"])
    return made


def recall(scores: NDArray[np.float32], case: Planted, k: int = 10) -> float:
    """Return recall at ``k`` of the held-out items, with training items excluded from the ranking."""
    scores = np.where(case.known, -np.inf, scores)
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(case.held_out, top, axis=1).sum(1)
    wanted = case.held_out.sum(1)
    return float(np.mean(hits[wanted > 0] / np.minimum(wanted[wanted > 0], k)))


def same(left: Factors, right: Factors) -> bool:
    """Return whether two results are equal to the last bit."""
    return np.array_equal(left.users, right.users) and np.array_equal(left.items, right.items)
