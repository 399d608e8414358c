"""Reasons against an arm come first: better reference lines, costs of new items, and contradictory results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from enhancer.contracts import Factors
from enhancer.evaluation import Arm, ArmRun, Views, evaluate, holm
from enhancer.evaluation.judging.comparing import compare_arms
from enhancer.evaluation.judging.controls import controls_by_arm
from enhancer.evaluation.judging.new_items import NewItems
from enhancer.evaluation.judging.result import Ablation
from enhancer.evaluation.judging.verdict import verdicts
from enhancer.evaluation.measuring.metrics import PairList, Scores
from enhancer.evaluation.measuring.strata import Stratum
from enhancer.evaluation.reporting.cards import verdict_card

USERS, SEEDS = 200, 5
METRIC = "ndcg@10"
ARMS = [
    Arm("none", "none", semantic=False),
    Arm("prior", "prior"),
    Arm("text", "prior", inputs=("text",)),
    Arm("placebo", "prior", shuffle=True),
]


def scores(level, random, metric=METRIC):
    users = np.arange(USERS, dtype=np.int32)
    if metric in ("auc", "logloss"):
        return Scores(users, {}, {metric: level + 0.001 * random.standard_normal()})
    noise = random.standard_normal(USERS)
    return Scores(users, {metric: level + 0.05 * (noise - noise.mean()) + 0.0005 * random.standard_normal()})


def judged(panels, *, reference=None, content=None, metric=METRIC, validation=None, shares=None, n_pairs=1000):
    """Judge arms and lines of given means; ``panels`` and the lines are levels by panel."""
    random = np.random.default_rng(7)
    arms = [arm for arm in ARMS if arm.name in panels["all"]]
    controls = controls_by_arm(arms)
    findings = {}
    for name, levels in panels.items():
        runs = [
            ArmRun(
                arm=arm.name, seed=seed, seconds=1.0, epochs=1, best_epoch=1, validation=None, history=[],
                scores={name: scores(levels[arm.name], random, metric)}, beyond_accuracy={},
            )
            for arm in arms for seed in range(SEEDS)
        ]  # fmt: skip
        lines = {line: {name: scores(level, random, metric)} for line, level in (reference or {}).get(name, {}).items()}
        beside = {line: [scores(level, random, metric)] for line, level in (content or {}).get(name, {}).items()}
        pairs = PairList(np.zeros(n_pairs, np.int32), np.zeros(n_pairs, np.int32))
        findings[name] = compare_arms(
            Stratum(name, name, pairs, 80), runs, controls=controls, baseline="none", metrics=[metric],
            reference=lines, content=beside,
        )  # fmt: skip
    told = verdicts(findings, arms, controls, "none", metric, validation=validation, shares=shares)
    return told, findings


def first_sentence(verdict):
    return verdict.text.partition(". ")[0]


GAIN = {"none": 0.072, "prior": 0.084, "text": 0.080, "placebo": 0.072}


def test_a_line_that_beats_every_arm_comes_first():
    told, findings = judged({"all": GAIN}, reference={"all": {"popularity": 0.120, "ease": 0.060}})
    verdict = told["all"]
    assert first_sentence(verdict).startswith("Over all items: popularity (.1")
    assert first_sentence(verdict).endswith("beats every arm (p < .001): do not ship this")
    assert "As for the vectors: a semantic gain" in verdict.text
    assert verdict.to_json() == {
        "level": "below reference", "arm": "prior", "reference": "popularity", "standing": "below",
        "costs_others": False,
    }  # fmt: skip
    assert list(findings["all"].lines(METRIC)) == ["popularity", "ease"]
    both, _ = judged({"all": GAIN}, reference={"all": {"popularity": 0.120, "ease": 0.110}})
    assert "and ease (.1" in first_sentence(both["all"])
    assert "beat every arm" in first_sentence(both["all"])


@pytest.mark.parametrize(
    ("line", "says", "level"),
    [(0.05, "a semantic gain, above the best reference, ease (.0", "semantic gain"),
     (0.0841, "a semantic gain, level with the best reference, ease (.0", "semantic gain")],
)  # fmt: skip
def test_otherwise_the_first_sentence_says_where_the_best_line_is(line, says, level):
    verdict = judged({"all": GAIN}, reference={"all": {"ease": line}})[0]["all"]
    assert says in first_sentence(verdict)
    assert verdict.level == level


def test_a_line_between_arms_is_below_one_and_above_the_other():
    levels = {"none": 0.2, "prior": 0.1, "text": 0.1, "placebo": 0.1}
    verdict = judged({"all": levels}, reference={"all": {"als": 0.15}})[0]["all"]
    assert "a loss, and below the best reference, als (.1" in first_sentence(verdict)
    assert verdict.level == "below reference"


def test_without_vectors_it_is_the_baseline_that_stands_beside_the_best_line():
    told = judged({"all": {"none": 0.1}}, reference={"all": {"als": 0.1001}})[0]["all"]
    assert first_sentence(told) == "Over all items: no arm with vectors was run, so there is nothing to judge"
    assert ". none is level with the best reference, als (." in told.text
    behind = judged({"all": {"none": 0.1}}, reference={"all": {"als": 0.2}})[0]["all"]
    assert "beats every arm" in first_sentence(behind)


def test_lines_are_compared_over_users_as_one_family():
    _, findings = judged({"all": GAIN}, reference={"all": {"popularity": 0.084, "ease": 0.083}})
    finding = findings["all"]
    assert {each.over for each in finding.reference_comparisons} == {"users"}
    assert len(finding.reference_comparisons) == len(GAIN) * 2
    expected = holm([each.paired.p for each in finding.reference_comparisons])
    assert [each.p_adjusted for each in finding.reference_comparisons] == expected
    assert finding.to_json()["reference_comparisons"][0]["over"] == "users"


def test_the_test_over_users_is_students(ablation, world):
    metric = "recall@20"
    finding, runs = ablation.overall, [run for run in ablation.runs if run.arm == "beside"]
    got = finding.compare_line("beside", "popularity", metric).paired
    assert finding.reference["popularity"][metric] == pytest.approx(finding.mean("beside", metric) - got.delta)
    users = np.mean([run.scores["all"].values[metric] for run in runs], axis=0)
    views = Views(world[0])
    popularity = Factors(np.ones((views.n_users, 1), np.float32), views.popularity.astype(np.float32)[:, None])
    line = evaluate(popularity, views.warm_test, seen=views.seen_testing, candidates=views.warm_items, metrics=[metric])
    wanted = stats.ttest_rel(users, line.values[metric])
    assert (got.t, got.p) == (pytest.approx(wanted.statistic), pytest.approx(wanted.pvalue))


def test_a_metric_of_labels_is_compared_over_seeds():
    levels = {"none": 0.7, "prior": 0.72, "text": 0.71, "placebo": 0.7}
    told, findings = judged({"all": levels}, reference={"all": {"rates": 0.75}}, metric="auc")
    assert {each.over for each in findings["all"].reference_comparisons} == {"seeds"}
    assert "rates (.7" in first_sentence(told["all"])
    assert "do not ship this" in first_sentence(told["all"])


def test_a_gain_that_shuffled_vectors_make_too_is_told_without_its_size():
    shared = judged({"all": {"none": 0.3, "prior": 0.4, "text": 0.35, "placebo": 0.4}})[0]["all"]
    assert shared.level == "gain"
    assert "%" not in shared.text
    own = judged({"all": {"none": 0.3, "prior": 0.4, "text": 0.35, "placebo": 0.3}})[0]["all"]
    assert "+33." in own.text


COLD = {"none": 0.05, "prior": 0.28, "text": 0.25, "placebo": 0.05}


def cold(line, everything=None, **more):
    panels = {"all": GAIN, "cold": COLD}
    if everything is not None:
        panels |= {"cold_among_all": COLD, "everything": everything}
    content = {"cold": {"ridge (profile)": line, "mean vector (profile)": 0.1}}
    return judged(panels, content=content, **more)[0]


def test_new_items_are_told_against_the_better_content_baseline():
    won = cold(0.2)["cold"]
    assert won.level == "semantic gain"
    assert "a semantic gain, above the best content baseline, ridge (profile) (.1" in first_sentence(won)
    assert "prior reaches NDCG@10 .28" in won.text
    assert "+40." in won.text
    assert won.text.count("%") == 1  # the gain over chance is told without its size
    level = cold(0.2801)["cold"]
    assert (level.level, level.standing) == ("no significant gain", "level")
    assert "no significant gain, level with the best content baseline" in first_sentence(level)
    lost = cold(0.35)["cold"]
    assert lost.level == "below reference"
    assert first_sentence(lost).endswith("beats every arm (p < .001)")
    assert "do not ship" not in lost.text


def test_what_new_items_cost_the_others_is_in_the_first_sentence():
    shares = NewItems(places=10, shown={"prior": [0.25] * SEEDS}, items=0.2, taken=0.1)
    costly = cold(0.2, {"none": 0.3, "prior": 0.276, "text": 0.3, "placebo": 0.3}, shares=shares)
    assert "but over everything \N{MINUS SIGN}8." in first_sentence(costly["cold"])
    assert first_sentence(costly["cold"]).endswith("by prior (p < .001): new items cost the others")
    assert costly["cold"].costs_others
    assert (
        "take 25% of the first 10 places; they are 20% of the items and 10% of what users took" in costly["cold"].text
    )
    assert "With new items among the others, over everything prior reaches .27" in costly["all"].text
    free_of_cost = {"none": 0.3, "prior": 0.3, "text": 0.3, "placebo": 0.3}
    rare = NewItems(places=10, shown={"prior": [0.0, 0.004]}, items=0.2, taken=0.1)
    assert "take less than 1% of the first 10 places" in cold(0.2, free_of_cost, shares=rare)["cold"].text
    never = NewItems(places=10, shown={"prior": [0.0, 0.0]}, items=0.2, taken=0.1)
    assert "take 0% of the first 10 places" in cold(0.2, free_of_cost, shares=never)["cold"].text
    free = cold(0.2, free_of_cost, shares=shares)
    assert not free["cold"].costs_others
    assert "no significant cost" in free["cold"].text
    assert "With new items" not in free["all"].text


def test_a_recommended_arm_below_ids_on_the_tail_is_told():
    tail = {"none": 0.010, "prior": 0.008, "text": 0.008, "placebo": 0.008}
    told = judged({"all": GAIN, "tail": tail})[0]
    assert told["all"].level == "semantic gain"
    assert "On the tail it is below none: .008" in told["all"].text
    better = judged({"all": GAIN, "tail": {**tail, "prior": 0.012}})[0]
    assert "On the tail it is below" not in better["all"].text


def test_a_gain_on_the_tail_that_costs_the_others_says_so():
    tail = {"none": 0.010, "prior": 0.020, "text": 0.012, "placebo": 0.010}
    costly = judged({"all": {**GAIN, "prior": 0.06, "text": 0.06}, "tail": tail})[0]["tail"]
    assert first_sentence(costly).startswith("On the tail: a semantic gain, but over all items \N{MINUS SIGN}1")
    assert first_sentence(costly).endswith("the others pay for it")
    assert costly.costs_others
    lost = judged({"all": {**GAIN, "prior": 0.06, "text": 0.06}, "tail": {**tail, "prior": 0.0098, "text": 0.0098}})
    assert "over all items \N{MINUS SIGN}1" in first_sentence(lost[0]["tail"])
    assert "pay for it" not in lost[0]["tail"].text
    free = judged({"all": GAIN, "tail": tail})[0]["tail"]
    assert first_sentence(free) == "On the tail: a semantic gain"
    assert not free.costs_others


def card(name="all", panels=None, **more):
    """Return the card of a panel; ``panels`` are levels as in :func:`judged`."""
    told, findings = judged(panels or {"all": GAIN}, **more)
    ablation = Ablation(
        arms=ARMS, controls=controls_by_arm(ARMS), baseline="none", metrics=[METRIC], seeds=list(range(SEEDS)),
        findings=findings, runs=[], verdicts=told,
    )  # fmt: skip
    return verdict_card(ablation, name, "A panel")


@pytest.mark.parametrize(
    ("line", "large"), [(None, "+1"), (0.05, "+1"), (0.0841, ""), (0.12, "")], ids=["none", "above", "level", "below"]
)
def test_the_large_number_is_a_gain_that_no_simpler_model_reaches(line, large):
    shown = card(reference=None if line is None else {"all": {"ease": line}})
    assert shown["change"][:2] == large
    assert [row["name"] for row in shown["ladder"]].index("placebo") > 0
    if line == 0.12:
        assert shown["headline"].startswith("Ease (.1")
        assert (shown["ladder"][0]["name"], shown["ladder"][0]["kind"]) == ("ease", "reference")


def test_no_large_number_for_what_shuffled_vectors_gain_or_what_others_pay_for():
    assert not card(panels={"all": {**GAIN, "placebo": 0.084}})["change"]
    costly = {"none": 0.3, "prior": 0.276, "text": 0.3, "placebo": 0.3}
    panels = {"all": GAIN, "cold": COLD, "cold_among_all": COLD, "everything": costly}
    assert not card("cold", panels, content={"cold": {"ridge (profile)": 0.2}})["change"]
    free = card("cold", {"all": GAIN, "cold": COLD}, content={"cold": {"ridge (profile)": 0.2}})
    assert free["change"].startswith("+4")  # over the content baseline, not over chance
    assert free["against"] == "ridge (profile)"


def test_an_auc_below_a_half_is_told_first():
    levels = {"none": 0.37, "prior": 0.38, "text": 0.375, "placebo": 0.37}
    told = judged({"all": levels}, metric="auc")[0]["all"]
    assert first_sentence(told) == "Over all items: the ranking is inverted"
    assert told.level == "contradictory"
    assert "prior reaches AUC .3" in told.text
    assert "a semantic gain" not in told.text
    before = {"prior": [0.62] * 5, "none": [0.6] * 5}
    told = judged({"all": levels}, metric="auc", validation=before, reference={"all": {"rates": 0.52}})[0]["all"]
    assert "The best reference, rates, reaches .5" in told.text
    assert first_sentence(told) == "Over all items: the split is inverted"
    assert "AUC .6200 on validation and .3" in told.text


def test_an_auc_below_a_half_by_chance_is_no_inverted_ranking():
    """Of a random order of 20 positive and 20 negative pairs, one in twenty AUCs is below .35."""
    levels = {"none": 0.45, "prior": 0.46, "text": 0.45, "placebo": 0.45}
    assert judged({"all": levels}, metric="auc", n_pairs=20)[0]["all"].level != "contradictory"
    assert judged({"all": levels}, metric="auc", n_pairs=1000)[0]["all"].level == "contradictory"


@pytest.mark.parametrize(("metric", "sign"), [(METRIC, 1), ("logloss", -1)])
def test_a_gain_on_validation_and_a_loss_on_test_contradict_each_other(metric, sign):
    levels = {"none": 0.6, "prior": 0.6 - 0.02 * sign, "text": 0.6 - 0.03 * sign, "placebo": 0.6}
    before = {"none": [0.61, 0.612, 0.609], "prior": [value + sign * 0.03 for value in (0.611, 0.61, 0.609)]}
    told = judged({"all": levels}, metric=metric, validation=before)[0]["all"]
    assert first_sentence(told) == "Over all items: the split is inverted"
    assert "prior gains on validation" in told.text
    reverse = levels | {"prior": 0.6 + 0.02 * sign}
    swapped = {"none": before["none"], "prior": [value - sign * 0.06 for value in before["prior"]]}
    told = judged({"all": reverse}, metric=metric, validation=swapped)[0]["all"]
    assert first_sentence(told) == "Over all items: validation contradicts the test"
    agreeing = judged({"all": levels}, metric=metric, validation=swapped)[0]["all"]
    assert agreeing.level == "loss"
