"""A small data set with known structure, and backbones and fusers that train on it without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from enhancer.contracts import Backbone, Context, Factors, Fitted, Fuser, Fusion, Options
from enhancer.evaluation import Arm, Experiment, Reference, run_ablation

N_USERS, N_ITEMS, DIM = 60, 80, 6


@dataclass(frozen=True, eq=False)
class Part:
    users: np.ndarray
    items: np.ndarray
    user_ids: list[str]
    item_ids: list[str]
    ratings: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Split:
    train: Part
    validation: Part
    test: Part
    cold_items: np.ndarray
    cold_users: np.ndarray


class SVDOptions(Options):
    rank: int = 6


class SVD(Backbone):
    """Truncated SVD of the interactions, concatenated with the vectors of a fuser."""

    options_class = SVDOptions
    accepts = frozenset({"input"})

    def __init__(self, options=None, context=None):
        self.options = options or SVDOptions()

    def fit(self, data, fuser, *, seed, monitor):
        fuser.check(self)
        rng = np.random.default_rng(seed)
        x = np.zeros((data.n_users, data.n_items))
        x[data.users, data.items] = 1
        x += 0.02 * rng.standard_normal(x.shape)
        u, s, v = np.linalg.svd(x, full_matrices=False)
        k = self.options.rank
        users, items = u[:, :k] * s[:k], v[:k].T.copy()
        trained = np.bincount(data.items, minlength=data.n_items) > 0
        items[~trained] = 0
        if fuser.uses_semantics:
            blurred = data.user_vectors + 0.05 * rng.standard_normal(data.user_vectors.shape)
            users = np.hstack([users, fuser.weight * blurred])
            items = np.hstack([items, data.item_vectors])
        factors = Factors(users.astype(np.float32), items.astype(np.float32))
        history = []
        for epoch in (1, 2, 3):
            metric = monitor.validate(factors)
            monitor.epoch_finished(epoch, 3, 1 / epoch, metric)
            history.append(
                {"epoch": epoch, "loss": 1 / epoch + 0.01 * seed, "seconds": 0.1}
                | ({} if metric is None else {"metric": metric})
            )
        return Fitted(factors=factors, epochs=3, best_epoch=3, history=history)


class Nothing(Fuser):
    uses_semantics = False

    def __init__(self, options=None, context=None):
        self.options = options or Options()

    def build(self, data, dim, *, seed, device):
        return Fusion()


class Beside(Nothing):
    needs = frozenset({"input"})
    uses_semantics = True
    weight = 2.0


class Deep(Beside):
    needs = frozenset({"loss"})


def make_world(seed=0, cold=True):
    """Make users and items with six themes. The vector of an item encodes its theme; cold items have nothing else."""
    rng = np.random.default_rng(seed)
    themes = rng.integers(0, DIM, N_ITEMS)
    tastes = rng.dirichlet(np.full(DIM, 0.3), N_USERS)
    cold_items = np.sort(rng.choice(N_ITEMS, 16, replace=False)).astype(np.int32) if cold else np.empty(0, np.int32)
    fame = rng.pareto(1.2, N_ITEMS) + 0.1
    parts = {"train": [], "validation": [], "test": []}
    for user in range(N_USERS):
        weights = (tastes[user] + 0.02)[themes] * fame
        chosen = rng.choice(N_ITEMS, 22, replace=False, p=weights / weights.sum())
        warm = chosen[~np.isin(chosen, cold_items)]
        parts["test"] += [(user, item) for item in chosen[np.isin(chosen, cold_items)]]
        cut = max(1, len(warm) // 5)
        parts["test"] += [(user, item) for item in warm[:cut]]
        parts["validation"] += [(user, item) for item in warm[cut : cut + 2]]
        parts["train"] += [(user, item) for item in warm[cut + 2 :]]
    ids = [f"u{i}" for i in range(N_USERS)], [f"i{i}" for i in range(N_ITEMS)]
    made = {name: Part(*np.array(sorted(pairs), np.int32).T.copy(), *ids) for name, pairs in parts.items()}
    vectors = np.eye(DIM, dtype=np.float32)[themes] + 0.05 * rng.standard_normal((N_ITEMS, DIM)).astype(np.float32)
    return Split(**made, cold_items=cold_items, cold_users=np.empty(0, np.int32)), vectors.astype(np.float32)


def pooling(split):
    def pool(items):
        users = np.zeros((N_USERS, items.shape[1]), np.float32)
        np.add.at(users, split.train.users, items[split.train.items])
        return users / np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-9)

    return pool


ARMS = [
    Arm("none", "none", semantic=False),
    Arm("beside", "beside"),
    Arm("text", "beside", inputs=("text",)),
    Arm("placebo", "beside", shuffle=True),
]


def make_fuser(arm):
    return {"none": Nothing, "beside": Beside, "deep": Deep}[arm.fuser]()


class Popular(Backbone):
    """The number of interactions to a power, for all users alike."""

    class options_class(Options):  # noqa: N801
        power: float = 1.0

    reference: ClassVar = {"power": (0.5, 1.0, 2.0)}
    fits: ClassVar[list] = []

    def fit(self, data, fuser, *, seed, monitor):
        self.fits.append(self.options.power)
        counts = np.bincount(data.items, minlength=data.n_items).astype(np.float32)[:, None] ** self.options.power
        return Fitted(factors=Factors(np.ones((data.n_users, 1), np.float32), counts))


class Alike(Popular):
    """Items by the items that their users took."""

    reference: ClassVar = {}

    def fit(self, data, fuser, *, seed, monitor):
        x = np.zeros((data.n_users, data.n_items), np.float32)
        x[data.users, data.items] = 1
        return Fitted(factors=Factors(x, x.T @ x))


def reference(backbone):
    return Reference(
        make=lambda options: backbone(backbone.options_class(**options), Context()), grid=backbone.reference
    )


REFERENCES = {"popularity": reference(Popular), "ease": reference(Alike)}


def run_split(
    split,
    features,
    make_backbone,
    make_fuser,
    *,
    arms,
    seeds,
    metrics,
    pool=None,
    sides=None,
    references=None,
    groups=(),
    **more,
):
    """Run an ablation over a new experiment."""
    world = Experiment.over(
        split,
        features,
        make_backbone,
        make_fuser,
        metrics=metrics,
        pool=pool,
        sides=sides,
        references=REFERENCES if references is None else references,
        groups=groups,
    )
    return run_ablation(world, arms, seeds, **more)


def run_world(arms=ARMS, seeds=(0, 1, 2), cold=True, metrics=("ndcg@10", "recall@20"), world_seed=0, **more):
    split, vectors = make_world(world_seed, cold)
    noise = np.random.default_rng(5).standard_normal(vectors.shape).astype(np.float32)
    tables = {("profile",): vectors, ("text",): vectors + 0.5 * noise}
    return run_split(
        split,
        lambda inputs: (None, tables[inputs]),
        lambda arm: SVD(SVDOptions(**arm.backbone_options)),
        make_fuser,
        arms=arms,
        seeds=seeds,
        metrics=metrics,
        pool=pooling(split),
        **more,
    )


@pytest.fixture(scope="session")
def world():
    return make_world()


@pytest.fixture(scope="session")
def ablate():
    return run_world


@pytest.fixture(scope="session")
def ablation():
    return run_world()


@pytest.fixture(scope="session")
def toys():
    return {
        "SVD": SVD,
        "Nothing": Nothing,
        "Beside": Beside,
        "Deep": Deep,
        "arms": ARMS,
        "pooling": pooling,
        "make_fuser": make_fuser,
        "run_split": run_split,
        "Popular": Popular,
        "reference": reference,
        "references": REFERENCES,
        "Part": Part,
        "Split": Split,
    }
