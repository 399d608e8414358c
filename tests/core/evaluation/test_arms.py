from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.config import Settings
from enhancer.errors import ConfigError
from enhancer.evaluation import Arm, resolve_arms, resolve_baseline, shuffled
from enhancer.evaluation.judging.controls import controls_by_arm, controls_of, recipe_differences

FUSERS = {"none", "concat", "align"}


def arms(**tables):
    return {arm.name: arm for arm in resolve_arms(Settings.model_validate(tables), fusers=FUSERS)}


def test_the_default_arms():
    got = arms()
    assert list(got) == ["none", "align", "text", "placebo"]
    assert not got["none"].semantic
    assert got["text"] == Arm("text", "align", inputs=("text",))
    assert got["placebo"] == Arm("placebo", "align", shuffle=True)
    assert got["align"].inputs == ("profile",)


def named(evaluation, **tables):
    return list(arms(evaluation=evaluation, **tables))


def test_the_controls_are_run_unasked():
    assert named({"arms": ["none", "concat"]}) == ["none", "concat", "text", "placebo"]
    assert named({"arms": ["none", "placebo", "align"]}) == ["none", "placebo", "align", "text"]
    assert named({"arms": ["none", "concat"], "controls": False}) == ["none", "concat"]
    assert named({"arms": ["none"]}) == ["none"]  # without vectors there is nothing to control
    own = arms(evaluation={"arms": ["none", "concat"]}, fuser={"use": "none"})
    assert own["placebo"] == Arm("placebo", "concat", shuffle=True)


def test_the_configured_fuser_is_an_arm_with_a_placebo_of_its_own():
    assert list(arms(fuser={"use": "concat"})) == ["none", "concat", "text", "placebo"]
    assert list(arms(fuser={"use": "none"})) == ["none"]
    got = arms(fuser={"use": "concat", "dim": 8}, evaluation={"arms": ["none", "align"]})
    assert list(got) == ["none", "align", "concat", "text", "placebo"]
    assert got["concat"] == Arm("concat", "concat", {"dim": 8})
    assert got["placebo"] == replace(got["concat"], name="placebo", shuffle=True)
    wide = {"placebo": {"input": ["profile", "text"]}}  # not a placebo of the configured arm
    got = named({"arms": ["none", "concat", "placebo"], "arm": wide}, fuser={"use": "concat"})
    assert got == ["none", "concat", "placebo", "text", "concat-placebo"]
    assert named({"arms": ["none", "align"], "controls": False}, fuser={"use": "concat"}) == ["none", "align"]
    assert named({"arms": ["none"]}, fuser={"use": "concat"}) == ["none"]  # without vectors there is nothing to control


def test_an_arm_of_other_options_does_not_stand_for_the_configured_fuser():
    own = {"concat": {"options": {"dim": 4}}, "placebo": {"fuser": "align"}, "concat-placebo": {"backbone": {"dim": 2}}}
    evaluation = {"arms": ["none", "concat", "placebo", "concat-placebo"], "arm": own}
    got = arms(fuser={"use": "concat", "dim": 8}, evaluation=evaluation)
    assert list(got) == [*evaluation["arms"], "configured-concat", "text", "configured-concat-placebo"]
    assert got["configured-concat"].fuser_options == got["configured-concat-placebo"].fuser_options == {"dim": 8}
    assert not got["configured-concat"].shuffle
    assert got["configured-concat-placebo"].shuffle


def test_a_control_that_would_repeat_an_arm_is_not_added():
    mine = {"arm": {"raw": {"input": ["text"]}, "mixed": {"shuffle": True}}}
    assert named({"arms": ["none", "align", "raw", "mixed"], **mine}) == ["none", "align", "raw", "mixed"]
    assert named({"arms": ["none", "align"]}, prompts={"item": {"source": "text"}}) == ["none", "align", "placebo"]
    assert named({"arms": ["none", "align"]}, prompts={"item": {"source": "none"}}) == ["none", "align"]


def test_an_arm_of_ones_own():
    got = arms(
        fuser={"use": "align", "weight": 0.1},
        embedder={"input": ["profile"]},
        evaluation={
            "arms": ["none", "both", "strong", "placebo"],
            "controls": False,
            "arm": {"both": {"input": ["profile", "text"]}, "strong": {"options": {"weight": 1.0}, "shuffle": True}},
        },
    )
    assert got["both"] == Arm("both", "align", {"weight": 0.1}, ("profile", "text"))
    assert got["strong"] == Arm("strong", "align", {"weight": 1.0}, ("profile",), shuffle=True)
    assert got["placebo"].fuser_options == {"weight": 0.1}


def test_options_of_an_arm_lie_over_those_of_its_fuser():
    own = {"strong": {"options": {"weight": 1.0}}, "other": {"fuser": "concat", "options": {"dim": 8}}}
    got = arms(fuser={"use": "align", "weight": 0.1, "tau": 0.3}, evaluation={"arms": ["none", *own], "arm": own})
    assert got["strong"].fuser_options == {"weight": 1.0, "tau": 0.3}
    assert got["other"].fuser_options == {"dim": 8}


def test_an_arm_named_like_a_fuser_is_by_that_fuser():
    own = {"concat": {"backbone": {"dim": 8}}, "none": {"backbone": {"dim": 8}}}
    got = arms(fuser={"use": "align"}, evaluation={"arms": ["none", "concat", "align"], "arm": own})
    assert [arm.fuser for arm in got.values()] == ["none", "concat", "align", "align", "align"]
    assert got["concat"].backbone_options == got["none"].backbone_options == {"dim": 8}
    assert arms(fuser={"use": "none"}, evaluation={"arms": ["none", "concat"], "arm": own})["text"].fuser == "concat"


def test_a_placebo_with_a_table_of_its_own_is_still_one():
    own = {"placebo": {"fuser": "concat"}, "text": {"fuser": "concat"}}
    got = arms(evaluation={"arms": ["none", "concat"], "arm": own})
    assert got["placebo"] == Arm("placebo", "concat", shuffle=True)
    assert got["text"] == Arm("text", "concat", inputs=("text",))
    own["placebo"]["shuffle"] = False
    assert not arms(evaluation={"arms": ["none", "concat", "placebo"], "arm": own})["placebo"].shuffle


def test_options_go_to_their_own_fuser_alone():
    got = arms(fuser={"use": "align", "weight": 0.1}, evaluation={"arms": ["none", "concat"]})
    assert got["align"].fuser_options == {"weight": 0.1}
    assert got["concat"].fuser_options == {}


def test_the_primary_fuser_is_the_first_that_uses_vectors():
    got = arms(fuser={"use": "none"}, evaluation={"arms": ["none", "concat", "align", "text"]})
    assert got["text"].fuser == "concat"


def test_raw_text_as_the_source_makes_text_the_only_input():
    got = arms(prompts={"item": {"source": "text"}})
    assert list(got) == ["none", "align", "placebo"]  # text repeats align
    assert got["align"].inputs == ("text",)


def test_profiles_of_users_beside_raw_text_of_items_are_an_input_with_a_control():
    got = arms(prompts={"item": {"source": "text"}, "user": {"source": "llm"}})
    assert (got["align"].inputs, got["text"].inputs) == (("profile",), ("text",))


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"evaluation": {"arms": ["none", "none"]}}, "'none' is listed twice"),
        ({"evaluation": {"arms": ["none", "allign"]}}, "did you mean 'align'"),
        ({"evaluation": {"arms": ["none", "placbo"]}}, "did you mean 'placebo'"),
        ({"evaluation": {"arms": ["mine"], "arm": {"mine": {"fuser": "concatt"}}}}, "did you mean 'concat'"),
        ({"evaluation": {"arm": {"text": {"fuser": "concatt"}}}}, "did you mean 'concat'"),
        ({"fuser": {"use": "none"}, "evaluation": {"arms": ["none", "text"]}}, "needs a fuser that uses vectors"),
    ],
)
def test_arms_that_cannot_be(tables, says):
    with pytest.raises(ConfigError, match=says):
        arms(**tables)


def test_the_baseline():
    settings = Settings.model_validate({"evaluation": {"baseline": "aling"}})
    with pytest.raises(ConfigError, match="did you mean 'align'"):
        resolve_baseline(settings, resolve_arms(settings))
    settings = Settings()
    assert resolve_baseline(settings, resolve_arms(settings)) == "none"


@given(st.integers(0, 100), st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_placebo_moves_every_vector_and_loses_none(seed, has):
    vectors = np.array([[i + 1.0, 0.5] if there else [0.0, 0.0] for i, there in enumerate(has)], np.float32)
    got = shuffled(vectors, seed)
    assert sorted(map(tuple, got)) == sorted(map(tuple, vectors))
    assert (got.any(axis=1) == vectors.any(axis=1)).all()
    if sum(has) > 1:
        assert not (got == vectors).all(axis=1)[np.array(has)].any()
    assert (got == shuffled(vectors, seed)).all()


def test_seeds_draw_different_placebos():
    vectors = np.arange(1, 101, dtype=np.float32)[:, None]
    assert (shuffled(vectors, 0) != shuffled(vectors, 1)).any()


def names(arm, arms):
    return {role: control.name for role, control in controls_of(arm, arms).by_role().items()}


def test_the_nearest_controls():
    a, c = Arm("a", "align"), Arm("c", "concat")
    far, near = Arm("p1", "concat", shuffle=True), Arm("p2", "align", shuffle=True)
    text = Arm("t", "align", inputs=("text",))
    everything = [a, c, far, near, text, Arm("none", "none", semantic=False)]
    assert names(a, everything) == {"backbone_only": "none", "placebo": "p2", "text": "t"}
    assert names(c, everything) == {"backbone_only": "none", "placebo": "p1", "text": "t"}
    assert names(text, everything) == {"backbone_only": "none", "placebo": "p2"}
    assert names(near, everything) == {}


SOFTMAX = {"loss": "softmax"}
BOTH_LOSSES = [
    Arm("none", "none", semantic=False),
    Arm("a", "prior"),
    Arm("a-text", "prior", inputs=("text",)),
    Arm("a-placebo", "prior", shuffle=True),
    Arm("none-b", "none", semantic=False, backbone_options=SOFTMAX),
    Arm("b", "prior", backbone_options=SOFTMAX),
    Arm("b-text", "prior", inputs=("text",), backbone_options=SOFTMAX),
    Arm("b-placebo", "prior", shuffle=True, backbone_options=SOFTMAX),
]


def test_a_control_with_the_same_backbone_is_nearer():
    by_name = {arm.name: arm for arm in BOTH_LOSSES}
    assert names(by_name["a"], BOTH_LOSSES) == {"backbone_only": "none", "placebo": "a-placebo", "text": "a-text"}
    assert names(by_name["b"], BOTH_LOSSES) == {"backbone_only": "none-b", "placebo": "b-placebo", "text": "b-text"}
    assert names(by_name["b"], [by_name["b"], by_name["none"]]) == {}


def test_a_search_that_gives_every_arm_other_options_changes_no_control():
    tuned = [
        replace(arm, backbone_options={**arm.backbone_options, "learning_rate": 0.01 * n}, untuned=arm)
        for n, arm in enumerate(BOTH_LOSSES)
    ]
    by_arm = controls_by_arm(tuned)
    for arm, before in zip(tuned, BOTH_LOSSES, strict=True):
        assert names(arm, tuned) == names(before, BOTH_LOSSES)
        found = by_arm[arm.name]
        assert all(
            recipe_differences(arm, control) == [] for control in (found.placebo, found.text) if control is not None
        )


def test_what_makes_a_placebo_another_recipe():
    arm = Arm("a", "align")
    assert recipe_differences(arm, Arm("p", "align", shuffle=True)) == []
    assert recipe_differences(arm, Arm("p", "align", inputs=("text",), shuffle=True)) == []  # equally wide
    both = Arm("both", "align", inputs=("profile", "text"))
    assert recipe_differences(both, Arm("p", "align", shuffle=True)) == ["on profile instead of profile + text"]
    assert recipe_differences(Arm("c", "concat"), arm) == ["with align instead of concat"]
    assert recipe_differences(arm, Arm("p", "align", {"weight": 0.1}, shuffle=True)) == ["with other options of align"]
    other = Arm("p", "align", shuffle=True, backbone_options=SOFTMAX)
    assert recipe_differences(arm, other) == ["with other backbone options"]
