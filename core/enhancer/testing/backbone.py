"""Conformance suites of backbones.

Subclass :class:`IterativeBackboneConformance` for a backbone that trains in epochs, and :class:`BackboneConformance`
for any other, such as a closed form::

    from enhancer.testing.backbone import IterativeBackboneConformance

    class TestMine(IterativeBackboneConformance):
        backbone_class = MyBackbone
        options = {"epochs": 6}
        fusers = {"align": (Align, {})}
"""

# ruff: noqa: D102 - the name of a test says what it checks

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import pytest

from enhancer.contracts import Backbone, Context, Fitted, Fuser, TrainingData
from enhancer.contracts.options import build_options
from enhancer.contracts.training import Capability
from enhancer.errors import ConfigError, DataError, EnhancerError, FusionError
from enhancer.testing.planted import (
    PlainFuser,
    Planted,
    RecordingMonitor,
    labelled,
    planted,
    recall,
    same,
    side_features,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BackboneConformance",
    "Ignore",
    "IterativeBackboneConformance",
    "PlainFuser",
    "Planted",
    "RecordingMonitor",
    "Watcher",
    "labelled",
    "planted",
    "recall",
    "same",
    "side_features",
]


def _without_unseen(data: TrainingData) -> TrainingData:
    """Return the data without users and items that have no interaction."""
    (users, user_rows), (items, item_rows) = (np.unique(rows, return_inverse=True) for rows in (data.users, data.items))
    return replace(
        data,
        n_users=len(users),
        n_items=len(items),
        users=user_rows.astype(np.int32),
        items=item_rows.astype(np.int32),
        user_vectors=None if data.user_vectors is None else data.user_vectors[users],
        item_vectors=None if data.item_vectors is None else data.item_vectors[items],
    )


Ignore = PlainFuser
"""Former name of :class:`~enhancer.testing.planted.PlainFuser`."""
Watcher = RecordingMonitor
"""Former name of :class:`~enhancer.testing.planted.RecordingMonitor`."""


class BackboneConformance:
    """Tests for every backbone. Subclass it and set ``backbone_class``."""

    backbone_class: ClassVar[type[Backbone]]
    options: ClassVar[Mapping[str, Any]] = {}
    """Options of a short run."""
    learning_options: ClassVar[Mapping[str, Any]] = {}
    """Options of a run that learns a small data set; added to ``options``."""
    personalised: ClassVar[bool] = True
    """Whether users get rankings of their own; if not, the suite does not compare them with popularity."""
    fusers: ClassVar[Mapping[str, tuple[type[Fuser], Mapping[str, Any]]]] = {}
    """Fusers to test with, by name: class and options. The backbone is always tested alone, too."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "fuser" in metafunc.fixturenames:
            names = ["alone", *self.fusers]
            metafunc.parametrize("fuser", [self.make_fuser(name) for name in names], ids=names)

    def make_fuser(self, name: str) -> Fuser:
        """Return the fuser of that name in ``fusers``."""
        if name == "alone":
            return PlainFuser()
        fuser_class, options = self.fusers[name]
        return fuser_class(build_options(fuser_class.options_class, options, where="[fuser]"), Context(root=Path()))

    def make(self, **options: Any) -> Backbone:
        """Return a new backbone with the suite's options and ``options``."""
        merged = {**self.options, **options}
        made = build_options(self.backbone_class.options_class, merged, where="[backbone]")
        return self.backbone_class(made, Context(root=Path()))

    def data(self) -> TrainingData:
        """Return the planted data, with labels for a backbone that learns from them."""
        return labelled(planted()) if "labels" in self.make().takes else planted().data

    def fit(self, fuser: Fuser, *, seed: int = 0, watcher: RecordingMonitor | None = None, **options: Any) -> Fitted:
        """Train on the planted data."""
        monitor = watcher or RecordingMonitor()
        return self.make(**options).fit_checked(self.data(), fuser, seed=seed, monitor=monitor)

    def test_what_ignores_the_seed_is_the_same_for_every_seed(self) -> None:
        """Data without unseen entities, whose rows are placed at random by most backbones, are tried as well."""
        whole = self.data()
        for data in (whole, _without_unseen(whole)):
            if self.make().ignores_seed(data):
                one, two = (
                    self.make().fit_checked(data, PlainFuser(), seed=seed, monitor=RecordingMonitor())
                    for seed in (0, 1)
                )
                assert same(one.factors, two.factors)

    def test_it_keeps_its_options(self) -> None:
        assert self.make().options == build_options(self.backbone_class.options_class, self.options, where="[backbone]")

    def test_what_it_offers_core_can_be_made(self) -> None:
        """Candidates and values of a reference line are valid options; a reference line starts at the defaults."""
        made = self.backbone_class.options_class
        for options in self.backbone_class.candidates:
            self.backbone_class(build_options(made, options, where="[backbone]"), Context(root=Path()))
        defaults = build_options(made, {}, where="[backbone]") if self.backbone_class.reference else None
        for name, values in (self.backbone_class.reference or {}).items():
            assert getattr(defaults, name) in values
            for value in values:
                build_options(made, {name: value}, where="[backbone]")
        needed = self.make().memory(self.data())
        assert needed is None or needed > 0

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

    def test_global_random_state_and_threads_are_left_alone(self, fuser: Fuser) -> None:
        self.fit(fuser)  # libraries that are imported at the first fit may seed themselves
        torch = sys.modules.get("torch")
        before = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index] # noqa: NPY002 - the global state itself
        if torch:
            torch_before, threads = torch.random.get_rng_state().clone(), torch.get_num_threads()
        self.fit(fuser)
        assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index] # noqa: NPY002
        if torch:
            assert bool((torch.random.get_rng_state() == torch_before).all())
            assert torch.get_num_threads() == threads

    def test_the_result_can_be_validated(self, fuser: Fuser) -> None:
        """A hyper-parameter search compares trials by the metric of the best epoch."""
        watcher = RecordingMonitor(metrics=[0.5])
        fitted = self.fit(fuser, watcher=watcher)
        assert watcher.validated
        assert [entry["metric"] for entry in fitted.history if entry["epoch"] == fitted.best_epoch] == [0.5]

    def test_unseen_rows_are_placed_by_their_vectors(self, fuser: Fuser) -> None:
        case, fitted = planted(), self.fit(fuser)
        vectors = case.data.item_vectors
        assert vectors is not None
        if fitted.place_items is None:
            pytest.skip("this pair does not place unseen items")
        placed = fitted.place_items(vectors[case.cold_items])
        np.testing.assert_allclose(fitted.factors.items[case.cold_items], placed, rtol=1e-5, atol=1e-6)

    def test_a_fuser_that_needs_more_is_refused(self) -> None:
        lacking = sorted(set(get_args(Capability)) - self.make().accepts)
        if not lacking:
            pytest.skip("this backbone offers everything")
        for capability in lacking:
            needy = type("Needy", (PlainFuser,), {"needs": frozenset({capability})})
            with pytest.raises(FusionError, match="needs"):
                self.fit(needy())

    def test_side_features_are_used_or_refused_in_words(self, fuser: Fuser) -> None:
        """Configured side features are never ignored silently."""
        data = replace(self.data(), **side_features(planted()))  # type: ignore[arg-type]
        backbone = self.make()
        if "features" not in backbone.takes:
            with pytest.raises(ConfigError, match="features"):
                backbone.check_data(data)
            return
        fitted = backbone.fit_checked(data, fuser, seed=0, monitor=RecordingMonitor())
        again = self.make().fit_checked(data, fuser, seed=0, monitor=RecordingMonitor())
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
        fitted = backbone.fit_checked(data, PlainFuser(), seed=0, monitor=RecordingMonitor())
        flipped = replace(data, labels=1 - data.labels)
        other = self.make().fit_checked(flipped, PlainFuser(), seed=0, monitor=RecordingMonitor())
        assert not same(fitted.factors, other.factors)

    def test_no_interactions_is_an_error_in_words(self) -> None:
        nothing, data = np.empty(0, np.int32), self.data()
        labels = None if data.labels is None else data.labels[:0]
        empty = replace(data, users=nothing, items=nothing, labels=labels)
        with pytest.raises(DataError, match="interaction"):
            self.make().fit_checked(empty, PlainFuser(), seed=0, monitor=RecordingMonitor())

    def test_missing_vectors_are_an_error_in_words(self, fuser: Fuser) -> None:
        if not fuser.uses_semantics:
            pytest.skip("this fuser needs no vectors")
        bare = replace(self.data(), user_vectors=None, item_vectors=None)
        with pytest.raises(EnhancerError, match="vectors"):
            self.make().fit_checked(bare, fuser, seed=0, monitor=RecordingMonitor())

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
        fitted = self.make().fit_checked(data, fuser, seed=0, monitor=RecordingMonitor())
        assert np.isfinite(fitted.factors.items).all()

    def test_it_learns_what_was_planted(self, fuser: Fuser) -> None:
        if not self.personalised:
            pytest.skip("all users get the same ranking")
        case = planted()
        factors = self.fit(fuser, **self.learning_options).factors
        popularity = np.tile(case.known.sum(0), (60, 1)).astype(np.float32)
        chance = np.random.default_rng(0).random((60, 50)).astype(np.float32)
        learned = recall(factors.users @ factors.items.T, case)
        assert learned > 1.2 * max(recall(popularity, case), recall(chance, case))


class IterativeBackboneConformance(BackboneConformance):
    """Tests for a backbone that trains in epochs from random initial factors.

    ``options`` must give at least six epochs and two validations.
    """

    untrained_options: ClassVar[Mapping[str, Any] | None] = {"epochs": 0}
    """Options of a run that returns its initial factors; None if there are no such options."""

    def test_another_seed_gives_other_factors(self, fuser: Fuser) -> None:
        assert not same(self.fit(fuser).factors, self.fit(fuser, seed=1).factors)

    def test_arms_of_one_seed_share_their_initialisation(self, fuser: Fuser) -> None:
        if self.untrained_options is None or "input" in fuser.needs:
            pytest.skip("there are no initial factors to compare")
        case = planted()
        alone = self.fit(PlainFuser(), **self.untrained_options).factors
        fused = self.fit(fuser, **self.untrained_options).factors
        seen = np.setdiff1d(np.arange(50), case.cold_items)
        np.testing.assert_array_equal(alone.items[seen], fused.items[seen])

    def test_the_monitor_hears_of_every_epoch(self, fuser: Fuser) -> None:
        watcher = RecordingMonitor(metrics=[0.1, 0.2, 0.3])
        fitted = self.fit(fuser, watcher=watcher)
        assert [epoch for epoch, *_ in watcher.epochs] == list(range(1, fitted.epochs + 1))
        trained = [entry for entry in fitted.history if entry["epoch"] != 0]  # epoch 0: a model that needs no training
        assert [entry["epoch"] for entry in trained] == list(range(1, fitted.epochs + 1))
        assert all(np.isfinite(loss) for *_, loss, _ in watcher.epochs)
        assert all({"loss", "seconds"} <= set(entry) for entry in trained)
        assert watcher.validated

    def test_the_best_epoch_is_kept(self, fuser: Fuser) -> None:
        watcher = RecordingMonitor(metrics=[0.1, 0.9, 0.2])
        fitted = self.fit(fuser, watcher=watcher)
        assert len(watcher.validated) > 1, "options: validate at least twice"
        data, kept = planted().data, watcher.validated[1]
        users, items = np.unique(data.users), np.unique(data.items)  # others are placed, and calibrated at the end
        np.testing.assert_array_equal(fitted.factors.users[users], kept.users[users])
        np.testing.assert_array_equal(fitted.factors.items[items], kept.items[items])
        assert [entry["metric"] for entry in fitted.history if entry["epoch"] == fitted.best_epoch] == [0.9]

    def test_without_validation_the_last_epoch_is_the_best(self, fuser: Fuser) -> None:
        fitted = self.fit(fuser)
        assert fitted.best_epoch == fitted.epochs
        assert all("metric" not in entry for entry in fitted.history)

    def test_the_epochs_of_an_earlier_run_are_repeated(self, fuser: Fuser) -> None:
        first = RecordingMonitor(metrics=[0.1, 0.9, 0.2])
        best_epoch = self.fit(fuser, watcher=first).best_epoch
        # Of models that need no training, validation chooses again; what it finds is repeated.
        watcher = RecordingMonitor(repeats=best_epoch, metrics=None if best_epoch else first.metrics)
        fitted = self.fit(fuser, watcher=watcher)
        assert (fitted.epochs, fitted.best_epoch, len(watcher.epochs)) == (best_epoch, best_epoch, best_epoch)
        users = np.unique(planted().data.users)
        np.testing.assert_array_equal(fitted.factors.users[users], first.validated[1].users[users])

    @pytest.mark.parametrize("metrics", [None, [0.1, 0.9, 0.2]], ids=["unvalidated", "validated"])
    def test_a_resumed_run_equals_one_that_was_never_stopped(
        self, fuser: Fuser, metrics: list[float] | None, tmp_path: Path
    ) -> None:
        whole = self.fit(fuser, watcher=RecordingMonitor(metrics=metrics))
        path = tmp_path / "checkpoint"
        stopped = RecordingMonitor(checkpoint=path, metrics=metrics, stop_after=5)
        with pytest.raises(KeyboardInterrupt):
            self.fit(fuser, watcher=stopped)
        if not path.exists():
            pytest.skip("this backbone writes no checkpoints")
        again = RecordingMonitor(checkpoint=path, metrics=metrics, validated=stopped.validated)
        resumed = self.fit(fuser, watcher=again)
        assert again.epochs[0][0] > 1, "the run started over"
        assert same(whole.factors, resumed.factors)
        assert (whole.epochs, whole.best_epoch) == (resumed.epochs, resumed.best_epoch)
        assert [entry.get("loss") for entry in whole.history] == [entry.get("loss") for entry in resumed.history]

    def test_a_checkpoint_of_another_run_or_a_damaged_one_does_no_harm(self, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint"
        with pytest.raises(KeyboardInterrupt):
            self.fit(PlainFuser(), seed=1, watcher=RecordingMonitor(checkpoint=path, stop_after=5))
        expected = self.fit(PlainFuser()).factors
        assert same(self.fit(PlainFuser(), watcher=RecordingMonitor(checkpoint=path)).factors, expected)
        path.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
        assert same(self.fit(PlainFuser(), watcher=RecordingMonitor(checkpoint=path)).factors, expected)
