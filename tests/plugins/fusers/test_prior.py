"""The prior mean of embeddings, inside a backbone that solves for them and beside one that does not."""

import numpy as np
import pytest

from enhancer.contracts import Context, Expectation, Fuser, Fusion, Options
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.als import ALS, ALSOptions
from enhancer_plugins.fusers.none import NoFusion
from enhancer_plugins.fusers.prior import Prior, PriorOptions


def fit(fuser, data=None, **options):
    als = ALS(ALSOptions(dim=16, epochs=8, **options), Context())
    return als.fit_checked(planted().data if data is None else data, fuser, seed=0, monitor=RecordingMonitor())


def prior(**options):
    return Prior(PriorOptions(**options), Context())


def build(data, **options):
    return prior(**options).build_checked(data, 4, seed=0)


class Recorder(Fuser):
    """Expects every item at one place, and records how it is called."""

    needs = frozenset({"served"})
    uses_semantics = False

    def __init__(self, place):
        super().__init__(Options(), Context())
        self.place, self.calls = place, []

    def build(self, data, dim, *, seed, device):
        outer = self

        class Fixed(Fusion):
            def expect(self, kind, embeddings):
                outer.calls.append(("expect", kind, embeddings.shape))
                if kind == "user":
                    return None
                mean = np.tile(np.float32(outer.place), (data.n_items, 1))
                return Expectation(mean, np.full(data.n_items, 1e6, np.float32))

            def settle(self, kind, embeddings):
                outer.calls.append(("settle", kind, embeddings.shape))
                return embeddings

        return Fixed()


def test_a_strong_prior_decides_where_embeddings_come_to_rest():
    data = planted().data
    fuser = Recorder(np.linspace(-1, 1, 16))
    items = fit(fuser).factors.items
    trained = np.bincount(data.items, minlength=data.n_items) > 0
    np.testing.assert_allclose(items[trained], np.tile(np.linspace(-1, 1, 16), (trained.sum(), 1)), atol=1e-2)


def test_embeddings_that_were_solved_for_under_the_prior_are_not_adjusted_again():
    data, fuser = planted().data, Recorder(np.zeros(16))
    fit(fuser)
    begun = next(place for place, (name, *_) in enumerate(fuser.calls) if name == "expect")
    assert {kind for name, kind, _ in fuser.calls[begun:] if name == "settle"} == {"user"}
    rows = {kind: shape[0] for name, kind, shape in fuser.calls if name == "expect"}
    assert rows == {"user": len(np.unique(data.users)), "item": len(np.unique(data.items))}


def test_the_best_embeddings_are_adjusted_if_they_were_solved_for_without_the_prior():
    """Validation prefers the first epoch, in which there is no prior yet."""
    fuser = Recorder(np.zeros(16))
    als = ALS(ALSOptions(dim=16, epochs=8, eval_every=1, patience=6), Context())
    fitted = als.fit_checked(planted().data, fuser, seed=0, monitor=RecordingMonitor(metrics=[1.0, 0.0]))
    assert fitted.best_epoch == 1
    assert any(name == "expect" for name, *_ in fuser.calls)
    assert [kind for name, kind, _ in fuser.calls if name == "settle"][-2:] == ["user", "item"]


def test_vectors_with_meaning_are_a_stronger_prior_than_shuffled_ones():
    data, random = planted().data, np.random.default_rng(0)
    trained = np.bincount(data.items, minlength=data.n_items) > 0
    known = data.item_vectors.any(1) & trained
    told = data.item_vectors @ random.standard_normal((data.item_vectors.shape[1], 4))
    shuffled = told.copy()
    shuffled[known] = random.permutation(told[known])
    meaning, none = (
        build(data, regression="linear").expect("item", rows[trained].astype(np.float32)) for rows in (told, shuffled)
    )
    assert meaning.strength[known].min() > 3
    assert none.strength[known].max() < 1.3
    np.testing.assert_allclose(meaning.mean[known], told[known], atol=0.2 * np.abs(told).max())
    for found in (meaning, none):
        assert np.all(found.strength[~known] == 1)
        assert np.all(found.mean[~known] == 0)


def test_the_strength_is_that_of_embeddings_without_a_prior():
    """Later embeddings are drawn to their predictions, which explain them ever better."""
    data, random = planted().data, np.random.default_rng(0)
    trained = np.bincount(data.items, minlength=data.n_items) > 0
    fusion = build(data)
    first = random.standard_normal((trained.sum(), 4)).astype(np.float32)
    later = fusion.place("item", data.item_vectors[trained] @ np.ones((data.item_vectors.shape[1], 4), np.float32))
    before = fusion.expect("item", first).strength
    np.testing.assert_array_equal(fusion.expect("item", later(data.item_vectors[trained])).strength, before)
    twice = build(data, strength=2.0).expect("item", first).strength
    known = data.item_vectors.any(1) & trained
    np.testing.assert_allclose(twice[known], 2 * before[known])


def test_without_weight_it_only_places():
    data = planted().data
    plain = fit(NoFusion(NoFusion.options_class(), Context()))
    placed = fit(prior(items=0))
    trained = np.bincount(data.items, minlength=data.n_items) > 0
    np.testing.assert_array_equal(placed.factors.items[trained], plain.factors.items[trained])
    assert plain.place_items is None
    assert placed.place_items is not None


@pytest.mark.parametrize("items", [0.0, 3.0])
def test_left_out_rows_are_those_of_a_fit_without_them(items):
    data, random = planted().data, np.random.default_rng(0)
    trained = np.bincount(data.items, minlength=data.n_items) > 0
    known = np.flatnonzero(data.item_vectors.any(1) & trained)
    told = data.item_vectors @ random.standard_normal((data.item_vectors.shape[1], 4))
    told = (told + 0.1 * random.standard_normal(told.shape)).astype(np.float32)
    fusion = build(data, items=items, ridge=0.1)  # a choice could change with the row
    before = fusion.left_out("item", told[trained], known[:3])
    # A row that is predicted without having been seen does not depend on its own embedding.
    changed = told.copy()
    changed[known[0]] += 0.01
    after = fusion.left_out("item", changed[trained], known[:3])
    np.testing.assert_allclose(after[0], before[0], rtol=1e-4, atol=1e-5)
    assert np.abs(after[1:] - before[1:]).max() > 1e-6
