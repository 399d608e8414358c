"""EASE against Steck's equation 8 in float64, and its low-rank form against a singular value decomposition."""

import numpy as np
import pytest

from enhancer.contracts import Context, TrainingData
from enhancer.contracts.options import build_options
from enhancer.errors import ConfigError, DivergenceError, FusionError, MemoryLimitError
from enhancer.testing.planted import PlainFuser, RecordingMonitor, planted
from enhancer_plugins.backbones import ease
from enhancer_plugins.backbones.ease import EASE, EASEOptions
from enhancer_plugins.fusers.prior import Prior, PriorOptions


def fit(data, monitor=None, **options):
    made = EASE(EASEOptions(**options), Context())
    return made.fit_checked(data, PlainFuser(), seed=0, monitor=monitor or RecordingMonitor())


def by_definition(data, regularisation):
    x = np.zeros((data.n_users, data.n_items))
    x[data.users, data.items] = 1
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(data.n_items))
    weights = np.eye(data.n_items) - p / np.diag(p)
    return x, weights


def random_data(n_users, n_items, n, seed=0):
    cells = np.unique(np.random.default_rng(seed).integers(0, n_users * n_items, n))
    users, items = np.divmod(cells, n_items)
    order = np.random.default_rng(seed).permutation(len(users))
    return TrainingData(
        n_users=n_users, n_items=n_items, users=users[order].astype(np.int32), items=items[order].astype(np.int32)
    )


@pytest.mark.parametrize(("n_users", "n_items"), [(90, 40), (30, 70), (150, 131)])
def test_full_scores_are_those_of_the_definition(n_users, n_items):
    data = random_data(n_users, n_items, 900)
    x, weights = by_definition(data, 20.0)
    factors = fit(data, regularisation=20.0).factors
    known = x.any(axis=1)
    np.testing.assert_allclose((factors.users @ factors.items.T)[known], (x @ weights)[known], atol=2e-5)
    assert not np.diag(factors.items).any()


def test_a_matrix_that_is_inverted_in_blocks_gives_the_same_scores(monkeypatch):
    monkeypatch.setattr(ease, "_MOST_ROWS", 16)  # 131 items: four levels of halves
    monkeypatch.setattr(ease, "_MIRRORED", 5)
    data = random_data(150, 131, 900)
    x, weights = by_definition(data, 20.0)
    factors = fit(data, regularisation=20.0).factors
    known = x.any(axis=1)
    np.testing.assert_allclose((factors.users @ factors.items.T)[known], (x @ weights)[known], atol=2e-5)


def test_memory_counts_the_blocks_of_a_large_matrix():
    few, more = (
        TrainingData(n_users=1, n_items=n, users=np.zeros(1, np.int32), items=np.zeros(1, np.int32))
        for n in (ease._MOST_ROWS, ease._MOST_ROWS + 1)
    )
    made = EASE(EASEOptions(scores="full"), Context())
    assert made.memory(more) - made.memory(few) > 4 * ease._MOST_ROWS**2


def test_the_low_rank_form_is_the_best_approximation_of_the_scores():
    data = random_data(120, 60, 1500)
    x, weights = by_definition(data, 20.0)
    left, singular, right = np.linalg.svd(x @ weights)
    factors = fit(data, regularisation=20.0, scores="low-rank", rank=20).factors
    assert factors.items.shape == (60, 20)
    best = np.linalg.norm((left[:, :20] * singular[:20]) @ right[:20] - x @ weights)
    assert np.linalg.norm(factors.users @ factors.items.T - x @ weights) < 1.01 * best


def test_a_full_rank_loses_nothing():
    data = random_data(120, 60, 1500)
    x, weights = by_definition(data, 20.0)
    factors = fit(data, regularisation=20.0, scores="low-rank", rank=512).factors
    np.testing.assert_allclose(factors.users @ factors.items.T, x @ weights, atol=1e-4)


def test_users_without_interactions_are_average_ones():
    case = planted()
    factors = fit(case.data, regularisation=20.0).factors
    known = np.delete(factors.users, case.cold_user, axis=0)
    np.testing.assert_allclose(factors.users[case.cold_user], known.mean(0), rtol=1e-5)


def test_validation_chooses_the_penalty():
    data = random_data(90, 40, 900)
    fitted = fit(data, RecordingMonitor(metrics=[0.3, 0.4, 0.5, 0.2]))
    tried = [entry["regularisation"] for entry in fitted.history]
    assert len(tried) == 4
    np.testing.assert_allclose(np.divide(tried[1:], tried[:-1]), 3)
    assert fitted.best_epoch == 3
    _, weights = by_definition(data, tried[2])
    np.testing.assert_allclose(fitted.factors.items.T, weights, atol=2e-5)


def test_validation_may_choose_a_weaker_penalty():
    fitted = fit(random_data(90, 40, 900), RecordingMonitor(metrics=[0.3, 0.2, 0.4, 0.4]))
    tried = [entry["regularisation"] for entry in fitted.history]
    np.testing.assert_allclose(tried, tried[0] * np.array([1, 3, 1 / 3, 1 / 9]))
    assert fitted.best_epoch == 3


def test_large_catalogues_are_fitted_less_often(monkeypatch):
    monkeypatch.setattr("enhancer_plugins.backbones.ease._WORK", 2.5 * 40**3)
    assert len(fit(random_data(90, 40, 900), RecordingMonitor(metrics=[0.1, 0.2, 0.3, 0.4])).history) == 2
    monkeypatch.setattr("enhancer_plugins.backbones.ease._WORK", 1.0)
    assert len(fit(random_data(90, 40, 900), RecordingMonitor(metrics=[0.1, 0.2])).history) == 1


def test_without_validation_there_is_one_fit():
    assert len(fit(random_data(90, 40, 900)).history) == 1


def test_a_singular_matrix_is_an_error_in_words():
    data = random_data(4, 60, 150)
    with pytest.raises(DivergenceError, match=r"singular with regularisation = 1e-12; raise \[backbone\]"):
        fit(data, regularisation=1e-12)


def test_too_many_items_are_refused_with_the_number_of_bytes(monkeypatch):
    monkeypatch.setattr("enhancer.contracts.backbone.available_memory", lambda: 1 << 20)
    data = random_data(90, 400, 900)
    with pytest.raises(MemoryLimitError, match=r"would need [\d,]+ bytes .* but 1,048,576 bytes .*low-rank.*k_core"):
        fit(data, scores="full")
    with pytest.raises(MemoryLimitError, match=r"are available; leave out rare items by \[evaluation\] k_core"):
        fit(data)


def test_each_item_is_predicted_by_a_ridge_regression_on_the_others():
    """B minimises |X - XB|² + λ|B|² with a zero diagonal (Steck 2019, eq. 3)."""
    data = random_data(20, 6, 50)
    x, _ = by_definition(data, 3.0)
    factors = fit(data, regularisation=3.0).factors
    known = x.any(axis=1)
    for item in range(6):
        others = np.delete(x, item, axis=1)
        ridge = np.linalg.solve(others.T @ others + 3.0 * np.eye(5), others.T @ x[:, item])
        np.testing.assert_allclose((factors.users @ factors.items[item])[known], (others @ ridge)[known], atol=1e-5)


def test_a_fuser_that_full_scores_refuse_is_told_of_the_low_rank_form():
    fuser = Prior(PriorOptions(), Context())
    with pytest.raises(FusionError) as refused:
        fuser.check(EASE(EASEOptions(), Context()))
    assert refused.value.hint.endswith("or another [backbone] scores")
    fuser.check(EASE(EASEOptions(scores="low-rank"), Context()))


def test_the_low_rank_form_is_what_is_served():
    data = random_data(120, 60, 1500)
    fitted = fit(data, regularisation=20.0, rank=20)
    assert fitted.factors.items.shape == (60, 60)
    served = fitted.serving()
    low = fit(data, regularisation=20.0, rank=20, scores="low-rank").factors
    np.testing.assert_allclose(served.users @ served.items.T, low.users @ low.items.T, atol=1e-4)
    assert fit(data, regularisation=20.0, rank=60).serving is None, "narrower factors only"


def test_full_scores_are_for_data_of_moderate_size(monkeypatch):
    data = random_data(120, 60, 1500)
    assert fit(data, regularisation=20.0, rank=20).factors.items.shape == (60, 60)
    monkeypatch.setattr("enhancer_plugins.backbones.ease._FULL_CELLS", 7_000)
    fitted = fit(data, regularisation=20.0, rank=20)
    assert fitted.factors.items.shape == (60, 20)
    assert fitted.serving is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, r"^\[backbone\] regularisation: input should be greater than 0, or 'auto', not -1$"),
        ("auo", r"^\[backbone\] regularisation: input should be a valid number, or 'auto', not 'auo'$"),
    ],
)
def test_an_option_that_is_a_number_or_a_word_is_refused_with_both(value, message):
    with pytest.raises(ConfigError, match=message):
        build_options(EASEOptions, {"regularisation": value}, where="[backbone]")
    with pytest.raises(ConfigError, match=message):  # whatever else is wrong
        build_options(EASEOptions, {"regularisation": value, "scores": "some"}, where="[backbone]")
