"""Test the arm with closed notes against the same arm with open ones."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from enhancer.cli import results
from enhancer.config import Settings
from enhancer.evaluation import Arm, resolve_arms
from enhancer.evaluation.judging.knowledge import compare_knowledge
from enhancer.evaluation.reporting.report import render_report
from enhancer.evaluation.reporting.sections import knowledge_section

OPEN = ("text", "plot", "mood")
CLOSED = ("text", "plot:closed", "mood:closed")


def arms(evaluation=None, knowledge="both", **tables):
    item = {"aspects": ["plot", "mood"], "knowledge": knowledge}
    table = {"prompts": {"item": item}, "fuser": {"use": "beside"}, "evaluation": evaluation or {}, **tables}
    return resolve_arms(Settings.model_validate(table), fusers={"none", "beside"})


def test_an_arm_with_the_closed_versions_is_added():
    got = {arm.name: arm for arm in arms({"arms": ["none", "beside"]})}
    assert list(got) == ["none", "beside", "text", "placebo", "closed"]
    assert got["closed"] == Arm("closed", "beside", inputs=CLOSED, opened=OPEN)
    assert got["closed"].description == "plot (closed) and mood (closed) beside raw text, by beside"
    assert not got["closed"].is_competitor


@pytest.mark.parametrize(
    ("evaluation", "more", "names"),
    [
        ({"controls": False}, {}, ["none", "beside"]),
        ({}, {"knowledge": "open"}, ["none", "beside", "text", "placebo"]),
        ({}, {"embedder": {"input": ["text"]}}, ["none", "beside", "placebo"]),
        ({"arms": ["none"]}, {"fuser": {"use": "none"}}, ["none"]),
        ({"arm": {"closed": {"fuser": "none"}}}, {}, ["none", "beside", "text", "placebo", "closed-again"]),
        (
            {"arms": ["none", "some"], "arm": {"some": {"input": ["plot"]}}},
            {},
            ["none", "some", "beside", "text", "placebo", "closed"],
        ),
    ],
)
def test_when_it_is_added(evaluation, more, names):
    assert [arm.name for arm in arms(evaluation, **more)] == names


@pytest.fixture(scope="module")
def judged(toys, world):
    """An ablation in which open notes tell the theme of an item, and closed ones with ``told`` of the weight."""
    split, vectors = world
    noise = 0.5 * np.random.default_rng(5).standard_normal(vectors.shape).astype(np.float32)
    whole = Arm("whole", "beside", inputs=OPEN)
    lacking = Arm("closed", "beside", inputs=CLOSED, opened=OPEN)

    def run(told, seeds=(0, 1, 2)):
        tables = {OPEN: vectors, CLOSED: told * vectors + (1 - told) * noise, ("text",): noise}
        return toys["run_split"](
            split,
            lambda inputs: (None, tables[inputs]),
            lambda _: toys["SVD"](),
            toys["make_fuser"],
            arms=[
                Arm("none", "none", semantic=False),
                whole,
                Arm("text", "beside", inputs=("text",)),
                replace(whole, name="placebo", shuffle=True),
                lacking,
            ],
            seeds=seeds,
            metrics=["ndcg@5", "recall@20"],
            pool=toys["pooling"](split),
        )

    return run


@pytest.fixture(scope="module")
def stands(judged):
    return judged(0.99)


@pytest.fixture(scope="module")
def falls(judged):
    return judged(0.0)


def test_a_gain_that_closed_notes_have_stands_and_another_does_not(stands, falls):
    def cold(ablation):
        return next(g for g in ablation.knowledge.gains if (g.panel, g.role) == ("cold", "raw text"))

    assert cold(stands).stands
    assert cold(stands).share == pytest.approx(1, abs=0.2)
    assert "of the gain stands" in cold(stands).words("ndcg@5")
    assert cold(falls).stands is not True
    assert cold(falls).share < 0.2
    difference = falls.knowledge.differences["cold"]
    assert difference.gain.delta > 0.1
    assert difference.p < 0.05
    assert "what the model knows makes the difference" in difference.words()


def test_gains_are_differences_of_the_same_runs(falls):
    def mean(arm):
        return np.mean([run.scores["cold"].mean("ndcg@5") for run in falls.runs if run.arm == arm])

    gain = next(g for g in falls.knowledge.gains if (g.panel, g.against) == ("cold", "none"))
    assert gain.open.delta == pytest.approx(mean("whole") - mean("none"), abs=1e-12)
    assert gain.closed.delta == pytest.approx(mean("closed") - mean("none"), abs=1e-12)
    assert falls.knowledge.differences["cold"].gain.delta == pytest.approx(mean("whole") - mean("closed"), abs=1e-12)


def test_the_closed_arm_is_no_candidate_of_the_verdict(stands):
    assert [arm.name for arm in stands.arms] == ["none", "whole", "text", "placebo"]
    assert not any(each.arm == "closed" for each in stands.overall.comparisons)
    assert all(":closed" not in name for name in stands.findings["cold"].content)


def test_terminal_report_and_json_say_it(falls):
    found = falls.knowledge
    assert found.verdict.startswith("With notes from the given text alone (closed against whole, the same otherwise): ")
    assert falls.verdict["knowledge"] == found.verdict
    shown = json.loads(json.dumps(falls.to_json(), allow_nan=False))
    panel = shown["knowledge"]["difference"]["cold"]
    assert panel["interval"][0] < panel["gain"] < panel["interval"][1]
    assert {gain["panel"] for gain in shown["knowledge"]["gains"]} >= {"all", "cold"}
    assert "With notes from the given text alone" in results.ablation(shown)
    page = render_report(falls, sections=[knowledge_section(found)])
    assert "How much stands without what the model knows?" in page


def test_one_seed_decides_nothing(judged):
    found = judged(0.0, seeds=(0,)).knowledge
    assert "not decided by one seed" in found.verdict


def test_without_the_open_arm_there_is_nothing_to_compare(falls):
    others = [arm for arm in falls.arms if arm.name != "whole"]
    closed = Arm("closed", "beside", inputs=CLOSED, opened=OPEN)
    assert compare_knowledge([*others, closed], falls.runs, falls.findings, falls.controls, "ndcg@5") is None
    assert compare_knowledge(falls.arms, falls.runs, falls.findings, falls.controls, "ndcg@5") is None
