"""What results look like to a person."""

from __future__ import annotations

import math

from enhancer.cli import tables
from enhancer.cli.session import print_json


def test_wide_and_combining_characters_stay_in_their_columns():
    lines = tables.table(["title", "n"], [["七人の侍", "1"], ["Amélie", "2"], ["e\u0301te\u0301", "3"]]).splitlines()
    assert lines[2] == "七人の侍  1"
    assert lines[3] == "Amélie    2"
    assert lines[4] == "e\u0301te\u0301       3"


def test_foreign_text_cannot_move_the_cursor():
    assert "\x1b" not in tables.table(["title"], [["\x1b[2J evil"]])
    assert "\n" not in tables.pairs([("profile", "two\nlines")])


def test_an_unknown_price_is_never_shown_as_nothing():
    plan = {
        "entities": 3, "cached": 1, "to_generate": 2, "quarantined": 0, "requests": 2,
        "prompt_tokens": 100, "completion_tokens": 50, "cost_usd": None,
    }  # fmt: skip
    assert "unknown" in tables.plan(plan)
    assert "[llm.price]" in tables.plan(plan)
    assert "$0.00" in tables.plan({**plan, "cost_usd": 0.0})


def test_an_ablation():
    metric = {"mean": 0.31, "std": 0.01, "per_seed": [0.3, 0.32]}
    result = {
        "arms": {"none": {"ndcg@10": metric}, "align": {"ndcg@10": {**metric, "std": None}}},
        "comparisons": [
            {"arm": "align", "baseline": "none", "metric": "ndcg@10", "delta": 0.02, "t": 6.3, "df": 4, "p": 0.003,
             "p_adjusted": None, "significant": False},
        ],
        "strata": {"tail": {"arms": {"none": {"ndcg@10": metric}}}},
        "verdict": {"all": "No significant gain.", "tail": "On the tail: nor here."},
    }  # fmt: skip
    text = tables.ablation(result)
    assert "0.3100 ± 0.0100" in text
    assert "+0.0200" in text
    assert "not significant" in text
    assert "No significant gain." in text
    assert text.endswith("No significant gain.\n\nOn the tail: nor here.")


def test_a_ranking_with_titles_and_without():
    items = [{"item_id": "7", "score": 1.5, "title": "Heat"}, {"item_id": "9", "score": 1.0}]
    assert "Heat" in tables.ranking({"items": items}, "for user 1")
    assert "title" not in tables.ranking({"items": items[1:]}, "for user 1")
    assert "nothing left" in tables.ranking({"items": []}, "for user 1")


def test_json_has_neither_nan_nor_paths(capsys, tmp_path):
    import json

    import numpy as np

    print_json({"a": math.nan, "b": (1, tmp_path), "c": np.float32(0.5), "d": np.arange(2), "e": True})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1, str(tmp_path)], "c": 0.5, "d": [0, 1], "e": True}
