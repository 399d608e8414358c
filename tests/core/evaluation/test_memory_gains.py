"""Tests of gains without the items that the LLM knows best."""

from __future__ import annotations

import json

import numpy as np
import pytest

from enhancer.cli import results
from enhancer.evaluation.judging.memory import KnownItems
from enhancer.evaluation.measuring.panels import make_panels
from enhancer.evaluation.measuring.strata import ItemGroup
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.reporting.report import render_report
from enhancer.evaluation.reporting.sections import memory_section
from enhancer.evaluation.running.run_cache import RunCache

KNOWN = np.arange(80) % 2 == 0
ITEMS = KnownItems(KNOWN, ~KNOWN, "its own word")


@pytest.fixture(scope="module")
def judged(world, toys):
    """An ablation in which vectors tell themes: of all items, or of the known ones alone."""
    split, vectors = world

    def run(*, known_only, **more):
        told = np.where(KNOWN[:, None], vectors, 0.3 * vectors.mean(axis=0)) if known_only else vectors
        blurred = told + 1.5 * np.random.default_rng(8).standard_normal(vectors.shape).astype(np.float32)
        tables = {("profile",): told, ("text",): blurred}
        return toys["run_split"](
            split,
            lambda inputs: (None, tables[inputs]),
            lambda arm: toys["SVD"](),
            toys["make_fuser"],
            arms=toys["arms"],
            seeds=(0, 1, 2),
            metrics=["ndcg@5"],
            pool=toys["pooling"](split),
            **{"groups": ITEMS.groups} | more,
        )

    return run


@pytest.fixture(scope="module")
def told(judged):
    return judged(known_only=False)


@pytest.fixture(scope="module")
def told_of_known(judged):
    return judged(known_only=True)


def test_each_group_is_ranked_among_itself(world):
    views = Views(world[0])
    plain = {stratum.name for panel in make_panels(views) for stratum in panel.strata}
    found = {s.name: (panel, s) for panel in make_panels(views, ["ndcg@5"], ITEMS.groups) for s in panel.strata}
    assert found.keys() - plain == {"known", "unknown", "cold_known", "cold_unknown"}
    for whole, prefix in (("all", ""), ("cold", "cold_")):
        parts = [found[f"{prefix}{name}"] for name in ("known", "unknown")]
        assert sum(len(stratum.pairs.users) for _, stratum in parts) == len(found[whole][1].pairs.users)
        for (panel, stratum), members in zip(parts, (KNOWN, ~KNOWN), strict=True):
            assert members[stratum.pairs.items].all()
            assert set(panel.candidates) == {row for row in found[whole][0].candidates if members[row]}
            assert stratum.n_items == len(panel.candidates)


def test_a_group_that_fills_one_list_or_is_everything_is_left_out(world):
    views = Views(world[0])
    plain = {stratum.name for panel in make_panels(views) for stratum in panel.strata}
    few = ItemGroup("few", "", np.arange(80) < 5)
    everything = ItemGroup("all-of-them", "", np.ones(80, np.bool_))
    assert {s.name for p in make_panels(views, ["ndcg@10"], [few, everything]) for s in p.strata} == plain


def test_groups_change_no_other_number(judged, told):
    plain = judged(known_only=False, groups=()).to_json()["strata"]
    grouped = told.to_json()["strata"]
    assert {name: grouped[name] for name in plain} == plain


def gains_of(ablation):
    return {gain.panel: gain for gain in ablation.with_memory(ITEMS).memory.gains if gain.role == "ids alone"}


def test_a_gain_from_all_items_stands_and_one_from_known_items_does_not(told, told_of_known):
    whole, part = gains_of(told)["cold"], gains_of(told_of_known)["cold"]
    assert whole.stands
    assert whole.without_known.interval()[0] > 0
    assert "the gain stands" in whole.words("ndcg@5")
    assert part.without_known.delta < 0.2 * whole.without_known.delta
    assert part.stands is not True


def test_the_gain_is_the_difference_of_the_strata(told):
    found = told.with_memory(ITEMS).memory
    gain = next(gain for gain in found.gains if (gain.panel, gain.role) == ("cold", "raw text"))
    unknown = told.findings["cold_unknown"]
    by_hand = unknown.mean("beside", "ndcg@5") - unknown.mean("text", "ndcg@5")
    assert gain.without_known.delta == pytest.approx(by_hand, abs=1e-9)
    assert gain.levels[1] == unknown.mean("text", "ndcg@5")
    assert (found.known, found.unknown) == (40, 40)


def test_it_is_said_in_words_in_the_report_and_on_the_terminal(told):
    ablation = told.with_memory(ITEMS)
    found = ablation.memory
    assert "Without the 40 items that the LLM knows best, by its own word, the other 40 ranked" in found.verdict
    assert "on items held out of training, beside gains +" in found.verdict
    assert ablation.verdict["memory"] == found.verdict
    shown = json.loads(json.dumps(ablation.to_json(), allow_nan=False))
    assert shown["memory"]["gains"][0]["stands"] in (True, False, None)
    assert "Without the 40 items that the LLM knows best" in results.ablation(shown)
    page = render_report(ablation, sections=[memory_section(found)])
    assert "How much is memory?" in page
    assert "memory" not in told.to_json()


def test_without_groups_there_is_nothing_to_say(ablation):
    assert ablation.with_memory(ITEMS).memory is None


def test_a_run_without_the_groups_is_trained_again_and_one_with_them_serves_both(judged, tmp_path):
    trained = []

    def run(groups):
        trained.clear()
        found = judged(
            known_only=False, groups=groups, cache=RunCache(tmp_path), on_epoch=lambda name, *_: trained.append(name)
        )
        return found, len(set(trained))

    assert run(())[1] > 0
    with_groups, number = run(ITEMS.groups)
    assert number > 0
    again, number = run(ITEMS.groups)
    assert number == 0
    assert again.to_json()["strata"] == with_groups.to_json()["strata"]
    assert run(())[1] == 0
    others = KnownItems(~KNOWN, KNOWN, "its own word")
    assert run(others.groups)[1] > 0
