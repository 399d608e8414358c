"""Tests of results as they are printed on the terminal."""

from __future__ import annotations

import math

import pytest

from enhancer.cli import results
from enhancer.cli.session import print_json


def test_an_unknown_price_is_never_shown_as_nothing():
    plan = {
        "entities": 3, "cached": 1, "to_generate": 2, "quarantined": 0, "requests": 2,
        "prompt_tokens": 100, "completion_tokens": 50, "cost_usd": None,
    }  # fmt: skip
    assert "unknown" in results.plan(plan)
    assert "[llm.price]" in results.plan(plan)
    assert "$0.00" in results.plan({**plan, "cost_usd": 0.0})


@pytest.mark.parametrize(
    ("best", "stopped", "expected"),
    [
        (300, None, "300"),
        (250, None, "300, the best is 250"),
        (250, "the training loss was flat", "300, the best is 250; the training loss was flat"),
        (0, "validation did not improve", "300, none better than the model that needs no training; validation did not"),
    ],
)
def test_training_says_which_epoch_was_kept_and_why_it_stopped(best, stopped, expected):
    told = results.training(
        {
            "artifact": "artifact",
            "epochs": 300,
            "best_epoch": best,
            "stopped": stopped,
            "seconds": 1.0,
            "metrics": {},
            "refit": True,
            "interactions": 9,
        }
    )
    assert f" {expected}" in told.splitlines()[1]


def ablation(strata=("tail",), arms=("none", "align")):
    """Return the result of an ablation."""
    metric = {"mean": 0.31, "std": 0.01, "per_seed": [0.3, 0.32]}
    return {
        "arms": {arm: {"ndcg@10": {**metric, "std": None if arm == "align" else 0.01}} for arm in arms},
        "comparisons": [
            {"arm": "align", "baseline": "none", "metric": "ndcg@10", "delta": 0.02, "t": 6.3, "df": 4, "p": 0.003,
             "p_adjusted": None, "significant": False},
        ],
        "strata": {name: {"arms": {arm: {"ndcg@10": metric} for arm in arms}} for name in strata},
        "verdict": {"all": "No significant gain.", "tail": "On the tail: nor here."},
    }  # fmt: skip


def test_an_ablation():
    text = results.ablation(ablation())
    assert "0.3100 ± 0.0100" in text
    assert "+0.0200" in text
    assert text.startswith("No significant gain.\n\nOn the tail: nor here.\n\narm ")
    lines = [line.split() for line in text.splitlines()]
    assert ["align", "none", "ndcg@10", "+0.0200", "6.30", "4", "0.0030", "-", "no"] in lines
    assert "ndcg@10 by stratum" in text


@pytest.mark.parametrize("columns", [None, "120", "80", "60"])
def test_reference_lines_and_content_baselines_stand_beside_the_arms(monkeypatch, columns):
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    result = ablation(["tail", "cold"]) | {"reference": {"popularity": {"ndcg@10": 0.12}, "rates": {"auc": 0.7}}}
    result["strata"]["cold"]["arms"]["ridge (profile)"] = {"ndcg@10": {"mean": 0.28, "std": 0.02, "per_seed": [0.28]}}
    lines = [line.split() for line in results.ablation(result).splitlines()]
    assert ["popularity", "(reference)", "0.1200"] in lines
    assert ["rates", "(reference)", "-"] in lines
    assert ["ridge", "(profile)", "0.2800", "±", "0.0200"] in lines


def test_strata_fit_a_terminal_of_80_columns(monkeypatch):
    strata = ["head", "middle", "tail", "history_short", "history_medium", "cold", "cold_among_all", "everything"]
    monkeypatch.setenv("COLUMNS", "80")
    lines = results.ablation(ablation(strata, ["none", "concat", "align", "text", "placebo"])).splitlines()
    assert max(map(len, lines)) <= 80
    at = next(n for n, line in enumerate(lines) if line.startswith("head"))
    assert lines[at].split() == ["head", *["0.3100"] * 5]
    assert lines[at + 1].split() == ["±", "0.0100"] * 5


def test_a_ranking_with_titles_and_without():
    items = [{"item_id": "7", "score": 1.5, "title": "Heat"}, {"item_id": "9", "score": 1.0}]
    assert "Heat" in results.ranking({"items": items}, "for user 1")
    assert "title" not in results.ranking({"items": items[1:]}, "for user 1")
    assert "no items left" in results.ranking({"items": []}, "for user 1")


def test_json_has_neither_nan_nor_paths(capsys, tmp_path):
    import json

    import numpy as np

    print_json({"a": math.nan, "b": (1, tmp_path), "c": np.float32(0.5), "d": np.arange(2), "e": True})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1, str(tmp_path)], "c": 0.5, "d": [0, 1], "e": True}


def test_requests_without_an_answer_are_told_beside_the_calls():
    run = {
        "entities": 3, "cached": 0, "generated": 3, "embedded": 3, "quarantined": 0, "requests": 3,
        "prompt_tokens": 100, "completion_tokens": 50, "cost_usd": 0.0, "seconds": 1.0,
    }  # fmt: skip
    assert "without an answer" not in results.generation(run)
    assert "3, and 104 without an answer" in results.generation({**run, "failed_requests": 104})
    remote = {"embedding_requests": 5, "embedding_tokens": 70, "embedding_cost_usd": 0.0}
    assert "without an answer" not in results.generation({**run, **remote})
    told = results.generation({**run, **remote, "embedding_failed_requests": 9})
    assert "requests to the embedder  5, and 9 without an answer" in told
