"""Test names of inputs: what they stand for, how they are joined, and errors about them."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from enhancer.config import Settings
from enhancer.config.inputs import all_texts, averaged, joined, stored_inputs, texts_of, without

NOTES = {"item": {"aspects": ["plot", "mood"]}}
_names = st.lists(st.sampled_from(["text", "plot", "mood", "a-1", "kin_2"]), min_size=1, unique=True)


def settings(prompts=None, embedder=None, **more) -> Settings:
    return Settings.model_validate({"prompts": prompts or {}, "embedder": embedder or {}, **more})


@pytest.mark.parametrize(
    ("prompts", "embedder", "inputs"),
    [
        ({}, {}, ("profile",)),
        ({}, {"input": ["*"]}, ("text", "profile")),
        (NOTES, {}, ("text", "plot", "mood")),
        (NOTES, {"input": ["mood", "*"]}, ("mood", "text", "plot")),
        (NOTES, {"join": "mean"}, ("mean(text,plot,mood)",)),
        (NOTES, {"join": "text"}, ("text+plot+mood",)),
        (NOTES, {"input": ["text", "plot+mood"]}, ("text", "plot+mood")),
        (NOTES, {"input": ["text", "plot+mood"], "join": "mean"}, ("mean(text,plot+mood)",)),
        (NOTES, {"input": ["mood"], "join": "mean"}, ("mood",)),
        ({"item": {"aspects": ["profile", "plot"]}}, {}, ("text", "profile", "plot")),
        ({"item": {"source": "text", "aspects": ["plot"]}}, {}, ("text",)),
        ({"item": {"source": "text"}, "user": {"aspects": ["taste"]}}, {"input": ["text", "taste"]}, ("taste",)),
    ],
)
def test_inputs_that_are_read(prompts, embedder, inputs):
    assert settings(prompts, embedder).inputs == inputs


def test_aspects_have_a_template_of_their_own_unless_one_is_named():
    assert settings(NOTES).prompts.item.template == "item/v2"
    assert settings({"item": {"source": "llm"}}).prompts.item.template == "item/v1"
    assert settings({"item": {"aspects": ["plot"], "template": "mine.toml"}}).prompts.item.template == "mine.toml"


@given(_names)
def test_a_joined_input_consists_of_what_was_joined(names):
    (mean,), (text,) = joined([*names, "x"], "mean"), joined([*names, "x"], "text")
    assert averaged(mean) == texts_of(text) == (*names, "x")
    assert joined(names, "side") == tuple(names)
    assert stored_inputs([mean, text]) == (*names, "x", text)
    assert all_texts([mean, text]) == (*names, "x")
    assert all_texts(without([mean, text], "x")) == tuple(names)
    assert all_texts(without(joined(names, "text"), names[0])) == tuple(names[1:])


@pytest.mark.parametrize(
    ("prompts", "embedder", "message"),
    [
        ({}, {"input": ["mood"]}, r"'mood' is not among the aspects of \[prompts.item\] \(none are set\)"),
        (NOTES, {"input": ["mod"]}, r"'mod' is not among the aspects of \[prompts.item\]; did you mean 'mood'"),
        (NOTES, {"input": ["text", "plot+mod"]}, r"'mod' is not among .*did you mean 'mood'"),
        (NOTES, {"input": ["mean(plot,mod)"]}, r"'mod' is not among .*did you mean 'mood'"),
        (NOTES, {"input": ["profile"]}, r"aspects do not list 'profile'"),
        (NOTES, {"input": ["Plot & mood"]}, "is not an input: name a text"),
        (NOTES, {"input": ["mood", "mood"]}, "name each input once"),
        (NOTES, {"input": []}, "at least 1 item"),
        ({"item": {"aspects": ["Plot"]}}, {}, "'Plot' is no name of an aspect"),
        ({"item": {"aspects": ["tags"]}}, {}, "'tags' is reserved"),
        ({"item": {"aspects": ["mood", "mood"]}}, {}, "'mood' is there twice"),
        ({"item": {**NOTES["item"], "templates": {"mod": "x.toml"}}}, {}, "'mod' is not among the aspects; did you"),
        ({"item": {"samples": 3}}, {}, r"samples = 3 needs a \[llm\] temperature above 0"),
        ({**NOTES, "user": {"source": "llm"}}, {}, "add 'profile' to .embedder. input"),
    ],
)
def test_an_error_says_what_is_wrong(prompts, embedder, message):
    with pytest.raises(ValidationError, match=message):
        settings(prompts, embedder)


def test_samples_are_fine_at_a_temperature():
    assert settings({"item": {"samples": 3}}, llm={"temperature": 0.7}).prompts.item.samples == 3


def test_an_arm_has_inputs_and_a_join_of_its_own():
    with pytest.raises(ValidationError, match=r"\[evaluation.arm.two\] input: 'mod' is not among"):
        settings(NOTES, evaluation={"arm": {"two": {"input": ["mod"]}}})
    assert settings(NOTES).joined_inputs(["plot", "mood"], "text") == ("plot+mood",)
    assert settings(NOTES, {"join": "text"}).joined_inputs(["plot", "mood"]) == ("plot+mood",)
