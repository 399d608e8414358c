"""Arms of rungs under ``[backbone] use = "auto"``."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from enhancer.evaluation.frontier.ladder import make_ladder
from enhancer.progress import silent
from enhancer.project.buying import density as verb


class Auto:
    """Prefers one backbone without vectors and another one with them."""

    def __init__(self, plain, fused):
        self.backbones = {False: plain, True: fused}
        self.asked = []

    def arm(self, arm, fuser, listener, *, trial=None):
        self.asked.append((arm.inputs if arm.semantic else (), trial is not None))
        return replace(arm, backbone=self.backbones[arm.semantic], backbone_options={"dim": 8})


def arms_with(monkeypatch, auto, inputs=("text", "plot")):
    monkeypatch.setattr(verb, "arm_trial", lambda parts, listener: lambda arm, seed: None)
    settings = SimpleNamespace(fuser=SimpleNamespace(use="prior", options={"ridge": 1.0}), inputs=inputs)
    parts = SimpleNamespace(settings=settings, auto=auto, fuser=lambda arm=None: None)
    ladder, arm_of = verb._arms(parts, make_ladder(["text", "plot", "mood"], ["plot", "mood"]), silent)
    return ladder, {rung.name: arm_of(rung) for rung in ladder.rungs}


def test_rungs_share_the_backbone_that_train_would_choose(monkeypatch):
    auto = Auto("als", "als")
    ladder, arms = arms_with(monkeypatch, auto)
    assert {arm.backbone for arm in arms.values()} == {"als"}
    assert auto.asked == [(("text", "plot"), True), ((), False)]
    assert [rung.name for rung in ladder.rungs][:3] == ["nothing", "text", "plot"]
    assert arms["2 notes"].fuser_options == {"ridge": 1.0}
    assert not arms["nothing"].semantic


def test_another_backbone_that_is_better_without_vectors_is_the_rung_of_nothing(monkeypatch):
    ladder, arms = arms_with(monkeypatch, Auto("ease", "lightgcn"))
    assert [rung.name for rung in ladder.rungs][:2] == ["nothing", "nothing, on lightgcn"]
    assert arms["nothing"].backbone == "ease"
    assert {arm.backbone for name, arm in arms.items() if name != "nothing"} == {"lightgcn"}
    assert not arms["nothing, on lightgcn"].semantic


@pytest.mark.parametrize("inputs", [("profile",), ("mean(text,sound)",)])
def test_the_richest_rung_decides_where_the_configured_inputs_are_not_stored(monkeypatch, inputs):
    auto = Auto("als", "als")
    arms_with(monkeypatch, auto, inputs)
    assert auto.asked[0] == (("text", "plot", "mood"), True)
