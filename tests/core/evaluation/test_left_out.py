"""Test arms that lack one of the inputs, and what is concluded from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from enhancer.cli import results
from enhancer.config import Settings
from enhancer.errors import ConfigError
from enhancer.evaluation import Arm, Experiment, resolve_arms
from enhancer.evaluation.frontier.gains import gain_of
from enhancer.evaluation.judging.left_out import InputGain, compare_left_out
from enhancer.evaluation.reporting.report import render_report
from enhancer.evaluation.reporting.sections import left_out_section
from enhancer.evaluation.running import experiment

ASPECTS = {"prompts": {"item": {"aspects": ["plot", "mood"]}}, "fuser": {"use": "beside"}}


def arms(evaluation, **tables):
    settings = Settings.model_validate({**ASPECTS, **tables, "evaluation": {"aspects": "leave-one-out", **evaluation}})
    return resolve_arms(settings, fusers={"none", "beside"})


def test_an_arm_is_added_without_each_input():
    got = {arm.name: arm for arm in arms({"arms": ["none", "beside"]})}
    assert list(got) == ["none", "beside", "text", "placebo", "without-text", "without-plot", "without-mood"]
    assert got["without-plot"] == Arm("without-plot", "beside", inputs=("text", "mood"), left_out="plot")
    assert got["beside"].inputs == got["placebo"].inputs == ("text", "plot", "mood")


def test_the_arm_with_all_inputs_is_added_where_no_other_is_it():
    own = {"arms": ["none", "some"], "arm": {"some": {"input": ["plot"]}}, "controls": False}
    got = {arm.name: arm.inputs for arm in arms(own)}
    assert list(got) == ["none", "some", "beside", "without-text", "without-plot", "without-mood"]
    assert got["beside"] == ("text", "plot", "mood")


@pytest.mark.parametrize(
    ("join", "inputs", "less"),
    [("text", ("text+plot+mood",), ("text+mood",)), ("mean", ("mean(text,plot,mood)",), ("mean(text,mood)",))],
)
def test_an_input_is_left_out_of_what_is_joined(join, inputs, less):
    got = {arm.name: arm.inputs for arm in arms({"arms": ["beside"]}, embedder={"join": join})}
    assert (got["beside"], got["without-plot"]) == (inputs, less)


def test_one_input_alone_cannot_be_left_out():
    with pytest.raises(ConfigError, match=r"names one alone, 'mood'; name several"):
        arms({"arms": ["none", "beside"]}, embedder={"input": ["mood"]})
    with pytest.raises(ConfigError, match="no fuser uses vectors"):
        arms({"arms": ["none"]}, fuser={"use": "none"})


def described(*inputs):
    return Arm("a", "beside", inputs=inputs).description.removesuffix(", by beside")


def test_descriptions_of_arms():
    assert described("plot", "mood", "audience", "making", "text") == "plot, mood, audience and making beside raw text"
    assert described("profile", "text") == "LLM profiles and raw text"
    assert described("profile", "mood") == "LLM profiles and mood"
    assert described("text") == "raw text, no LLM"
    assert described("text+plot+mood") == "raw text, plot and mood as one text"
    assert described("mean(plot,mood)", "text") == "the mean of plot and mood beside raw text"
    assert described("mean(plot,mood)", "kin") == "the mean of plot and mood, kin"


@pytest.fixture(scope="module")
def planted(toys, world):
    """An ablation in which the theme of an item is in ``plot`` and, blurred, in ``text``, and ``mood`` is next to nothing."""
    split, vectors = world
    noise = np.random.default_rng(5).standard_normal(vectors.shape).astype(np.float32)
    tables = {"plot": vectors, "mood": 1e-5 * noise, "text": 0.3 * vectors + noise}
    whole = Arm("whole", "beside", inputs=("text", "plot", "mood"))
    lacking = [
        Arm(f"without-{name}", "beside", inputs=tuple(n for n in whole.inputs if n != name), left_out=name)
        for name in whole.inputs
    ]
    return toys["run_split"](
        split,
        # Of equal width, so that the noise of the toy backbone is the same in all arms.
        lambda inputs: (None, np.hstack([table * (name in inputs) for name, table in tables.items()])),
        lambda _: toys["SVD"](),
        toys["make_fuser"],
        arms=[Arm("none", "none", semantic=False), whole, replace(whole, name="placebo", shuffle=True), *lacking],
        seeds=(0, 1, 2),
        metrics=["ndcg@10", "recall@20"],
        pool=toys["pooling"](split),
    )


def test_the_input_that_holds_the_meaning_earns_its_keep(planted):
    found = planted.left_out
    assert (found.whole, found.arms["plot"]) == ("whole", "without-plot")
    assert found.worth("plot") == "earns"
    assert found.gains["plot"]["cold"]["ndcg@10"].gain.delta > 0.1
    assert found.worth("mood") == "nothing"
    assert "plot earns its keep" in found.verdict
    assert found.verdict.endswith("Leave one of text and mood out, and compare the others again.")
    assert "mood earns nothing (at most" in found.verdict
    assert found.verdict in planted.verdict.values()


def test_arms_without_an_input_are_no_candidates_of_the_verdict(planted):
    assert [arm.name for arm in planted.arms] == ["none", "whole", "placebo"]
    assert not any(each.arm.startswith("without") for each in planted.overall.comparisons)
    assert planted.verdicts["cold"].arm == "whole"
    assert {run.arm for run in planted.runs} > {"without-plot", "whole"}
    assert all("plot" in name for name in planted.findings["cold"].content)


def test_terminal_and_report_and_json_show_the_table(planted):
    shown = results.ablation(planted.to_json())
    lines = [line.split() for line in shown.splitlines() if line.startswith(("plot ", "mood "))]
    assert [(line[0], line[-1]) for line in lines] == [("plot", "earns"), ("mood", "nothing")]
    section = left_out_section(planted.left_out)
    page = render_report(planted, sections=[section])
    assert "Which inputs earn their keep?" in page
    panel = planted.to_json()["left_out"]["inputs"]["plot"]["panels"]["cold"]["ndcg@10"]
    assert panel["interval"][0] < panel["gain"] < panel["interval"][1]
    assert panel["worth"] == "earns"


def test_one_seed_decides_nothing(planted):
    lacking = Arm("without-plot", "beside", inputs=("text", "mood"), left_out="plot")
    runs = [run for run in planted.runs if run.seed == 0]
    found = compare_left_out([*planted.arms, lacking], runs, planted.findings, planted.metrics)
    assert found.worth("plot") == "not decided"
    assert found.verdict.endswith("not decided. One seed shows no noise of training: run several.")


@pytest.mark.parametrize(
    ("differences", "p", "level", "worth"),
    [
        ([0.1, 0.11, 0.12], 0.01, 0.5, "earns"),
        ([-0.1, -0.11, -0.12], 0.01, 0.5, "costs"),
        ([0.0001, -0.0001, 0.0], 0.9, 0.5, "nothing"),
        ([0.02, -0.02, 0.03], 0.4, 0.5, "not decided"),
        ([-0.1, -0.11, -0.12], 0.2, 0.5, "nothing"),
    ],
)
def test_what_a_gain_says(differences, p, level, worth):
    gain = gain_of(np.array([differences, differences]))
    low, high = gain.interval()
    assert InputGain(gain=gain, p=p, relative=(low / level, high / level)).worth == worth


def test_vectors_of_many_combinations_are_kept_within_limits(toys, world, monkeypatch):
    split, vectors = world
    asked = []

    def features(inputs):
        asked.append(inputs)
        return None, np.hstack([vectors] * len(inputs))

    def read(*combinations):
        asked.clear()
        made = Experiment.over(split, features, lambda _: toys["SVD"](), toys["make_fuser"], metrics=["ndcg@10"])
        for inputs in combinations:
            assert made.item_vectors(inputs).shape[1] == len(inputs) * vectors.shape[1]
        return asked

    one, two, both = ("plot",), ("mood",), ("plot", "mood")
    assert read(one, two, both, one, two, both) == [one, two, both]
    monkeypatch.setattr(experiment, "KEPT_BYTES", 2 * vectors.nbytes)
    assert read(one, two, one, two, both, both, one, both) == [one, two, both, one, both]
    monkeypatch.setattr(experiment, "KEPT_BYTES", 0)
    assert read(one, one, two, one) == [one, two, one]
