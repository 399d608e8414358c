"""Gains with errors over users and seeds, against independent references and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from enhancer.evaluation.frontier.gains import Gain, Worth, gain_between, gain_of, seed_noise


def test_equal_seeds_leave_the_paired_t_test_over_users():
    rng = np.random.default_rng(0)
    arm, control = rng.random(40), rng.random(40)
    gain = gain_of(np.stack([arm - control] * 3))
    reference = stats.ttest_rel(arm, control, alternative="greater")
    assert gain.p == pytest.approx(reference.pvalue)
    assert gain.interval() == pytest.approx(tuple(stats.ttest_rel(arm, control).confidence_interval()))


def test_equal_users_leave_the_paired_t_test_over_seeds():
    arm, control = np.array([0.31, 0.35, 0.30, 0.33]), np.array([0.30, 0.31, 0.28, 0.32])
    gain = gain_of(np.stack([arm - control] * 9, axis=1))
    assert gain.p == pytest.approx(stats.ttest_rel(arm, control, alternative="greater").pvalue)
    assert gain.seeds == pytest.approx(tuple(arm - control))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Noise of users, of seeds and of both together; a test over users alone would cover it far less often."""
    rng = np.random.default_rng(1)
    covered = over_users = 0
    for _ in range(400):
        users, seeds = 0.1 * rng.standard_normal(80), 0.03 * rng.standard_normal((5, 1))
        values = 0.02 + users + seeds + 0.1 * rng.standard_normal((5, 80))
        low, high = gain_of(values).interval()
        covered += low <= 0.02 <= high
        alone = stats.t.interval(0.95, 79, values.mean(), stats.sem(values.mean(axis=0)))
        over_users += alone[0] <= 0.02 <= alone[1]
    assert covered >= 0.94 * 400
    assert over_users < 0.85 * 400


def test_a_single_value_has_no_interval_and_proves_nothing():
    gain = gain_of(np.array([[0.5]]))
    assert gain.interval() is None
    assert gain.bound() == -math.inf
    assert gain.p == 1.0
    assert Worth({"ids": gain}).bound() == -math.inf


def test_equal_differences_are_certain():
    better, same = gain_of(np.full((3, 4), 0.1)), gain_of(np.zeros((3, 4)))
    assert (better.p, same.p) == (0.0, 1.0)
    assert better.bound() == pytest.approx(0.1)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=30), st.floats(0.01, 0.2))
def test_the_bound_is_the_lower_end_of_the_wider_interval(values, alpha):
    gain = gain_of(np.array([values]))
    interval = gain.interval(2 * alpha)
    assert interval is not None
    assert gain.bound(alpha) == pytest.approx(interval[0])


def test_worth_is_the_weakest_of_all_controls():
    strong = Gain(delta=0.1, error=0.01, df=50)
    weak = Gain(delta=0.01, error=0.02, df=50)
    worth = Worth({"ids": strong, "text": weak, "placebo": strong})
    assert worth.bound() == weak.bound() < 0
    assert worth.p == weak.p
    assert Worth({}).bound() == -math.inf


def test_runs_are_paired_by_seed_and_a_lower_loss_is_a_gain(ablation):
    runs = {name: [run for run in ablation.runs if run.arm == name] for name in ("none", "beside", "placebo")}
    gain = gain_between(runs["beside"], runs["none"][::-1], "all", "ndcg@10")
    comparison = ablation.overall.compare("beside", "none", "ndcg@10")
    assert gain.delta == pytest.approx(comparison.paired.delta)
    spread = np.std(gain.seeds, ddof=1)
    assert spread == pytest.approx(comparison.paired.sd)
    with pytest.raises(ValueError, match="same seeds"):
        gain_between(runs["beside"][1:], runs["none"], "all", "ndcg@10")


def test_noise_of_seeds_from_all_arms_is_that_of_the_differences(ablation):
    arms = [[run for run in ablation.runs if run.arm == name] for name in ("none", "beside", "text", "placebo")]
    noise = seed_noise(arms, "all", "ndcg@10")
    values = np.array([[run.scores["all"].mean("ndcg@10") for run in runs] for runs in arms])
    pairs = [np.var(values[i] - values[j], ddof=1) for i in range(4) for j in range(i)]
    assert noise.variance == pytest.approx(np.mean(pairs))  # the mean variance of all differences of two arms
    assert noise.df == 3 * 2
    assert seed_noise(arms[:1], "all", "ndcg@10") is None
    assert seed_noise([runs[:1] for runs in arms], "all", "ndcg@10") is None
    gain = gain_between(arms[1], arms[0], "all", "ndcg@10", noise)
    alone = gain_between(arms[1], arms[0], "all", "ndcg@10")
    assert gain.delta == alone.delta
    assert gain.error**2 - noise.variance / 3 == pytest.approx(alone.error**2 - np.var(alone.seeds, ddof=1) / 3)
