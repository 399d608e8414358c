"""The verdict claims only what the tests support, and credits vectors only with gains that controls do not share."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer.evaluation import Arm, ArmRun, holm, paired
from enhancer.evaluation.judging.comparing import compare_arms
from enhancer.evaluation.judging.controls import controls_by_arm
from enhancer.evaluation.judging.verdict import verdicts
from enhancer.evaluation.measuring.metrics import PairList, Scores
from enhancer.evaluation.measuring.strata import Stratum

SOFTMAX = {"loss": "softmax"}
ARMS = [
    Arm("none", "none", semantic=False),
    Arm("align", "align"),
    Arm("text", "align", inputs=("text",)),
    Arm("placebo", "align", shuffle=True),
    Arm("concat", "concat"),
    Arm("both", "align", inputs=("profile", "text")),
    Arm("bare", "none", semantic=False, backbone_options=SOFTMAX),
    Arm("soft", "align", backbone_options=SOFTMAX),
    Arm("shuffled", "align", shuffle=True, backbone_options=SOFTMAX),
]
NO_PAIRS = PairList(np.zeros(1, np.int32), np.zeros(1, np.int32))


def run(arm, seed, value, metric="ndcg@10"):
    scores = Scores(np.arange(2, dtype=np.int32), {metric: np.full(2, value)})
    return ArmRun(
        arm=arm, seed=seed, seconds=1.0, epochs=1, best_epoch=1, validation=None, history=[], scores={"all": scores},
        beyond_accuracy={},
    )  # fmt: skip


def found(metric="ndcg@10", **levels):
    """Return the finding on arms with the given means, with a little independent noise in five seeds."""
    random = np.random.default_rng(1)
    arms = [arm for arm in ARMS if arm.name in levels]
    runs = [
        run(arm.name, seed, levels[arm.name] + 0.0005 * random.standard_normal(), metric)
        for arm in arms
        for seed in range(5)
    ]
    stratum = Stratum("all", "all", NO_PAIRS, 80)
    return arms, compare_arms(
        stratum, runs, controls=controls_by_arm(arms), baseline="none", metrics=[metric], reference={}
    )


def judged(metric="ndcg@10", **levels):
    arms, finding = found(metric, **levels)
    return verdicts({"all": finding}, arms, controls_by_arm(arms), "none", metric)["all"]


def test_it_claims_no_more_than_the_tests():
    assert judged(none=0.3, align=0.3, text=0.3, placebo=0.3).level == "no significant gain"
    assert "The best arm with vectors, align, reaches NDCG@10 .300" in judged(none=0.3, align=0.3001).text
    assert "a loss. Even the best" in judged(none=0.3, align=0.28, text=0.27, placebo=0.28).text
    assert judged(none=0.3, placebo=0.31).level == "unknown"


def test_meaning_is_what_shuffled_vectors_do_not_reach():
    real = judged(none=0.3, align=0.33, text=0.32, placebo=0.3)
    assert (real.level, real.arm) == ("semantic gain", "align")
    assert "the gain comes from meaning" in real.text
    assert "the LLM improves on it" in real.text
    shared = judged(none=0.3, align=0.32, text=0.31, placebo=0.3201)
    assert shared.level == "gain"
    assert "not shown to come from meaning" in shared.text
    alone = judged(none=0.3, align=0.33)
    assert alone.level == "gain"
    assert "a gain, not shown to come from meaning" in alone.text


@pytest.mark.parametrize(("metric", "base", "gain"), [("ndcg@10", 0.3, 0.02), ("logloss", 0.7, -0.02)])
def test_better_is_better_whatever_the_metric(metric, base, gain):
    real = judged(metric, none=base, align=base + 2 * gain, text=base + gain, placebo=base)
    assert (real.level, real.arm) == ("semantic gain", "align")
    assert "the LLM improves on it" in real.text
    assert "the gain comes from meaning" in real.text
    beaten = judged(metric, none=base, concat=base + gain, placebo=base + 2 * gain)
    assert beaten.level == "gain"
    assert "significantly better (p < .001): the gain is not shown to come from meaning" in beaten.text
    shared = judged(metric, none=base, align=base + gain, placebo=base + gain)
    assert "not significantly worse" in shared.text
    lost = judged(metric, none=base, both=base + gain, text=base + 3 * gain, placebo=base)
    assert (lost.arm, lost.level) == ("text", "semantic gain")
    text = judged(metric, none=base, bare=base + gain, soft=base + gain, shuffled=base)
    assert "not significantly worse" in text.text
    assert "the gain comes from the backbone" in text.text


def test_raw_text_that_does_as_well_needs_no_llm():
    won = judged(none=0.3, align=0.32, text=0.33, placebo=0.3)
    assert (won.level, won.arm) == ("semantic gain", "text")
    assert "needs no LLM" in won.text


def test_what_the_loss_gains_is_not_credited_to_vectors():
    lost = judged(none=0.3, bare=0.34, soft=0.34, shuffled=0.32)
    assert lost.level == "no significant gain"
    assert "no significant gain from vectors" in lost.text
    assert "The same backbone without vectors, bare, reaches .34" in lost.text
    assert "the gain comes from the backbone" in lost.text
    won = judged(none=0.3, bare=0.34, soft=0.36, shuffled=0.32)
    assert (won.level, won.arm) == ("semantic gain", "soft")
    assert "The same backbone without vectors, bare, reaches .34" in won.text
    # An arm that gains from its vectors is preferred to one that gains more from its loss.
    assert judged(none=0.3, align=0.31, placebo=0.3, bare=0.34, soft=0.34).arm == "align"


def test_without_the_backbone_alone_nothing_is_told():
    verdict = judged(none=0.3, soft=0.34, shuffled=0.32)
    assert verdict.level == "gain"
    assert "no arm without vectors shares them" in verdict.text


@pytest.mark.parametrize(
    ("arm", "apart"), [("concat", "with align instead of concat"), ("both", "on profile instead of profile + text")]
)
def test_a_placebo_by_another_recipe_clears_nobody(arm, apart):
    verdict = judged(**{"none": 0.3, arm: 0.34, "placebo": 0.3})
    assert verdict.level == "gain"
    assert apart in verdict.text
    assert f"run an arm like {arm} with shuffle = true" in verdict.text


def test_every_question_is_one_family_over_all_arms():
    levels = {
        "none": 0.3,
        "align": 0.301,
        "text": 0.3005,
        "placebo": 0.3,
        "concat": 0.3008,
        "both": 0.3012,
        "bare": 0.3,
    }
    levels |= {"soft": 0.3011, "shuffled": 0.3002}
    arms, finding = found(**levels)
    values = {name: finding.per_seed[name]["ndcg@10"] for name in levels}
    families = [
        [(arm.name, "none") for arm in arms if arm.name != "none"],
        [("align", "placebo"), ("text", "placebo"), ("concat", "placebo"), ("both", "placebo"), ("soft", "shuffled")],
        [(name, "text") for name in ("align", "concat", "both", "soft")],
        [("soft", "bare")],
    ]
    for family in families:
        expected = holm([paired(values[one], values[other]).p for one, other in family])
        adjusted = [finding.compare(one, other, "ndcg@10").p_adjusted for one, other in family]
        assert adjusted == expected
    assert len(finding.comparisons) == sum(len(family) for family in families)
