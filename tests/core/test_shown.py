"""Results are shown as HTML, and turn into data frames."""

from __future__ import annotations

import math
import sys

import pytest

from enhancer.errors import ConfigError
from enhancer.features import GenerationReport, Plan
from enhancer.notebook import NotebookProgress, progress
from enhancer.progress import Progress
from enhancer.serving import Recommendation, Recommendations
from enhancer.shown import Shown, frame_of, html_page, html_table

ROWS = [{"item_id": "1", "score": 0.5, "new": False}, {"item_id": "2", "score": None, "new": True}]


def counts(**more):
    given = {"entities": 6, "cached": 1, "requests": 5, "prompt_tokens": 10, "completion_tokens": 5, "quarantined": 0}
    return given | {"cost_usd": None} | more


@pytest.mark.parametrize("library", ["pandas", "polars", "arrow"])
def test_rows_become_a_frame(library):
    pytest.importorskip({"arrow": "pyarrow"}.get(library, library))
    frame = frame_of(ROWS, library)
    columns = frame.column_names if library == "arrow" else list(frame.columns)
    assert columns == ["item_id", "score", "new"]
    assert len(frame) == 2
    assert len(frame_of([], library)) == 0


def test_a_library_that_is_missing_or_unknown_is_told(monkeypatch):
    with pytest.raises(ConfigError, match="unknown library 'panda'") as raised:
        frame_of(ROWS, "panda")
    assert "pandas" in raised.value.hint
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ConfigError, match="polars is not installed") as raised:
        frame_of(ROWS, "polars")
    assert raised.value.hint == "pip install polars"


def test_outside_text_is_no_markup():
    hostile = "<script>alert(1)</script>"
    shown = html_table([{hostile: hostile}]) + html_page(hostile, f"<p>{hostile}</p>")
    assert "<script" not in shown
    one = Recommendation(hostile, [(hostile, 1.0)], [hostile], [hostile])
    assert "<script" not in one._repr_html_()


def test_long_tables_say_that_there_is_more():
    shown = html_table([{"n": n, "x": math.nan} for n in range(100)])
    assert shown.count("<tr>") == 61
    assert "60 of 100 rows" in shown


def test_what_costs_stands_first():
    plan = Plan(**counts(to_generate=5))
    assert plan.to_frame("arrow")["to_generate"].to_pylist() == [5]
    assert "<p><b>5 of 6 to generate by 5 calls, for an unknown price (estimated)</b></p>" in plan._repr_html_()
    report = GenerationReport(**counts(generated=4, quarantined=1, cost_usd=0.25, seconds=2.0))
    assert "4 of 6 generated, for $0.2500 in 2.0 s; 1 in quarantine" in report._repr_html_()


def test_recommendations_are_a_list_and_a_table():
    found = Recommendations([Recommendation("a", [("1", 2.0)], ["Heat"]), Recommendation("b", [("2", 1.0)], ["Alien"])])
    assert found[0].items == [("1", 2.0)]
    assert [row["title"] for row in found.to_rows()] == ["Heat", "Alien"]
    assert isinstance(found, Shown)
    assert "Heat" in found._repr_html_()
    assert Recommendation("a", [("1", 2.0)]).to_rows() == [{"user_id": "a", "rank": 1, "item_id": "1", "score": 2.0}]


def test_a_cell_shows_one_bar_for_each_stage():
    pytest.importorskip("IPython")
    now = [0.0]
    bars = NotebookProgress(clock=lambda: now[0])
    for done in range(5):
        now[0] += 1.0
        bars(Progress("read", done))
        bars(Progress("generate", done, 10, {"run": "<b>"}))
    shown = bars.to_html()
    assert shown.count("<progress") == 2
    assert 'value="4" max="10"' in shown
    assert "&lt;b&gt;" in shown


def test_outside_a_notebook_progress_is_lines():
    assert not isinstance(progress(), NotebookProgress)
