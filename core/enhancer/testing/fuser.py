"""Conformance suite of fusers: subclass :class:`FuserConformance` in a test module.

::

    from enhancer.testing.fuser import FuserConformance

    class TestMine(FuserConformance):
        fuser_class = MyFuser
        backbones = {"lightgcn": (LightGCN, {"epochs": 6})}
"""

# ruff: noqa: D102 - the name of a test says what it checks

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from enhancer.contracts import Backbone, Context, Fitted, Fuser, Placement, TrainingData
from enhancer.contracts.options import build_options
from enhancer.errors import FusionError
from enhancer.testing.planted import RecordingMonitor, planted, same

if TYPE_CHECKING:
    from collections.abc import Mapping


class FuserConformance:
    """Tests for every fuser. Subclass it and set ``fuser_class`` and ``backbones``."""

    fuser_class: ClassVar[type[Fuser]]
    options: ClassVar[Mapping[str, Any]] = {}
    """Options of the fuser."""
    backbones: ClassVar[Mapping[str, tuple[type[Backbone], Mapping[str, Any]]]]
    """Backbones to test with, by name: class and options of a run that learns a small data set."""
    places: ClassVar[bool] = True
    """Whether it places unseen items by their vectors."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "backbone" in metafunc.fixturenames:
            made = [
                backbone(build_options(backbone.options_class, options, where="[backbone]"), Context(root=Path()))
                for backbone, options in self.backbones.values()
            ]
            metafunc.parametrize("backbone", made, ids=list(self.backbones))

    def make(self) -> Fuser:
        """Return a new fuser."""
        options = build_options(self.fuser_class.options_class, self.options, where="[fuser]")
        return self.fuser_class(options, Context(root=Path()))

    def fit(self, backbone: Backbone, *, data: TrainingData | None = None, seed: int = 0) -> Fitted:
        """Train on the planted data; skip the test if the fuser does not accept the backbone."""
        try:
            return backbone.fit_checked(data or planted().data, self.make(), seed=seed, monitor=RecordingMonitor())
        except FusionError as error:
            pytest.skip(f"refused: {error}")

    def test_it_keeps_its_options(self) -> None:
        assert self.make().options == build_options(self.fuser_class.options_class, self.options, where="[fuser]")

    def test_needs_match_the_methods_that_its_fusion_overrides(self) -> None:
        self.make().build_checked(planted().data, 16, seed=0)

    def test_a_pair_works_or_is_refused_in_words(self, backbone: Backbone) -> None:
        factors = self.fit(backbone).factors
        assert np.isfinite(factors.users).all()
        assert np.isfinite(factors.items).all()

    def test_equal_arguments_give_equal_factors(self, backbone: Backbone) -> None:
        assert same(self.fit(backbone).factors, self.fit(backbone).factors)

    def test_vectors_are_used_if_and_only_if_it_says_so(self, backbone: Backbone) -> None:
        data = planted().data
        assert data.item_vectors is not None
        other = replace(data, item_vectors=np.roll(data.item_vectors, 7, axis=0))
        equal = same(self.fit(backbone).factors, self.fit(backbone, data=other).factors)
        assert equal is not self.fuser_class.uses_semantics

    def test_it_lives_without_any_vector(self, backbone: Backbone) -> None:
        data = planted().data
        assert data.item_vectors is not None
        assert data.user_vectors is not None
        zero = replace(
            data, item_vectors=np.zeros_like(data.item_vectors), user_vectors=np.zeros_like(data.user_vectors)
        )
        factors = self.fit(backbone, data=zero).factors
        assert np.isfinite(factors.users).all()
        assert np.isfinite(factors.items).all()

    def test_vectors_are_not_changed(self, backbone: Backbone) -> None:
        data, before = planted().data, planted().data
        self.fit(backbone, data=data)
        np.testing.assert_array_equal(data.item_vectors, before.item_vectors)
        np.testing.assert_array_equal(data.user_vectors, before.user_vectors)

    def test_a_placement_leads_from_vectors_to_factors(self, backbone: Backbone) -> None:
        fitted, data = self.fit(backbone), planted().data
        for placement, vectors, rows in (
            (fitted.place_items, data.item_vectors, fitted.factors.items),
            (fitted.place_users, data.user_vectors, fitted.factors.users),
        ):
            assert (placement is not None) is self.places
            if placement is None:
                continue
            assert vectors is not None
            placed = placement(vectors)
            assert placed.shape == rows.shape
            assert placed.dtype == np.float32
            assert np.isfinite(placed).all()
            tensors, description = placement.to_tensors("items")
            np.testing.assert_array_equal(Placement.from_tensors("items", tensors, description)(vectors), placed)

    def test_unseen_items_land_among_their_kind(self, backbone: Backbone) -> None:
        case, fitted = planted(), self.fit(backbone)
        if not self.places:
            pytest.skip("this fuser does not place unseen items")
        scores = fitted.factors.users @ fitted.factors.items[case.cold_items].T
        likes = case.taste[:, None] == case.block[case.cold_items]
        warm = np.arange(len(scores)) != case.cold_user
        assert scores[warm][likes[warm]].mean() > scores[warm][~likes[warm]].mean()
        best = likes[np.arange(len(scores)), scores.argmax(1)]
        assert best[warm].mean() > 0.7

    def test_columns_of_some_are_those_of_all(self) -> None:
        fusion = self.make().build_checked(planted().data, 16, seed=0)
        wide = fusion.inputs()
        if wide is None:
            pytest.skip("this fuser widens nothing")
        users, items = (wide.users.new_tensor(rows).long() for rows in ([4, 0, 17], [2, 31, 30, 9]))
        some = fusion.inputs_of(users, items)
        assert some is not None
        assert some.constant is wide.constant
        for ours, whole, rows in ((some.users, wide.users, users), (some.items, wide.items, items)):
            np.testing.assert_allclose(ours.detach().numpy(), whole[rows].detach().numpy(), rtol=1e-4, atol=1e-5)

    def test_state_is_all_that_a_run_holds(self) -> None:
        data = planted().data
        ours, other = (self.make().build_checked(data, 16, seed=seed) for seed in (0, 1))
        other.load_state({name: tensor.clone() for name, tensor in ours.state().items()})
        for left, right in zip(ours.parameters(), other.parameters(), strict=True):
            np.testing.assert_array_equal(left.detach().numpy(), right.detach().numpy())
        assert all(name and tensor is not None for name, tensor in ours.state().items())
