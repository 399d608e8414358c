"""What every backbone must do. Subclass :class:`BackboneConformance` in a test module; pytest does the rest.

::

    from enhancer.testing.backbone import BackboneConformance

    class TestMine(BackboneConformance):
        backbone_class = MyBackbone
        options = {"epochs": 6}
        fusers = {"align": (Align, {})}
"""

# ruff: noqa: D102 - a test's name says what must be true

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import pytest

from enhancer.contracts import Backbone, Context, Factors, Fitted, Fuser, Fusion, Options, SideFeatures, TrainingData
from enhancer.contracts.backbone import Capability
from enhancer.contracts.options import build_options
from enhancer.errors import ConfigError, DataError, EnhancerError, FusionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class Ignore(Fuser):
    """The fuser of a backbone alone."""

    uses_semantics = False

    def __init__(self, options: Any = None, context: Context | None = None) -> None:
        del context
        self.options = options or Options()

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        del data, dim, seed, device
        return Fusion()


@dataclass
class Watcher:
    """A monitor that keeps what it is told."""

    checkpoint: Path | None = None
    metrics: list[float] | None = None
    """What validations answer, in turn; the last one repeats. None for no validation."""
    stop_after: int | None = None
    """Raise KeyboardInterrupt when this epoch has finished."""
    validated: list[Factors] = field(default_factory=list)
    told: list[tuple[int, int, float, float | None]] = field(default_factory=list)

    def validate(self, factors: Factors) -> float | None:
        self.validated.append(Factors(factors.users.copy(), factors.items.copy()))
        if self.metrics is None:
            return None
        return self.metrics[min(len(self.validated), len(self.metrics)) - 1]

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        self.told.append((epoch, epochs, loss, metric))
        if epoch == self.stop_after:
            raise KeyboardInterrupt


@dataclass(frozen=True, eq=False)
class Planted:
    """Interactions with a known reason: users of either of two tastes, items of either of two kinds."""

    data: TrainingData
    held_out: NDArray[np.bool_]
    """bool ``[n_users, n_items]``: interactions kept from training."""
    known: NDArray[np.bool_]
    """bool ``[n_users, n_items]``: training interactions."""
    block: NDArray[np.int64]
    """int64 ``[n_items]``: the kind of each item."""
    taste: NDArray[np.int64]
    """int64 ``[n_users]``: the kind that each user likes."""
    cold_items: NDArray[np.int64]
    cold_user: int
    bare_item: int
    """An item with interactions and without a vector."""


def planted(seed: int = 0) -> Planted:
    """60 users, 50 items of two kinds, a few of either without interactions; vectors that tell the kind, with noise."""
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
    """The planted interactions as good ones, and as many bad ones: pairs of warm users and items, not taken."""
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
    """Features that tell the kind: the kind itself, and a number; nothing of some entities."""
    made = {}
    for name, kinds in (("user_features", case.taste), ("item_features", case.block)):
        table = np.column_stack([np.eye(2)[kinds], np.where(kinds, 0.5, -0.5)]).astype(np.float32)
        table[1] = 0
        made[name] = SideFeatures.of(table, ["kind=a", "kind=b", "number"])
    return made


def recall(scores: NDArray[np.float32], case: Planted, k: int = 10) -> float:
    """Mean share of the held-out items among each user's ``k`` best that training did not hold."""
    scores = np.where(case.known, -np.inf, scores)
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(case.held_out, top, axis=1).sum(1)
    wanted = case.held_out.sum(1)
    return float(np.mean(hits[wanted > 0] / np.minimum(wanted[wanted > 0], k)))


def same(left: Factors, right: Factors) -> bool:
    """Whether two results are equal to the last bit."""
    return np.array_equal(left.users, right.users) and np.array_equal(left.items, right.items)


class BackboneConformance:
    """Subclass it and set ``backbone_class``."""

    backbone_class: ClassVar[type[Backbone]]
    options: ClassVar[Mapping[str, Any]] = {}
    """Options of a short run of at least six epochs."""
    learning_options: ClassVar[Mapping[str, Any]] = {}
    """Options of a run that learns a small data set."""
    untrained_options: ClassVar[Mapping[str, Any] | None] = {"epochs": 0}
    """Options of a run that returns its initial state; None if there are none such."""
    fusers: ClassVar[Mapping[str, tuple[type[Fuser], Mapping[str, Any]]]] = {}
    """Fusers to be tried with, by name: class and options. The backbone alone is always tried."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "fuser" in metafunc.fixturenames:
            names = ["alone", *self.fusers]
            metafunc.parametrize("fuser", [self.make_fuser(name) for name in names], ids=names)

    def make_fuser(self, name: str) -> Fuser:
        """A fuser by its name in ``fusers``."""
        if name == "alone":
            return Ignore()
        fuser_class, options = self.fusers[name]
        return fuser_class(build_options(fuser_class.options_class, options, where="[fuser]"), Context(root=Path()))

    def make(self, **options: Any) -> Backbone:
        """A new backbone; ``options`` go over those of the class."""
        merged = {**self.options, **options}
        made = build_options(self.backbone_class.options_class, merged, where="[backbone]")
        return self.backbone_class(made, Context(root=Path()))

    def data(self) -> TrainingData:
        """The planted data, with labels for a backbone that learns from them."""
        return labelled(planted()) if "labels" in self.make().takes else planted().data

    def fit(self, fuser: Fuser, *, seed: int = 0, watcher: Watcher | None = None, **options: Any) -> Fitted:
        """Train on the planted data."""
        return self.make(**options).fit(self.data(), fuser, seed=seed, monitor=watcher or Watcher())

    def test_it_keeps_its_options(self) -> None:
        assert self.make().options == build_options(self.backbone_class.options_class, self.options, where="[backbone]")

    def test_factors_are_finite_float32_of_one_width(self, fuser: Fuser) -> None:
        fitted = self.fit(fuser)
        users, items = fitted.factors.users, fitted.factors.items
        assert (len(users), len(items)) == (60, 50)
        assert users.shape[1] == items.shape[1]
        for rows in (users, items):
            assert rows.dtype == np.float32
            assert np.isfinite(rows).all()

    def test_equal_arguments_give_equal_factors(self, fuser: Fuser) -> None:
        assert same(self.fit(fuser).factors, self.fit(fuser).factors)

    def test_another_seed_gives_other_factors(self, fuser: Fuser) -> None:
        assert not same(self.fit(fuser).factors, self.fit(fuser, seed=1).factors)

    def test_global_random_state_and_threads_are_left_alone(self, fuser: Fuser) -> None:
        self.fit(fuser)  # whatever is imported at the first fit may seed itself
        torch = sys.modules.get("torch")
        before = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index] # noqa: NPY002 - the global state itself
        if torch:
            torch_before, threads = torch.random.get_rng_state().clone(), torch.get_num_threads()
        self.fit(fuser)
        assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index] # noqa: NPY002
        if torch:
            assert bool((torch.random.get_rng_state() == torch_before).all())
            assert torch.get_num_threads() == threads

    def test_arms_of_one_seed_share_their_initialisation(self, fuser: Fuser) -> None:
        if self.untrained_options is None or "input" in fuser.needs:
            pytest.skip("no initial state to compare")
        case = planted()
        alone = self.fit(Ignore(), **self.untrained_options).factors
        fused = self.fit(fuser, **self.untrained_options).factors
        seen = np.setdiff1d(np.arange(50), case.cold_items)
        np.testing.assert_array_equal(alone.items[seen], fused.items[seen])

    def test_unseen_rows_are_placed_by_their_vectors(self, fuser: Fuser) -> None:
        case, fitted = planted(), self.fit(fuser)
        vectors = case.data.item_vectors
        assert vectors is not None
        if fitted.place_items is None:
            pytest.skip("this pair does not place unseen items")
        placed = fitted.place_items(vectors[case.cold_items])
        np.testing.assert_allclose(fitted.factors.items[case.cold_items], placed, rtol=1e-5, atol=1e-6)

    def test_the_monitor_hears_of_every_epoch(self, fuser: Fuser) -> None:
        watcher = Watcher(metrics=[0.1, 0.2, 0.3])
        fitted = self.fit(fuser, watcher=watcher)
        assert [epoch for epoch, *_ in watcher.told] == list(range(1, fitted.epochs + 1))
        assert [entry["epoch"] for entry in fitted.history] == list(range(1, fitted.epochs + 1))
        assert all(np.isfinite(loss) for *_, loss, _ in watcher.told)
        assert all({"loss", "seconds"} <= set(entry) for entry in fitted.history)
        assert watcher.validated

    def test_the_best_epoch_is_kept(self, fuser: Fuser) -> None:
        watcher = Watcher(metrics=[0.1, 0.9, 0.2])
        fitted = self.fit(fuser, watcher=watcher)
        assert len(watcher.validated) > 1, "options: validate at least twice"
        assert same(fitted.factors, watcher.validated[1])
        assert fitted.history[fitted.best_epoch - 1]["metric"] == 0.9

    def test_without_validation_the_last_epoch_is_the_best(self, fuser: Fuser) -> None:
        fitted = self.fit(fuser)
        assert fitted.best_epoch == fitted.epochs
        assert all("metric" not in entry for entry in fitted.history)

    @pytest.mark.parametrize("metrics", [None, [0.1, 0.9, 0.2]], ids=["unvalidated", "validated"])
    def test_a_resumed_run_equals_one_that_was_never_stopped(
        self, fuser: Fuser, metrics: list[float] | None, tmp_path: Path
    ) -> None:
        whole = self.fit(fuser, watcher=Watcher(metrics=metrics))
        path = tmp_path / "checkpoint"
        validations = Watcher(checkpoint=path, metrics=metrics, stop_after=5)
        with pytest.raises(KeyboardInterrupt):
            self.fit(fuser, watcher=validations)
        if not path.exists():
            pytest.skip("this backbone keeps no checkpoints")
        again = Watcher(checkpoint=path, metrics=metrics, validated=validations.validated)
        resumed = self.fit(fuser, watcher=again)
        assert again.told[0][0] > 1, "the run began anew"
        assert same(whole.factors, resumed.factors)
        assert (whole.epochs, whole.best_epoch) == (resumed.epochs, resumed.best_epoch)
        assert [entry["loss"] for entry in whole.history] == [entry["loss"] for entry in resumed.history]

    def test_a_checkpoint_of_another_run_or_a_damaged_one_does_no_harm(self, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint"
        with pytest.raises(KeyboardInterrupt):
            self.fit(Ignore(), seed=1, watcher=Watcher(checkpoint=path, stop_after=5))
        expected = self.fit(Ignore()).factors
        assert same(self.fit(Ignore(), watcher=Watcher(checkpoint=path)).factors, expected)
        path.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
        assert same(self.fit(Ignore(), watcher=Watcher(checkpoint=path)).factors, expected)

    def test_a_fuser_that_needs_more_is_refused(self) -> None:
        lacking = sorted(set(get_args(Capability)) - self.make().accepts)
        if not lacking:
            pytest.skip("this backbone offers everything")
        for capability in lacking:
            needy = type("Needy", (Ignore,), {"needs": frozenset({capability})})
            with pytest.raises(FusionError, match="needs"):
                self.fit(needy())

    def test_side_features_are_used_or_refused_in_words(self, fuser: Fuser) -> None:
        """What the configuration names is never ignored in silence."""
        data = replace(self.data(), **side_features(planted()))  # type: ignore[arg-type]
        backbone = self.make()
        if "features" not in backbone.takes:
            with pytest.raises(ConfigError, match="features"):
                backbone.check_data(data)
            return
        fitted = backbone.fit(data, fuser, seed=0, monitor=Watcher())
        assert np.isfinite(fitted.factors.users).all()
        assert np.isfinite(fitted.factors.items).all()
        again = self.make().fit(data, fuser, seed=0, monitor=Watcher())
        assert same(fitted.factors, again.factors)
        assert not same(fitted.factors, self.fit(fuser).factors)

    def test_labels_are_used_or_refused_in_words(self) -> None:
        backbone = self.make()
        if "labels" not in backbone.takes:
            with pytest.raises(ConfigError, match="labels"):
                backbone.check_data(labelled(planted()))
            return
        with pytest.raises(ConfigError, match="labels"):
            backbone.check_data(planted().data)
        data = self.data()
        assert data.labels is not None
        fitted = backbone.fit(data, Ignore(), seed=0, monitor=Watcher())
        other = self.make().fit(replace(data, labels=1 - data.labels), Ignore(), seed=0, monitor=Watcher())
        assert not same(fitted.factors, other.factors)

    def test_no_interactions_is_an_error_in_words(self) -> None:
        nothing, data = np.empty(0, np.int32), self.data()
        labels = None if data.labels is None else data.labels[:0]
        empty = replace(data, users=nothing, items=nothing, labels=labels)
        with pytest.raises(DataError, match="interaction"):
            self.make().fit(empty, Ignore(), seed=0, monitor=Watcher())

    def test_missing_vectors_are_an_error_in_words(self, fuser: Fuser) -> None:
        if not fuser.uses_semantics:
            pytest.skip("this fuser needs no vectors")
        bare = replace(self.data(), user_vectors=None, item_vectors=None)
        with pytest.raises(EnhancerError, match="vectors"):
            self.make().fit(bare, fuser, seed=0, monitor=Watcher())

    def test_a_user_of_everything_and_a_single_user(self, fuser: Fuser) -> None:
        items = np.arange(5, dtype=np.int32)
        vectors = np.eye(5, 12, dtype=np.float32)
        data = TrainingData(
            n_users=1,
            n_items=5,
            users=np.zeros(5, np.int32),
            items=items,
            user_vectors=vectors[:1],
            item_vectors=vectors,
            labels=np.array([1, 0, 1, 0, 1], np.float32) if "labels" in self.make().takes else None,
        )
        fitted = self.make().fit(data, fuser, seed=0, monitor=Watcher())
        assert np.isfinite(fitted.factors.items).all()

    def test_it_learns_what_was_planted(self, fuser: Fuser) -> None:
        case = planted()
        factors = self.fit(fuser, **self.learning_options).factors
        popularity = np.tile(case.known.sum(0), (60, 1)).astype(np.float32)
        chance = np.random.default_rng(0).random((60, 50)).astype(np.float32)
        learned = recall(factors.users @ factors.items.T, case)
        assert learned > 1.2 * max(recall(popularity, case), recall(chance, case))
