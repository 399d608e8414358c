"""The page, its plots and the CSV file."""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise

import pytest
from density_world import weigh

from enhancer.evaluation.reporting.density_report import (
    frontier_section,
    render_density_csv,
    render_density_report,
    write_density_report,
)
from enhancer.evaluation.reporting.frontier_plot import FrontierPoint, frontier_plot


@pytest.fixture(scope="module")
def result():
    return weigh(lambda arm, stratum: 0.06 * ("mood" in arm.inputs and arm.kept is None))[0].to_json()


def test_the_page_says_what_to_buy_and_runs_nothing(result):
    page = render_density_report(result, title="How much? <b>")
    assert "How much? &lt;b&gt;" in page
    assert "the note &#39;mood&#39; gains" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=", page)
    assert "the most telling first: plot, mood, making." in page
    assert page == render_density_report(result, title="How much? <b>")


def test_the_plot_names_the_frontier_alone_and_shows_its_placebo(result):
    (figures,) = frontier_section(result).blocks
    title, _, svg = figures.figures[0]
    assert title == "All items"
    assert re.findall(r'class="label halo"[^>]*>([^<]*)<', svg) == ["mood", "nothing", "text"]
    assert svg.count("kp hollow") == 1
    pale = len([rung for rung in result["frontier"] if not rung["strata"]["all"]["on_frontier"]]) - 1  # text is named
    assert svg.count('class="pale"') == pale


def test_the_csv_has_a_row_for_every_rung_and_stratum(result):
    rows = list(csv.DictReader(io.StringIO(render_density_csv(result))))
    assert len(rows) == len(result["strata"]) * len(result["frontier"])
    mood = next(row for row in rows if (row["stratum"], row["rung"]) == ("tail", "mood"))
    found = next(rung for rung in result["frontier"] if rung["rung"] == "mood")
    assert float(mood["gain"]) == found["strata"]["tail"]["gain"]
    assert float(mood["low"]) == found["strata"]["tail"]["interval"][0]
    assert (mood["cost_usd"], mood["on_frontier"]) == ("0.5", "1")
    assert {row["share"] for row in rows} == {"0.1", "0.25", "0.5", "1.0"}


def test_unknown_costs_are_empty_in_the_csv_and_unknown_on_the_page():
    unknown = {"price": None, "prompt_tokens": None, "completion_tokens": None}
    found = weigh(lambda arm, stratum: 0.06 * ("mood" in arm.inputs), **unknown)[0].to_json()
    rows = list(csv.DictReader(io.StringIO(render_density_csv(found))))
    assert {row["cost_usd"] for row in rows if row["rung"] == "mood"} == {""}
    page = render_density_report(found, title="t")
    assert "unknown" in page
    assert "generated texts" in page


def test_files_are_written_side_by_side(result, tmp_path):
    write_density_report(tmp_path / "new" / "density.html", result, title="t")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"density.html", "density.csv"}


def test_labels_of_close_rungs_do_not_cover_each_other():
    points = [
        FrontierPoint(label=f"rung {n}", cost=1 + 0.01 * n, gain=0.3 + 0.001 * n, interval=None, on_frontier=True)
        for n in range(5)
    ]
    far = FrontierPoint(label="far", cost=100.0, gain=0.0, interval=None, on_frontier=False)
    svg = frontier_plot([*points, far], "label", "USD", "gain")
    heights = sorted(float(y) for y in re.findall(r'class="label halo" x="[\d.]+" y="([\d.]+)"', svg))
    assert len(heights) == 5
    assert all(after - before >= 12.9 for before, after in pairwise(heights))


def test_names_of_rungs_are_escaped():
    point = FrontierPoint(label="<script>", cost=1.0, gain=0.1, interval=(0.0, 0.2), on_frontier=True)
    assert "<script>" not in frontier_plot([point], "<script>", "<script>", "<script>")


def test_the_band_of_chance_is_the_median_interval():
    points = [
        FrontierPoint(label=str(half), cost=1.0, gain=0.5, interval=(0.5 - half, 0.5 + half), on_frontier=True)
        for half in (0.1, 0.2, 0.4)
    ]
    assert "within 0.2000: may be chance" in frontier_plot(points, "label", "USD", "gain")
    bare = FrontierPoint(label="one", cost=1.0, gain=0.5, interval=None, on_frontier=True)
    assert 'class="band"' not in frontier_plot([bare], "label", "USD", "gain")


def test_strata_where_generated_texts_pay_come_first():
    found = weigh(lambda arm, stratum: 0.06 * (stratum == "cold" and "mood" in arm.inputs and arm.kept is None))[0]
    (figures,) = frontier_section(found.to_json()).blocks
    assert [title for title, _, _ in figures.figures] == ["New items", "All items", "Tail"]


def test_the_number_of_a_verdict_is_what_money_adds():
    found = weigh(lambda arm, stratum: 0.2 + 0.06 * ("mood" in arm.inputs and arm.kept is None))[0].to_json()
    page = render_density_report(found, title="t")
    changes = re.findall(r'<div class="change">\+(\.\d+)</div>\s*<div class="by">([^:]*)', page)
    assert [over for _, over in changes] == ["NDCG@10 over raw text"] * 3
    assert all(0.03 < float(value) < 0.09 for value, _ in changes)
