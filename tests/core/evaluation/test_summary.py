"""Test the summary of an ablation, the decision in it, and what is saved of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from enhancer.errors import DataError
from enhancer.evaluation.judging.verdict import Verdict
from enhancer.evaluation.reporting.gallery import Gallery
from enhancer.evaluation.reporting.report import render_report, write_report
from enhancer.evaluation.reporting.saved_report import SavedReport
from enhancer.evaluation.reporting.summary import Summary, decide, summarise


def of(level, *, costs=False, line="ease"):
    return Verdict(level, f"Somewhere: {level}.", "prior", line, None, costs)


@pytest.mark.parametrize(
    ("levels", "decision", "words"),
    [
        ({"all": of("semantic gain"), "cold": of("semantic gain")}, "ship", "on new items too"),
        ({"all": of("semantic gain", costs=True)}, "do not ship", "new items included, become worse"),
        ({"all": of("no significant gain"), "tail": of("semantic gain")}, "ship in part", "a gain on rare items"),
        ({"all": of("no significant gain"), "cold": of("semantic gain", costs=True)}, "do not ship", "paid for"),
        ({"all": of("no significant gain"), "cold": of("gain")}, "do not ship", "no significant gain"),
        ({"all": of("gain")}, "do not ship", "nothing shows that it comes from the meaning"),
        ({"all": of("loss"), "cold": of("semantic gain")}, "do not ship", "worse"),
        ({"all": of("below reference"), "cold": of("semantic gain")}, "do not ship", "ease is better"),
        ({"all": of("contradictory")}, "do not ship", "contradict"),
        ({"all": of("unknown")}, "not decided", "chance"),
    ],
)
def test_shipping_needs_a_gain_from_meaning_that_nobody_pays_for(levels, decision, words):
    found, reason = decide(levels)
    assert found == decision
    assert words in reason


def test_it_tells_the_simple_models_the_gain_and_the_cost(ablate):
    ablation = ablate()
    summary = summarise(ablation, gallery=Gallery(cost_usd=1.5, tokens=1200), data="ratings.csv", date="2026-12-01")
    overall = ablation.overall
    assert summary.baseline == ("none", np.mean(overall.per_seed["none"]["ndcg@10"]))
    assert summary.popularity == overall.reference["popularity"]["ndcg@10"]
    assert summary.simple == max(((n, v["ndcg@10"]) for n, v in overall.reference.items()), key=lambda each: each[1])
    shown = dict(summary.lines())
    assert shown["cost of the notes"] == "$1.50, 1,200 tokens, paid once"
    facts = ablation.facts
    pairs = facts["train"] + facts["validation"] + facts["test"]
    assert shown["data"] == f"ratings.csv, 60 users, 80 items, {pairs:,} interactions"
    assert set(summary.gains) <= set(ablation.verdicts)
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))) == summary


def test_unknown_prices_and_texts_without_an_llm_are_told_apart(ablate):
    ablation = ablate(seeds=(0, 1))
    assert summarise(ablation, gallery=Gallery(cost_usd=None, tokens=9)).cost == "price unknown, 9 tokens, paid once"
    assert summarise(ablation, gallery=Gallery(cost_usd=0.0, tokens=0)).cost == "no tokens of an LLM"
    assert summarise(ablation).cost == ""


def test_the_page_begins_with_it(ablate):
    ablation = ablate()
    page = render_report(ablation, data="ratings.csv", date="2026-12-01")
    first, _, rest = page.partition('<div class="cards">')
    assert summarise(ablation).headline in first
    assert "2026-12-01" in first
    assert "popularity" in first
    assert rest


def test_what_is_saved_is_what_the_command_prints(ablate, tmp_path):
    ablation = ablate(seeds=(0, 1))
    page = write_report(tmp_path / "report.html", ablation)
    for path in (page, tmp_path, tmp_path / "report.json"):
        saved = SavedReport.read(path)
        assert saved.result == json.loads(json.dumps(ablation.to_json()))
        assert saved.summary == summarise(ablation)
    assert saved.arms == ["none", "beside", "text", "placebo"]
    assert next(iter(saved.panels)) == "all"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 9}', "null", "12", "\ufeff{}"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "report.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"report\.json"):
        SavedReport.read(tmp_path)


def test_a_missing_file_says_who_writes_it(tmp_path):
    with pytest.raises(DataError, match="does not exist") as raised:
        SavedReport.read(tmp_path)
    assert "enhancer ablate" in raised.value.hint


def test_the_fingerprint_of_a_split_changes_with_every_part(world):
    from dataclasses import replace

    from enhancer.evaluation.measuring.split_facts import split_fingerprint

    split, _ = world
    test = split.test
    fewer = replace(test, users=test.users[1:], items=test.items[1:])
    renamed = replace(split.train, item_ids=[*split.train.item_ids[:-1], "other"])
    variants = [
        split,
        replace(split, test=fewer),
        replace(split, validation=test, test=split.validation),
        replace(split, cold_items=split.cold_items[1:]),
        replace(split, train=renamed),
    ]
    assert len({split_fingerprint(each) for each in variants}) == len(variants)
    assert split_fingerprint(split) == split_fingerprint(replace(split))
